/**
 * What the way by the router takes: CPU, the rate at which it drains a backlog, and how much later an event is readable.
 *
 * A real Kafka and a real Redis, as the claim `stream` has them. The router is set beside a worker that reads the same events from
 * a topic that is keyed, and beside a router that writes a record for each event; each is a process of its own, and they drain in turn.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { createRedisStore } from '../src/store/redis.ts'
import { startKafka, whyNoKafka } from '../test/support/kafka.ts'
import { anyRedis, freshNamespace, whyNoRedis } from '../test/support/redis.ts'
import { atLeast, atMost, type Settings } from './claim.ts'
import { judge, type Row, timesRow } from './contest.ts'
import { timeRoutedFreshness } from './route-freshness.ts'
import { LANES, LINGER_MS } from './route-jobs.ts'
import type { DrainCommand, DrainReport, DrainTask } from './route-process.ts'
import { wakeCoordinator } from './stream.ts'
import { EventMaker, MESSAGE_BYTES, PARTITIONS, PER_SECOND, produceAll, scatter } from './stream-events.ts'
import { checkCounted, type Servers, TOPIC_SETTINGS } from './stream-servers.ts'

/** A round takes seconds. */
const ROUNDS_MAX = 5
const ROLES = ['direct', 'router', 'lanes', 'naive'] as const

type Role = (typeof ROLES)[number]

export async function timeRouter(settings: Settings): Promise<void> {
  const missing = whyNoKafka() ?? whyNoRedis()
  if (missing !== undefined) {
    settings.note(`\nroute: skipped, ${missing}`)
    return
  }
  const [kafka, redis] = await Promise.all([startKafka(), anyRedis()])
  const store = createRedisStore({ urls: redis.url })
  try {
    const rounds = Math.min(settings.turns.all, ROUNDS_MAX)
    const servers: Servers = { kafka, redisUrl: redis.url, store, settings, rounds }
    const events = settings.short ? 20_000 : 300_000
    const maker = new EventMaker(settings.short ? 1_000 : 10_000, settings.seed)
    // The same events: by their key for the worker that reads them itself, anywhere for the routers.
    const keyed = await kafka.createTopic('keyed', PARTITIONS, TOPIC_SETTINGS)
    const scattered = await kafka.createTopic('scattered', PARTITIONS, TOPIC_SETTINGS)
    const producer = kafka.client.producer()
    await producer.connect()
    const messages = maker.makeAll(events, (events / PER_SECOND) * 1000, Date.now())
    await produceAll(producer, keyed, messages)
    await produceAll(producer, scattered, scatter(messages))
    await producer.disconnect()
    await wakeCoordinator(kafka, keyed)
    await timeDrains(servers, { keyed, scattered }, maker, events)
    await timeRoutedFreshness(servers, maker)
  } finally {
    await store.close()
    await Promise.all([kafka.stop(), redis.stop()])
  }
}

async function timeDrains(
  servers: Servers,
  topics: { readonly keyed: string; readonly scattered: string },
  maker: EventMaker,
  events: number,
): Promise<void> {
  const { settings, rounds } = servers
  const ns: Record<Role, number[]> = { direct: [], router: [], lanes: [], naive: [] }
  const cpu: Record<Role, number[]> = { direct: [], router: [], lanes: [], naive: [] }
  const processes = Object.fromEntries(ROLES.map((role) => [role, new DrainProcess(servers, role)]))
  try {
    // The turn that doesn't count lets V8 compile, in each process.
    for (let turn = 0; turn <= rounds; turn++) {
      const namespaces = { direct: freshNamespace(), routed: freshNamespace(), naive: freshNamespace() }
      const drain = async (role: Role, namespace: string) => {
        const topic = role === 'direct' ? topics.keyed : topics.scattered
        const report = await processes[role]!.drain({ topic, namespace, events })
        if (turn === 0) return
        ns[role].push(report.ns / events)
        cpu[role].push(report.cpuNs / events)
      }
      const arms = [
        () => drain('direct', namespaces.direct),
        // One behind the other: the CPU of each is its own, but the machine's cores are few.
        () => drain('router', namespaces.routed).then(() => drain('lanes', namespaces.routed)),
        () => drain('naive', namespaces.naive),
      ]
      const first = turn % arms.length
      for (const arm of [...arms.slice(first), ...arms.slice(0, first)]) await arm()
      for (const name of [namespaces.direct, namespaces.routed]) await checkCounted(servers, name, maker.keys, events)
    }
  } finally {
    for (const each of Object.values(processes)) each.close()
  }

  const what = `${events} messages of ${MESSAGE_BYTES} bytes, 3 fields of them, ${LANES} lanes`
  const ofCpu = {
    claim: 'route',
    title: `CPU of each process: ${what}; over the worker's of a keyed topic`,
    unit: 'event',
  }
  const over = (part: readonly number[]) => part.map((each, turn) => each / cpu.direct[turn]!)
  const both = cpu.router.map((each, turn) => each + cpu.lanes[turn]!)
  settings.emit([
    timesRow(ofCpu, 'worker of a keyed topic', cpu.direct),
    { ...timesRow(ofCpu, 'router', cpu.router), ...judge(over(cpu.router), 'cost', atMost(1.6)) },
    { ...timesRow(ofCpu, 'worker behind the router', cpu.lanes), ...judge(over(cpu.lanes), 'cost') },
    { ...timesRow(ofCpu, 'router and worker', both), ...judge(over(both), 'cost') },
    { ...timesRow(ofCpu, 'router, a record per event', cpu.naive), ...judge(over(cpu.naive), 'cost') },
  ])
  const ofTime = { claim: 'route', title: `router drains a backlog: ${what}, transactions each ${LINGER_MS} ms` }
  const contest = { ...ofTime, unit: 'event' }
  const gains = ns.naive.map((each, turn) => each / ns.router[turn]!)
  settings.emit([
    timesRow(contest, 'tilefold route', ns.router),
    { ...timesRow(contest, 'a record per event, kafkajs', ns.naive), ...judge(gains, 'gain', atLeast(5)) },
  ] satisfies Row[])
}

class DrainProcess {
  readonly #child

  constructor({ kafka, redisUrl }: Servers, role: Role) {
    const script = fileURLToPath(new URL('./route-process.js', import.meta.url))
    const task: DrainTask = { role, brokers: kafka.brokers, redisUrl }
    this.#child = fork(script, [JSON.stringify(task)])
  }

  async drain(command: DrainCommand): Promise<DrainReport> {
    this.#child.send(command)
    const gone = once(this.#child, 'exit').then(() =>
      Promise.reject(new Error('a process of the claim route has ended')),
    )
    const [report] = await Promise.race([once(this.#child, 'message'), gone])
    return report as DrainReport
  }

  close(): void {
    this.#child.kill('SIGKILL')
  }
}
