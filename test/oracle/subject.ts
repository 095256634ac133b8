/**
 * A slow engine made of the oracle's own parts: keeps events instead of partials, in a store that is a plain object. It is
 * what the laws are tried on: it obeys them, and with one fault built in it must not.
 */
import type { ColumnBatch } from '../../src/model/columns.ts'
import type { KeyPart } from '../../src/model/key.ts'
import { encodeKey, laneHash } from '../../src/model/key.ts'
import type { Plan, StatePlan } from '../../src/model/plan.ts'
import type { Answer, Subject, SubjectOptions } from '../laws/subject.ts'
import { readEvents } from '../support/events-of-batch.ts'
import type { NaiveEvent, Verdict } from './naive.ts'
import { countVerdicts, eventsOf, naiveAccept, naiveFeatures, naiveTiles, valueIn } from './naive.ts'

/** One thing that goes wrong. */
export type Fault =
  | 'applies a replay twice'
  | 'commits before the rows are written'
  | 'keeps the order of arrival'
  | 'forgets a lane'
  | 'loses the last row of a batch'
  | 'counts a redelivery again'
  | 'starts with an empty clock'
  | 'includes the event at as-of'
  | 'floors no start'
  | 'forgets history'
  | 'counts what history covers'
  | 'compacts one tile too many'

/** What survives a crash: per log, the events in it and the position it stands at. */
interface Stored {
  events: NaiveEvent[]
  marker: number
}

export class NaiveSubject implements Subject {
  private readonly options: SubjectOptions
  private readonly fault: Fault | undefined
  private readonly store = new Map<string, Stored>()
  private memory = new Map<string, Stored>()

  constructor(options: SubjectOptions, fault?: Fault) {
    this.options = options
    this.fault = fault
    for (const log of ['history', ...options.logs]) this.store.set(log, { events: [], marker: -1 })
    this.memory = copyOf(this.store)
  }

  async push(log: string, batch: ColumnBatch): Promise<void> {
    const target = this.memory.get(log)!
    const events = readEvents(batch, this.state)
    if (this.fault === 'loses the last row of a batch' && events.length === 7) events.pop()
    for (const event of events) {
      const isNew = event.position > target.marker
      if (isNew || (this.fault === 'counts a redelivery again' && event.position % 5 === 0)) {
        target.events.push(isNew ? event : { ...event, position: event.position + 0.5 })
      }
      if (isNew) target.marker = event.position
    }
  }

  async flush(): Promise<void> {
    this.writeTo(Number.POSITIVE_INFINITY)
  }

  async advance(): Promise<void> {}

  async backfill(batches: readonly ColumnBatch[]): Promise<void> {
    for (const batch of batches) await this.push('history', batch)
    this.writeTo(Number.POSITIVE_INFINITY)
  }

  async crash(storeCall?: number): Promise<ReadonlyMap<string, number>> {
    if (storeCall !== undefined) this.writeTo(storeCall)
    this.memory = copyOf(this.store)
    for (const stored of this.memory.values()) {
      if (this.fault === 'applies a replay twice') stored.marker = -1
      if (this.fault === 'starts with an empty clock')
        stored.events = stored.events.map((event) => ({ ...event, recordTime: 0 }))
    }
    return new Map([...this.memory].map(([log, { marker }]) => [log, marker + 1]))
  }

  async features(key: readonly KeyPart[], asOfMs: number): Promise<readonly Answer[]> {
    const asked = this.fault === 'includes the event at as-of' ? asOfMs + 1 : asOfMs
    return naiveFeatures(this.applied(), this.servedPlan(), key, asked)
  }

  async rows(watermarkMs: number): Promise<ReadonlyMap<string, Uint8Array>> {
    const applied = this.applied()
    const headMs = Math.max(0, watermarkMs - this.state.head.lengthMs)
    const rows = new Map<string, Uint8Array>()
    for (const event of applied) {
      const name = hexKey(this.state, event)
      if (rows.has(name)) continue
      const tiles = naiveTiles(eventsOf(applied, event.key), this.state, {
        headMs,
        compactMs: this.state.ladder.map(({ stepMs }) => Math.floor(headMs / stepMs) * stepMs),
        evictMs: this.state.ladder.map(({ keepMs }) => headMs - keepMs),
      })
      if (tiles.head.length === 0 && tiles.levels.every((level) => level.size === 0)) continue
      rows.set(name, this.encode(tiles))
    }
    return rows
  }

