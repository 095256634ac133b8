/**
 * THE STREAM JOB: topics of a consumer group into the rows of every view that takes their events.
 *
 *   group ── assigned ──> PartitionRun.open ──> messages ──> fold ──> flush ──> commit
 *                              │                   │           │
 *                              └──────── error ────┴───────────┘
 *   FENCED        another process has the lane: leave, look again later whether the group still means us
 *   REGRESSED     the store went back in time: start over from its checkpoint
 *   unavailable   store, log or dead letters: start over, ever more slowly
 *   else          stop this partition with a report; the others go on
 *
 * The group spreads partitions, and nothing else: what is applied is decided by token and marker (ingest/lane.ts), so a
 * rebalance, a pause or a zombie may cost time and never an event.
 */

import { IngestPool } from '../ingest/pool.ts'
import type { SideRecord } from '../ingest/side.ts'
import type { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { NO_WORKER_METRICS, type WorkerMetrics } from '../observe/port.ts'
import { checkHistory } from '../registry/history.ts'
import { type LayoutSeat, openGeneration } from '../registry/layouts.ts'
import type { DeadLetters } from '../source/dead-letters.ts'
import type { StreamBounds, StreamConsumer } from '../source/stream.ts'
import { type PartitionReport, StreamPartitions } from '../source/stream-partitions.ts'
import type { Store } from '../store/port.ts'
import { Commits } from './commits.ts'
import { type PartitionOptions, PartitionRun } from './partition.ts'

export interface StreamJobOptions {
  readonly plans: readonly Plan[]
  /** Topic of each kind of events, where it isn't named like it. */
  readonly topics?: ReadonlyMap<string, string>
  /** By view: the internal topic that a router writes for it, instead of its source's. */
  readonly routes?: ReadonlyMap<string, string>
  /** Topics whose producers choose the partition by the views' entity: readers then look into one partition, not all. */
  readonly keyed?: ReadonlySet<string>
  readonly consumer: StreamConsumer
  readonly store: Store
  readonly namespace: string
  /** Of every view; the one that its readers see when the job begins unless told. */
  readonly generation?: number
  readonly decoder: PartitionOptions['decoder']
  readonly deadLetters?: DeadLetters
  /** 0.1 unless told. */
  readonly maxDeadRatio?: number
  /** Folded events are readable after this when little is going on; 1 ms unless told. */
  readonly flushMinMs?: number
  /** And at the latest after this; 1,000 ms unless told. */
  readonly flushMaxMs?: number
  /** Memory of the cores of all partitions: resident entities and what waits for a flush; 256 MiB unless told. */
  readonly memoryBytes?: number
  /** Keep a flush ledger of every lane for so long; none unless told. */
  readonly ledgerMs?: number | undefined
  /** A partition without events for so long lets its watermark follow the clock; 60,000 ms unless told. */
  readonly idleMs?: number
  /** Everything of the partition before `position` can be read. */
  readonly onStored?: (topic: string, partition: number, position: number) => void
  readonly clock?: () => number
  readonly metrics?: WorkerMetrics
  readonly report?: (report: StreamReport) => void
}

/** Something that an operator may want to know. */
export interface StreamReport extends Omit<PartitionReport, 'event'> {
  readonly event: PartitionReport['event'] | 'history_lost' | 'salts'
}

const TICK_MS = 3_000
/** Every lane of a history is looked at, so not at each tick. */
const HISTORY_TICKS = 10
const COMMIT_EVERY_MS = 1_000
/** Of the memory budget: less is not worth meeting every entity anew. */
const SPARE_SHARE_MIN = 1 / 16
/** Errors that pass by themselves. */
export const PASSING: ReadonlySet<string> = new Set([
  'STORE_UNAVAILABLE',
  'LOG_UNAVAILABLE',
  'DEAD_LETTERS_UNAVAILABLE',
  'CORE_TRAP',
  'CORE_MEMORY',
])

export class StreamJob {
  readonly #options: StreamJobOptions
  readonly #pool: IngestPool
  readonly #clock: () => number
  readonly #metrics: WorkerMetrics
  readonly #plans = new Map<string, Plan[]>()
  /** By view: what a job begins with it goes on with, wherever readers are sent meanwhile. */
  readonly #seats: ReadonlyMap<string, LayoutSeat>
  readonly #partitions: StreamPartitions<PartitionRun>
  readonly #commits = new Commits(COMMIT_EVERY_MS)
  #ticker: NodeJS.Timeout | undefined
  #ticking = false
  #ticks = 0

  /** Throws DEFINITION_CHANGED, LAYOUT_MISSING, STORE_UNAVAILABLE. */
  static async create(options: StreamJobOptions): Promise<StreamJob> {
    const seats = new Map<string, LayoutSeat>()
    for (const plan of options.plans) {
      const { generation } = (await openGeneration(options, plan)).generation
      seats.set(plan.view, { store: options.store, namespace: options.namespace, generation })
    }
    return new StreamJob(options, seats)
  }

  private constructor(options: StreamJobOptions, seats: ReadonlyMap<string, LayoutSeat>) {
    this.#options = options
    this.#seats = seats
    this.#clock = options.clock ?? Date.now
    this.#metrics = options.metrics ?? NO_WORKER_METRICS
    this.#pool = new IngestPool({
      threads: 0,
      store: options.store,
      clock: this.#clock,
      onSide: (records) => this.#putAside(records),
    })
    this.#partitions = new StreamPartitions<PartitionRun>({
      consumer: options.consumer,
      open: (topic, partition, bounds) => this.#open(topic, partition, bounds),
      opened: (run, bounds) => this.#opened(run, bounds),
      taken: () => this.#makeRoom(),
      failed: (topic, code) => this.#countFailure(topic, code),
      dropped: (run) => {
        this.#commits.drop(run.log)
        this.#countLanes()
      },
      passing: PASSING,
      ...(options.report && { report: options.report }),
    })
    for (const plan of options.plans) {
      const { source } = plan.state
      const topic = options.routes?.get(plan.view) ?? options.topics?.get(source) ?? source
      this.#plans.set(topic, [...(this.#plans.get(topic) ?? []), plan])
    }
  }

  get topics(): readonly string[] {
    return [...this.#plans.keys()]
  }

  get runs(): readonly PartitionRun[] {
    return this.#partitions.runs
  }

  /** Partitions that wait for a person, and why. */
  get stopped(): ReadonlyMap<string, TilefoldError> {
    return this.#partitions.stopped
  }

  /** Joins the group; resolves when it has joined. */
  async start(): Promise<void> {
    this.#ticker = setInterval(() => void this.#tick(), TICK_MS)
    this.#ticker.unref()
    await this.#options.consumer.start(this.#partitions)
  }

  /** Leaves the group, then writes what was taken in. */
  async stop(): Promise<void> {
    clearInterval(this.#ticker)
    // Before the group is left, so that it hears how far we came; what comes in meanwhile is written at the end.
    await Promise.allSettled(this.runs.map((run) => run.flush()))
    await this.#commits.settle()
    await this.#options.consumer.stop()
    await this.#partitions.close().finally(() => this.#pool.close())
  }

  #open(topic: string, partition: number, bounds: StreamBounds): Promise<PartitionRun> {
    const { decoder, deadLetters } = this.#options
    return PartitionRun.open(
      {
        topic,
        partition,
        plans: this.#plans.get(topic) ?? [],
        seatOf: ({ view }) => this.#seats.get(view)!,
        pool: this.#pool,
        decoder,
        deadLetters,
        keyed: this.#options.keyed?.has(topic) ?? false,
        isRouted: [...(this.#options.routes?.values() ?? [])].includes(topic),
        maxDeadRatio: this.#options.maxDeadRatio ?? 0.1,
        flushMinMs: this.#options.flushMinMs ?? 1,
        flushMaxMs: this.#options.flushMaxMs ?? 1000,
        // Never by itself: dead letters come first. The budget over all is kept in `#makeRoom`.
        deltaBytesMax: Number.MAX_SAFE_INTEGER,
        ledgerMs: this.#options.ledgerMs,
        clock: this.#clock,
        metrics: this.#metrics,
        onFlushed: (flushed, position) => this.#commit(flushed, position),
        onFailed: (failed, error) => this.#partitions.fail(failed, error),
      },
      bounds,
    )
  }

  #opened(run: PartitionRun, { first, next, committed }: StreamBounds): string {
    this.#countLanes()
    // Whoever had it before may have had no time to say so, and we may have nothing to write for a while.
    if (run.applied + 1 > (committed?.position ?? 0)) this.#commit(run, run.applied + 1)
    return `reading from offset ${run.readFrom}; the log holds ${first} to ${next}`
  }

  get #memoryBytes(): number {
    return this.#options.memoryBytes ?? 256 << 20
  }

  /** Over the budget, the partition that would give back most is written and forgets its entities before more is taken in. */
  async #makeRoom(): Promise<void> {
    const { runs } = this
    if (runs.reduce((sum, run) => sum + run.memoryBytes, 0) <= this.#memoryBytes) return
    const largest = runs.reduce((a, b) => (a.spareBytes >= b.spareBytes ? a : b))
    // What is left is not ours to give: dedupe ids, and a little for each partition.
    if (largest.spareBytes < this.#memoryBytes * SPARE_SHARE_MIN) return
    try {
      await largest.renew()
    } catch (error) {
      this.#partitions.fail(largest, error)
    }
  }

  #countLanes(): void {
    for (const [topic, plans] of this.#plans) {
      const lanes = this.runs.filter((run) => run.topic === topic).length
      for (const { view } of plans) this.#metrics.lanesOwned(view, lanes)
    }
  }

  #putAside(records: SideRecord[]): void {
    this.#partitions.of(records[0]!.log)?.putAside(records)
  }

  #commit(run: PartitionRun, position: number): void {
    if (!this.#partitions.holds(run)) return
    const states = [...new Set(run.handles.map(({ spec }) => `${spec.stateHash}/${spec.generation}`))]
    const metadata = `${this.#options.namespace} ${states.join(' ')}`
    this.#commits.add(run.log, () => this.#options.consumer.commit(run.topic, run.partition, position, metadata))
    this.#options.onStored?.(run.topic, run.partition, position)
  }

  #countFailure(topic: string, code: string): void {
    for (const { view } of this.#plans.get(topic) ?? []) {
      if (code === 'FENCED') this.#metrics.fenced(view)
      if (code === 'REGRESSED') this.#metrics.regressed(view)
    }
  }

  async #tick(): Promise<void> {
    if (this.#ticking) return
    this.#ticking = true
    for (const run of this.runs) {
      try {
        await run.tick(this.#options.idleMs ?? 60_000)
      } catch (error) {
        this.#partitions.fail(run, error)
      }
    }
    if (this.#ticks++ % HISTORY_TICKS === 0) await this.#watchHistory()
    this.#ticking = false
  }

  /** Nobody owns the lanes of a history that is done: whoever writes live lanes looks whether they are still there. */
  async #watchHistory(): Promise<void> {
    for (const plan of [...this.#plans.values()].flat()) {
      const lost = await checkHistory(this.#options, plan).catch(() => undefined)
      if (lost === undefined) continue
      const { code, message } = lost
      this.#options.report?.({ level: 'error', event: 'history_lost', log: plan.view, message, code })
    }
  }
}
