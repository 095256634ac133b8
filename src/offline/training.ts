/**
 * TRAINING SETS, as it happened: for every row of a spine (keys, t, …) the features as of t, each of them what a request for
 * t would have been answered, had the log ended right before t.
 *
 *   1  spine: keys alone          -> who is asked about
 *   2  events, in log order       -> judged as they were live; the accepted ones of those entities are held
 *   3  held events by (entity, t) -> spine once more, whole: answers beside its columns, in its order
 *
 * Late, duplicate, filtered and rejected are verdicts of the whole log in its order, as live: an event that was dropped live
 * is not in a training set either. When an accepted event came does not count, only when it happened.
 *
 * Memory: what is held is bounded. Beyond it, events go to temporary files by entity, step 3 takes one part of the entities
 * after the other, and its answers wait in files for the last pass, which puts them together in the spine's order.
 */
import { tmpdir } from 'node:os'
import { AskedRows, AsOf, isOverflow, isUnknown, type NumberedRows, type Outcomes } from '../engine/asof.ts'
import { type CoreModule, loadCore } from '../engine/module.ts'
import type { ColumnBatch } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import type { InputColumn, Plan } from '../model/plan.ts'
import { matchInputs } from '../source/match.ts'
import type { Source } from '../source/port.ts'
import { keptColumn, keptInputs, type Spine } from './spine.ts'
import { askedState, narrowPlan } from './spine-plan.ts'
import {
  answersBetween,
  checkNames,
  featureColumnName,
  featureColumns,
  type PlacedAnswers,
  uniqueInputs,
} from './training-columns.ts'
import { countUnusable, joinRows, rowsOfPart } from './training-rows.ts'
import { partsFor, Spill } from './training-spill.ts'

export interface AskedView {
  readonly plan: Plan
  /** Its features by name, in this order; all of them unless told. */
  readonly features?: readonly string[]
}

export interface TrainingOptions {
  readonly spine: Spine
  /** The spine's column of instants; `event_timestamp` unless told. */
  readonly time?: string
  readonly views: readonly AskedView[]
  /** History by the name of the views' source (`plan.state.source`), each in log order and from its start. */
  readonly events: Readonly<Record<string, Source>>
  /** Milliseconds since the epoch; stands for the record times that files lack. */
  readonly clock: () => number
  /** Bytes; 1 GiB unless told. See `TrainingSet` for what it bounds. */
  readonly memoryBytes?: number
  /** Where temporary files go, if any are needed; the system's folder for them unless told. */
  readonly tempFolder?: string
  /** History begins here: rows whose windows start before are counted as incomplete. */
  readonly completeSinceMs?: number
  readonly core?: CoreModule
  readonly onProgress?: (progress: TrainingProgress) => void
  readonly signal?: AbortSignal
}

export interface TrainingProgress {
  readonly step: 'keys' | 'events' | 'rows'
  readonly done: number
  readonly total?: number
}

export interface TrainingReport {
  readonly rows: number
  /** Rows whose key or instant is none: their features are null. */
  readonly unusable: number
  readonly views: readonly ViewReport[]
  /** Bytes of temporary files at most; 0 where everything fitted. */
  readonly spilledBytes: number
}

export interface ViewReport {
  readonly view: string
  readonly outcomes: Outcomes
  /** Rows whose entity had no event before their instant. */
  readonly unknown: number
  /** Rows that ask about an instant after the last event of the log. */
  readonly ahead: number
  /** Rows with a window that starts before the history does. */
  readonly incomplete: number
  /** Values that do not fit their type: null. */
  readonly overflow: number
}

export const SPINE_TIME = 'event_timestamp'
const MEMORY_BYTES = 2 ** 30
/** What is held lies in memory twice while it is put in order, its blocks beside it, and each in a power of two. */
const HELD_SHARE = 1 / 5
/** The spine's instants, kept from the first pass: what no row's window can hold need not be held then. */
const KNOWN_SHARE = 1 / 16
const KNOWN_ROW_BYTES = 12
/** Rows that are answered in one go, so that those of one entity find its events near: the spine's cells and the answers. */
const SPAN_SHARE = 1 / 32
const SPAN_ROWS = 1_048_576
/** Of one value: in the core, and copied. */
const ANSWER_BYTES = 34

