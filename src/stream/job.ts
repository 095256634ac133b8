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
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { logOfPartition } from '../model/view-layout.ts'
import { NO_WORKER_METRICS, type WorkerMetrics } from '../observe/port.ts'
import { checkHistory } from '../registry/history.ts'
import { type LayoutSeat, openGeneration } from '../registry/layouts.ts'
import type { DeadLetters } from '../source/dead-letters.ts'
import type { StreamBounds, StreamConsumer, StreamHandler, StreamMessage } from '../source/stream.ts'
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
export interface StreamReport {
  readonly level: 'info' | 'warn' | 'error'
  readonly event: 'assigned' | 'revoked' | 'restarting' | 'stopped' | 'history_lost' | 'salts'
  readonly log: string
  readonly message: string
  readonly code?: string
}

export const TICK_MS = 3_000
/** Every lane of a history is looked at, so not at each tick. */
const HISTORY_TICKS = 10
const COMMIT_EVERY_MS = 1_000
/** Of the memory budget: less is not worth meeting every entity anew. */
const SPARE_SHARE_MIN = 1 / 16
const FENCED_DELAY_MS = 5_000
const RETRY_DELAY_MS = 500
const RETRY_DELAY_MAX_MS = 30_000
/** What a delay varies by, so that processes that failed together don't come back together. */
export const JITTER = 0.3

export class StreamJob implements StreamHandler {
  readonly #options: StreamJobOptions
  readonly #pool: IngestPool
  readonly #clock: () => number
  readonly #metrics: WorkerMetrics
  readonly #plans = new Map<string, Plan[]>()
  /** By view: what a job begins with it goes on with, wherever readers are sent meanwhile. */
  readonly #seats: ReadonlyMap<string, LayoutSeat>
  readonly #runs = new Map<string, PartitionRun>()
  readonly #failures = new Map<string, number>()
  readonly #stopped = new Map<string, TilefoldError>()
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
    return [...this.#runs.values()]
  }

  /** Partitions that wait for a person, and why. */
  get stopped(): ReadonlyMap<string, TilefoldError> {
    return this.#stopped
  }

  /** Joins the group; resolves when it has joined. */
  async start(): Promise<void> {
    this.#ticker = setInterval(() => void this.#tick(), TICK_MS)
    this.#ticker.unref()
    await this.#options.consumer.start(this)
  }

