/** A routed view in memory: a router and a worker that take all there is, step by step. */
import { setTimeout as sleep } from 'node:timers/promises'
import { loadCore } from '../../src/engine/module.ts'
import type { Plan } from '../../src/model/plan.ts'
import { createJsonDecoder } from '../../src/source/json-messages.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import type { Store } from '../../src/store/port.ts'
import { StreamJob, type StreamReport } from '../../src/stream/job.ts'
import { type OpenRoute, openViewRoute, RouteJob } from '../../src/stream/route-job.ts'
import type { Random } from '../support/random.ts'
import { messageOf, NAMESPACE, type Payment, START_MS } from './payments.ts'
import { ScriptedConsumer, ScriptedGroup } from './scripted-group.ts'
import { ScriptedTopic } from './scripted-transactions.ts'

const HOUR_MS = 3_600_000

export interface RoutedOptions {
  readonly store: Store
  readonly plan: Plan
  /** Of the topic that is routed, `payments`; they may grow meanwhile. */
  readonly logs: readonly StreamMessage[][]
  readonly random: Random
  readonly lanes?: number
  readonly generation?: number
  readonly clock?: () => number
  /** As another scene has left it. */
  readonly internal?: ScriptedTopic
}

export class RoutedScene {
  readonly #options: RoutedOptions
  readonly #router: { job: RouteJob; consumer: ScriptedConsumer }
  readonly #worker: { job: StreamJob; consumer: ScriptedConsumer }
  readonly internal: ScriptedTopic

  static async create(options: RoutedOptions): Promise<RoutedScene> {
    const { store, plan, random, lanes = 3, generation } = options
    const seat = { store, namespace: NAMESPACE, ...(generation !== undefined && { generation }) }
    const route = await openViewRoute(seat, plan, 'payments', lanes)
    const internal = options.internal ?? new ScriptedTopic(lanes, random)
    const clock = options.clock ?? (() => START_MS * 2)
    const report = ({ event, message }: StreamReport) => {
      if (event === 'stopped') throw new Error(message)
    }
    const reading = { store, namespace: NAMESPACE, decoder: createJsonDecoder, clock, report }
    const source = new ScriptedConsumer(new ScriptedGroup('payments', options.logs, random))
    const ahead = { route, openTransactions: internal.open, core: loadCore(), lingerMs: HOUR_MS, maxDeadRatio: 1 }
    const job = new RouteJob({ ...reading, ...ahead, consumer: source })
    await job.start()
    const behind = new ScriptedConsumer(new ScriptedGroup(route.topic, internal.logs, random))
    const routes = new Map([[plan.view, route.topic]])
    const more = {
      plans: [plan],
      routes,
      consumer: behind,
      flushMaxMs: HOUR_MS,
      ...(generation !== undefined && { generation }),
    }
    const worker = await StreamJob.create({ ...reading, ...more })
    await worker.start()
    const scene = new RoutedScene(
      options,
      route,
      internal,
      { job, consumer: source },
      { job: worker, consumer: behind },
    )
    for (const partition of options.logs.keys()) await source.gain(partition)
    for (let lane = 0; lane < lanes; lane++) await behind.gain(lane)
    return scene
  }

  private constructor(
    options: RoutedOptions,
    readonly route: OpenRoute,
    internal: ScriptedTopic,
    router: { job: RouteJob; consumer: ScriptedConsumer },
    worker: { job: StreamJob; consumer: ScriptedConsumer },
  ) {
    this.#options = options
    this.internal = internal
    this.#router = router
    this.#worker = worker
  }

  /** What the logs hold now, into the internal topic; every lane hears of it. */
  async routeAll(): Promise<void> {
    for (const partition of this.#options.logs.keys()) while (await this.#router.consumer.deliver(partition, 60));
    for (const run of this.#router.job.runs) await run.tick(0)
  }

  /** What the internal topic holds now, into rows; of these lanes. */
  async foldAll(lanes: Iterable<number> = this.internal.logs.keys()): Promise<void> {
    for (const lane of lanes) while (await this.#worker.consumer.deliver(lane, 60));
    for (const run of this.#worker.job.runs) await run.flush()
    // The job's own flushes, which have nothing to do any more, take their turn now.
    await sleep(5)
  }

  /** What owners do every few seconds. */
  async tick(): Promise<void> {
    for (const run of this.#worker.job.runs) await run.tick(HOUR_MS)
  }

  async stop(): Promise<void> {
    await this.#router.job.stop()
    await this.#worker.job.stop()
  }
}

/** Each payment in any partition, cards are everywhere; behind what is there already. */
export function scatterInto(logs: readonly StreamMessage[][], payments: readonly Payment[], random: Random): void {
  for (const payment of payments) {
    const log = random.pick(logs)
    log.push(messageOf(payment, log.length === 0 ? 0 : Number(log.at(-1)!.offset) + 1 + random.below(2)))
  }
}
