/** `tilefold doctor`: is everything around us such that the promises hold? */
import { findUncut } from '../registry/generations.ts'
import { type FoundRoute, findRoutes, routerGroup } from '../registry/routes.ts'
import { inspectKafka, type TopicReport } from '../source/kafka-inspect.ts'
import { type Call, type Command, EXIT_FAILURE, EXIT_OK } from './command.ts'
import { kafkaOptionsOf } from './kafka-settings.ts'
import { openStore, redisOptionsOf } from './stores.ts'
import { renderTable } from './table.ts'
import { groupOf, readTopics, TOPIC_OPTIONS, topicsOf } from './topics.ts'
import { UNCUT } from './uncut.ts'
import { loadViews } from './views.ts'

export const doctor: Command = {
  name: 'doctor',
  description: `Looks at Kafka and Redis as the settings name them and says what does not fit: eviction, what a restart of Redis may lose,
clocks that differ, histories without a cut, topics that are missing, record times that producers may set, leaders elected unclean; and whether
the internal topics of routed views are as their routes need them. Warnings are things to know;
a failure is a promise that cannot be kept, and ends the command with 1.`,
  arguments: [],
  options: TOPIC_OPTIONS,
  examples: [
    ['tilefold doctor --kafka-brokers localhost:9092 --redis-url redis://localhost:6379', 'before the first run'],
  ],
  run,
}

interface Finding {
  readonly part: string
  readonly verdict: 'ok' | 'warning' | 'failure'
  readonly text: string
}

async function run(call: Call): Promise<number> {
  const { settings, printer } = call
  const findings = [host(), ...(await ofRedis(call)), ...(await ofKafka(call))]
  // A Redis that does not answer has been waited for once.
  if (!findings.some(({ part, verdict }) => part === 'redis' && verdict === 'failure'))
    findings.push(...(await ofHistory(call)), ...(await ofRoutes(call)))
  printer.result({
    data: { findings },
    table: () =>
      renderTable(
        [{ title: 'PART' }, { title: 'VERDICT' }, { title: 'FINDING' }],
        findings.map(({ part, verdict, text }) => [part, verdict, text]),
      ),
  })
  if (settings.text('redis_url') === undefined)
    printer.note('No Redis is named: the store is the directory of this machine.')
  return findings.some(({ verdict }) => verdict === 'failure') ? EXIT_FAILURE : EXIT_OK
}

function host(): Finding {
  return { part: 'host', verdict: 'ok', text: `Node ${process.versions.node}` }
}

async function ofRedis({ settings, terminal }: Call): Promise<Finding[]> {
  const urls = settings.list('redis_url')
  if (urls.length === 0) return []
  const { createRedisStore } = await import('../store/redis.ts')
  const store = createRedisStore({ ...redisOptionsOf(settings), allowEviction: true })
  try {
    const { version, role, evictionPolicy, persistence, cluster, clockMs } = await store.checkServer()
    const safe = evictionPolicy === 'noeviction'
    return [
      {
        part: 'redis',
        verdict: 'ok',
        text: `version ${version}, ${role}${cluster ? ', cluster' : ''}; scripts are allowed`,
      },
      {
        part: 'redis',
        verdict: safe ? 'ok' : 'failure',
        text: `maxmemory-policy ${evictionPolicy ?? 'is not told'}${safe ? '' : ', expected noeviction: rows may vanish without a word'}`,
      },
      { part: 'redis', verdict: persistence.aof ? 'ok' : 'warning', text: persistence.lossWindow },
      ...(clockMs === undefined ? [] : [ofClock(clockMs - terminal.clock())]),
    ]
  } catch (error) {
    return [{ part: 'redis', verdict: 'failure', text: (error as Error).message }]
  } finally {
    await store.close()
  }
}

/** Rows expire by the server's clock and the watermark stops at ours; a request's default as-of is that of its own machine. */
function ofClock(aheadMs: number): Finding {
  const seconds = Math.round(Math.abs(aheadMs) / 1000)
  if (seconds <= CLOCK_SECONDS_MAX) return { part: 'redis', verdict: 'ok', text: 'its clock and ours agree' }
  const text = `its clock is ${seconds} s ${aheadMs > 0 ? 'ahead of' : 'behind'} ours: rows expire by it, and live events are folded by ours; do both run NTP?`
  return { part: 'redis', verdict: 'warning', text }
}

const CLOCK_SECONDS_MAX = 5

async function ofKafka({ flags, settings }: Call): Promise<Finding[]> {
  if (settings.list('kafka_brokers').length === 0) return []
  try {
    const { namespace, plans } = await loadViews(settings)
    const topics = readTopics(flags, plans)
    const { brokers, topics: reports } = await inspectKafka(
      kafkaOptionsOf(settings),
      topicsOf(topics, plans),
      groupOf(settings, namespace),
    )
    return [{ part: 'kafka', verdict: 'ok', text: `${brokers} brokers` }, ...reports.flatMap((each) => ofTopic(each))]
  } catch (error) {
    return [{ part: 'kafka', verdict: 'failure', text: (error as Error).message }]
  }
}

