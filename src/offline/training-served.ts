/**
 * TRAINING SETS, as served: for every row of a spine the features that were served for it, or would have been.
 *
 *   row of the spine ─┬─ in the log of answers (request id, or entity and instant)  -> the positions that the answer came from
 *                     ├─ else the flush ledgers: what was readable at its instant   -> positions, by a model
 *                     └─ else                                                       -> nulls, counted
 *   positions         ─── the mirror through the walk again, up to each of them     -> values (as-served.ts)
 *
 * What was recomputed from a logged answer is what was served, bit for bit. A feature that was defined later comes from the same
 * events, as long as the view counts the same ones: source, entity, time, filter, lateness and dedupe are what they were. With `fromLog` the values are the logged ones, and only what
 * the log lacks is recomputed, where there is a mirror. An answer that had no value (its row was too old or could not be
 * read) has none here.
 *
 * Who was asked to be forgotten is, as far as `forgotten` tells: a row as of the request's instant or before has nulls and nothing
 * of the log, a later one is folded without the events from before it. Logged values of a later one are only taken where none of its windows
 * reaches back behind the request: who carried it out, and when, is not known to the log.
 *
 * The spine is taken in parts of 100,000 rows; for each of them log and mirror are read once.
 */
import type { ColumnBatch } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import type { FeatureStatus, FeatureValue, InputColumn, Plan } from '../model/plan.ts'
import { forgottenBefore } from '../registry/erase.ts'
import type { LayoutSeat } from '../registry/layouts.ts'
import { columnsToBatch } from '../source/rows.ts'
import type { ServedVector } from './as-served.ts'
import type { ParityFiles } from './parity-logs.ts'
import type { LoggedRow } from './served-files.ts'
import { answersOfLayouts } from './served-lanes.ts'
import { VisiblePositions } from './served-ledger.ts'
import { type AskedRow, matchServed } from './served-match.ts'
import { questionsOf, type SpineQuestions } from './served-spine.ts'
import { keptColumn, keptInputs, type Spine } from './spine.ts'
import { featureOf } from './spine-plan.ts'
import { type AskedView, SPINE_TIME, type TrainingProgress } from './training.ts'
import { checkNames, featureColumnName, featureInput, uniqueInputs } from './training-columns.ts'

export interface ServedTrainingOptions {
  readonly spine: Spine
  /** The spine's column of instants; `event_timestamp` unless told. */
  readonly time?: string
  readonly views: readonly AskedView[]
  /** Directory of the log of answers. */
  readonly servedLog?: string
  /** Values are the logged ones. */
  readonly fromLog?: boolean
  /** The store whose flush ledgers tell of rows that are in no log. */
  readonly ledger?: LayoutSeat
  /** The store whose list says who was asked to be forgotten; nobody unless told. */
  readonly forgotten?: LayoutSeat
  /** A request reads the store so long after the row's instant; for the ledgers, 0 unless told. */
  readonly servingDelayMs?: number
  /** Directory of the mirror; needed for everything but logged values. */
  readonly mirror?: string
  /** Topic of each kind of events, where it isn't named like it. */
  readonly topics?: ReadonlyMap<string, string>
  /** The files that history was folded from, by the name of the views' source. */
  readonly history?: Readonly<Record<string, ParityFiles>>
  /** Milliseconds since the epoch: nothing was readable behind it. */
  readonly clock: () => number
  readonly onProgress?: (progress: TrainingProgress) => void
  readonly signal?: AbortSignal
}

export interface ServedTrainingReport {
  readonly rows: number
  /** Rows without request id whose key or instant is none: their features are null. */
  readonly unusable: number
  readonly views: readonly ServedViewReport[]
}

