/**
 * THE ROUTER: a topic that is not keyed by a view's entity into an internal topic that is.
 *
 *   group ── assigned ──> RouteRun.open ──> messages ──> judged ──> one transaction each linger ──> internal topic
 *
 * Beside it run the workers (job.ts), which read the internal topic as they read any other. One router job serves one view; any number
 * of processes share its partitions.
 */
import { createHash } from 'node:crypto'
import type { CoreModule } from '../engine/module.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { logOfPartition } from '../model/view-layout.ts'
import { NO_WORKER_METRICS, type WorkerMetrics } from '../observe/port.ts'
import { type OpenGeneration, openGeneration, openRoute, openSalts } from '../registry/layouts.ts'
import type { DeadLetters } from '../source/dead-letters.ts'
import type { StreamBounds, StreamConsumer, StreamHandler, StreamMessage } from '../source/stream.ts'
import type { OpenTransactions } from '../source/transactions.ts'
import type { Store } from '../store/port.ts'
import { asError, isLoss, JITTER, restartDelayMs, type StreamReport } from './job.ts'
import { type RouteOptions, RouteRun } from './route-run.ts'

/** The route as the layout has it, and the group that reads for it. */
export interface OpenRoute {
  readonly plan: Plan
  readonly opened: OpenGeneration
  readonly source: string
  readonly topic: string
  readonly lanes: number
  readonly groupId: string
}

export interface RouteSeat {
  readonly store: Store
  readonly namespace: string
  /** The one that readers see unless told. */
  readonly generation?: number
}

/**
 * The view's route, begun where it has none. `lanes`: partitions of the internal topic, 16 unless told; fixed. Throws CONFIG_INVALID
 * where live lanes read the topic themselves.
 */
export async function openViewRoute(seat: RouteSeat, plan: Plan, source: string, lanes?: number): Promise<OpenRoute> {
  await openGeneration(seat, plan)
  const opened = await openRoute(seat, plan, source, lanes)
  const route = opened.generation.route!
  return { plan, opened, ...route, groupId: `${route.topic}.router` }
}

export interface RouteJobOptions {
  readonly route: OpenRoute
  readonly consumer: StreamConsumer
  readonly store: Store
  readonly namespace: string
  readonly core: CoreModule
  readonly openTransactions: OpenTransactions
  readonly decoder: RouteOptions['decoder']
  readonly deadLetters?: DeadLetters
  /** 0.1 unless told. */
  readonly maxDeadRatio?: number
  /** 100 ms unless told. */
  readonly lingerMs?: number
  /** A partition without events for so long holds back no lane's watermark; 60,000 ms unless told. */
  readonly idleMs?: number
  readonly clock?: () => number
  readonly metrics?: WorkerMetrics
  readonly report?: (report: StreamReport) => void
}

const TICK_MS = 1_000
/** Readers look at the layout again within a second (serve/layouts.ts), and a request under way may last a little longer. */
const SPREAD_DELAY_MS = 3_000
/** Beside the looks at salts: those at lanes and clocks. */
const IDLE_TICKS = 3

export class RouteJob implements StreamHandler {
  readonly #options: RouteJobOptions
  readonly #clock: () => number
  readonly #runs = new Map<string, RouteRun>()
  readonly #failures = new Map<string, number>()
  readonly #stopped = new Map<string, TilefoldError>()
  #ticker: NodeJS.Timeout | undefined
  #ticks = 0
  #opened: OpenGeneration
  /** Salts that are in the layout, and since when we know. */
  #known: { readonly version: number; readonly sinceMs: number } | undefined
  #isTicking = false

  constructor(options: RouteJobOptions) {
    this.#options = options
    this.#clock = options.clock ?? Date.now
    this.#opened = options.route.opened
  }

