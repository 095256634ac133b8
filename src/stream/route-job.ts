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
import type { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { NO_WORKER_METRICS, type WorkerMetrics } from '../observe/port.ts'
import { type OpenGeneration, openGeneration } from '../registry/layouts.ts'
import { openRoute, openSalts, routerGroup } from '../registry/routes.ts'
import type { DeadLetters } from '../source/dead-letters.ts'
import type { StreamBounds, StreamConsumer } from '../source/stream.ts'
import { StreamPartitions } from '../source/stream-partitions.ts'
import type { OpenTransactions } from '../source/transactions.ts'
import type { Store } from '../store/port.ts'
import { PASSING, type StreamReport } from './job.ts'
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
  return { plan, opened, ...route, groupId: routerGroup(route) }
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

export class RouteJob {
  readonly #options: RouteJobOptions
  readonly #clock: () => number
  readonly #partitions: StreamPartitions<RouteRun>
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
    this.#partitions = new StreamPartitions<RouteRun>({
      consumer: options.consumer,
      open: (topic, partition, bounds) => this.#open(topic, partition, bounds),
      opened: (run) => `routing from offset ${run.committed}, reading from ${run.readFrom}`,
      passing: PASSING,
      ...(options.report && { report: options.report }),
    })
  }

  get runs(): readonly RouteRun[] {
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

  /** Routes what was read, then leaves the group. */
  async stop(): Promise<void> {
    clearInterval(this.#ticker)
    await this.#options.consumer.stop()
    await this.#partitions.close()
  }

  async #open(topic: string, partition: number, bounds: StreamBounds): Promise<RouteRun> {
    const { route, store, namespace, core, openTransactions, decoder, deadLetters } = this.#options
    if (this.#known === undefined) this.#know(this.#opened)
    return RouteRun.open(
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
        onFailed: (failed, error) => this.#partitions.fail(failed, error),
      },
      bounds,
    )
  }

  async #tick(): Promise<void> {
    if (this.#isTicking) return
    this.#isTicking = true
    await this.lookAtSalts().catch((error) => this.#report('warn', error.message))
    this.#isTicking = false
    if (this.#ticks++ % IDLE_TICKS !== 0) return
    for (const run of this.runs) {
      run.tick(this.#options.idleMs ?? 60_000).catch((error) => this.#partitions.fail(run, error))
    }
  }

  /**
   * Writes down what is to be spread, reads what other routers have, and spreads it when every reader can know: a lane that somebody does
   * not look into must not hold anything of an entity. Throws STORE_UNAVAILABLE.
   */
  async lookAtSalts(): Promise<void> {
    const { store, namespace, route } = this.#options
    const wishes = new Map<string, number>()
    for (const run of this.runs) {
      for (const [key, active] of run.takeWishes()) wishes.set(key, Math.max(active, wishes.get(key) ?? 0))
    }
    const seat = { store, namespace, generation: this.#opened.generation.generation }
    const requests = [...wishes].map(([key, active]) => ({ key, active }))
    const opened = await openSalts(seat, route.plan, requests)
    for (const { key, active } of requests) {
      // Keys are not for logs; the layout has them.
      const name = createHash('sha256').update(key, 'hex').digest('hex').slice(0, 12)
      const what = `the entity of hash ${name} goes to ${active} of ${route.lanes} lanes in ${SPREAD_DELAY_MS / 1000} s`
      this.#report('info', what)
    }
    this.#know(opened)
    if (this.#clock() - this.#known!.sinceMs < SPREAD_DELAY_MS) return
    const salts = new Map((opened.generation.salts ?? []).map(({ key, active }) => [key, active]))
    for (const run of this.runs) run.spread(opened.layout.version, salts)
  }

  /** What changes in the layout beside salts makes us wait as well: that costs nothing. */
  #know(opened: OpenGeneration): void {
    this.#opened = opened
    const { version } = opened.layout
    if (this.#known?.version !== version) this.#known = { version, sinceMs: this.#clock() }
  }

  #report(level: StreamReport['level'], message: string): void {
    this.#options.report?.({ level, event: 'salts', log: this.#options.route.source, message })
  }
}
