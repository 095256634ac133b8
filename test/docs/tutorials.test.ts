/** Each tutorial as it is written, against a real Kafka and a real Redis. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type KafkaCluster, startKafka, whyNoKafka } from '../support/kafka.ts'
import { freshNamespace, type RedisServer, startRedis, whyNoRedis } from '../support/redis.ts'
import { runBlocks, shellBlocks } from './blocks.ts'

const docs = resolve(import.meta.dirname, '../../docs')

describe.skipIf((whyNoKafka() ?? whyNoRedis()) !== undefined)('a tutorial', { timeout: 600_000 }, () => {
  let kafka: KafkaCluster
  let redis: RedisServer

  beforeAll(async () => {
    ;[kafka, redis] = await Promise.all([startKafka(), startRedis({ appendonly: 'yes' })])
  })
  afterAll(async () => {
    await Promise.all([kafka?.stop(), redis?.stop()])
  })

  it.each(['correct-a-bad-day.md', 'training-tables.md'])('does what it says: %s', async (page) => {
    const blocks = shellBlocks(readFileSync(join(docs, page), 'utf8'))
    expect(blocks.length).toBeGreaterThan(0)
    expect(blocks.flatMap(({ shows }) => shows).length).toBeGreaterThan(0)
    await runBlocks(blocks, {
      TILEFOLD_KAFKA_BROKERS: kafka.brokers.join(','),
      TILEFOLD_REDIS_URL: redis.url,
      TILEFOLD_NAMESPACE: freshNamespace(),
    })
  })
})