  get runs(): readonly RouteRun[] {
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

  /** Routes what was read, then leaves the group. */
  async stop(): Promise<void> {
    clearInterval(this.#ticker)
    await this.#options.consumer.stop()
    const runs = [...this.#runs.values()]
    this.#runs.clear()
    const results = await Promise.allSettled(runs.map((run) => run.close(true)))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed && !isLoss(failed.reason)) throw failed.reason
  }

  async assigned(topic: string, partition: number, bounds: StreamBounds): Promise<number> {
    const name = logOfPartition(topic, partition)
    await this.#drop(name, false)
    this.#stopped.delete(name)
    const { route, store, namespace, core, openTransactions, decoder, deadLetters } = this.#options
    try {
      const run = await RouteRun.open(
        {
          topic,
          partition,
          plan: route.plan,
          opened: this.#opened,
          groupId: route.groupId,
          namespace,
          store,
          core,
          openTransactions,
          decoder,
          deadLetters,
          maxDeadRatio: this.#options.maxDeadRatio ?? 0.1,
          lingerMs: this.#options.lingerMs ?? 100,
          clock: this.#clock,
          metrics: this.#options.metrics ?? NO_WORKER_METRICS,
          onFailed: (failed, error) => this.#fail(failed.topic, failed.partition, error, failed),
        },
        bounds,
      )
      if (this.#known === undefined) this.#know(this.#opened)
      this.#runs.set(name, run)
      this.#report('info', 'assigned', name, `routing from offset ${run.committed}, reading from ${run.readFrom}`)
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

  #fail(topic: string, partition: number, cause: unknown, run?: RouteRun): void {
    const name = logOfPartition(topic, partition)
    if (run !== undefined && this.#runs.get(name) !== run) return
    const error = asError(cause)
    void this.#drop(name, false)
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

  /** Best effort: what is not committed is routed by the next owner. */
  async #drop(name: string, flush: boolean): Promise<void> {
    const run = this.#runs.get(name)
    this.#runs.delete(name)
    await run?.close(flush).catch(() => {})
  }

  async #tick(): Promise<void> {
    if (this.#isTicking) return
    this.#isTicking = true
    await this.lookAtSalts().catch((error) =>
      this.#report('warn', 'salts', this.#options.route.source, `${error.message}`),
    )
    this.#isTicking = false
    if (this.#ticks++ % IDLE_TICKS !== 0) return
    for (const run of this.#runs.values()) {
      run.tick(this.#options.idleMs ?? 60_000).catch((error) => this.#fail(run.topic, run.partition, error, run))
    }
  }

  /**
   * Writes down what is to be spread, reads what other routers have, and spreads it when every reader can know: a lane that somebody does
   * not look into must not hold anything of an entity. Throws STORE_UNAVAILABLE.
   */
  async lookAtSalts(): Promise<void> {
    const { store, namespace, route } = this.#options
    const wishes = new Map<string, number>()
    for (const run of this.#runs.values()) {
      for (const [key, active] of run.takeWishes()) wishes.set(key, Math.max(active, wishes.get(key) ?? 0))
    }
    const seat = { store, namespace, generation: this.#opened.generation.generation }
    const requests = [...wishes].map(([key, active]) => ({ key, active }))
    const opened = await openSalts(seat, route.plan, requests)
    for (const { key, active } of requests) {
      // Keys are not for logs; the layout has them.
      const name = createHash('sha256').update(key, 'hex').digest('hex').slice(0, 12)
      const what = `the entity of hash ${name} goes to ${active} of ${route.lanes} lanes in ${SPREAD_DELAY_MS / 1000} s`
      this.#report('info', 'salts', route.source, what)
    }
    this.#know(opened)
    if (this.#clock() - this.#known!.sinceMs < SPREAD_DELAY_MS) return
    const salts = new Map((opened.generation.salts ?? []).map(({ key, active }) => [key, active]))
    for (const run of this.#runs.values()) run.spread(opened.layout.version, salts)
  }

  /** What changes in the layout beside salts makes us wait as well: that costs nothing. */
  #know(opened: OpenGeneration): void {
    this.#opened = opened
    const { version } = opened.layout
    if (this.#known?.version !== version) this.#known = { version, sinceMs: this.#clock() }
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
