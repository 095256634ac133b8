/** `tilefold route`: a topic of Kafka into one that is keyed by a view's entity, until it is told to stop. */
import { loadCore } from '../engine/module.ts'
import type { Endpoint } from '../observe/endpoint.ts'
import { createLog } from '../observe/log.ts'
import { LOG_FORMATS, LOG_LEVELS } from '../observe/log-port.ts'
import { createWorkerMetrics } from '../observe/metrics.ts'
import { catalogOf, viewNamed } from '../serve/catalog.ts'
import type { DeadLetters } from '../source/dead-letters.ts'
import { createJsonDecoder } from '../source/json-messages.ts'
import { createKafkaConsumer } from '../source/kafka-consumer.ts'
import { kafkaTransactions } from '../source/kafka-transactions.ts'
import { openViewRoute, RouteJob } from '../stream/route-job.ts'
import { type Call, type Command, EXIT_OK } from './command.ts'
import { readGeneration } from './generation-number.ts'
import { kafkaOptionsOf } from './kafka-settings.ts'
import { openDeadLetters, openEndpoint, tell } from './run.ts'
import { readDuration, settingError } from './settings.ts'
import { openStore } from './stores.ts'
import type { Signal } from './terminal.ts'
import { readTopics, TOPIC_OPTIONS } from './topics.ts'
import { packageVersion } from './version.ts'
import { loadViews } from './views.ts'

export const route: Command = {
  name: 'route',
  description: `Reads the topic of a view that is not keyed by the view's entity, and writes its events into an internal topic that is, under
Kafka transactions: each event is there once, whatever is killed. What is late, double or filtered is decided here, in the order of
the topic. Then "tilefold run" reads the internal topic by itself, and a request looks into one lane instead of all.

The route is a part of the view's generation, begun with the first call, before any worker has read the topic itself; for a view
that is served already, begin another generation (tilefold generation begin). Any number of processes share the topic's partitions.`,
  arguments: [{ name: '<view>', about: 'name of the view' }],
  options: [
    ...TOPIC_OPTIONS.filter(({ flags }) => !flags.startsWith('--kafka-group')),
    { flags: '--lanes <n>', about: 'partitions of the internal topic, fixed when the route is begun (16)' },
    { flags: '--generation <n>', about: 'of this generation; the one that readers see unless told' },
    { flags: '--route-linger <duration>', about: 'how long events wait for others of their transaction (100ms)' },
    { flags: '--metrics-port <number>', about: '/metrics, /livez and /readyz on this port; none unless told' },
    { flags: '--dead-letter-topic <topic>', about: 'topic for records that the view cannot take' },
    { flags: '--dead-letter-file <file>', about: 'file for records that the view cannot take' },
    { flags: '--max-dead-ratio <ratio>', about: 'share of unreadable records above which a partition stops (0.01)' },
    { flags: '--session-timeout <duration>', about: 'a member silent for so long loses its partitions (30s)' },
  ],
  examples: [
    [
      'tilefold route spend --kafka-brokers localhost:9092 --redis-url redis://localhost:6379',
      'beside any number of workers',
    ],
  ],
  run,
}

async function run({ args, flags, settings, terminal }: Call): Promise<number> {
  const stopped = new Promise<Signal>((resolve) => terminal.onSignal(resolve))
  const log = createLog({
    level: settings.choice('log_level', LOG_LEVELS),
    format: settings.choice('log_format', LOG_FORMATS),
    stream: terminal.stderr,
  })
  const { namespace, plans } = await loadViews(settings)
  const { plan } = viewNamed(catalogOf(plans), args[0]!)
  const source = readTopics(flags, plans).get(plan.state.source) ?? plan.state.source
  const lanes = readLanes(flags.lanes as string | undefined)
  const generation = readGeneration(flags.generation as string | undefined)
  const { store } = await openStore(settings, { readOnly: false, plans })
  const kafka = kafkaOptionsOf(settings, ({ level, message, facts }) => {
    log[level === 'info' ? 'debug' : level](message, facts)
  })
  const transactions = kafkaTransactions(kafka)
  let deadLetters: DeadLetters | undefined
  let endpoint: Endpoint | undefined
  try {
    deadLetters = await openDeadLetters(settings, kafka, terminal.clock)
    const seat = { store, namespace, ...(generation === undefined ? {} : { generation }) }
    const opened = await openViewRoute(seat, plan, source, lanes)
    const partitions = await transactions.ensureTopic(opened.topic, opened.lanes)
    if (partitions !== opened.lanes) {
      throw settingError('topic', `${opened.topic} has ${partitions} partitions, expected the route's ${opened.lanes}`)
    }
    const sessionTimeout = flags.sessionTimeout as string | undefined
    const consumer = createKafkaConsumer({
      ...kafka,
      groupId: opened.groupId,
      topics: [source],
      ...(sessionTimeout === undefined ? {} : { sessionTimeoutMs: readDuration(sessionTimeout, '--session-timeout') }),
    })
    const metrics = createWorkerMetrics({ version: packageVersion(), clock: terminal.clock })
    const job = new RouteJob({
      route: opened,
      consumer,
      store,
      namespace,
      core: loadCore(),
      openTransactions: transactions.open,
      decoder: createJsonDecoder,
      ...(deadLetters && { deadLetters }),
      maxDeadRatio: settings.ratio('max_dead_ratio'),
      lingerMs: settings.durationMs('route_linger'),
      idleMs: settings.durationMs('idle_timeout'),
      clock: terminal.clock,
      metrics,
      report: (report) => tell(report, log),
    })
    endpoint = await openEndpoint(settings, metrics, [job], undefined)
    if (endpoint) log.info(`metrics on ${endpoint.url}/metrics`)
    try {
      await job.start()
      const facts = { namespace, group: opened.groupId, view: plan.view, lanes: opened.lanes }
      log.info(`reading ${source} into ${opened.topic}`, facts)
      const signal = await Promise.race([stopped, consumer.ended])
      log.info(`stopping on ${signal}: what was read is being routed`)
    } finally {
      await job.stop()
    }
    log.info('stopped')
    return EXIT_OK
  } finally {
    await endpoint?.close()
    await deadLetters?.close()
    await transactions.close()
    await store.close()
    log.flush()
  }
}

/** Throws USAGE. */
function readLanes(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const lanes = Number(text)
  if (/^\d{1,4}$/.test(text) && lanes >= 1 && lanes <= LANES_MAX) return lanes
  throw settingError('--lanes', `got ${JSON.stringify(text)}, expected a whole number from 1 to ${LANES_MAX}`)
}

/** What each of them was told last has to fit the metadata of an offset, 4,096 bytes. */
const LANES_MAX = 512
