/** `tilefold lag`: how far every partition of every view is behind its topic. */
import type { Plan } from '../model/plan.ts'
import {
  type GenerationLayout,
  generationOf,
  liveLane,
  logOfPartition,
  startOf,
  type ViewLayout,
} from '../model/view-layout.ts'
import { namedGeneration } from '../registry/layouts.ts'
import { inspectKafka, type KafkaReport, type TopicReport } from '../source/kafka-inspect.ts'
import type { Store } from '../store/port.ts'
import { groupOfGeneration } from '../stream/groups.ts'
import { type Call, type Command, EXIT_FAILURE, EXIT_OK } from './command.ts'
import { readGeneration } from './generation-number.ts'
import { kafkaOptionsOf } from './kafka-settings.ts'
import { openStore } from './stores.ts'
import { formatCount, renderTable } from './table.ts'
import { groupOf, readTopics, TOPIC_OPTIONS, topicsOf } from './topics.ts'
import { loadViews } from './views.ts'

export const lag: Command = {
  name: 'lag',
  description: `Shows, for each partition of each view's topic, the log's end, the position up to which rows are stored (the lane's marker,
which alone decides where a worker goes on), and the records between: of the generation that readers see, or of --generation.
Ends with 1 where a topic is missing.`,
  arguments: [],
  options: [
    ...TOPIC_OPTIONS,
    { flags: '--generation <n>', about: 'of this generation; the one that readers see unless told' },
  ],
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
  const number = readGeneration(flags.generation as string | undefined)
  const kafka = kafkaOptionsOf(settings)
  const { store } = await openStore(settings, { readOnly: true, plans })
  try {
    const asked = new Map<string, KafkaReport>()
    const missing = new Set<string>()
    const lines: Line[] = []
    for (const plan of plans) {
      const generation = await generationOfView(store, namespace, plan, number)
      const groupId = groupOfGeneration(groupOf(settings, namespace), plan.stateHash, generation?.generation ?? 1)
      const report = asked.get(groupId) ?? (await inspectKafka(kafka, topicsOf(topics, plans), groupId))
      asked.set(groupId, report)
      for (const { topic, partitions } of report.topics) if (partitions === undefined) missing.add(topic)
      const topic = report.topics.find((each) => each.topic === (topics.get(plan.state.source) ?? plan.state.source))!
      lines.push(...(await linesOf(store, namespace, plan, topic, generation)))
    }
    for (const topic of missing) printer.warn(`there is no topic ${topic}`)
    printer.result({
      data: { partitions: lines.map((line) => ({ ...line, lag: lagOf(line) })), missing: [...missing] },
      table: () => tableOf(lines),
    })
    return missing.size === 0 ? EXIT_OK : EXIT_FAILURE
  } finally {
    await store.close()
  }
}

/** Undefined where the view has none yet. Throws LAYOUT_MISSING. */
async function generationOfView(
  store: Store,
  namespace: string,
  plan: Plan,
  number: number | undefined,
): Promise<GenerationLayout | undefined> {
  const text = await store.readLayout(namespace, plan.view)
  const layout = text === undefined ? undefined : (JSON.parse(text) as ViewLayout)
  if (number !== undefined && layout) return namedGeneration(layout, plan, number)
  return layout?.current && generationOf(layout, layout.current.stateHash, layout.current.generation)
}

async function linesOf(
  store: Store,
  namespace: string,
  plan: Plan,
  { topic, partitions = [] }: TopicReport,
  of: GenerationLayout | undefined,
): Promise<Line[]> {
  const lines: Line[] = []
  for (const { partition, first, next, committed } of partitions) {
    const log = logOfPartition(topic, partition)
    const name = of && { namespace, stateHash: of.stateHash, generation: of.generation, lane: liveLane(log, 0) }
    const record = name && (await store.readLane(name))
    // What lies before its start is no lag of it.
    const applied = record && record.marker >= 0 ? record.marker : ((of && startOf(of, log)) ?? 0) - 1
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
