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
import { readRoutedLane, routedLanes, routerGroup } from '../registry/routes.ts'
import { inspectKafka, type KafkaReport, type TopicReport } from '../source/kafka-inspect.ts'
import type { Store } from '../store/port.ts'
import { groupOfGeneration } from '../stream/groups.ts'
import { readTold } from '../stream/route-lanes.ts'
import { type Call, type Command, EXIT_FAILURE, EXIT_OK } from './command.ts'
import { readGeneration } from './generation-number.ts'
import { kafkaOptionsOf } from './kafka-settings.ts'
import { openStore } from './stores.ts'
import { formatCount, renderTable } from './table.ts'
import { groupOf, readTopics, TOPIC_OPTIONS } from './topics.ts'
import { loadViews } from './views.ts'

export const lag: Command = {
  name: 'lag',
  description: `Shows, for each partition of each view's topic, the log's end, the position up to which rows are stored (the lane's marker,
which alone decides where a worker goes on), and the records between: of the generation that readers see, or of --generation.
A view whose topic is routed has two stages: "route", from the topic up to what the router has committed, and "fold", from the internal
topic into rows. Ends with 1 where a topic is missing.`,
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

/** Records on their way into a view: by a worker, or first by a router. */
interface Stage {
  readonly plan: Plan
  readonly generation: GenerationLayout | undefined
  readonly stage: 'route' | 'fold'
  readonly topic: string
  readonly groupId: string
  /** Of an internal topic, the one that is routed into it. */
  readonly from?: { readonly topic: string; readonly groupId: string }
}

interface Line {
  readonly view: string
  readonly stage: Stage['stage']
  readonly topic: string
  readonly partition: number
  readonly first: number
  readonly next: number
  /** Everything up to here is in rows; -1 before anything is. */
  readonly applied: number
  readonly committed?: number
  /** Holes count: how many of the offsets hold a record only reading tells. */
  readonly lag: number
}

async function run({ flags, settings, printer }: Call): Promise<number> {
  const { namespace, plans } = await loadViews(settings)
  const topics = readTopics(flags, plans)
  const number = readGeneration(flags.generation as string | undefined)
  const kafka = kafkaOptionsOf(settings)
  const { store } = await openStore(settings, { readOnly: true, plans })
  try {
    const stages: Stage[] = []
    for (const plan of plans) {
      const generation = await generationOfView(store, namespace, plan, number)
      const groupId = groupOfGeneration(groupOf(settings, namespace), plan.stateHash, generation?.generation ?? 1)
      const source = topics.get(plan.state.source) ?? plan.state.source
      stages.push(...stagesOf(plan, generation, source, groupId))
    }
    const asked = new Map<string, KafkaReport>()
    for (const groupId of new Set(stages.map((each) => each.groupId))) {
      const own = new Set(stages.filter((each) => each.groupId === groupId).map(({ topic }) => topic))
      asked.set(groupId, await inspectKafka(kafka, [...own], groupId))
    }
    const missing = new Set<string>()
    const lines: Line[] = []
    for (const stage of stages) {
      const reportOf = ({ groupId, topic }: Pick<Stage, 'groupId' | 'topic'>) =>
        asked.get(groupId)!.topics.find((each) => each.topic === topic)!
      const report = reportOf(stage)
      if (report.partitions === undefined) missing.add(stage.topic)
      lines.push(...(await linesOf(store, namespace, stage, report, stage.from && reportOf(stage.from))))
    }
    for (const topic of missing) printer.warn(`there is no topic ${topic}`)
    printer.result({
      data: { partitions: lines, missing: [...missing] },
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

function stagesOf(plan: Plan, generation: GenerationLayout | undefined, source: string, groupId: string): Stage[] {
  const route = generation?.route
  const common = { plan, generation }
  if (route === undefined) return [{ ...common, stage: 'fold', topic: source, groupId }]
  const from = { topic: route.source, groupId: routerGroup(route) }
  return [
    { ...common, stage: 'route', ...from },
    { ...common, stage: 'fold', topic: route.topic, groupId, from },
  ]
}

async function linesOf(
  store: Store,
  namespace: string,
  { plan, generation: of, stage, topic }: Stage,
  { partitions = [] }: TopicReport,
  from?: TopicReport,
): Promise<Line[]> {
  const lines: Line[] = []
  for (const { partition, first, next, committed } of partitions) {
    const log = logOfPartition(topic, partition)
    const name = of && { namespace, stateHash: of.stateHash, generation: of.generation, lane: liveLane(log, 0) }
    // For a router what its group has committed is the authority.
    const reached = stage === 'route' ? (committed ?? 0) - 1 : ((name && (await store.readLane(name)))?.marker ?? -1)
    // What lies before its start is no lag of it.
    const applied = reached >= 0 ? reached : ((of && startOf(of, log)) ?? 0) - 1
    const isDone = of !== undefined && from !== undefined && (await hasAll({ store, namespace }, of, partition, from))
    lines.push({
      view: plan.view,
      stage,
      topic,
      partition,
      first,
      next,
      applied,
      ...(committed === undefined ? {} : { committed }),
      lag: isDone ? 0 : Math.max(0, next - Math.max(applied + 1, first)),
    })
  }
  return lines
}

/**
 * The internal topic ends with the ends of transactions, and nobody reads those. So its lane is done when it has what the routers say they told
 * it; until a checkpoint notes that, some seconds later, those ends are counted.
 */
async function hasAll(
  seat: { readonly store: Store; readonly namespace: string },
  generation: GenerationLayout,
  lane: number,
  { topic, partitions = [] }: TopicReport,
): Promise<boolean> {
  const { sources } = await readRoutedLane(seat, generation, routedLanes(generation)[lane] ?? '')
  return partitions.every(({ partition, committed, metadata = '' }) => {
    if (committed === undefined) return true
    const told = readTold(metadata, committed)?.[lane]
    return told !== undefined && told - 1 <= (sources.get(logOfPartition(topic, partition)) ?? -1)
  })
}

function tableOf(lines: readonly Line[]): string {
  const columns = [
    ...['VIEW', 'STAGE', 'TOPIC'].map((title) => ({ title })),
    ...['PARTITION', 'LOG START', 'LOG END', 'APPLIED', 'LAG'].map((title) => ({ title, align: 'right' as const })),
  ]
  const rows = lines.map((line) => [
    line.view,
    line.stage,
    line.topic,
    `${line.partition}`,
    formatCount(line.first),
    formatCount(line.next),
    line.applied < 0 ? '-' : formatCount(line.applied),
    formatCount(line.lag),
  ])
  return renderTable(columns, rows)
}
