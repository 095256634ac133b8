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
import type { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { NO_WORKER_METRICS, type WorkerMetrics } from '../observe/port.ts'
import type { MirrorFile } from '../source/mirror-manifest.ts'
import type { ParquetStyle } from '../source/parquet-writer.ts'
import type { StreamBounds, StreamConsumer } from '../source/stream.ts'
import { isLoss, type PartitionReport, StreamPartitions } from '../source/stream-partitions.ts'
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

export interface MirrorReport extends Omit<PartitionReport, 'event'> {
  readonly event: PartitionReport['event'] | 'file'
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
const PASSING: ReadonlySet<string> = new Set(['MIRROR_UNAVAILABLE', 'LOG_UNAVAILABLE'])

export class Mirror {
  readonly #options: MirrorOptions
  readonly #disk: Disk
  readonly #style: ParquetStyle
  readonly #clock: () => number
  readonly #metrics: WorkerMetrics
  readonly #topics = new Map<string, { plans: Plan[]; columns: MirrorColumns; clocks: LateClocks }>()
  readonly #partitions: StreamPartitions<MirrorRun>
  readonly #commits = new Set<Promise<unknown>>()

  /** Throws CONFIG_INVALID where the views of a topic do not agree on its columns. */
  constructor(options: MirrorOptions) {
    this.#options = options
    this.#disk = new Disk(options.dir, options.onStep)
    this.#style = { compression: 'zstd', isPlain: false, ...options.style }
    this.#clock = options.clock ?? Date.now
    this.#metrics = options.metrics ?? NO_WORKER_METRICS
    this.#partitions = new StreamPartitions<MirrorRun>({
      consumer: options.consumer,
      open: (topic, partition, bounds) => this.#open(topic, partition, bounds),
      opened: (run, { first, next }) => `mirrored up to offset ${run.next}; the log holds ${first} to ${next}`,
      taken: () => this.#makeRoom(),
      failed: (topic, code) => {
        if (code === 'FENCED') this.#metrics.fenced(`mirror/${topic}`)
      },
      passing: PASSING,
      ...(options.report && { report: options.report }),
    })
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
    return this.#partitions.runs
  }

  /** Partitions that wait for a person, and why. */
  get stopped(): ReadonlyMap<string, TilefoldError> {
    return this.#partitions.stopped
  }

  /** Joins the group; resolves when it has joined. Throws LOG_UNAVAILABLE, MIRROR_UNAVAILABLE. */
  async start(): Promise<void> {
    await this.#disk.makeFolder('_tmp')
    await this.#options.consumer.start(this.#partitions)
  }

  /** Finishes the files under way and leaves the group. */
  async stop(): Promise<void> {
    // Before the group is left, so that it hears how far we came; what comes in meanwhile is finished at the end.
    const finished = await Promise.allSettled(this.runs.map((run) => run.finish()))
    await Promise.allSettled(this.#commits)
    await this.#options.consumer.stop()
    await this.#partitions.close()
    const failed = finished.find((each) => each.status === 'rejected' && !isLoss(each.reason))
    if (failed?.status === 'rejected') throw failed.reason
  }

  #open(topic: string, partition: number, bounds: StreamBounds): Promise<MirrorRun> {
    const { keepsValues = false, limits, engine = '' } = this.#options
    const { plans, columns, clocks } = this.#topics.get(topic)!
    return MirrorRun.open(
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
        onFailed: (failed, error) => this.#partitions.fail(failed, error),
      },
      bounds,
    )
  }

  async #makeRoom(): Promise<void> {
    const { runs } = this
    const waiting = runs.reduce((sum, run) => sum + run.waitingBytes, 0)
    if (waiting <= (this.#options.memoryBytes ?? MEMORY_BYTES)) return
    const largest = runs.reduce((a, b) => (a.waitingBytes >= b.waitingBytes ? a : b))
    try {
      await largest.spill()
    } catch (error) {
      this.#partitions.fail(largest, error)
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
    if (!this.#partitions.holds(run)) return
    const commit = this.#options.consumer.commit(run.topic, run.partition, end + 1, `mirror ${file.number}`)
    this.#commits.add(commit)
    void commit.catch(() => {}).finally(() => this.#commits.delete(commit))
  }
}
