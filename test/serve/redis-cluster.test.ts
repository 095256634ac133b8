/** Requests over a Cluster of which one master does not answer. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { laneHash } from '../../src/model/key.ts'
import type { FeatureAnswer } from '../../src/serve/respond.ts'
import type { LaneName } from '../../src/store/port.ts'
import { createRedisStore, type RedisStore } from '../../src/store/redis.ts'
import { redisLaneKeys } from '../../src/store/redis-key.ts'
import { type RedisCluster, startCluster, until, whyNoRedis } from '../support/redis.ts'
import { layoutOf } from './plans.ts'
import { HOUR, historyLanes, lanesOf, liveLanes, NOON, openShop, type Payment, type Shop } from './shop.ts'

const USERS = 60
const SHARDS = 12
const PAYMENTS = Array.from(
  { length: 4 * USERS },
  (_, i): Payment => ({ at: NOON - HOUR + i, user: `user ${i % USERS}`, amount: i % USERS }),
)

describe.skipIf(whyNoRedis() !== undefined)('a master that is silent', () => {
  let cluster: RedisCluster
  let store: RedisStore
  let shop: Shop
  let history: LaneName[]
  /** Of each history lane. */
  let masters: number[]
  /** Of each user: those that hold rows. */
  let mastersOf: number[][]
  beforeAll(async () => {
    cluster = await startCluster()
    store = createRedisStore({ urls: cluster.urls, mode: 'cluster', silenceMs: 60_000, deadlineMs: 20_000 })
    shop = await openShop([], store)
    history = historyLanes(shop.spend, SHARDS)
    const live = liveLanes(shop.spend, 'web', SHARDS)
    const layout = lanesOf({ history: SHARDS, logs: [{ name: 'web', shards: SHARDS }] })
    await shop.setLayout(shop.spend, layoutOf(shop.spend, layout, 2))
    await shop.write(shop.spend, history, PAYMENTS.slice(0, 2 * USERS), { layoutVersion: 2 })
    await shop.write(shop.spend, live, PAYMENTS.slice(2 * USERS), { layoutVersion: 2 })
    const masterOf = async (lane: LaneName) => {
      const slot = (await cluster.nodes[0].client.cluster('KEYSLOT', redisLaneKeys(lane).record.toString())) as number
      return [0, 1, 2].findLast((i) => slot >= Math.ceil((16384 * i) / 3))!
    }
    const both = await Promise.all([history, live].map((lanes) => Promise.all(lanes.map(masterOf))))
    masters = both[0]
    mastersOf = Array.from({ length: USERS }, (_, i) => {
      const lane = laneHash(Buffer.from(`user ${i}`)) % SHARDS
      return both.map((each) => each[lane])
    })
  })
  afterAll(async () => {
    for (const node of cluster?.nodes ?? []) node.resume()
    await store?.close()
    await cluster?.stop()
  })

  it('leaves those unavailable who have a row there, history or live, and no other', async () => {
    const entities = Array.from({ length: USERS }, (_, i) => ({ user: `user ${i}` }))
    const ask = (deadlineMs: number): Promise<FeatureAnswer> =>
      shop.reader.getFeatures({ features: ['spend:amount_sum_1d'], entities, asOf: NOON }, { deadlineMs })
    const whole = await ask(20_000)
    expect(whole.rows.map(({ values }) => values[0])).toEqual(entities.map((_, i) => 4 * i))
    const silent = 1
    // Its replica, too: nobody takes over.
    cluster.nodes[silent + 3].pause()
    cluster.nodes[silent].pause()
    const answer = await ask(700)
    let lost = 0
    for (const [i, row] of answer.rows.entries()) {
      if (!mastersOf[i].includes(silent)) expect(row, `user ${i}`).toEqual(whole.rows[i])
      else {
        lost++
        expect(row, `user ${i}`).toMatchObject({
          values: [null],
          statuses: ['unavailable'],
          errors: [{ view: 'spend', code: 'DEADLINE' }],
        })
      }
    }
    expect(lost).toBeGreaterThan(0)
    expect(lost).toBeLessThan(USERS)
    expect(answer.metadata.partial).toBe(true)
    // The store by itself gives up at the deadline it is told, read by read.
    const reads = history.map((lane) => ({ lane, key: Buffer.from('user 0') }))
    const seen = reads.map(() => 'nothing')
    const onMissing = (index: number) => {
      seen[index] = 'missing'
    }
    await store.readRows(reads, (index) => (seen[index] = 'answered'), { deadlineMs: 300, onMissing })
    expect(seen).toEqual(masters.map((master) => (master === silent ? 'missing' : 'answered')))
    const all = store.readRows(reads, () => {}, { deadlineMs: 300 })
    await expect(all).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    cluster.nodes[silent].resume()
    cluster.nodes[silent + 3].resume()
    await until(async () => !(await ask(2_000)).metadata.partial)
    expect(await ask(20_000)).toEqual(whole)
  })
})
