/**
 * THE MIRROR: topics of a consumer group of its own into Parquet, each record in exactly one file.
 *
 *   group ── assigned ──> MirrorRun.open ──> messages ──> row groups ──> file ──> manifest ──> commit, a hint
 *                              │                │             │
 *                              └──── error ─────┴─────────────┘
 *   FENCED        another process mirrors the partition into this directory: leave, look again later
 *   unavailable   disk or log: start over from the last file, ever more slowly
 *   else          stop this partition with a report; the others go on
 *
 * The group spreads partitions, and nothing else: what is mirrored is decided by the manifest (manifest.ts). Memory holds
 * the row groups under way; over the budget, the largest goes to the disk before anything more is taken in.
 */
import { randomBytes } from 'node:crypto'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { logOfPartition } from '../model/view-layout.ts'
import { NO_WORKER_METRICS, type WorkerMetrics } from '../observe/port.ts'
import type { MirrorFile } from '../source/mirror-manifest.ts'
import type { ParquetStyle } from '../source/parquet-writer.ts'
import type { StreamBounds, StreamConsumer, StreamHandler, StreamMessage } from '../source/stream.ts'
import { Disk, type StepHook } from './manifest-disk.ts'
import { LateClocks } from './mirror-clocks.ts'
import { type MirrorColumns, mirrorColumns } from './mirror-columns.ts'
import { type MirrorLimits, MirrorRun } from './mirror-run.ts'

export interface MirrorOptions {
  readonly dir: string
  readonly plans: readonly Plan[]
  /** Topic of each kind of events, where it isn't named like it. */
  readonly topics?: ReadonlyMap<string, string>
  readonly consumer: StreamConsumer
  readonly style?: Partial<ParquetStyle>
  readonly keepsValues?: boolean
  readonly limits?: Partial<MirrorLimits>
  /** Row groups under way, over all partitions; 256 MiB unless told. */
  readonly memoryBytes?: number
  /** Version of this program, for the files. */
  readonly engine?: string
  readonly clock?: () => number
  readonly metrics?: WorkerMetrics
  readonly report?: (report: MirrorReport) => void
  /** Called before and after each step on the disk. */
  readonly onStep?: StepHook
}

export interface MirrorReport {
  readonly level: 'info' | 'warn' | 'error'
  readonly event: 'assigned' | 'file' | 'revoked' | 'restarting' | 'stopped'
  readonly log: string
  readonly message: string
  readonly code?: string
  /** `file` only. */
  readonly file?: MirrorFile
}

export const MIRROR_LIMITS: MirrorLimits = {
  rowGroupRows: 262_144,
  rowGroupBytes: 64 << 20,
  fileRows: 8_388_608,
  fileBytes: 512 << 20,
  fileAgeMs: 600_000,
}
const MEMORY_BYTES = 256 << 20
const FENCED_DELAY_MS = 5_000
const RETRY_DELAY_MS = 500
const RETRY_DELAY_MAX_MS = 30_000
const RETRIED: ReadonlySet<string> = new Set(['MIRROR_UNAVAILABLE', 'LOG_UNAVAILABLE'])

export class Mirror implements StreamHandler {
  readonly #options: MirrorOptions
  readonly #disk: Disk
  readonly #style: ParquetStyle
  readonly #clock: () => number
  readonly #metrics: WorkerMetrics
  readonly #topics = new Map<string, { plans: Plan[]; columns: MirrorColumns; clocks: LateClocks }>()
  readonly #runs = new Map<string, MirrorRun>()
  readonly #failures = new Map<string, number>()
  readonly #stopped = new Map<string, TilefoldError>()
  readonly #commits = new Set<Promise<unknown>>()

