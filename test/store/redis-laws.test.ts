/** The whole walk over Redis: every law of the walk, with crashes at any call, as over the other stores. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadCore } from '../../src/engine/module.ts'
import { createRedisStore, type RedisStore } from '../../src/store/redis.ts'
import { eachSeed, patience } from '../fuzz/effort.ts'
import { ingestSubjects } from '../laws/ingest-subject.ts'
import { checkLaws } from '../laws/laws.ts'
import { seededRandom } from '../support/random.ts'
import { anyRedis, freshNamespace, isForeignRedis, whyNoRedis } from '../support/redis.ts'
import { inNamespace } from '../support/redis-namespace.ts'

const FILE = 'test/store/redis-laws.test.ts'

describe.skipIf(!isForeignRedis && whyNoRedis() !== undefined)('the walk over Redis', () => {
  let redis: Awaited<ReturnType<typeof anyRedis>>
  let store: RedisStore
  beforeAll(async () => {
    redis = await anyRedis()
    store = createRedisStore({ urls: redis.url })
  })
  afterAll(async () => {
    await store?.close()
    await redis?.stop()
  })

  it(
    'obeys every law',
    async () => {
      const core = loadCore()
      let compared = 0
      await eachSeed(FILE, 3_000_000, 3, async (seed) => {
        const random = seededRandom(seed ^ 0x5eed)
        // Small writes, so that a flush has many calls to die in. The store is shared: no subject may close it.
        const makeStore = () => ({
          ...inNamespace(store, freshNamespace()),
          writeBytesMax: random.pick([200, 4_096]),
          close: async () => {},
        })
        const report = await checkLaws(ingestSubjects({ core, store: makeStore, random }), seed, { count: 40 })
        compared += report.rowsCompared
      })
      expect(compared).toBeGreaterThan(0)
    },
    patience(20_000),
  )
})
