/**
 * The partitions of a consumer group that are ours, each with a run of its own.
 *
 *   assigned ──> open ──> messages ──> taken in ──> closed, by us or by the group
 *                 │           │
 *                 └── error ──┴──> opened again after a while, ever more slowly; or stopped until somebody has looked
 *
 * Any error ends a run: its memory may no longer match what is stored. A partition stops alone; the others go on.
 */
import { TilefoldError } from '../model/errors.ts'
import { logOfPartition } from '../model/view-layout.ts'
import type { StreamBounds, StreamConsumer, StreamHandler, StreamMessage } from './stream.ts'

/** A partition while it is ours. */
export interface StreamRun {
  readonly topic: string
  readonly partition: number
  /** Position of the first message to be given. */
  readonly readFrom: number
  /** Messages in log order. Resolves when they are taken in. */
  take(messages: readonly StreamMessage[], next: number): Promise<void>
  /** Stops; with `finish`, what was taken in is made safe first. */
  close(finish: boolean): Promise<void>
}

export interface PartitionReport {
  readonly level: 'info' | 'warn' | 'error'
  readonly event: 'assigned' | 'revoked' | 'restarting' | 'stopped'
  readonly log: string
  readonly message: string
  readonly code?: string
}

export interface StreamPartitionsOptions<Run extends StreamRun> {
  readonly consumer: StreamConsumer
  readonly open: (topic: string, partition: number, bounds: StreamBounds) => Promise<Run>
  /** A run was opened; says how. */
  readonly opened: (run: Run, bounds: StreamBounds) => string
  /** Messages of some run were taken in. */
  readonly taken?: () => Promise<void>
  readonly failed?: (topic: string, code: string) => void
  /** A run is ours no more, and about to be closed. */
  readonly dropped?: (run: Run) => void
  /** Codes of errors that pass by themselves, beside FENCED and REGRESSED. */
  readonly passing: ReadonlySet<string>
  readonly report?: (report: PartitionReport) => void
}

const FENCED_DELAY_MS = 5_000
const RETRY_DELAY_MS = 500
const RETRY_DELAY_MAX_MS = 30_000
/** What a delay varies by, so that processes that failed together don't come back together. */
const JITTER = 0.3

export class StreamPartitions<Run extends StreamRun> implements StreamHandler {
  readonly #options: StreamPartitionsOptions<Run>
  readonly #runs = new Map<string, Run>()
  readonly #failures = new Map<string, number>()
  readonly #stopped = new Map<string, TilefoldError>()

  constructor(options: StreamPartitionsOptions<Run>) {
    this.#options = options
  }

  get runs(): readonly Run[] {
    return [...this.#runs.values()]
  }

  /** The run of a log. */
  of(log: string): Run | undefined {
    return this.#runs.get(log)
  }

  /** Is it still the partition's? */
  holds(run: Run): boolean {
    return this.#runs.get(logOf(run)) === run
  }

  /** Partitions that wait for a person, and why. */
  get stopped(): ReadonlyMap<string, TilefoldError> {
    return this.#stopped
  }

  /** Lets go of all of them and finishes what they have. Throws what kept one from it, unless somebody else goes on with it. */
  async close(): Promise<void> {
    const { runs } = this
    this.#runs.clear()
    const results = await Promise.allSettled(runs.map((run) => run.close(true)))
    const failed = results.find((result) => result.status === 'rejected' && !isLoss(result.reason))
    if (failed?.status === 'rejected') throw failed.reason
  }

  /** `run` can't go on; a newer one of its partition has nothing to do with it. */
  fail(run: Run, cause: unknown): void {
    if (this.holds(run)) this.#fail(run.topic, run.partition, cause)
  }

  // ---- what the consumer calls -----------------------------------------------------------------------------------------

  async assigned(topic: string, partition: number, bounds: StreamBounds): Promise<number> {
    const name = logOfPartition(topic, partition)
    await this.#drop(name, false)
    this.#stopped.delete(name)
    try {
      const run = await this.#options.open(topic, partition, bounds)
      this.#runs.set(name, run)
      this.#report('info', 'assigned', name, this.#options.opened(run, bounds))
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
      await this.#options.taken?.()
    } catch (error) {
      this.fail(run, error)
      throw error
    }
  }

  async revoked(partitions: readonly { readonly topic: string; readonly partition: number }[]): Promise<void> {
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

  #fail(topic: string, partition: number, cause: unknown): void {
    const name = logOfPartition(topic, partition)
    const error = asError(cause)
    void this.#drop(name, false)
    this.#options.failed?.(topic, error.code)
    const failures = this.#failures.get(name) ?? 0
    const delayMs = this.#delayMs(error.code, failures)
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

  /** Until the partition is opened again; undefined: not before somebody has looked. */
  #delayMs(code: string, failures: number): number | undefined {
    if (code === 'FENCED') return FENCED_DELAY_MS
    if (code === 'REGRESSED') return failures === 0 ? 0 : RETRY_DELAY_MS
    if (this.#options.passing.has(code)) return Math.min(RETRY_DELAY_MS * 2 ** failures, RETRY_DELAY_MAX_MS)
    return undefined
  }

  /** Best effort: whoever has the partition next reads again what isn't safe. */
  async #drop(name: string, finish: boolean): Promise<void> {
    const run = this.#runs.get(name)
    if (run === undefined) return
    this.#runs.delete(name)
    this.#options.dropped?.(run)
    await run.close(finish).catch(() => {})
  }

  #report(
    level: PartitionReport['level'],
    event: PartitionReport['event'],
    log: string,
    message: string,
    code?: string,
  ): void {
    this.#options.report?.({ level, event, log, message, ...(code === undefined ? {} : { code }) })
  }
}

/** Ours no longer: whoever has it now goes on from what is stored. */
export function isLoss(error: unknown): boolean {
  return error instanceof TilefoldError && LOSSES.has(error.code)
}

const LOSSES: ReadonlySet<string> = new Set(['FENCED', 'REGRESSED', 'ENGINE_CLOSED'])

function logOf({ topic, partition }: StreamRun): string {
  return logOfPartition(topic, partition)
}

function asError(error: unknown): TilefoldError {
  if (error instanceof TilefoldError) return error
  return new TilefoldError('CORE_TRAP', `cannot go on: ${(error as Error)?.message ?? error}`, {}, { cause: error })
}
