/**
 * Claim: Kafka to Redis costs little more than the bare clients.
 *
 * A real Apache Kafka (one broker) and a real Redis, started here on loopback as the tests start them. Each part is a file:
 * how fast a topic is drained, what our own code takes of it, how fresh rows are, what readers feel of ingest, and how long a
 * killed worker is missed.
 */
import { createRedisStore } from '../src/store/redis.ts'
import { type KafkaCluster, startKafka, whyNoKafka } from '../test/support/kafka.ts'
import { anyRedis, freshNamespace, whyNoRedis } from '../test/support/redis.ts'
import type { Claim } from './claim.ts'
import { timeDrain } from './stream-drain.ts'
import { timeEngine } from './stream-engine.ts'
import { DAY_MS, EventMaker, PARTITIONS, PER_SECOND, produceAll } from './stream-events.ts'
import { timeFreshness } from './stream-freshness.ts'
import { timeReaders } from './stream-readers.ts'
import { timeRestart } from './stream-restart.ts'
import { type Servers, TOPIC_SETTINGS } from './stream-servers.ts'

/** A round takes seconds. */
const ROUNDS_MAX = 5

export const stream: Claim = {
  name: 'stream',
  about: 'Kafka to Redis against the bare clients',
  async run(settings) {
    const missing = whyNoKafka() ?? whyNoRedis()
    if (missing !== undefined) {
      settings.note(`\nstream: skipped, ${missing}`)
      return
    }
    const [kafka, redis] = await Promise.all([startKafka(), anyRedis()])
    const store = createRedisStore({ urls: redis.url })
    try {
      const rounds = Math.min(settings.turns.all, ROUNDS_MAX)
      const servers: Servers = { kafka, redisUrl: redis.url, store, settings, rounds }
      const events = settings.short ? 20_000 : 600_000
      const maker = new EventMaker(settings.short ? 1_000 : 10_000, settings.seed)
      // First, while the heap is small: what else lives there is the collector's work and would count as the engine's.
      await timeEngine(servers, maker, events / 2)
      const producer = kafka.client.producer()
      await producer.connect()
      // A backlog as it comes when a worker was away for some minutes, and a day of events for rows of many tiles.
      const backlog = await kafka.createTopic('backlog', PARTITIONS, TOPIC_SETTINGS)
      await produceAll(producer, backlog, maker.makeAll(events, (events / PER_SECOND) * 1000, Date.now()))
      const day = await kafka.createTopic('day', PARTITIONS, TOPIC_SETTINGS)
      await produceAll(producer, day, maker.makeAll(events, DAY_MS, Date.now()))
      await producer.disconnect()
      await wakeCoordinator(kafka, backlog)
      await timeDrain(servers, backlog, maker, events)
      await timeFreshness(servers, maker)
      await timeReaders(servers, day, maker, events)
      await timeRestart(servers)
    } finally {
      await store.close()
      await Promise.all([kafka.stop(), redis.stop()])
    }
  },
}

/** The first group of a new broker has its coordinator made and loaded; how long that takes is nobody's claim. */
export async function wakeCoordinator({ client }: KafkaCluster, topic: string): Promise<void> {
  const consumer = client.consumer({ groupId: freshNamespace() })
  const joined = new Promise((resolve) => consumer.on('consumer.group_join', resolve))
  await consumer.connect()
  await consumer.subscribe({ topics: [topic] })
  await consumer.run({ autoCommit: false, eachBatch: async () => {} })
  await joined
  await consumer.disconnect()
}
