/** What the tests of one file play in: a Kafka for all of them; pipelines and Redis servers for one, closed behind it, the last one first. */
import { afterAll, afterEach, beforeAll } from 'vitest'
import { type KafkaCluster, startKafka } from '../support/kafka.ts'
import { type RedisCluster, type RedisServer, startCluster, startRedis } from '../support/redis.ts'
import { Pipeline } from './pipeline.ts'

export interface PipelineScene {
  /** Into Redis, or with no address into a directory. */
  pipelineOf(...redisUrls: string[]): Pipeline
  redisOf(settings?: Readonly<Record<string, string>>): Promise<RedisServer>
  redisCluster(): Promise<RedisCluster>
  onEnd(close: () => Promise<unknown>): void
}

/** To be called where tests are described. */
export function pipelineScene(): PipelineScene {
  let kafka: KafkaCluster | undefined
  const open: (() => Promise<unknown>)[] = []
  const ended = <Opened>(opened: Opened, close: () => Promise<unknown>): Opened => {
    open.push(close)
    return opened
  }

  beforeAll(async () => {
    kafka = await startKafka()
  }, 120_000)

  afterEach(async () => {
    for (const close of open.splice(0).reverse()) await close()
  }, 60_000)

  afterAll(async () => {
    await kafka?.stop()
  }, 60_000)

  return {
    pipelineOf(...redisUrls) {
      const pipeline = new Pipeline(kafka!, redisUrls)
      return ended(pipeline, () => pipeline.close())
    },
    async redisOf(settings) {
      const redis = await startRedis(settings)
      return ended(redis, () => redis.stop())
    },
    async redisCluster() {
      const cluster = await startCluster()
      return ended(cluster, () => cluster.stop())
    },
    onEnd: (close) => void open.push(close),
  }
}
