/** `tilefold run`: topics of Kafka into the rows of a store, until it is told to stop. */
import { type Endpoint, startEndpoint } from '../observe/endpoint.ts'
import { createLog } from '../observe/log.ts'
import { LOG_FORMATS, LOG_LEVELS, type Log } from '../observe/log-port.ts'
import { createWorkerMetrics } from '../observe/metrics.ts'
import type { Exposition } from '../observe/port.ts'
import { findUncut } from '../registry/generations.ts'
import { Access } from '../serve/access.ts'
import { createDeadLetterFile, type DeadLetters } from '../source/dead-letters.ts'
import { createJsonDecoder } from '../source/json-messages.ts'
import type { KafkaOptions } from '../source/kafka.ts'
import { createKafkaConsumer } from '../source/kafka-consumer.ts'
import { createKafkaDeadLetters } from '../source/kafka-dead-letters.ts'
import { createKafkaProducer } from '../source/kafka-producer.ts'
import { readingGroups } from '../stream/groups.ts'
import { StreamJob, type StreamReport } from '../stream/job.ts'
import { type Call, type Command, EXIT_OK } from './command.ts'
import { plansToFill, readGeneration, VIEW_OPTION } from './generation-number.ts'
import { kafkaOptionsOf } from './kafka-settings.ts'
import { readDuration, type Settings } from './settings.ts'
import { StoreWatch } from './store-watch.ts'
import { openStore } from './stores.ts'
import type { Signal } from './terminal.ts'
import { groupOf, readTopics, TOPIC_OPTIONS, topicsOf } from './topics.ts'
import { UNCUT } from './uncut.ts'
import { packageVersion } from './version.ts'
import { loadViews } from './views.ts'

export const run: Command = {
  name: 'run',
  description: `Reads topics of Kafka as a member of a consumer group and folds them into every view that takes their events. Any number
of processes may run side by side: the group spreads the partitions, and each partition's lane has one owner, whatever
is killed, paused or restarted. A view's source names its topic; --topic gives it another one.

With --generation it fills a generation that is begun beside the one that readers see (tilefold generation begin), as a group
of its own, while the other workers go on. Behind "tilefold generation switch" its workers are the ones whose rows are read.
A worker stays with the generation that it began with.

SIGTERM and Ctrl-C finish: what was read is written, the group is left, the process ends with 0.`,
  arguments: [],
  options: [
    ...TOPIC_OPTIONS,
    {
      flags: '--keyed <topic>',
      about:
        "topic whose producers choose the partition by the views' entity (murmur2): readers look into one partition",
      isList: true,
    },
    { flags: '--generation <n>', about: 'fill this generation; the one that readers see unless told' },
    VIEW_OPTION,
    { flags: '--metrics-port <number>', about: '/metrics, /livez and /readyz on this port; none unless told' },
    { flags: '--dead-letter-topic <topic>', about: 'topic for records that no view can take' },
    { flags: '--dead-letter-file <file>', about: 'file for records that no view can take' },
    { flags: '--max-dead-ratio <ratio>', about: 'share of unreadable records above which a partition stops (0.01)' },
    { flags: '--flush-interval <duration>', about: 'events are readable after this when little is going on (1ms)' },
    { flags: '--max-flush-interval <duration>', about: 'and at the latest after this (1s)' },
    { flags: '--memory-budget <bytes>', about: 'tiles that wait for a flush, over all partitions (256MiB)' },
    {
      flags: '--ledger <duration>',
      about: 'how long a lane remembers when which position became readable; not at all unless told',
    },
    { flags: '--session-timeout <duration>', about: 'a member silent for so long loses its partitions (30s)' },
  ],
  examples: [
    ['tilefold run --kafka-brokers localhost:9092 --redis-url redis://localhost:6379', 'one of any number of workers'],
    ['tilefold run --kafka-brokers localhost:9092 --keyed payments', 'into the directory of this machine'],
    ['tilefold run --generation 2', 'beside the workers of generation 1, from where generation 2 starts'],
  ],
  run: runStream,
}

