/** The real walk put to the laws: `Ingest` over a store, answers through `Merger`, rows through `RowNormaliser`. */
import { ROW_RUNS_AT } from '../../assembly/layout.ts'
import { Merger } from '../../src/engine/merger.ts'
import type { CoreModule } from '../../src/engine/module.ts'
import { RowNormaliser } from '../../src/engine/rows.ts'
import { Ingest, type IngestSpec } from '../../src/ingest/ingest.ts'
import type { ColumnBatch } from '../../src/model/columns.ts'
import type { Counters } from '../../src/model/counters.ts'
import { takenTimes } from '../../src/model/covers.ts'
import type { KeyPart } from '../../src/model/key.ts'
import { encodeKey, laneHash } from '../../src/model/key.ts'
import { historyLane, liveLane } from '../../src/model/view-layout.ts'
import type { LaneName, Store } from '../../src/store/port.ts'
import type { Verdict } from '../oracle/naive.ts'
import type { Random } from '../support/random.ts'
import { FaultyStore, Killed } from './faulty-store.ts'
import type { Answer, Subject, SubjectFactory, SubjectOptions } from './subject.ts'

export interface IngestSetup {
  readonly core: CoreModule
  /** A new, empty store for each subject. */
  readonly store: () => Store | Promise<Store>
  /** Draws shards, budgets and whether a call dies before or after its work. */
  readonly random: Random
  /** Shards of every log; drawn when absent, as are the budgets. */
  readonly shards?: number
  /** Instances to read rows with, for many subjects of one plan. */
  readonly readers?: { readonly merger: Merger; readonly normaliser: RowNormaliser }
}

export function ingestSubjects(setup: IngestSetup): SubjectFactory {
  return async (options) => {
    const subject = new IngestSubject(setup, options, new FaultyStore(await setup.store()))
    await subject.open()
    return subject
  }
}

const HISTORY = 'history'
let nonces = 0

export class IngestSubject implements Subject {
  readonly store: FaultyStore
  private readonly setup: IngestSetup
  private readonly options: SubjectOptions
  /** Every log's ingests, one per shard. */
  private readonly specs = new Map<string, IngestSpec[]>()
  private readonly live = new Map<string, Ingest[]>()
  private readonly merger: Merger
  private readonly normaliser: RowNormaliser
  private historyCounters: Counters | undefined

  constructor(setup: IngestSetup, options: SubjectOptions, store: FaultyStore) {
    this.setup = setup
    this.options = options
    this.store = store
    this.merger = setup.readers?.merger ?? Merger.create(setup.core, options.plan)
    this.normaliser = setup.readers?.normaliser ?? new RowNormaliser(setup.core, options.plan.state)
    const { random } = setup
    for (const log of [HISTORY, ...options.logs]) {
      const isHistory = log === HISTORY
      const lanes = isHistory ? random.between(1, 5) : options.lanes
      const shards = Math.min(lanes, setup.shards ?? random.between(1, 3))
      // Mostly flushed by hand alone; at times after nearly every batch.
      const deltaBytesMax = setup.shards === undefined ? random.pick([1 << 24, 1 << 24, 8_192, 1]) : 1 << 24
      const names = Array.from({ length: lanes }, (_, i) => (isHistory ? historyLane(i) : liveLane(log, i)))
      this.specs.set(
        log,
        Array.from({ length: shards }, (_, shard) => ({
          view: options.plan.view,
          state: options.plan.state,
          stateHash: options.plan.stateHash,
          namespace: 'laws',
          generation: 1,
          log,
          lanes: names,
          shard,
          shards,
          notAfterMs: options.notAfterMs,
          completeSinceMs: 0,
          layoutVersion: 1,
          deltaBytesMax,
          isHistory,
          takes: takenTimes(options.covers, isHistory),
        })),
      )
    }
  }

  /** Opens the live logs. */
  async open(): Promise<void> {
    for (const log of this.options.logs) this.live.set(log, await this.openLog(log))
  }

  private async openLog(log: string): Promise<Ingest[]> {
    const { core } = this.setup
    const ingests: Ingest[] = []
    for (const spec of this.specs.get(log)!) {
      // At times every flush has a checkpoint, at times hardly any: a restart then replays what others had long flushed.
      const tickMs = this.setup.random.pick([0, 3_000, 60_000])
      let nowMs = this.options.nowMs
      const clock = () => {
        nowMs += tickMs
        return nowMs
      }
      ingests.push(await Ingest.open(spec, { store: this.store, core, clock, nonce: `taker-${nonces++}` }))
    }
    return ingests
  }

  async push(log: string, batch: ColumnBatch): Promise<void> {
    for (const ingest of this.live.get(log)!) await ingest.push(batch)
  }

  async flush(): Promise<void> {
    for (const ingest of this.ingests()) await ingest.flush()
  }

  async advance(): Promise<void> {
    // As far as any log has come: the others are idle meanwhile.
    const watermarkMs = Math.max(...this.ingests().map((ingest) => ingest.watermarkMs))
    for (const ingest of this.ingests()) await ingest.advance(watermarkMs)
    await this.flush()
  }