/** Nothing to say where there are no definitions, or no rows yet: others say that. */
async function ofHistory({ settings }: Call): Promise<Finding[]> {
  try {
    const { namespace, plans } = await loadViews(settings)
    const { store } = await openStore(settings, { readOnly: true, plans })
    try {
      const views = await findUncut({ store, namespace }, plans)
      return views.map((view) => ({ part: `view ${view}`, verdict: 'warning', text: UNCUT }))
    } finally {
      await store.close()
    }
  } catch {
    return []
  }
}

/** Nothing to say where nothing is routed; what does not answer has been told. */
async function ofRoutes({ settings }: Call): Promise<Finding[]> {
  if (settings.list('kafka_brokers').length === 0) return []
  try {
    const { namespace, plans } = await loadViews(settings)
    const { store } = await openStore(settings, { readOnly: true, plans })
    const routes = await findRoutes({ store, namespace }, plans).finally(() => store.close())
    if (routes.length === 0) return []
    const kafka = kafkaOptionsOf(settings)
    const groupId = routerGroup(routes[0]!.route)
    const names = routes.map(({ route }) => route.topic)
    const { topics } = await inspectKafka(kafka, names, groupId)
    const internal = routes.flatMap((each, i) => ofInternalTopic(each, topics[i]!))
    // Not everybody may ask about it.
    const transactions = await inspectKafka(kafka, [TRANSACTIONS], groupId).catch(() => undefined)
    return [...internal, ...(transactions?.topics.flatMap(ofTransactions) ?? [])]
  } catch {
    return []
  }
}

/** Where brokers keep which transactions are under way, from the first one on. */
const TRANSACTIONS = '__transaction_state'

function ofInternalTopic({ view, generation, route }: FoundRoute, report: TopicReport): Finding[] {
  const { topic, partitions, config } = report
  const part = `topic ${topic}`
  const whose = `view ${view}, generation ${generation}`
  if (partitions === undefined) {
    const text = `there is no such topic, through which ${whose} is routed: tilefold route makes it, but what it held is gone where there was one`
    return [{ part, verdict: 'failure', text }]
  }
  const findings = ofTopic(report, true)
  if (partitions.length !== route.lanes) {
    const text = `${partitions.length} partitions, expected the ${route.lanes} lanes of ${whose}: readers look for an entity where the route puts it`
    findings.push({ part, verdict: 'failure', text })
  }
  if (config['cleanup.policy']?.includes('compact')) {
    findings.push({ part, verdict: 'failure', text: 'compacted: its records have no keys, and each of them is needed' })
  }
  return findings
}

function ofTransactions({ topic, partitions, replicas, config }: TopicReport): Finding[] {
  const part = `topic ${topic}`
  if (partitions === undefined) return []
  if (replicas < 2)
    return [{ part, verdict: 'warning', text: 'one replica: with its disk routers lose their transactions' }]
  const text = 'min.insync.replicas is 1: the end of a transaction that one broker alone knows is lost with it'
  return Number(config['min.insync.replicas']) < 2 ? [{ part, verdict: 'warning', text }] : []
}

/** `isInternal`: a router writes it, whose record times nobody goes by. */
function ofTopic({ topic, partitions, config, replicas }: TopicReport, isInternal = false): Finding[] {
  const part = `topic ${topic}`
  if (partitions === undefined) return [{ part, verdict: 'failure', text: 'there is no such topic' }]
  const findings: Finding[] = [
    {
      part,
      verdict: 'ok',
      text: `${partitions.length} partitions, ${replicas} replicas, kept ${config['retention.ms']} ms`,
    },
  ]
  if (config['unclean.leader.election.enable'] === 'true') {
    findings.push({
      part,
      verdict: 'failure',
      text: 'unclean leader election is on: acknowledged records may be lost and offsets used again',
    })
  }
  if (replicas > 1 && Number(config['min.insync.replicas']) < 2) {
    findings.push({
      part,
      verdict: 'warning',
      text: 'min.insync.replicas is 1: a record that one broker alone has is acknowledged, and lost with it',
    })
  }
  if (replicas < 2) findings.push({ part, verdict: 'warning', text: 'one replica: a lost disk loses records' })
  if (isInternal) return findings
  const isOwnTime = config['message.timestamp.type'] === 'CreateTime'
  const bound = Number(config['message.timestamp.after.max.ms'])
  if (isOwnTime && !(bound < 1e15)) {
    findings.push({
      part,
      verdict: 'warning',
      text: 'producers may set any record time, and max_future compares with it: use LogAppendTime, or message.timestamp.after.max.ms',
    })
  }
  if (config['cleanup.policy']?.includes('compact')) {
    findings.push({
      part,
      verdict: 'warning',
      text: 'compacted: older records of a key vanish, so a rebuild counts fewer events than the first run',
    })
  }
  return findings
}