export interface ServedViewReport {
  readonly view: string
  /** Rows with a logged answer. */
  readonly log: number
  /** Rows by the model of the flush ledger. */
  readonly ledger: number
  /** Rows that nothing is known of: nulls. */
  readonly unknown: number
  /** Rows of entities that were asked to be forgotten, behind them: nulls. */
  readonly forgotten: number
  /** Rows whose records the mirror lacks, or not as they were: nulls, but for logged values. */
  readonly lacking: number
  /** Of the logged ones: answers that had no value. */
  readonly unanswered: number
  /** Of the logged ones: rows with several answers, of which the first is taken. */
  readonly repeated: number
  /** Rows whose answer is of a view of this name that counted other events, and is not used. */
  readonly otherState: number
  /** Rows that ask about an instant to come. */
  readonly ahead: number
  /** The model's error: positions that may have been readable beside, at most, and rows of which even that is not known. */
  readonly ledgerUnsure: number
  readonly ledgerOpen: number
}

/** Throws FEATURE_UNKNOWN, COLUMN_MISSING, COLUMN_TYPE, CONFIG_INVALID. */
export function servedTrainingSet(options: ServedTrainingOptions): ServedTrainingSet {
  return new ServedTrainingSet(options)
}

/** Rows of the spine for which log and mirror are read once. */
const PART_ROWS = 100_000
const NO_VALUE: ReadonlySet<FeatureStatus> = new Set(['too_old', 'error', 'unavailable'])
const NOBODY: ReadonlyMap<string, number> = new Map()

type Origin = 'log' | 'ledger'

/** What one row gets of one view. */
interface ServedCells {
  origin?: Origin
  values?: readonly FeatureValue[]
  logged?: LoggedRow
  /** It has nothing, as its entity was asked to be forgotten. */
  isForgotten?: true
}

interface Asked {
  readonly plan: Plan
  readonly questions: SpineQuestions
  visible?: VisiblePositions
  /** By the hex of their keys, from which event time on events of these entities count. */
  forgotten: ReadonlyMap<string, number>
  readonly counts: Omit<{ -readonly [K in keyof ServedViewReport]: ServedViewReport[K] }, 'view'>
}

export class ServedTrainingSet {
  readonly #options: ServedTrainingOptions
  readonly #asked: readonly Asked[]
  readonly #kept: readonly InputColumn[]
  /** Keys and instant that the spine lacks: the log has them. */
  readonly #added: readonly InputColumn[]
  readonly #inputs: readonly InputColumn[]
  #rows = 0
  #unusable = 0
  #isRead = false