async function runStream({ flags, settings, terminal }: Call): Promise<number> {
  const stopped = new Promise<Signal>((resolve) => terminal.onSignal(resolve))
  const log = createLog({
    level: settings.choice('log_level', LOG_LEVELS),
    format: settings.choice('log_format', LOG_FORMATS),
    stream: terminal.stderr,
  })
  const { namespace, plans: allPlans } = await loadViews(settings)
  const topics = readTopics(flags, allPlans)
  const generation = readGeneration(flags.generation as string | undefined)
  const { store, where, check } = await openStore(settings, { readOnly: false, plans: allPlans })
  let deadLetters: DeadLetters | undefined
  const watch = check && new StoreWatch(check, log)
  let endpoint: Endpoint | undefined
  try {
    // What the client finds worth a line is mostly detail to us.
    const kafka = kafkaOptionsOf(settings, ({ level, message, facts }) => {
      log[level === 'info' ? 'debug' : level](message, facts)
    })
    deadLetters = await openDeadLetters(settings, kafka, terminal.clock)
    const sessionTimeout = flags.sessionTimeout as string | undefined
    const metrics = createWorkerMetrics({ version: packageVersion(), clock: terminal.clock })
    const seat = { store, namespace, ...(generation === undefined ? {} : { generation }) }
    const plans = await plansToFill(flags, seat, allPlans)
    const groups = await readingGroups(seat, groupOf(settings, namespace), plans)
    const jobs: StreamJob[] = []
    const ends: Promise<never>[] = []
    for (const group of groups) {
      const consumer = createKafkaConsumer({
        ...kafka,
        groupId: group.groupId,
        topics: topicsOf(topics, group.plans, group.routes),
        ...(sessionTimeout === undefined
          ? {}
          : { sessionTimeoutMs: readDuration(sessionTimeout, '--session-timeout') }),
      })
      ends.push(consumer.ended)
      const job = await StreamJob.create({
        plans: group.plans,
        topics,
        routes: group.routes,
        keyed: new Set(flags.keyed as readonly string[] | undefined),
        consumer,
        store,
        namespace,
        generation: group.generation,
        decoder: createJsonDecoder,
        deadLetters,
        maxDeadRatio: settings.ratio('max_dead_ratio'),
        flushMinMs: settings.durationMs('flush_interval'),
        flushMaxMs: settings.durationMs('max_flush_interval'),
        memoryBytes: Math.floor(settings.bytes('memory_budget') / groups.length),
        idleMs: settings.durationMs('idle_timeout'),
        ledgerMs: settings.get('ledger') && settings.durationMs('ledger'),
        clock: terminal.clock,
        metrics,
        report: (report) => tell(report, log),
      })
      jobs.push(job)
    }
    for (const view of await findUncut({ store, namespace }, plans)) {
      log.warn(`view ${view}: ${UNCUT}`, { view })
    }
    endpoint = await openEndpoint(settings, metrics, jobs, watch)
    if (endpoint) log.info(`metrics on ${endpoint.url}/metrics`)
    try {
      for (const job of jobs) await job.start()
      for (const { groupId, generation, plans, routes } of groups) {
        const facts = { namespace, group: groupId, generation, views: plans.map(({ view }) => view) }
        log.info(`reading ${topicsOf(topics, plans, routes).join(', ')} into ${where}`, facts)
      }
      const signal = await Promise.race([stopped, ...ends])
      log.info(`stopping on ${signal}: what was read is being written`)
    } finally {
      await stopAll(jobs)
    }
    log.info('stopped')
    return EXIT_OK
  } finally {
    watch?.stop()
    await endpoint?.close()
    await deadLetters?.close()
    await store.close()
    log.flush()
  }
}

/** Each of them, whatever becomes of the others. */
async function stopAll(jobs: readonly StreamJob[]): Promise<void> {
  const results = await Promise.allSettled(jobs.map((job) => job.stop()))
  const failed = results.find((result) => result.status === 'rejected')
  if (failed) throw failed.reason
}

/** Ready means: nothing waits for a person, no partition and not the store. */
export async function openEndpoint(
  settings: Settings,
  exposition: Exposition,
  jobs: readonly Pick<StreamJob, 'stopped'>[],
  watch: StoreWatch | undefined,
): Promise<Endpoint | undefined> {
  const port = settings.whole('metrics_port')
  if (port === undefined) return undefined
  const host = settings.text('host')!
  const stopped = () => jobs.flatMap((job) => [...job.stopped])
  const unready = () => watch?.unfit?.code ?? stopped()[0]?.[1].code
  const unreadyDetails = () => [
    ...(watch?.unfit ? [watch.unfit.message] : []),
    ...stopped().map(([log, { code }]) => `log ${log} is stopped: ${code}`),
  ]
  const access = new Access(host, settings.text('token'))
  return startEndpoint({ host, port, exposition, access, unready, unreadyDetails })
}

export async function openDeadLetters(
  settings: Settings,
  kafka: KafkaOptions,
  clock: () => number,
): Promise<DeadLetters | undefined> {
  const [topic, file] = [settings.text('dead_letter_topic'), settings.text('dead_letter_file')]
  if (topic !== undefined) return createKafkaDeadLetters(createKafkaProducer(kafka), topic)
  return file === undefined ? undefined : createDeadLetterFile(file, clock)
}

export function tell({ level, event, log: name, message, code }: StreamReport, log: Log): void {
  log[level](`${name} ${event}: ${message}`, code === undefined ? { log: name, event } : { log: name, event, code })
}
