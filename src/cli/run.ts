/** `tilefold run`: topics of Kafka into the rows of a store, until it is told to stop. */
import type { Plan } from '../model/plan.ts'
import { createDeadLetterFile, type DeadLetters } from '../source/dead-letters.ts'
import { createJsonDecoder } from '../source/json-messages.ts'
import { createKafkaConsumer } from '../source/kafka-consumer.ts'
import { StreamJob, type StreamReport } from '../stream/job.ts'
import { type Call, type Command, EXIT_OK } from './command.ts'
import { kafkaOptionsOf } from './kafka-settings.ts'
import { readDuration, type Settings, settingError } from './settings.ts'
import { openStore } from './stores.ts'
import type { Signal } from './terminal.ts'
import { loadViews } from './views.ts'

export const run: Command = {
  name: 'run',
  description: `Reads topics of Kafka as a member of a consumer group and folds them into every view that takes their events. Any number
of processes may run side by side: the group spreads the partitions, and each partition's lane has one owner, whatever
is killed, paused or restarted. A view's source names its topic; --topic gives it another one.

SIGTERM and Ctrl-C finish: what was read is written, the group is left, the process ends with 0.`,
  arguments: [],
  options: [
    { flags: '--kafka-brokers <list>', about: 'host:port of some brokers, by comma; TILEFOLD_KAFKA_BROKERS' },
    { flags: '--kafka-group <name>', about: 'consumer group (the namespace)' },
    { flags: '--topic <source=topic>', about: 'topic of a source that is not named like it', isList: true },
    {
      flags: '--keyed <topic>',
      about:
        "topic whose producers choose the partition by the views' entity (murmur2): readers look into one partition",
      isList: true,
    },
    { flags: '--metrics-port <number>', about: '/metrics, /livez and /readyz on this port; none unless told' },
    { flags: '--dead-letter-topic <topic>', about: 'topic for records that no view can take' },
    { flags: '--dead-letter-file <file>', about: 'file for records that no view can take' },
    { flags: '--max-dead-ratio <ratio>', about: 'share of unreadable records above which a partition stops (0.01)' },
    { flags: '--flush-interval <duration>', about: 'events are readable after this when little is going on (5ms)' },
    { flags: '--max-flush-interval <duration>', about: 'and at the latest after this (1s)' },
    { flags: '--memory-budget <bytes>', about: 'tiles that wait for a flush, over all partitions (256MiB)' },
    { flags: '--session-timeout <duration>', about: 'a member silent for so long loses its partitions (30s)' },
  ],
  examples: [
    ['tilefold run --kafka-brokers localhost:9092 --redis-url redis://localhost:6379', 'one of any number of workers'],
    ['tilefold run --kafka-brokers localhost:9092 --keyed payments', 'into the directory of this machine'],
  ],
  run: runStream,
}

async function runStream({ flags, settings, terminal, printer }: Call): Promise<number> {
  const stopped = new Promise<Signal>((resolve) => terminal.onSignal(resolve))
  const { namespace, plans } = await loadViews(settings)
  const topics = readTopics(flags.topic as readonly string[] | undefined, plans)
  const { store, where } = await openStore(settings, { readOnly: false, plans })
  try {
    const deadLetters = await openDeadLetters(settings, terminal.clock)
    const topicOf = (source: string) => topics.get(source) ?? source
    const names = [...new Set(plans.map((plan) => topicOf(plan.state.source)))]
    const sessionTimeout = flags.sessionTimeout as string | undefined
    const consumer = createKafkaConsumer({
      ...kafkaOptionsOf(settings),
      groupId: settings.text('kafka_group') ?? `tilefold-${namespace}`,
      topics: names,
      ...(sessionTimeout === undefined ? {} : { sessionTimeoutMs: readDuration(sessionTimeout, '--session-timeout') }),
    })
    const job = await StreamJob.create({
      plans,
      topics,
      keyed: new Set(flags.keyed as readonly string[] | undefined),
      consumer,
      store,
      namespace,
      decoder: createJsonDecoder,
      deadLetters,
      maxDeadRatio: settings.ratio('max_dead_ratio'),
      flushMinMs: settings.durationMs('flush_interval'),
      flushMaxMs: settings.durationMs('max_flush_interval'),
      memoryBytes: settings.bytes('memory_budget'),
      idleMs: settings.durationMs('idle_timeout'),
      clock: terminal.clock,
      report: (report) => tell(report, printer),
    })
    await job.start()
    printer.note(`reading ${names.join(', ')} into ${where}`)
    try {
      await Promise.race([stopped, consumer.ended])
    } finally {
      await job.stop()
      await deadLetters?.close()
    }
    return EXIT_OK
  } finally {
    await store.close()
  }
}

/** `payments=prod.payments`, by source. Throws USAGE. */
function readTopics(texts: readonly string[] = [], plans: readonly Plan[]): Map<string, string> {
  const sources = [...new Set(plans.map((plan) => plan.state.source))]
  return new Map(
    texts.map((text): [string, string] => {
      const at = text.indexOf('=')
      const source = text.slice(0, at)
      if (at > 0 && sources.includes(source)) return [source, text.slice(at + 1)]
      throw settingError(
        '--topic',
        `got ${JSON.stringify(text)}, expected <source>=<topic> with a source among ${sources.join(', ')}`,
      )
    }),
  )
}

async function openDeadLetters(settings: Settings, clock: () => number): Promise<DeadLetters | undefined> {
  const file = settings.text('dead_letter_file')
  return file === undefined ? undefined : createDeadLetterFile(file, clock)
}

function tell({ level, event, log, message, code }: StreamReport, printer: Call['printer']): void {
  const text = `${log}: ${event}${code === undefined ? '' : ` (${code})`}: ${message}`
  if (level === 'info') printer.note(text)
  else printer.warn(text)
}
