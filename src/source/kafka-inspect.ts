/** What a cluster says about itself and its topics: for reports, not for the walk. */
import { type Admin, KafkaClient, type KafkaOptions, logUnavailable, tryForAWhile } from './kafka.ts'

export interface PartitionEnds {
  readonly partition: number
  readonly first: number
  readonly next: number
  /** What the group last committed; absent where it never did. */
  readonly committed?: number
  /** What it said with that. */
  readonly metadata?: string
}

export interface TopicReport {
  readonly topic: string
  /** undefined: there is no such topic. */
  readonly partitions: readonly PartitionEnds[] | undefined
  /** As the brokers resolve them. */
  readonly config: Readonly<Record<string, string>>
  readonly replicas: number
}

export interface KafkaReport {
  readonly brokers: number
  readonly topics: readonly TopicReport[]
}

/** The compiled configuration of a topic. */
const TOPIC_RESOURCE = 2
const CONFIGS = [
  'cleanup.policy',
  'message.timestamp.type',
  'message.timestamp.after.max.ms',
  'min.insync.replicas',
  'retention.ms',
  'unclean.leader.election.enable',
]

/** Throws LOG_UNAVAILABLE. */
export async function inspectKafka(
  options: KafkaOptions,
  topics: readonly string[],
  groupId: string,
): Promise<KafkaReport> {
  const client = new KafkaClient(options)
  const admin = client.admin()
  try {
    await admin.connect()
    const { brokers } = await admin.describeCluster()
    const existing = new Set(await admin.listTopics())
    const reports: TopicReport[] = []
    for (const topic of topics) {
      reports.push(
        existing.has(topic)
          ? await tryForAWhile(() => inspectTopic(admin, topic, groupId))
          : { topic, partitions: undefined, config: {}, replicas: 0 },
      )
    }
    return { brokers: brokers.length, topics: reports }
  } catch (error) {
    throw logUnavailable('inspect Kafka', options, error)
  } finally {
    await admin.disconnect().catch(() => {})
    client.end()
  }
}

async function inspectTopic(admin: Admin, topic: string, groupId: string): Promise<TopicReport> {
  const [ends, [committed], { topics }, { resources }] = await Promise.all([
    admin.fetchTopicOffsets(topic),
    admin.fetchOffsets({ groupId, topics: [topic] }),
    admin.fetchTopicMetadata({ topics: [topic] }),
    admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: TOPIC_RESOURCE, name: topic, configNames: CONFIGS }],
    }),
  ])
  const commits = new Map(committed?.partitions.map((each) => [each.partition, each]))
  const partitions = ends.map(({ partition, low, high }): PartitionEnds => {
    const { offset = -1, metadata } = commits.get(partition) ?? {}
    const commit = Number(offset) < 0 ? {} : { committed: Number(offset), ...(metadata && { metadata }) }
    return { partition, first: Number(low), next: Number(high), ...commit }
  })
  const entries = resources[0]?.configEntries ?? []
  return {
    topic,
    partitions: partitions.sort((a, b) => a.partition - b.partition),
    config: Object.fromEntries(entries.map(({ configName, configValue }) => [configName, configValue])),
    replicas: Math.min(...topics[0]!.partitions.map(({ replicas }) => replicas.length)),
  }
}
