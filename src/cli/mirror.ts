/** `tilefold mirror`: topics of Kafka into Parquet files, until it is told to stop. */
import type { Plan } from '../model/plan.ts'
import { type Endpoint, startEndpoint } from '../observe/endpoint.ts'
import { createLog } from '../observe/log.ts'
import { LOG_FORMATS, LOG_LEVELS, type Log } from '../observe/log-port.ts'
import { createWorkerMetrics } from '../observe/metrics.ts'
import type { Exposition } from '../observe/port.ts'
import { MIRROR_LIMITS, Mirror, type MirrorReport } from '../offline/mirror.ts'
import type { MirrorLimits } from '../offline/mirror-run.ts'
import { Access } from '../serve/access.ts'
import { createKafkaConsumer } from '../source/kafka-consumer.ts'
import { COMPRESSIONS, type Compression, type ParquetStyle } from '../source/parquet-writer.ts'
import { type Call, type Command, EXIT_OK, type Flags } from './command.ts'
import { kafkaOptionsOf } from './kafka-settings.ts'
import { readBytes, readDuration, readWhole, type Settings, settingError } from './settings.ts'
import type { Signal } from './terminal.ts'
import { groupOf, readTopics, TOPIC_OPTIONS, topicsOf } from './topics.ts'
import { packageVersion } from './version.ts'
import { loadViews } from './views.ts'

const PROFILES = ['full', 'plain'] as const

export const mirror: Command = {
  name: 'mirror',
  description: `Writes the topics of the views to Parquet as they come, each record in exactly one file, whatever is killed, paused or
started twice: training sets, backfills and corrections read them there when Kafka has forgotten them. Any number of
processes may run side by side, as a consumer group of their own (the workers' name with -mirror behind it).

  <dir>/events/<topic>/ds=2026-11-23/hour=09/<topic>+<partition>+<first offset>+<last offset>.parquet

A file holds the columns that the views read, and for each record its topic, partition, offset, record time and key. A
record that cannot be decoded keeps its bytes and the reason. Files are complete from the moment they have their name.

SIGTERM and Ctrl-C finish: what was read is written, the group is left, the process ends with 0.`,
  arguments: [],
  options: [
    ...TOPIC_OPTIONS,
    { flags: '--dir <dir>', about: 'directory of the mirror, on a file system with hard links (mirror)' },
    { flags: '--compression <codec>', about: 'zstd, snappy or none (zstd; snappy in the plain profile)' },
    {
      flags: '--profile <profile>',
      about: 'full, or plain: no annotations and dictionaries, for the oldest readers (full)',
    },
    { flags: '--values', about: 'keep the payload of every record, for columns that no view reads yet' },
    { flags: '--row-group-rows <number>', about: 'records in a row group, at most (262144)' },
    { flags: '--row-group-bytes <bytes>', about: 'bytes of its cells in memory, about (64MiB)' },
    { flags: '--file-rows <number>', about: 'records in a file, at most (8388608)' },
    { flags: '--file-bytes <bytes>', about: 'bytes of a file, about (512MiB)' },
    { flags: '--file-age <duration>', about: 'a file is complete so long after its first record came (10m)' },
    { flags: '--memory-budget <bytes>', about: 'row groups under way, over all partitions (256MiB)' },
    { flags: '--metrics-port <number>', about: '/metrics, /livez and /readyz on this port; none unless told' },
    { flags: '--session-timeout <duration>', about: 'a member silent for so long loses its partitions (30s)' },
  ],
  examples: [
    ['tilefold mirror --kafka-brokers localhost:9092 --dir /data/mirror', 'one of any number of mirrors'],
    ['tilefold mirror --kafka-brokers localhost:9092 --file-age 1m --values', 'small files soon, with payloads'],
  ],
  run,
}

