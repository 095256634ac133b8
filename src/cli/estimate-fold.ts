/**
 * A sample through the real walk: every event judged and folded by the core, rows flushed into a store in memory, and the rows
 * taken apart. Nothing here is guessed; what the sample cannot show is extrapolated in estimate-cost.ts.
 */

import { inspectRow } from '../engine/inspect.ts'
import { loadCore } from '../engine/module.ts'
import { Ingest } from '../ingest/ingest.ts'
import { type ColumnBatch, sliceBatch } from '../model/columns.ts'
import type { Counters } from '../model/counters.ts'
import type { Plan } from '../model/plan.ts'
import { createMemoryStore, type MemoryStore } from '../store/memory.ts'
import type { LaneName } from '../store/port.ts'
import { cellReader } from './cells.ts'
import { cpuMicros, type SampleBatch } from './estimate-sample.ts'
import type { EventFormat } from './event-files.ts'
import { sampleTimes, timeInput } from './times.ts'

export interface FoldedView {
  readonly plan: Plan
  readonly counters: Counters
  /** Event times of the sample; absent where none was readable. */
  readonly span?: { readonly firstMs: number; readonly lastMs: number }
  /** Number of the entity of each event, in log order, from 0. */
  readonly sequence: Uint32Array
  /** Events of each entity. */
  readonly events: Uint32Array
  readonly rows: RowTotals
  readonly foldMicros: number
  /** Absent where it could not be measured. */
  readonly flushMicrosPerRow: number | undefined
}

export interface RowTotals {
  readonly rows: number
  readonly bytes: number
  /** Bytes of keys, as the store names entities. */
  readonly keyBytes: number
  /** Sizes, ascending. */
  readonly sizes: Float64Array
  /** Rows that were taken apart; what follows is of them alone. */
  readonly inspected: number
  readonly headEvents: number
  readonly headBytes: number
  /** Finest level first. */
  readonly levels: readonly { readonly tiles: number; readonly bytes: number }[]
}

/** Rows that are taken apart: evenly over all of them. */
const INSPECTED_MAX = 2_000
const FLUSH_EVENTS = 500
const FLUSH_ROUNDS = 40
const DELTA_BYTES_MAX = 64 << 20
const NAMESPACE = 'estimate'

export class ViewFolder {
  readonly #plan: Plan
  readonly #format: EventFormat
  readonly #clock: () => number
  readonly #store: MemoryStore = createMemoryStore({ writeBytesMax: 1 << 20 })
  readonly #core = loadCore()
  readonly #ingests = new Map<string, Ingest>()
  readonly #entities = new Map<string, number>()
  #sequence = new Uint32Array(1 << 16)
  #length = 0
  #position = 0
  #firstMs = Number.POSITIVE_INFINITY
  #lastMs = Number.NEGATIVE_INFINITY
  #foldMicros = 0
  #last: SampleBatch | undefined

  constructor(plan: Plan, format: EventFormat, clock: () => number) {
    this.#plan = plan
    this.#format = format
    this.#clock = clock
  }

  async fold({ log, batch }: SampleBatch): Promise<void> {
    this.#note(batch)
    const ingest = this.#ingests.get(log) ?? (await this.#open(log))
    const numbered = this.#numbered(batch)
    const before = cpuMicros()
    await ingest.push(numbered)
    this.#foldMicros += cpuMicros() - before
    this.#last = { log, batch }
  }