  async outcomes(): Promise<Record<Verdict, number>> {
    const counts = [...this.memory.keys()].map((log) => countVerdicts(this.accept(log)))
    const sum = { ...counts[0]! }
    for (const verdict of Object.keys(sum) as Verdict[]) {
      sum[verdict] = counts.reduce((total, each) => total + each[verdict], 0)
    }
    return sum
  }

  async close(): Promise<void> {}

  private get state(): StatePlan {
    return this.options.plan.state
  }

  /** Writes one log per store call: the rows, then the marker; stops dead at call number `calls`. */
  private writeTo(calls: number): void {
    let left = calls
    for (const [log, { events, marker }] of this.memory) {
      const stored = this.store.get(log)!
      const early = this.fault === 'commits before the rows are written'
      if (left-- <= 0) return
      if (early) stored.marker = marker
      else stored.events = [...events]
      if (left-- <= 0) return
      if (early) stored.events = [...events]
      else stored.marker = marker
    }
  }

  private accept(log: string) {
    const { events } = this.memory.get(log)!
    const covers = this.fault === 'counts what history covers' && log !== 'history' ? undefined : this.options.covers
    // Rows may be ahead of the marker: an event that is replayed over them is the same event.
    const seen = new Set<number>()
    const once = events.filter((event) => !seen.has(event.position) && seen.add(event.position))
    return naiveAccept(
      this.fault === 'applies a replay twice' ? events.map((event, i) => ({ ...event, position: i })) : once,
      this.state,
      { notAfterMs: this.options.notAfterMs, ...(covers && { covers, isHistory: log === 'history' }) },
    )
  }

  private applied(): NaiveEvent[] {
    const logs = [...this.memory.keys()].filter((log) => this.fault !== 'forgets history' || log !== 'history')
    const applied = logs.flatMap((log) => this.accept(log).applied)
    if (this.fault !== 'forgets a lane' || this.options.lanes < 2) return applied
    return applied.filter((event) => laneHash(keyBytes(this.state, event)) % this.options.lanes !== 1)
  }

  private servedPlan(): Plan {
    const { plan } = this.options
    if (this.fault !== 'floors no start') return plan
    return { ...plan, windows: plan.windows.map((window) => ({ ...window, tailStepMs: 1 })) }
  }

  /** The multiset of events in each tile: what canonical bytes may depend on, and nothing else. */
  private encode(tiles: ReturnType<typeof naiveTiles>): Uint8Array {
    const inOrder = this.fault !== 'keeps the order of arrival'
    const listed = (events: readonly NaiveEvent[]): string[] => {
      const texts = events.map((event) =>
        [event.time, event.id ?? null, ...this.state.columns.map((column) => valueIn(event, column))]
          .map(String)
          .join(),
      )
      return inOrder ? texts.sort() : texts
    }
    const shift = this.fault === 'compacts one tile too many' && this.options.lanes > 1 ? 1 : 0
    const levels = tiles.levels.map((level) =>
      [...level.keys()].sort((a, b) => a - b).map((tile) => [tile + shift, listed(level.get(tile)!)]),
    )
    return new TextEncoder().encode(JSON.stringify([listed(tiles.head), levels]))
  }
}

function copyOf(store: ReadonlyMap<string, Stored>): Map<string, Stored> {
  return new Map([...store].map(([log, { events, marker }]) => [log, { events: [...events], marker }]))
}

function keyBytes(state: StatePlan, event: NaiveEvent): Uint8Array {
  return encodeKey(state.entity, event.key)
}

function hexKey(state: StatePlan, event: NaiveEvent): string {
  return Buffer.from(keyBytes(state, event)).toString('hex')
}