  constructor(options: ServedTrainingOptions) {
    this.#options = options
    const { spine, time = SPINE_TIME, views, servedLog, mirror, ledger, fromLog } = options
    checkOptions(options)
    this.#asked = views.map(({ plan: whole, features }) => {
      const plan = features
        ? { ...whole, features: [...new Set(features)].map((name) => featureOf(whole, name)) }
        : whole
      const questions = questionsOf(spine, plan, time, servedLog !== undefined)
      return { plan, questions, forgotten: NOBODY, counts: newCounts() }
    })
    this.#kept = keptInputs(spine, uniqueInputs(this.#asked.flatMap(({ questions }) => questions.inputs)))
    this.#added = uniqueInputs(this.#asked.flatMap(addedInputs)).filter(
      ({ name }) => !this.#kept.some((kept) => kept.name === name),
    )
    this.#inputs = uniqueInputs([...this.#kept, ...this.#asked.flatMap(({ questions }) => questions.inputs)])
    checkNames([
      ...this.#kept.map(({ name }) => name),
      ...this.#added.map(({ name }) => name),
      ...this.#asked.flatMap(({ plan }) => [
        ...plan.features.map((feature) => featureColumnName(plan.view, feature)),
        originName(plan),
      ]),
    ])
    if (mirror === undefined && (ledger !== undefined || !fromLog)) throw noMirror()
  }

  /** What came of it; complete when the last batch has been read. */
  get report(): ServedTrainingReport {
    const views = this.#asked.map(({ plan, counts }) => ({ view: plan.view, ...counts }))
    return { rows: this.#rows, unusable: this.#unusable, views }
  }

  /**
   * The rows, in the spine's order: its columns, keys and instant where it had none, then `view__feature` and, last of each view,
   * `view__served_from`: log, ledger or null. Once. Throws SOURCE_*, COLUMN_*, MIRROR_INVALID, STORE_UNAVAILABLE, and
   * SOURCE_NOT_FOUND where nothing is known of any row.
   */
  async *read(): AsyncGenerator<ColumnBatch, void, undefined> {
    if (this.#isRead) throw new TilefoldError('CONFIG_INVALID', 'cannot read a training set: it has been read')
    this.#isRead = true
    const { ledger, mirror, topics, forgotten } = this.#options
    for (const asked of this.#asked) {
      const { plan } = asked
      if (forgotten) asked.forgotten = await forgottenBefore(forgotten, plan)
      if (ledger) asked.visible = await VisiblePositions.open(ledger, plan, mirror!, topics?.get(plan.state.source))
    }
    let part: ColumnBatch[] = []
    let rows = 0
    for await (const batch of this.#options.spine.read(this.#inputs)) {
      part.push(batch)
      rows += batch.length
      if (rows < PART_ROWS) continue
      yield* this.#answerPart(part)
      ;[part, rows] = [[], 0]
    }
    if (rows > 0) yield* this.#answerPart(part)
    const isNothing = ({ counts }: Asked) => counts.log + counts.ledger + counts.forgotten === 0
    if (this.#rows > 0 && this.#asked.every(isNothing)) throw this.#nothing()
  }

  async *#answerPart(part: readonly ColumnBatch[]): AsyncGenerator<ColumnBatch, void, undefined> {
    const views: ServedCells[][] = []
    const usable = new Set<number>()
    for (const asked of this.#asked) {
      const rows = part.flatMap((batch) => asked.questions.read(batch))
      for (const [row, { requestId, key, asOfMs }] of rows.entries()) {
        if (requestId !== undefined || (key !== undefined && asOfMs !== undefined)) usable.add(row)
      }
      views.push(await this.#answer(asked, rows))
    }
    let from = 0
    for (const batch of part) {
      this.#options.signal?.throwIfAborted()
      const cells = views.map((rows) => rows.slice(from, from + batch.length))
      from += batch.length
      const kept = this.#kept.map((input) => keptColumn(input, batch.columns))
      const columns = [...kept, ...this.#addedColumns(cells, batch.length), ...this.#featureColumns(cells)]
      yield { length: batch.length, columns, positions: this.#rows }
      this.#rows += batch.length
      this.#tell('rows', this.#rows)
    }
    this.#unusable += from - usable.size
  }

  /** One view's part of a part. */
  async #answer(asked: Asked, rows: readonly AskedRow[]): Promise<ServedCells[]> {
    const { plan, counts } = asked
    const { servedLog, mirror, topics, history, fromLog = false, signal } = this.#options
    this.#tell('keys', this.#rows)
    const cells: ServedCells[] = rows.map(() => ({}))
    if (servedLog !== undefined) {
      const anyState = fromLog && mirror === undefined
      const about = { directory: servedLog, plan, asked: rows, anyState, firstRow: this.#rows }
      const matches = await matchServed({ ...about, ...(signal && { signal }) })
      counts.repeated += matches.repeated
      counts.otherState += matches.otherState
      for (const [row, logged] of matches.rows.entries()) if (logged) cells[row] = { origin: 'log', logged }
    }
    const vectors: ServedVector[] = []
    const vectorRows: number[] = []
    const forgotten = new Map<string, number>()
    for (const [row, cell] of cells.entries()) {
      const { key, asOfMs } = cell.logged ?? rows[row]!
      const hex = asked.forgotten.size === 0 || key === undefined ? '' : Buffer.from(key).toString('hex')
      const fromMs = asked.forgotten.get(hex)
      if (fromMs !== undefined && asOfMs !== undefined && this.#isForgotten(plan, cell, asOfMs, fromMs)) {
        cells[row] = { isForgotten: true }
        continue
      }
      const vector = cell.logged
        ? this.#loggedVector(asked, cell, cell.logged)
        : this.#modelled(asked, cell, rows[row]!)
      if (vector === undefined) continue
      if (fromMs !== undefined) forgotten.set(hex, fromMs)
      // Of an entity whose events are left out, no row is no loss.
      vectors.push(fromMs === undefined ? vector : { ...vector, isModel: true })
      vectorRows.push(row)
    }
    this.#tell('events', this.#rows)
    const answers = await answersOfLayouts({
      plan,
      vectors,
      forgotten,
      ...(asked.visible && { otherwise: asked.visible.generation }),
      ...(mirror === undefined ? {} : { mirror }),
      ...(topics && { topics }),
      ...(history?.[plan.state.source] && { history: history[plan.state.source]! }),
      ...(signal && { signal }),
    })
    for (const [i, { values, missing, absent }] of answers.entries()) {
      const cell = cells[vectorRows[i]!]!
      const isLacking = missing.length + absent.length > 0
      const found = isLacking ? plan.features.map(() => null) : values
      if (isLacking) counts.lacking++
      // Without its records a row is as good as unknown, unless the log has its values.
      if (isLacking && !(cell.logged && fromLog)) cells[vectorRows[i]!] = {}
      else cell.values = cell.logged ? withLogged(plan, found, cell.logged, fromLog) : found
    }
    for (const { origin, isForgotten } of cells) counts[isForgotten ? 'forgotten' : (origin ?? 'unknown')]++
    return cells
  }

  /** Does nothing of the row count? Events of its entity do from `fromMs` on. */
  #isForgotten(plan: Plan, { logged }: ServedCells, asOfMs: number, fromMs: number): boolean {
    if (asOfMs <= fromMs) return true
    if (logged === undefined || !this.#options.fromLog) return false
    const reachMs = Math.max(...plan.windows.map(({ lengthMs, tailStepMs }) => lengthMs + tailStepMs))
    return asOfMs - reachMs < fromMs
  }

  /** Undefined where nothing has to be recomputed. */
  #loggedVector({ plan, counts }: Asked, cell: ServedCells, logged: LoggedRow): ServedVector | undefined {
    const { fromLog = false, mirror } = this.#options
    const { answers } = logged
    const isUnanswered = answers.size > 0 && [...answers.values()].every(({ status }) => NO_VALUE.has(status))
    if (isUnanswered) counts.unanswered++
    else if (!fromLog || (mirror !== undefined && answers.size < plan.features.length)) return logged
    cell.values = plan.features.map((_, feature) => (fromLog ? (answers.get(feature)?.value ?? null) : null))
    return undefined
  }

  #modelled(asked: Asked, cell: ServedCells, { key, asOfMs }: AskedRow): ServedVector | undefined {
    const { clock, servingDelayMs = 0 } = this.#options
    if (asked.visible === undefined || key === undefined || asOfMs === undefined) return undefined
    if (asOfMs + servingDelayMs > clock()) {
      asked.counts.ahead++
      return undefined
    }
    const visible = asked.visible.at(key, asOfMs + servingDelayMs)
    if (visible === undefined) return undefined
    cell.origin = 'ledger'
    asked.counts.ledgerUnsure = Math.max(asked.counts.ledgerUnsure, visible.unsure)
    if (visible.isOpen) asked.counts.ledgerOpen++
    return { key, asOfMs, applied: visible.applied, isModel: true }
  }

  #addedColumns(cells: readonly (readonly ServedCells[])[], length: number) {
    const data = Object.fromEntries(
      this.#added.map(({ name }) => [
        name,
        Array.from({ length }, (_, row) => {
          for (const [view, { plan }] of this.#asked.entries()) {
            const logged = cells[view]![row]!.logged
            if (logged === undefined) continue
            const part = plan.state.entity.findIndex((each) => each.name === name)
            if (part >= 0) return logged.keys[part]
            if (name === SPINE_TIME) return logged.asOfMs
          }
          return null
        }),
      ]),
    )
    return this.#added.length === 0 ? [] : columnsToBatch(data, this.#added, 0).columns
  }

  #featureColumns(cells: readonly (readonly ServedCells[])[]) {
    return this.#asked.flatMap(({ plan }, view) => {
      const rows = cells[view]!
      const inputs = plan.features.map((feature) => featureInput(plan.view, feature))
      const origin: InputColumn = { name: originName(plan), type: 'utf8', accepts: ['utf8'] }
      const data = Object.fromEntries([
        ...inputs.map(({ name }, feature) => [name, rows.map(({ values }) => values?.[feature] ?? null)]),
        [origin.name, rows.map(({ origin: from }) => from ?? null)],
      ])
      return columnsToBatch(data, [...inputs, origin], 0).columns
    })
  }

  #tell(step: TrainingProgress['step'], done: number): void {
    this.#options.onProgress?.({ step, done, total: this.#options.spine.rowsTotal })
  }

  #nothing(): TilefoldError {
    const { servedLog, ledger } = this.#options
    const asked = [servedLog && `the log of answers in ${servedLog}`, ledger && 'the flush ledgers of the store']
    return new TilefoldError(
      'SOURCE_NOT_FOUND',
      `cannot build a training set as served: ${asked.filter(Boolean).join(' and ')} tell nothing of any row; got ${this.#rows} rows of ${this.#options.spine.name}, expected request ids that were logged, or instants that a ledger reaches`,
      { rows: this.#rows, views: this.report.views },
    )
  }
}