/** Rows asked of the views that share an entity key. */
interface Seat {
  readonly rows: AskedRows
  readonly inputs: readonly InputColumn[]
}

interface Asked {
  readonly plan: Plan
  readonly seat: Seat
  readonly core: AsOf
  /** Longest window. */
  readonly reachMs: number
  unknown: number
  ahead: number
  incomplete: number
  overflow: number
}

/** Throws FEATURE_UNKNOWN, COLUMN_MISSING, COLUMN_TYPE, CONFIG_INVALID. */
export function trainingSet(options: TrainingOptions): TrainingSet {
  return new TrainingSet(options)
}

export class TrainingSet {
  readonly #options: TrainingOptions
  readonly #seats: readonly Seat[]
  readonly #asked: readonly Asked[]
  readonly #kept: readonly InputColumn[]
  readonly #heldMax: number
  readonly #spanBytes: number
  /** Numbered rows of the spine by seat, batch by batch, as long as there are not too many. */
  #known: Map<Seat, NumberedRows[]> | undefined
  readonly #knownMax: number
  #rows = 0
  #unusable = 0
  #spilledBytes = 0
  #isRead = false

  constructor(options: TrainingOptions) {
    this.#options = options
    const { spine, time = SPINE_TIME, views } = options
    const memoryBytes = options.memoryBytes ?? MEMORY_BYTES
    this.#heldMax = memoryBytes * HELD_SHARE
    this.#knownMax = (memoryBytes * KNOWN_SHARE) / KNOWN_ROW_BYTES
    this.#spanBytes = memoryBytes * SPAN_SHARE
    const core = options.core ?? loadCore()
    const seats = new Map<string, Seat>()
    this.#asked = views.map(({ plan: whole, features }) => {
      const plan = narrowPlan(whole, features)
      const key = JSON.stringify(plan.state.entity)
      let seat = seats.get(key)
      if (seat === undefined) {
        const state = askedState(plan.state.entity, time)
        matchInputs(state.inputs, spine.fields, spine.name)
        seat = { rows: new AskedRows(core, state), inputs: state.inputs }
        seats.set(key, seat)
      }
      if (options.events[plan.state.source] === undefined) throw noEvents(plan, Object.keys(options.events))
      return {
        plan,
        seat,
        core: new AsOf(core, plan, options.clock()),
        reachMs: Math.max(...plan.windows.map((window) => window.lengthMs)),
        unknown: 0,
        ahead: 0,
        incomplete: 0,
        overflow: 0,
      }
    })
    this.#seats = [...seats.values()]
    this.#known = new Map(this.#seats.map((seat) => [seat, []]))
    this.#kept = keptInputs(spine, uniqueInputs(this.#seats.flatMap((seat) => seat.inputs)))
    const features = this.#asked.flatMap(({ plan }) => plan.features.map((each) => featureColumnName(plan.view, each)))
    checkNames([...this.#kept.map(({ name }) => name), ...features])
  }

  /** What came of it; complete when the last batch has been read. */
  get report(): TrainingReport {
    return {
      rows: this.#rows,
      unusable: this.#unusable,
      spilledBytes: this.#spilledBytes,
      views: this.#asked.map(({ plan, core, unknown, ahead, incomplete, overflow }) => ({
        view: plan.view,
        outcomes: core.outcomes(),
        unknown,
        ahead,
        incomplete,
        overflow,
      })),
    }
  }

  /** The rows, in the spine's order: its columns, then `view__feature`. Once. Throws SOURCE_*, OUTPUT_FAILED, CORE_MEMORY. */
  async *read(): AsyncGenerator<ColumnBatch, void, undefined> {
    if (this.#isRead) throw new TilefoldError('CONFIG_INVALID', 'cannot read a training set: it has been read')
    this.#isRead = true
    const spill = new Spill(this.#options.tempFolder ?? tmpdir(), this.#asked)
    try {
      await this.#readKeys()
      await this.#readEvents(spill)
      if (spill.parts === 0) {
        for (const { core } of this.#asked) core.order()
        yield* this.#answerRows((asked, rows) => [this.#answer(asked, rows, 0, 1)], this.#spanRows())
      } else {
        await this.#answerParts(spill)
        yield* this.#answerRows((asked) => spill.readAnswers(asked), 1)
      }
    } finally {
      spill.close()
    }
  }

  async #readKeys(): Promise<void> {
    const inputs = uniqueInputs(this.#seats.flatMap((seat) => seat.inputs))
    let done = 0
    for await (const batch of this.#options.spine.read(inputs)) {
      this.#options.signal?.throwIfAborted()
      for (const seat of this.#seats) {
        const rows = seat.rows.read(batch)
        if (this.#known !== undefined) this.#known.get(seat)!.push(rows)
      }
      done += batch.length
      if (done * this.#seats.length > this.#knownMax) this.#known = undefined
      this.#tell('keys', done, this.#options.spine.rowsTotal)
    }
    for (const { seat, core } of this.#asked) {
      core.ask(seat.rows.keys())
      for (const rows of this.#known?.get(seat) ?? []) core.cover(rows)
    }
  }

  async #readEvents(spill: Spill): Promise<void> {
    let done = 0
    for (const [name, source] of Object.entries(this.#options.events)) {
      const views = this.#asked.filter(({ plan }) => plan.state.source === name)
      if (views.length === 0) continue
      const before = done
      const total = await source.rowsTotal()
      for (const { core } of views) {
        core.reserve(Math.floor(Math.min(total ?? 0, this.#heldMax / views.length / core.eventBytes)))
      }
      for await (const { batch, rowsDone, rowsTotal } of source.read(0)) {
        this.#options.signal?.throwIfAborted()
        let held = 0
        for (const { core } of views) held += core.hold(batch)
        done = before + rowsDone
        if (held > this.#heldMax) spill.add(views, partsFor(held, this.#heldMax, rowsDone, rowsTotal))
        this.#tell('events', done, rowsTotal === undefined ? undefined : before + rowsTotal)
      }
      // Another source's events need the room, too.
      if (spill.parts > 0) spill.add(this.#asked, spill.parts)
      this.#spilledBytes = spill.bytes
    }
  }

  /** Part by part: its events into memory, and the answers to its rows into a file. */
  async #answerParts(spill: Spill): Promise<void> {
    const inputs = uniqueInputs(this.#seats.flatMap((seat) => seat.inputs))
    for (let part = 0; part < spill.parts; part++) {
      for (const asked of this.#asked) spill.load(asked, part)
      for await (const batch of this.#options.spine.read(inputs)) {
        this.#options.signal?.throwIfAborted()
        const rows = new Map(this.#seats.map((seat) => [seat, seat.rows.read(batch)]))
        for (const asked of this.#asked) {
          spill.addAnswers(asked, part, this.#answer(asked, rows.get(asked.seat)!, part, spill.parts))
        }
      }
      this.#spilledBytes = Math.max(this.#spilledBytes, spill.bytes)
    }
  }

  /** The spine once more, whole, and the answers beside it; `spanRows` rows at a time, in whole batches, or a few more. */
  async *#answerRows(
    answersOf: (asked: Asked, rows: NumberedRows) => PlacedAnswers[],
    spanRows: number,
  ): AsyncGenerator<ColumnBatch> {
    const { spine, signal } = this.#options
    const inputs = uniqueInputs([...this.#kept, ...this.#seats.flatMap((seat) => seat.inputs)])
    let span: ColumnBatch[] = []
    let [rows, bytes] = [0, 0]
    for await (const batch of spine.read(inputs)) {
      signal?.throwIfAborted()
      span.push(batch)
      rows += batch.length
      bytes += batch.columns.reduce((sum, { values }) => sum + values.length, 0)
      if (rows < spanRows && bytes < this.#spanBytes) continue
      yield* this.#answerSpan(span, answersOf)
      span = []
      rows = 0
      bytes = 0
    }
    if (span.length > 0) yield* this.#answerSpan(span, answersOf)
  }

  *#answerSpan(
    span: readonly ColumnBatch[],
    answersOf: (asked: Asked, rows: NumberedRows) => PlacedAnswers[],
  ): Generator<ColumnBatch> {
    const bySeat = new Map(this.#seats.map((seat) => [seat, this.#rowsOf(seat, span)]))
    this.#unusable += countUnusable([...bySeat.values()])
    const answered = this.#asked.map((asked) => {
      const rows = bySeat.get(asked.seat)!
      const parts = answersOf(asked, rows)
      for (const part of parts) this.#count(asked, rows, part)
      return { plan: asked.plan, parts }
    })
    let from = 0
    for (const { length, columns } of span) {
      const to = from + length
      const features = answered.flatMap(({ plan, parts }) => {
        const cut = parts.map((part) => answersBetween(part, from, to, plan.features.length))
        return featureColumns(plan, length, cut)
      })
      const kept = this.#kept.map((input) => keptColumn(input, columns))
      yield { length, columns: [...kept, ...features], positions: this.#rows }
      from = to
      this.#rows += length
      this.#tell('rows', this.#rows, this.#options.spine.rowsTotal)
    }
  }

  /** As the first pass numbered them, while that is known and the spine comes in the same batches. */
  #rowsOf(seat: Seat, span: readonly ColumnBatch[]): NumberedRows {
    const parts = span.map((batch) => {
      const known = this.#known?.get(seat)
      if (known?.[0]?.entities.length === batch.length) return known.shift()!
      this.#known = undefined
      return seat.rows.read(batch)
    })
    return joinRows(parts)
  }

  /** Rows of a span whose answers keep to their share of the memory. */
  #spanRows(): number {
    const rowBytes = this.#asked.reduce((sum, { plan }) => sum + plan.features.length * ANSWER_BYTES, KNOWN_ROW_BYTES)
    return Math.min(SPAN_ROWS, Math.max(1, Math.floor(this.#spanBytes / rowBytes)))
  }

  /** Answers to the rows whose entity is of the part. */
  #answer({ core }: Asked, asked: NumberedRows, part: number, parts: number): PlacedAnswers {
    const { rows, entities, asOfs } = rowsOfPart(asked, part, parts)
    return { rows, answers: core.answer(entities, asOfs) }
  }

  #count(asked: Asked, { asOfs }: NumberedRows, { rows, answers }: PlacedAnswers): void {
    const features = asked.plan.features.length
    const { lateClockMs } = asked.core
    const since = this.#options.completeSinceMs
    for (let i = 0; i < rows.length; i++) {
      const asOf = asOfs[rows[i]!]!
      if (isUnknown(answers.statuses[i * features]!)) asked.unknown++
      if (asOf > lateClockMs) asked.ahead++
      if (since !== undefined && asOf - asked.reachMs < since) asked.incomplete++
    }
    const { statuses } = answers
    for (let i = 0; i < statuses.length; i++) if (isOverflow(statuses[i]!)) asked.overflow++
  }

  #tell(step: TrainingProgress['step'], done: number, total: number | undefined): void {
    this.#options.onProgress?.({ step, done, total })
  }
}

function noEvents(plan: Plan, given: readonly string[]): TilefoldError {
  return new TilefoldError(
    'CONFIG_INVALID',
    `cannot build features of ${plan.view}: there are no events of its source ${JSON.stringify(plan.state.source)}; got ${given.join(', ') || 'none'}`,
    { view: plan.view, source: plan.state.source },
  )
}
