/** A Redis that is told to evict while a worker runs is noticed, once, and so is its return to reason. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { StoreWatch } from '../../src/cli/store-watch.ts'
import type { Log } from '../../src/observe/log-port.ts'
import { createRedisStore } from '../../src/store/redis.ts'
import { isForeignRedis, type RedisServer, startRedis, until, whyNoRedis } from '../support/redis.ts'

const missing = whyNoRedis() ?? (isForeignRedis ? 'a Redis of our own' : undefined)

describe.skipIf(missing !== undefined)('the watch over a store', () => {
  let redis: RedisServer
  beforeAll(async () => {
    redis = await startRedis()
  }, 60_000)
  afterAll(async () => {
    await redis?.stop()
  })

  it('tells when rows may vanish, and when they may not any more', async () => {
    const store = createRedisStore({ urls: redis.url })
    const said: string[] = []
    let looks = 0
    const note = (message: string) => void said.push(message)
    const log = { error: note, info: note } as unknown as Log
    const check = async () => {
      looks++
      await store.checkServer()
    }
    const watch = new StoreWatch(check, log, 10)
    try {
      await until(() => looks > 2)
      expect([watch.unfit, said]).toEqual([undefined, []])
      await redis.client.config('SET', 'maxmemory-policy', 'allkeys-lru')
      await until(() => watch.unfit?.code === 'STORE_UNSAFE')
      const seen = looks
      await until(() => looks > seen + 3)
      expect(said).toEqual([expect.stringContaining('allkeys-lru')])
      await redis.client.config('SET', 'maxmemory-policy', 'noeviction')
      await until(() => watch.unfit === undefined)
      expect(said).toHaveLength(2)
    } finally {
      watch.stop()
      await store.close()
    }
  }, 60_000)

  it('leaves a store that does not answer to those who write to it', async () => {
    let looks = 0
    const watch = new StoreWatch(
      async () => {
        looks++
        throw new Error('no answer')
      },
      {} as Log,
      5,
    )
    await until(() => looks > 3)
    watch.stop()
    expect(watch.unfit).toBeUndefined()
  })
})