  /** Leaves the group, then writes what was taken in. */
  async stop(): Promise<void> {
    clearInterval(this.#ticker)
    // Before the group is left, so that it hears how far we came; what comes in meanwhile is written at the end.
    await Promise.allSettled([...this.#runs.values()].map((run) => run.flush()))
    await this.#commits.settle()
    await this.#options.consumer.stop()
    const runs = [...this.#runs.values()]
    this.#runs.clear()
    const results = await Promise.allSettled(runs.map((run) => run.close(true)))
    await this.#pool.close()
    const failed = results.find((result) => result.status === 'rejected')
    if (failed && !isLoss(failed.reason)) throw failed.reason
  }

  // ---- what the consumer calls -----------------------------------------------------------------------------------------

  async assigned(topic: string, partition: number, bounds: StreamBounds): Promise<number> {
    const name = logOfPartition(topic, partition)
    await this.#drop(name, false)
    this.#stopped.delete(name)
    const { decoder, deadLetters } = this.#options
    try {
      const run = await PartitionRun.open(
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
          // Never by itself: dead letters come first. The budget over all is kept in `messages`.
          deltaBytesMax: Number.MAX_SAFE_INTEGER,
          ledgerMs: this.#options.ledgerMs,
          clock: this.#clock,
          metrics: this.#metrics,
          onFlushed: (flushed, position) => this.#commit(flushed, position),
          onFailed: (failed, error) => this.#fail(failed.topic, failed.partition, error, failed),
        },
        bounds,
      )
      this.#runs.set(name, run)
      this.#countLanes()
      // Whoever had it before may have had no time to say so, and we may have nothing to write for a while.
      if (run.applied + 1 > (bounds.committed?.position ?? 0)) this.#commit(run, run.applied + 1)
      this.#report(
        'info',
        'assigned',
        name,
        `reading from offset ${run.readFrom}; the log holds ${bounds.first} to ${bounds.next}`,
      )
      return run.readFrom
    } catch (error) {
      this.#fail(topic, partition, error)
      throw error
    }
  }

  async messages(topic: string, partition: number, batch: readonly StreamMessage[], next: number): Promise<void> {
    const name = logOfPartition(topic, partition)
    const run = this.#runs.get(name)
    if (run === undefined)
      throw new TilefoldError('ENGINE_CLOSED', `cannot take messages of log ${name}: it is not open`)
    try {
      await run.take(batch, next)
      this.#failures.delete(name)
      await this.#makeRoom()
    } catch (error) {
      this.#fail(topic, partition, error, run)
      throw error
    }
  }

  async revoked(partitions: readonly { topic: string; partition: number }[]): Promise<void> {
    await Promise.all(
      partitions.map(async ({ topic, partition }) => {
        const name = logOfPartition(topic, partition)
        this.#stopped.delete(name)
        if (!this.#runs.has(name)) return
        this.#report('info', 'revoked', name, 'the group gave it to another member')
        await this.#drop(name, true)
      }),
    )
  }

  // ---- inside ----------------------------------------------------------------------------------------------------------

  get #memoryBytes(): number {
    return this.#options.memoryBytes ?? 256 << 20
  }

  /** Over the budget, the partition that would give back most is written and forgets its entities before more is taken in. */
  async #makeRoom(): Promise<void> {
    const runs = [...this.#runs.values()]
    if (runs.reduce((sum, run) => sum + run.memoryBytes, 0) <= this.#memoryBytes) return
    const largest = runs.reduce((a, b) => (a.spareBytes >= b.spareBytes ? a : b))
    // What is left is not ours to give: dedupe ids, and a little for each partition.
    if (largest.spareBytes < this.#memoryBytes * SPARE_SHARE_MIN) return
    try {
      await largest.renew()
    } catch (error) {
      this.#fail(largest.topic, largest.partition, error, largest)
    }
  }

  #countLanes(): void {
    for (const [topic, plans] of this.#plans) {
      const lanes = [...this.#runs.values()].filter((run) => run.topic === topic).length
      for (const { view } of plans) this.#metrics.lanesOwned(view, lanes)
    }
  }

  #putAside(records: SideRecord[]): void {
    this.#runs.get(records[0]!.log)?.putAside(records)
  }

  #commit(run: PartitionRun, position: number): void {
    if (this.#runs.get(run.log) !== run) return
    const states = [...new Set(run.handles.map(({ spec }) => `${spec.stateHash}/${spec.generation}`))]
    const metadata = `${this.#options.namespace} ${states.join(' ')}`
    this.#commits.add(run.log, () => this.#options.consumer.commit(run.topic, run.partition, position, metadata))
    this.#options.onStored?.(run.topic, run.partition, position)
  }

  /** `run`: the one that failed; a newer one has nothing to do with it. */
  #fail(topic: string, partition: number, cause: unknown, run?: PartitionRun): void {
    const name = logOfPartition(topic, partition)
    if (run !== undefined && this.#runs.get(name) !== run) return
    const error = asError(cause)
    void this.#drop(name, false)
    for (const { view } of this.#plans.get(topic) ?? []) {
      if (error.code === 'FENCED') this.#metrics.fenced(view)
      if (error.code === 'REGRESSED') this.#metrics.regressed(view)
    }
    const failures = this.#failures.get(name) ?? 0
    const delayMs = restartDelayMs(error.code, failures)
    if (delayMs === undefined) {
      this.#stopped.set(name, error)
      this.#report('error', 'stopped', name, error.message, error.code)
      return
    }
    this.#failures.set(name, failures + 1)
    const jitteredMs = Math.round(delayMs * (1 + JITTER * Math.random()))
    this.#report('warn', 'restarting', name, `${error.message}; again in ${jitteredMs} ms`, error.code)
    this.#options.consumer.restart(topic, partition, jitteredMs)
  }

  async #drop(name: string, flush: boolean): Promise<void> {
    const run = this.#runs.get(name)
    if (run === undefined) return
    this.#runs.delete(name)
    this.#commits.drop(name)
    this.#countLanes()
    // Best effort: the next owner replays what isn't written.
    await run.close(flush).catch(() => {})
  }

  async #tick(): Promise<void> {
    if (this.#ticking) return
    this.#ticking = true
    for (const run of [...this.#runs.values()]) {
      try {
        await run.tick(this.#options.idleMs ?? 60_000)
      } catch (error) {
        this.#fail(run.topic, run.partition, error, run)
      }
    }
    if (this.#ticks++ % HISTORY_TICKS === 0) await this.#watchHistory()
    this.#ticking = false
  }

  /** Nobody owns the lanes of a history that is done: whoever writes live lanes looks whether they are still there. */
  async #watchHistory(): Promise<void> {
    for (const plan of [...this.#plans.values()].flat()) {
      const lost = await checkHistory(this.#options, plan).catch(() => undefined)
      if (lost) this.#report('error', 'history_lost', plan.view, lost.message, lost.code)
    }
  }

  #report(
    level: StreamReport['level'],
    event: StreamReport['event'],
    log: string,
    message: string,
    code?: string,
  ): void {
    this.#options.report?.({ level, event, log, message, ...(code === undefined ? {} : { code }) })
  }
}

/** Milliseconds until the partition is opened again; undefined: not before somebody has looked. */
export function restartDelayMs(code: string, failures: number): number | undefined {
  if (code === 'FENCED') return FENCED_DELAY_MS
  if (code === 'REGRESSED') return failures === 0 ? 0 : RETRY_DELAY_MS
  if (RETRIED.has(code)) return Math.min(RETRY_DELAY_MS * 2 ** failures, RETRY_DELAY_MAX_MS)
  return undefined
}

const RETRIED: ReadonlySet<string> = new Set([
  'STORE_UNAVAILABLE',
  'LOG_UNAVAILABLE',
  'DEAD_LETTERS_UNAVAILABLE',
  'CORE_TRAP',
  'CORE_MEMORY',
])

/** Ours no longer: whoever has the lane now goes on from what is stored. */
export function isLoss(error: unknown): boolean {
  return error instanceof TilefoldError && (error.code === 'FENCED' || error.code === 'REGRESSED')
}

export function asError(error: unknown): TilefoldError {
  if (error instanceof TilefoldError) return error
  return new TilefoldError('CORE_TRAP', `cannot go on: ${(error as Error)?.message ?? error}`, {}, { cause: error })
}