  /** Positions of several logs and of cut batches: made anew, in order. */
  #numbered(batch: ColumnBatch): ColumnBatch {
    const positions = this.#position
    this.#position += batch.length
    return { ...batch, positions }
  }

  /** Flushes and takes rows apart. */
  async finish(): Promise<FoldedView> {
    for (const ingest of this.#ingests.values()) await ingest.flush()
    const sequence = this.#sequence.slice(0, this.#length)
    const events = new Uint32Array(this.#entities.size)
    for (const entity of sequence) events[entity]!++
    const counters = sumOf([...this.#ingests.values()].map((ingest) => ingest.counters))
    const rows = await this.#rows()
    return {
      plan: this.#plan,
      counters,
      ...(this.#lastMs >= this.#firstMs ? { span: { firstMs: this.#firstMs, lastMs: this.#lastMs } } : {}),
      sequence,
      events,
      rows,
      foldMicros: this.#foldMicros,
      flushMicrosPerRow: await this.#weighFlush(),
    }
  }

  /**
   * What a flush of a busy stream costs: some events for rows that are there. The last events come once more, which changes the rows:
   * everything else is known by now. Undefined where a view takes no event twice.
   */
  async #weighFlush(): Promise<number | undefined> {
    if (this.#last === undefined) return undefined
    const { log, batch } = this.#last
    const ingest = this.#ingests.get(log)!
    const few = sliceBatch(batch, Math.max(0, batch.length - FLUSH_EVENTS), batch.length)
    const rowsBefore = ingest.written.rows
    let micros = 0
    for (let round = 0; round < FLUSH_ROUNDS; round++) {
      await ingest.push(this.#numbered(few))
      const before = cpuMicros()
      await ingest.flush()
      micros += cpuMicros() - before
    }
    const rows = ingest.written.rows - rowsBefore
    return rows === 0 ? undefined : micros / rows
  }

  async #open(log: string): Promise<Ingest> {
    const { view, state, stateHash } = this.#plan
    const nowMs = this.#clock()
    const ingest = await Ingest.open(
      {
        view,
        state,
        stateHash,
        namespace: NAMESPACE,
        generation: 1,
        log,
        lanes: [log],
        shard: 0,
        shards: 1,
        notAfterMs: nowMs,
        completeSinceMs: 0,
        layoutVersion: 0,
        deltaBytesMax: DELTA_BYTES_MAX,
        isHistory: true,
      },
      { store: this.#store, core: this.#core, clock: this.#clock, nonce: log },
    )
    this.#ingests.set(log, ingest)
    return ingest
  }

  /** Who the events are about, and when they were. */
  #note(batch: ColumnBatch): void {
    const { length } = batch
    const time = timeInput(this.#plan)
    const times = sampleTimes(batch.columns.find(({ name }) => name === time.name)!, time, this.#format, length)
    if (times !== undefined) {
      this.#firstMs = Math.min(this.#firstMs, times.firstMs)
      this.#lastMs = Math.max(this.#lastMs, times.lastMs)
    }
    while (this.#length + length > this.#sequence.length) {
      const larger = new Uint32Array(2 * this.#sequence.length)
      larger.set(this.#sequence)
      this.#sequence = larger
    }
    const parts = this.#plan.state.entity.map((part) =>
      cellReader(batch.columns.find(({ name }) => name === part.name)!),
    )
    for (let row = 0; row < length; row++) {
      const key = parts.length === 1 ? String(parts[0]!(row)) : JSON.stringify(parts.map((part) => String(part(row))))
      let entity = this.#entities.get(key)
      if (entity === undefined) {
        entity = this.#entities.size
        this.#entities.set(key, entity)
      }
      this.#sequence[this.#length++] = entity
    }
  }

  async #rows(): Promise<RowTotals> {
    const { stateHash, state } = this.#plan
    const sizes: number[] = []
    let keyBytes = 0
    const kept: Uint8Array[] = []
    let stride = 1
    for (const log of this.#ingests.keys()) {
      const lane: LaneName = { namespace: NAMESPACE, stateHash, generation: 1, lane: log }
      for await (const { key, bytes } of this.#store.scanRows(lane)) {
        if (sizes.length % stride === 0) kept.push(bytes)
        sizes.push(bytes.length)
        keyBytes += key.length
        if (kept.length < 2 * INSPECTED_MAX) continue
        // Every other one of those kept, and of those to come.
        for (let i = 0; i < INSPECTED_MAX; i++) kept[i] = kept[2 * i]!
        kept.length = INSPECTED_MAX
        stride *= 2
      }
    }
    const levels = state.ladder.map(() => ({ tiles: 0, bytes: 0 }))
    let headEvents = 0
    let headBytes = 0
    for (const bytes of kept) {
      const row = inspectRow(bytes, state)
      const steps = new Map(row.parts.map(({ section }) => [section, 0]))
      for (const { section, what, bytes: size } of row.parts) {
        if (/^(tile|event|text)/.test(what)) steps.set(section, steps.get(section)! + size)
      }
      headEvents += row.events.length
      headBytes += steps.get('head') ?? 0
      // Sections come in the ladder's order behind header, frontiers and head.
      const sections = [...steps.keys()].filter((section) => !['header', 'frontiers', 'head'].includes(section))
      for (const [level, { tiles }] of row.levels.entries()) {
        if (tiles.length === 0) continue
        levels[level]!.tiles += tiles.length
        levels[level]!.bytes += steps.get(sections.shift()!)!
      }
    }
    return {
      rows: sizes.length,
      bytes: sizes.reduce((sum, size) => sum + size, 0),
      keyBytes,
      sizes: Float64Array.from(sizes).sort(),
      inspected: kept.length,
      headEvents,
      headBytes,
      levels,
    }
  }
}

function sumOf(all: readonly Counters[]): Counters {
  const sum: Record<string, number> = {}
  for (const counters of all) {
    for (const [name, count] of Object.entries(counters)) sum[name] = (sum[name] ?? 0) + count
  }
  return sum as unknown as Counters
}
