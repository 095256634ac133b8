/** `tilefold lag`: how far every partition of every view is behind its topic. */
import type { Plan } from '../model/plan.ts'
import { liveLane, logOfPartition, type ViewLayout } from '../model/view-layout.ts'
import { inspectKafka, type TopicReport } from '../source/kafka-inspect.ts'
import type { Store } from '../store/port.ts'
import { type Call, type Command, EXIT_FAILURE, EXIT_OK } from './command.ts'
import { kafkaOptionsOf } from './kafka-settings.ts'
import { openStore } from './stores.ts'
import { formatCount, renderTable } from './table.ts'
import { groupOf, readTopics, TOPIC_OPTIONS, topicsOf } from './topics.ts'
import { loadViews } from './views.ts'

export const lag: Command = {
  name: 'lag',
  description: `Shows, for each partition of each view's topic, the log's end, the position up to which rows are stored (the lane's marker,
which alone decides where a worker goes on), and the records between. Ends with 1 where a topic is missing.`,
  arguments: [],
  options: TOPIC_OPTIONS,
  examples: [
    ['tilefold lag --kafka-brokers localhost:9092 --redis-url redis://localhost:6379 -o json', 'for a script'],
  ],
  run,
}

interface Line {
  readonly view: string
  readonly topic: string
  readonly partition: number
  readonly first: number
  readonly next: number
  /** Everything up to here is in rows; -1 before anything is. */
  readonly applied: number
  readonly committed?: number
}

async function run({ flags, settings, printer }: Call): Promise<number> {
  const { namespace, plans } = await loadViews(settings)
  const topics = readTopics(flags, plans)
  const kafka = await inspectKafka(kafkaOptionsOf(settings), topicsOf(topics, plans), groupOf(settings, namespace))
  const { store } = await openStore(settings, { readOnly: true, plans })
  try {
    const lines: Line[] = []
    for (const plan of plans) {
      const topic = kafka.topics.find((each) => each.topic === (topics.get(plan.state.source) ?? plan.state.source))!
      lines.push(...(await linesOf(store, namespace, plan, topic)))
    }
    const missing = kafka.topics.filter(({ partitions }) => partitions === undefined).map(({ topic }) => topic)
    for (const topic of missing) printer.warn(`there is no topic ${topic}`)
    printer.result({
      data: { partitions: lines.map((line) => ({ ...line, lag: lagOf(line) })), missing },
      table: () => tableOf(lines),
    })
    return missing.length === 0 ? EXIT_OK : EXIT_FAILURE
  } finally {
    await store.close()
  }
}

async function linesOf(
  store: Store,
  namespace: string,
  plan: Plan,
  { topic, partitions = [] }: TopicReport,
): Promise<Line[]> {
  const text = await store.readLayout(namespace, plan.view)
  const current = text === undefined ? undefined : (JSON.parse(text) as ViewLayout).current
  const lines: Line[] = []
  for (const { partition, first, next, committed } of partitions) {
    const lane = liveLane(logOfPartition(topic, partition), 0)
    const record = current && (await store.readLane({ namespace, ...current, lane }))
    const applied = record?.marker ?? -1
    lines.push({
      view: plan.view,
      topic,
      partition,
      first,
      next,
      applied,
      ...(committed === undefined ? {} : { committed }),
    })
  }
  return lines
}

/** Holes count: how many of the offsets hold a record only reading tells. */
function lagOf({ first, next, applied }: Line): number {
  return Math.max(0, next - Math.max(applied + 1, first))
}

function tableOf(lines: readonly Line[]): string {
  const columns = [
    { title: 'VIEW' },
    { title: 'TOPIC' },
    ...['PARTITION', 'LOG START', 'LOG END', 'APPLIED', 'LAG'].map((title) => ({ title, align: 'right' as const })),
  ]
  const rows = lines.map((line) => [
    line.view,
    line.topic,
    `${line.partition}`,
    formatCount(line.first),
    formatCount(line.next),
    line.applied < 0 ? '-' : formatCount(line.applied),
    formatCount(lagOf(line)),
  ])
  return renderTable(columns, rows)
}
