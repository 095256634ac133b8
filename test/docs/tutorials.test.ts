/** Each tutorial as it is written, against a real Kafka and a real Redis. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type KafkaCluster, startKafka, whyNoKafka } from '../support/kafka.ts'
import { freshNamespace, type RedisServer, startRedis, whyNoRedis } from '../support/redis.ts'
import { type Printed, runBlocks, shellBlocks } from './blocks.ts'

const docs = resolve(import.meta.dirname, '../../docs')

describe.skipIf((whyNoKafka() ?? whyNoRedis()) !== undefined)('the tutorial', { timeout: 300_000 }, () => {
  let kafka: KafkaCluster
  let redis: RedisServer

  beforeAll(async () => {
    ;[kafka, redis] = await Promise.all([startKafka(), startRedis({ appendonly: 'yes' })])
  })
  afterAll(async () => {
    await Promise.all([kafka?.stop(), redis?.stop()])
  })

  async function run(name: string): Promise<Printed[]> {
    const blocks = shellBlocks(readFileSync(join(docs, name), 'utf8'))
    expect(blocks.length).toBeGreaterThan(0)
    return runBlocks(blocks, {
      TILEFOLD_KAFKA_BROKERS: kafka.brokers.join(','),
      TILEFOLD_REDIS_URL: redis.url,
      TILEFOLD_NAMESPACE: freshNamespace(),
    })
  }

  it('correct-a-bad-day.md does what it says', async () => {
    const printed = await run('correct-a-bad-day.md')
    if (process.env.TILEFOLD_DOCS_PRINT) for (const { output } of printed) console.log(output)
  })
})