function originName({ view }: Plan): string {
  return `${view}__served_from`
}

/** Recomputed values, but none where none was served; the logged ones where they are wanted. */
function withLogged(
  plan: Plan,
  values: readonly FeatureValue[],
  { answers }: LoggedRow,
  fromLog: boolean,
): readonly FeatureValue[] {
  return plan.features.map((_, feature) => {
    const logged = answers.get(feature)
    if (logged === undefined) return values[feature]!
    if (fromLog) return logged.value
    return NO_VALUE.has(logged.status) ? null : values[feature]!
  })
}

function addedInputs({ plan, questions }: Asked): InputColumn[] {
  const keys = plan.state.entity.map(({ name, type }): InputColumn => ({ name, type, accepts: [type] }))
  const time: InputColumn = { name: SPINE_TIME, type: 'timestamp', unit: 'ms', accepts: ['int64'] }
  return [...(questions.hasKeys ? [] : keys), ...(questions.hasTime ? [] : [time])]
}

function newCounts(): Asked['counts'] {
  return {
    log: 0,
    ledger: 0,
    unknown: 0,
    forgotten: 0,
    lacking: 0,
    unanswered: 0,
    repeated: 0,
    otherState: 0,
    ahead: 0,
    ledgerUnsure: 0,
    ledgerOpen: 0,
  }
}

function checkOptions({ servedLog, ledger, fromLog }: ServedTrainingOptions): void {
  if (servedLog === undefined && ledger === undefined) {
    throw new TilefoldError(
      'CONFIG_INVALID',
      'cannot build a training set as served: nothing tells what was served; expected a log of answers, the flush ledgers, or both',
    )
  }
  if (fromLog && servedLog === undefined) {
    throw new TilefoldError('CONFIG_INVALID', 'cannot take logged values: no log of answers is given')
  }
}

function noMirror(): TilefoldError {
  return new TilefoldError(
    'CONFIG_INVALID',
    'cannot recompute what was served: no mirror is given; expected one, or logged values alone',
  )
}