  /** Throws CONFIG_INVALID where the views of a topic do not agree on its columns. */
  constructor(options: MirrorOptions) {
    this.#options = options
    this.#disk = new Disk(options.dir, options.onStep)
    this.#style = { compression: 'zstd', isPlain: false, ...options.style }
    this.#clock = options.clock ?? Date.now
    this.#metrics = options.metrics ?? NO_WORKER_METRICS
    const byTopic = new Map<string, Plan[]>()
    for (const plan of options.plans) {
      const topic = options.topics?.get(plan.state.source) ?? plan.state.source
      byTopic.set(topic, [...(byTopic.get(topic) ?? []), plan])
    }
    for (const [topic, plans] of byTopic) {
      const columns = mirrorColumns(topic, plans, this.#style.isPlain)
      this.#topics.set(topic, { plans, columns, clocks: new LateClocks(plans) })
    }
  }

  get runs(): readonly MirrorRun[] {
    return [...this.#runs.values()]
  }

  /** Partitions that wait for a person, and why. */
  get stopped(): ReadonlyMap<string, TilefoldError> {
    return this.#stopped
  }

  /** Joins the group; resolves when it has joined. Throws LOG_UNAVAILABLE, MIRROR_UNAVAILABLE. */
  async start(): Promise<void> {
    await this.#disk.makeFolder('_tmp')
    await this.#options.consumer.start(this)
  }

  /** Finishes the files under way and leaves the group. */
  async stop(): Promise<void> {
    // Before the group is left, so that it hears how far we came; what comes in meanwhile is finished at the end.
    const finished = await Promise.allSettled(this.runs.map((run) => run.finish()))
    await Promise.allSettled(this.#commits)
    await this.#options.consumer.stop()
    const runs = this.runs
    this.#runs.clear()
    const closed = await Promise.allSettled(runs.map((run) => run.close(true)))
    const failed = [...finished, ...closed].find((each) => each.status === 'rejected' && !isLoss(each.reason))
    if (failed?.status === 'rejected') throw failed.reason
  }

  // ---- what the consumer calls -----------------------------------------------------------------------------------------

  async assigned(topic: string, partition: number, bounds: StreamBounds): Promise<number> {
    const name = logOfPartition(topic, partition)
    await this.#drop(name, false)
    this.#stopped.delete(name)
    const { keepsValues = false, limits, engine = '' } = this.#options
    try {
      const { plans, columns, clocks } = this.#topics.get(topic)!
      const run = await MirrorRun.open(
        {
          topic,
          partition,
          plans,
          columns,
          clocks,
          disk: this.#disk,
          nonce: randomBytes(8).toString('hex'),
          style: this.#style,
          keepsValues,
          limits: { ...MIRROR_LIMITS, ...limits },
          engine,
          clock: this.#clock,
          metrics: this.#metrics,
          onFile: (filed, file) => this.#filed(filed, file),
          onFailed: (failed, error) => this.#fail(failed.topic, failed.partition, error, failed),
        },
        bounds,
      )
      this.#runs.set(name, run)
      const { first, next } = bounds
      this.#report('info', 'assigned', name, `mirrored up to offset ${run.next}; the log holds ${first} to ${next}`)
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

  async #makeRoom(): Promise<void> {
    const { runs } = this
    const waiting = runs.reduce((sum, run) => sum + run.waitingBytes, 0)
    if (waiting <= (this.#options.memoryBytes ?? MEMORY_BYTES)) return
    const largest = runs.reduce((a, b) => (a.waitingBytes >= b.waitingBytes ? a : b))
    try {
      await largest.spill()
    } catch (error) {
      this.#fail(largest.topic, largest.partition, error, largest)
    }
  }

  #filed(run: MirrorRun, file: MirrorFile): void {
    const { rows, end } = file.facts
    this.#options.report?.({
      level: 'info',
      event: 'file',
      log: run.log,
      message: `${file.file}: ${rows} records, ${file.bytes} bytes`,
      file,
    })
    if (this.#runs.get(run.log) !== run) return
    const commit = this.#options.consumer.commit(run.topic, run.partition, end + 1, `mirror ${file.number}`)
    this.#commits.add(commit)
    void commit.catch(() => {}).finally(() => this.#commits.delete(commit))
  }

  /** `run`: the one that failed; a newer one has nothing to do with it. */
  #fail(topic: string, partition: number, cause: unknown, run?: MirrorRun): void {
    const name = logOfPartition(topic, partition)
    if (run !== undefined && this.#runs.get(name) !== run) return
    const error = asError(cause)
    void this.#drop(name, false)
    if (error.code === 'FENCED') this.#metrics.fenced(`mirror/${topic}`)
    const failures = this.#failures.get(name) ?? 0
    const delayMs = restartDelayMs(error.code, failures)
    if (delayMs === undefined) {
      this.#stopped.set(name, error)
      this.#report('error', 'stopped', name, error.message, error.code)
      return
    }
    this.#failures.set(name, failures + 1)
    this.#report('warn', 'restarting', name, `${error.message}; again in ${delayMs} ms`, error.code)
    this.#options.consumer.restart(topic, partition, delayMs)
  }

  async #drop(name: string, finish: boolean): Promise<void> {
    const run = this.#runs.get(name)
    if (run === undefined) return
    this.#runs.delete(name)
    // Best effort: what is not committed is read again.
    await run.close(finish).catch(() => {})
  }

  #report(
    level: MirrorReport['level'],
    event: MirrorReport['event'],
    log: string,
    message: string,
    code?: string,
  ): void {
    this.#options.report?.({ level, event, log, message, ...(code === undefined ? {} : { code }) })
  }
}

/** What another process goes on with. */
function isLoss(error: unknown): boolean {
  return error instanceof TilefoldError && (error.code === 'FENCED' || error.code === 'ENGINE_CLOSED')
}

/** Milliseconds until the partition is opened again; undefined: not before somebody has looked. */
function restartDelayMs(code: string, failures: number): number | undefined {
  if (code === 'FENCED') return FENCED_DELAY_MS
  if (RETRIED.has(code)) return Math.min(RETRY_DELAY_MS * 2 ** failures, RETRY_DELAY_MAX_MS)
  return undefined
}

function asError(error: unknown): TilefoldError {
  if (error instanceof TilefoldError) return error
  return new TilefoldError('CORE_TRAP', `cannot go on: ${(error as Error)?.message ?? error}`, {}, { cause: error })
}