  async backfill(batches: readonly ColumnBatch[]): Promise<void> {
    const ingests = await this.openLog(HISTORY)
    for (const ingest of ingests) {
      for (const batch of batches) await ingest.push(batch)
      await ingest.flush()
    }
    this.historyCounters = agreedCounters(HISTORY, ingests)
  }

  async crash(storeCall?: number): Promise<ReadonlyMap<string, number>> {
    if (storeCall !== undefined) {
      this.store.plan(storeCall, this.setup.random.chance(0.5) ? 'before' : 'after')
      await wasKilled(this.flush())
    }
    this.store.restart()
    await this.open()
    return this.resumeFrom()
  }

  /** First position that each log must be given again. */
  resumeFrom(): ReadonlyMap<string, number> {
    return new Map([...this.live].map(([log, shards]) => [log, Math.min(...shards.map((each) => each.resumeFrom))]))
  }

  async features(key: readonly KeyPart[], asOfMs: number): Promise<readonly Answer[]> {
    const bytes = encodeKey(this.options.plan.state.entity, key)
    const lanes = [...this.specs.values()].map(([spec]) => spec!.lanes[laneHash(bytes) % spec!.lanes.length]!)
    const { merger } = this
    merger.begin(1, asOfMs)
    await this.store.readRows(
      lanes.map((lane) => ({ lane: this.laneName(lane), key: bytes })),
      (_, row) => {
        if (row) merger.addRow(0, row)
      },
    )
    merger.run()
    return this.options.plan.features.map(({ name }, i) => ({
      name,
      value: merger.value(0, i),
      status: merger.status(0, i),
    }))
  }

  async rows(watermarkMs: number): Promise<ReadonlyMap<string, Uint8Array>> {
    const byKey = new Map<string, Uint8Array[]>()
    for (const [spec] of this.specs.values()) {
      for (const lane of spec!.lanes) {
        for await (const { key, bytes } of this.store.scanRows(this.laneName(lane))) {
          const hex = Buffer.from(key).toString('hex')
          byKey.set(hex, [...(byKey.get(hex) ?? []), bytes.slice()])
        }
      }
    }
    const frontierMs = Math.max(0, watermarkMs - this.options.plan.state.head.lengthMs)
    const rows = new Map<string, Uint8Array>()
    for (const [key, stored] of byKey) {
      const row = this.normaliser.normalise(this.setup.random.shuffled(stored), frontierMs)
      if (runsOf(row) > 0) rows.set(key, row)
    }
    return rows
  }

  async outcomes(): Promise<Record<Verdict, number>> {
    const all = [...this.live].map(([log, ingests]) => agreedCounters(log, ingests))
    if (this.historyCounters) all.push(this.historyCounters)
    const sum = (of: (counters: Counters) => number) => all.reduce((total, each) => total + of(each), 0)
    const outcomes = {
      'rejected:key': sum((each) => each.rejectedKey),
      'rejected:time': sum((each) => each.rejectedTime),
      'rejected:future': sum((each) => each.rejectedFuture),
      retention: sum((each) => each.expired),
      late: sum((each) => each.late - each.expired - each.elsewhere),
      elsewhere: sum((each) => each.elsewhere),
      duplicate: sum((each) => each.duplicate),
      filtered: sum((each) => each.filtered),
      applied: sum((each) => each.applied),
    }
    const total = Object.values(outcomes).reduce((a, b) => a + b, 0)
    const consumed = sum((each) => each.consumed)
    if (total !== consumed) throw new Error(`${consumed} records consumed, but ${total} of them have an outcome`)
    return outcomes
  }

  close(): Promise<void> {
    return this.store.close()
  }

  ingests(): Ingest[] {
    return [...this.live.values()].flat()
  }

  private laneName(lane: string): LaneName {
    return { namespace: 'laws', stateHash: this.options.plan.stateHash, generation: 1, lane }
  }
}

/** Did the work die of the planned fault? Any other error is thrown. */
export async function wasKilled(work: Promise<unknown>): Promise<boolean> {
  try {
    await work
    return false
  } catch (error) {
    for (let cause: unknown = error; cause !== undefined; cause = (cause as Error).cause) {
      if (cause instanceof Killed || (cause as Error).message.includes('as planned')) return true
    }
    throw error
  }
}

/** Each shard judges the whole log, so all of them must have counted the same. */
function agreedCounters(log: string, ingests: readonly Ingest[]): Counters {
  const [first, ...others] = ingests.map((ingest) => ingest.counters)
  for (const other of others) {
    const apart = Object.entries(first!).find(
      ([name, count]) => name !== 'redelivered' && other[name as keyof Counters] !== count,
    )
    if (apart) throw new Error(`shards of ${log} disagree on ${apart[0]}: ${JSON.stringify([first, other])}`)
  }
  return first!
}

function runsOf(row: Uint8Array): number {
  return new DataView(row.buffer, row.byteOffset).getUint16(ROW_RUNS_AT, true)
}
