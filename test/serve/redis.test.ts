/** Requests over a real Redis: what is asked together is read once, and a server that stalls piles nothing up. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type FeatureServer, startServer } from '../../src/serve/server.ts'
import { createRedisStore, type RedisStore } from '../../src/store/redis.ts'
import { type RedisServer, startRedis, until, whyNoRedis } from '../support/redis.ts'
import { get, post } from './http.ts'
import { HOUR, liveLanes, NOON, openShop, type Payment, type Shop } from './shop.ts'

const USERS = 30
const PAYMENTS = Array.from(
  { length: 90 },
  (_, i): Payment => ({ at: NOON - HOUR + i, user: `user ${i % USERS}`, amount: i % USERS }),
)
const features = ['spend:amount_sum_1d']

function entitiesFrom(first: number, count: number): { user: string }[] {
  return Array.from({ length: count }, (_, i) => ({ user: `user ${(first + i) % USERS}` }))
}

describe.skipIf(whyNoRedis() !== undefined)('requests over Redis', () => {
  let redis: RedisServer
  let store: RedisStore
  let shop: Shop
  const servers: FeatureServer[] = []
  beforeAll(async () => {
    redis = await startRedis()
    // A stall is longer than the patience of a connection only where a test says so.
    store = createRedisStore({ urls: redis.url, silenceMs: 60_000 })
    shop = await openShop([], store)
    await shop.write(shop.spend, liveLanes(shop.spend, 'web', 1), PAYMENTS)
    await shop.reader.checkReady()
  })
  afterAll(async () => {
    for (const server of servers) await server.close()
    await store?.close()
    await redis?.stop()
  })

  /** What the server was asked since: commands, and keys it found. */
  const watch = async () => {
    await redis.client.config('RESETSTAT')
    return async () => {
      const [commands, stats] = [await redis.client.info('commandstats'), await redis.client.info('stats')]
      return {
        mgets: Number(/cmdstat_mget:calls=(\d+)/.exec(commands)?.[1] ?? 0),
        found: Number(/keyspace_hits:(\d+)/.exec(stats)![1]),
      }
    }
  }

  it('that come together are one read, of each row once', async () => {
    const reader = shop.newReader({ mergersMax: 64 })
    await reader.getFeatures({ features, entities: entitiesFrom(0, 1) })
    const asked = await watch()
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, i) => reader.getFeatures({ features, entities: entitiesFrom(i, 10), asOf: NOON })),
    )
    for (const [i, { rows, metadata }] of answers.entries()) {
      expect(metadata.partial).toBe(false)
      expect(rows.map(({ values }) => values[0])).toEqual(Array.from({ length: 10 }, (_, j) => 3 * ((i + j) % USERS)))
    }
    // The first goes by itself, the others find it under way.
    expect(await asked()).toEqual({ mgets: 2, found: 10 + USERS })
  })

  it('that come one after the other read what has been written since', async () => {
    const ask = { features, entities: entitiesFrom(7, 1), asOf: NOON }
    const reader = shop.newReader()
    await reader.getFeatures(ask)
    const early = reader.getFeatures(ask)
    // Its read is sent by now, and may be answered with either.
    await new Promise(setImmediate)
    await new Promise(setImmediate)
    const more = PAYMENTS.map((payment) => ({ ...payment, amount: payment.amount! + 1 }))
    await shop.write(shop.spend, liveLanes(shop.spend, 'web', 1), more)
    expect((await reader.getFeatures(ask)).rows[0].values).toEqual([3 * 8])
    expect([3 * 7, 3 * 8]).toContain((await early).rows[0].values[0])
    await shop.write(shop.spend, liveLanes(shop.spend, 'web', 1), PAYMENTS)
  })

  it('of many batches are answered in full, and explained', async () => {
    const asked = await watch()
    const entities = Array.from({ length: 300 }, (_, i) => ({ user: `user ${i % (2 * USERS)}` }))
    const answer = await shop.reader.getFeatures({ features, entities, asOf: NOON, explain: true })
    for (const [i, { values, explain }] of answer.rows.entries()) {
      const user = i % (2 * USERS)
      expect(values).toEqual([user < USERS ? 3 * user : null])
      expect(explain![0].rows).toHaveLength(user < USERS ? 1 : 0)
    }
    expect(await asked()).toEqual({ mgets: 3, found: 150 })
  })

  it('behind a server that stalls wait or are told at once, and go on when it does', async () => {
    const reader = shop.newReader({ mergersMax: 64 })
    const ask = () => reader.getFeatures({ features, entities: entitiesFrom(0, 2), asOf: NOON }, { deadlineMs: 50_000 })
    await ask()
    const whole = await ask()
    redis.pause()
    try {
      let answered = 0
      const waiting: Promise<unknown>[] = []
      // Each is in a turn of its own: together they would be one read.
      for (let i = 0; i < 4; i++) {
        waiting.push(ask().finally(() => answered++))
        await sleep(10)
      }
      await sleep(600)
      for (let i = 0; i < 20; i++) await expect(ask()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
      expect(answered).toBe(0)
      redis.resume()
      for (const answer of await Promise.all(waiting)) expect(answer).toEqual(whole)
      expect(await ask()).toEqual(whole)
    } finally {
      redis.resume()
    }
  })

  it('are shed before they pile up, and served as soon as Redis answers again', async () => {
    const inFlightMax = 8
    const limits = { inFlightMax, deadlineMs: 300 }
    const server = await startServer({ reader: shop.reader, port: 0, limits })
    servers.push(server)
    const ask = () => post(`${server.url}/v1/features`, { features, entities: entitiesFrom(0, 20), as_of: NOON })
    expect((await ask()).status).toBe(200)
    const asked = await watch()
    const statuses = new Map<number, number>()
    redis.pause()
    try {
      for (let wave = 0; wave < 4; wave++) {
        for (const { status, json } of await Promise.all(Array.from({ length: 40 }, ask))) {
          statuses.set(status, (statuses.get(status) ?? 0) + 1)
          if (status !== 200) expect(['OVERLOADED', 'DEADLINE', 'STORE_UNAVAILABLE']).toContain(json.error.code)
        }
        expect((await get(`${server.url}/livez`)).status).toBe(200)
      }
    } finally {
      redis.resume()
    }
    expect([...statuses.keys()].filter((status) => ![429, 503, 504].includes(status))).toEqual([])
    expect(statuses.get(429)).toBeGreaterThan(0)
    expect(statuses.get(504)).toBeGreaterThan(0)
    await until(async () => (await ask()).status === 200)
    // Some hundred requests were there, and at most those under way reached the server.
    const { mgets } = await asked()
    const total = [...statuses.values()].reduce((sum, count) => sum + count, 0)
    expect(mgets).toBeLessThan(total / 2)
    expect((await Promise.all(Array.from({ length: inFlightMax }, ask))).map(({ status }) => status)).toEqual(
      Array.from({ length: inFlightMax }, () => 200),
    )
  })
})