async function run({ flags, settings, terminal }: Call): Promise<number> {
  const stopped = new Promise<Signal>((resolve) => terminal.onSignal(resolve))
  const log = createLog({
    level: settings.choice('log_level', LOG_LEVELS),
    format: settings.choice('log_format', LOG_FORMATS),
    stream: terminal.stderr,
  })
  const style = readStyle(flags)
  const limits = readLimits(flags)
  const { namespace, plans } = await loadViews(settings)
  const topics = readTopics(flags, plans)
  const names = topicsOf(topics, plans)
  const dir = (flags.dir as string | undefined) ?? 'mirror'
  const metrics = createWorkerMetrics({ version: packageVersion(), clock: terminal.clock })
  let endpoint: Endpoint | undefined
  try {
    const sessionTimeout = flags.sessionTimeout as string | undefined
    const consumer = createKafkaConsumer({
      // What the client finds worth a line is mostly detail to us.
      ...kafkaOptionsOf(settings, ({ level, message, facts }) => {
        log[level === 'info' ? 'debug' : level](message, facts)
      }),
      groupId: `${groupOf(settings, namespace)}-mirror`,
      topics: names,
      ...(sessionTimeout === undefined ? {} : { sessionTimeoutMs: readDuration(sessionTimeout, '--session-timeout') }),
    })
    const job = new Mirror({
      dir,
      plans,
      topics,
      consumer,
      style,
      limits,
      keepsValues: flags.values === true,
      memoryBytes: settings.bytes('memory_budget'),
      engine: packageVersion(),
      clock: terminal.clock,
      metrics,
      report: (report) => tell(report, log),
    })
    endpoint = await openEndpoint(settings, metrics, job)
    if (endpoint) log.info(`metrics on ${endpoint.url}/metrics`)
    await job.start()
    log.info(`mirroring ${names.join(', ')} into ${dir}`, { views: viewsOf(plans) })
    try {
      const signal = await Promise.race([stopped, consumer.ended])
      log.info(`stopping on ${signal}: what was read is being written`)
    } finally {
      await job.stop()
    }
    log.info('stopped')
    return EXIT_OK
  } finally {
    await endpoint?.close()
    log.flush()
  }
}

function viewsOf(plans: readonly Plan[]): string[] {
  return plans.map(({ view }) => view)
}

/** Throws USAGE. */
function readStyle(flags: Flags): ParquetStyle {
  const profile = readWord(flags.profile, '--profile', PROFILES) ?? 'full'
  const compression: Compression | undefined = readWord(flags.compression, '--compression', COMPRESSIONS)
  return { isPlain: profile === 'plain', compression: compression ?? (profile === 'plain' ? 'snappy' : 'zstd') }
}

function readLimits(flags: Flags): MirrorLimits {
  const read = <T>(flag: keyof Flags, from: string, how: (text: string, from: string) => T, otherwise: T): T => {
    const text = flags[flag] as string | undefined
    return text === undefined ? otherwise : how(text, from)
  }
  const rows = (text: string, from: string) => readWhole(text, from, 1, 2 ** 30)
  const { rowGroupRows, rowGroupBytes, fileRows, fileBytes, fileAgeMs } = MIRROR_LIMITS
  return {
    rowGroupRows: read('rowGroupRows', '--row-group-rows', rows, rowGroupRows),
    // The encoder holds a row group some four times, in 32 bits of addresses.
    rowGroupBytes: Math.min(2 ** 28, read('rowGroupBytes', '--row-group-bytes', readBytes, rowGroupBytes)),
    fileRows: read('fileRows', '--file-rows', rows, fileRows),
    fileBytes: read('fileBytes', '--file-bytes', readBytes, fileBytes),
    fileAgeMs: Math.min(2 ** 31 - 1, read('fileAge', '--file-age', readDuration, fileAgeMs)),
  }
}

function readWord<Word extends string>(value: Flags[string], from: string, words: readonly Word[]): Word | undefined {
  if (value === undefined || words.includes(value as Word)) return value as Word | undefined
  throw settingError(from, `got ${JSON.stringify(value)}, expected one of ${words.join(', ')}`)
}

/** Ready means: no partition waits for a person. */
async function openEndpoint(settings: Settings, exposition: Exposition, job: Mirror): Promise<Endpoint | undefined> {
  const port = settings.whole('metrics_port')
  if (port === undefined) return undefined
  const host = settings.text('host')!
  const unready = () => {
    const [first] = job.stopped
    return first && `log ${first[0]} is stopped: ${first[1].code}`
  }
  return startEndpoint({ host, port, exposition, access: new Access(host, settings.text('token')), unready })
}

function tell({ level, event, log: name, message, code, file }: MirrorReport, log: Log): void {
  const facts = file === undefined ? {} : { file: file.file, rows: file.facts.rows, bytes: file.bytes }
  log[level](`${name} ${event}: ${message}`, { log: name, event, ...(code === undefined ? {} : { code }), ...facts })
}
