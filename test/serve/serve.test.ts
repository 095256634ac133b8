import { describe, expect, it } from 'vitest'
import { type CoreExports, loadCore } from '../../src/engine/module.ts'
import { encodeKey, type KeyPart } from '../../src/model/key.ts'
import type { Plan } from '../../src/model/plan.ts'
import { floorTo } from '../../src/model/time.ts'
import type { FeatureAnswer } from '../../src/serve/respond.ts'
import { naiveAccept, naiveFeatures } from '../oracle/naive.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { layoutOf } from './plans.ts'
import {
  eventOf,
  HOUR,
  historyLanes,
  lanesOf,
  liveLanes,
  MINUTE,
  NAMESPACE,
  NOON,
  openShop,
  PAYMENTS,
  type Payment,
  type Shop,
} from './shop.ts'

const ann = { user: 'ann', shop: 1 }
const DAY = 24 * HOUR

function valuesOf(answer: FeatureAnswer, row = 0): Record<string, unknown> {
  return Object.fromEntries(answer.metadata.features.map(({ name }, i) => [name, answer.rows[row].values[i]]))
}

function statusesOf(answer: FeatureAnswer, row = 0): string[] {
  return [...new Set(answer.rows[row].statuses)]
}

describe('an answer', () => {
  it('has exact values of every type, and none of the event being scored', async () => {
    const { reader } = await openShop()
    const answer = await reader.getFeatures({ view: 'spend', entities: [ann], asOf: NOON })
    expect(valuesOf(answer)).toEqual({
      count_1h: 2,
      count_1d: 3,
      amount_sum_1h: 0.75,
      amount_sum_1d: 64.75,
      amount_mean_1h: 0.375,
      points_sum_1d: 2n ** 53n + 1n,
      price_sum_1d: '10.20',
      note_last_1d: 'é "quoted"\n',
    })
    expect(statusesOf(answer)).toEqual(['ok'])
    const after = await reader.getFeatures({
      view: 'spend',
      features: ['count_1h', 'note_last_1d'],
      entities: [ann],
      asOf: NOON + 1,
    })
    expect(valuesOf(after)).toEqual({ count_1h: 3, note_last_1d: 'being scored' })
  })

  it("is the oracle's, over history and live lanes, for many entities, views and instants at once", async () => {
    const random = seededRandom(20_260_301)
    const shop = await openShop([])
    const payments = drawPayments(random, 600)
    await spread(shop, payments)
    const applied = new Map<Plan, ReturnType<typeof naiveAccept>['applied']>()
    for (const plan of [shop.spend, shop.visits]) {
      const events = payments.map((payment, position) => eventOf(plan, payment, position))
      applied.set(plan, naiveAccept(events, plan.state, { notAfterMs: NOON }).applied)
    }
    let compared = 0
    for (let round = 0; round < 20; round++) {
      const entities = Array.from({ length: 10 }, () => ({
        user: `user ${random.below(14)}`,
        shop: BigInt(random.below(4)),
      }))
      const asOfs = entities.map(
        () => NOON + random.pick([-MINUTE, 0, 1, 7 * MINUTE, HOUR, DAY]) + random.between(0, 5000),
      )
      const answer = await shop.reader.getFeatures({ features: ['visits', 'spend'], entities, asOfs })
      for (const [i, { user, shop: place }] of entities.entries()) {
        const expected = [
          ...naiveFeatures(applied.get(shop.visits)!, shop.visits, keyOf(shop.visits, { user, shop: place }), asOfs[i]),
          ...naiveFeatures(applied.get(shop.spend)!, shop.spend, keyOf(shop.spend, { user, shop: place }), asOfs[i]),
        ]
        const got = answer.metadata.features.map(({ name }, column) => ({
          name,
          value: answer.rows[i].values[column],
          status: answer.rows[i].statuses[column],
        }))
        expect(got, `seed ${random.seed}, round ${round}, ${user} at ${asOfs[i]}`).toEqual(expected)
        compared += got.length
      }
    }
    expect(compared).toBe(20 * 10 * 10)
  })

  it('takes one trip to the store, whatever is asked', async () => {
    const shop = await openShop([])
    await spread(shop, drawPayments(seededRandom(2), 50))
    await shop.reader.getFeatures({ view: 'spend', entities: [ann] })
    const before = shop.store.trips.length
    const entities = Array.from({ length: 100 }, (_, i) => ({ user: `user ${i}`, shop: i }))
    await shop.reader.getFeatures({ features: ['spend', 'visits'], entities })
    expect(shop.store.trips.length).toBe(before + 1)
    // One history lane and one shard of each of two logs, for both views.
    expect(shop.store.trips[before].length).toBe(100 * 2 * 3)
  })

  it('is as of the clock where nothing is said, and floored to whole milliseconds', async () => {
    const shop = await openShop()
    shop.nowMs = NOON + 0.9
    const answer = await shop.reader.getFeatures({ view: 'spend', features: ['count_1h'], entities: [ann] })
    expect(answer.metadata.asOfMs).toBe(NOON)
    expect(answer.rows[0].values).toEqual([2])
  })

  it('explains itself', async () => {
    const shop = await openShop([])
    await spread(shop, PAYMENTS)
    const features = ['spend:count_1h', 'visits']
    const answer = await shop.reader.getFeatures({
      features,
      entities: [ann, { user: 'nobody', shop: 0 }],
      asOf: NOON,
      explain: true,
    })
    const rows = shop.store.trips.at(-1)!
    expect(answer.explain).toMatchObject({ trips: 1 })
    const [spend, visits] = answer.rows[0].explain!
    expect(spend.rows.length + spend.lanesWithout.length).toBe(3)
    expect([...spend.rows.map((row) => row.lane), ...spend.lanesWithout].sort()).toEqual(
      rows
        .slice(0, 3)
        .map((read) => read.lane.lane)
        .sort(),
    )
    for (const row of spend.rows) expect(row).toMatchObject({ applied: expect.any(Number), bytes: expect.any(Number) })
    expect(answer.explain!.rowsRead).toBe(spend.rows.length + visits.rows.length)
    expect(answer.explain!.bytesRead).toBe([...spend.rows, ...visits.rows].reduce((sum, row) => sum + row.bytes, 0))
    expect(spend.windows).toEqual([{ window: '1h', startMs: NOON - HOUR, endMs: NOON }])
    expect(spend.freshnessMs).toBe(NOON - spend.completeThroughMs!)
    expect(spend.tilesRead + spend.rawEventsRead).toBeGreaterThan(0)
    const [unknown] = answer.rows[1].explain!
    expect(unknown).toMatchObject({ view: 'spend', rows: [], tilesRead: 0, rawEventsRead: 0 })
    expect(unknown.lanesWithout.length).toBe(3)
    expect(unknown.completeThroughMs).toBeUndefined()
    for (const ms of Object.values(answer.explain!.timings)) expect(ms).toBeGreaterThanOrEqual(0)
  })
})

describe('a status', () => {
  it('tells an unknown entity from an empty window, with counts of 0 and defaults in both', async () => {
    const { reader } = await openShop()
    const asOf = NOON + 2 * HOUR
    const features = ['count_1h', 'amount_sum_1h', 'amount_mean_1h']
    const answer = await reader.getFeatures({ view: 'spend', features, entities: [ann, { user: 'nobody' }], asOf })
    expect(answer.rows).toEqual([
      { values: [0, null, -1], statuses: ['empty', 'empty', 'empty'] },
      { values: [0, null, -1], statuses: ['unknown_entity', 'unknown_entity', 'unknown_entity'] },
    ])
  })

  it('is stale when the data end more than ttl before as-of, and keeps the value', async () => {
    const shop = await openShop()
    const frontierMs = await frontierOf(shop)
    const reader = shop.newReader({ plans: [{ ...shop.spend, ttlMs: 5 * MINUTE }] })
    const ask = { view: 'spend', features: ['count_1d'], entities: [ann, { user: 'nobody' }] }
    const good = await reader.getFeatures({ ...ask, asOf: frontierMs + 5 * MINUTE })
    const stale = await reader.getFeatures({ ...ask, asOf: frontierMs + 5 * MINUTE + 1 })
    expect(good.rows[0]).toEqual({ values: [4], statuses: ['ok'] })
    expect(stale.rows[0]).toEqual({ values: [4], statuses: ['stale'] })
    // Where there is no row there is nothing to be stale.
    expect(stale.rows[1].statuses).toEqual(['unknown_entity'])
  })

  it('is incomplete for windows that start before the generation is complete, to the millisecond', async () => {
    const shop = await openShop()
    for (const [sinceMs, expected] of [
      [NOON - HOUR, ['ok', 'incomplete']],
      [NOON - HOUR + 1, ['incomplete', 'incomplete']],
      [NOON - DAY, ['ok', 'ok']],
    ] as const) {
      await shop.setLayout(
        shop.spend,
        layoutOf(shop.spend, { ...lanesOf({ logs: [{ name: 'web', shards: 1 }] }), completeSinceMs: sinceMs }),
      )
      const answer = await shop
        .newReader()
        .getFeatures({ view: 'spend', features: ['count_1h', 'count_1d'], entities: [ann], asOf: NOON })
      expect(answer.rows[0].statuses).toEqual(expected)
      expect(answer.metadata.versions[0].completeSinceMs).toBe(sinceMs)
    }
  })

  it('is incomplete where only the floor of the start reaches before that', async () => {
    const shop = await openShop()
    const layout = { ...lanesOf({ logs: [{ name: 'web', shards: 1 }] }), completeSinceMs: NOON - HOUR + 1 }
    await shop.setLayout(shop.spend, layoutOf(shop.spend, layout))
    const ask = { view: 'spend', features: ['count_1h'], entities: [ann] }
    expect((await shop.reader.getFeatures({ ...ask, asOf: NOON + 1 })).rows[0].statuses).toEqual(['incomplete'])
    expect((await shop.reader.getFeatures({ ...ask, asOf: NOON + 5 * MINUTE })).rows[0].statuses).toEqual(['ok'])
  })

  it('is incomplete where the row itself is complete for a shorter time', async () => {
    const shop = await openShop([])
    await shop.write(shop.spend, liveLanes(shop.spend, 'web', 1), PAYMENTS, { completeSinceMs: NOON - 2 * HOUR })
    const answer = await shop.reader.getFeatures({
      view: 'spend',
      features: ['count_1h', 'count_1d'],
      entities: [ann],
      asOf: NOON,
    })
    expect(answer.rows[0].statuses).toEqual(['ok', 'incomplete'])
  })

  it('is too_old before the oldest instant a row can answer, and says what to do', async () => {
    const { reader } = await openShop()
    const answer = await reader.getFeatures({
      features: ['spend:count_1h', 'visits:count_1d'],
      entities: [ann, { user: 'nobody', shop: 1 }],
      // On no tile's edge: raw events of that time are tiles by now.
      asOf: NOON - 10 * HOUR + 1,
    })
    expect(answer.rows[0].values).toEqual([null, null])
    expect(answer.rows[0].statuses).toEqual(['too_old', 'too_old'])
    expect(answer.rows[0].errors).toMatchObject([
      { view: 'spend', code: 'AS_OF_TOO_OLD', message: expect.stringContaining('training set') },
      { view: 'visits', code: 'AS_OF_TOO_OLD' },
    ])
    expect(answer.rows[1]).toEqual({ values: [0, 0], statuses: ['unknown_entity', 'unknown_entity'] })
  })

  it('is error for a damaged row alone: other entities and views are answered', async () => {
    const shop = await openShop()
    const answered = await shop.reader.getFeatures({
      features: ['spend:count_1h', 'visits:count_1d'],
      entities: [ann, { user: 'bob', shop: 2n ** 60n }],
      asOf: NOON,
    })
    await damage(shop, shop.spend, encodeKey(shop.spend.state.entity, ['ann']))
    const answer = await shop.reader.getFeatures({
      features: ['spend:count_1h', 'visits:count_1d'],
      entities: [ann, { user: 'bob', shop: 2n ** 60n }],
      asOf: NOON,
    })
    expect(answer.rows[0]).toEqual({
      values: [null, answered.rows[0].values[1]],
      statuses: ['error', 'ok'],
      errors: [{ view: 'spend', code: 'ROW_CORRUPT', message: expect.stringContaining('checksum') }],
    })
    expect(answer.rows[1]).toEqual(answered.rows[1])
  })
})

describe('a layout', () => {
  it('that is missing, points nowhere yet, or serves other state has its own error', async () => {
    const shop = await openShop()
    const ask = { view: 'spend', entities: [ann] }
    const layout = layoutOf(shop.spend, lanesOf({ logs: [{ name: 'web', shards: 1 }] }))
    await expect(shop.newReader({ namespace: 'other' }).getFeatures(ask)).rejects.toMatchObject({
      code: 'LAYOUT_MISSING',
    })
    await shop.setLayout(shop.spend, { ...layout, current: undefined })
    await expect(shop.newReader().getFeatures(ask)).rejects.toMatchObject({ code: 'VIEW_NOT_READY' })
    await shop.setLayout(shop.spend, layoutOf({ ...shop.spend, stateHash: 'f'.repeat(16) }))
    await expect(shop.newReader().getFeatures(ask)).rejects.toMatchObject({ code: 'DEFINITION_CHANGED' })
    await shop.store.inner.writeLayout(NAMESPACE, 'spend', await shop.store.inner.readLayout(NAMESPACE, 'spend'), '{')
    await expect(shop.newReader().getFeatures(ask)).rejects.toMatchObject({ code: 'STORE_FORMAT' })
    // Good again: no reader stays broken.
    await shop.setLayout(shop.spend, layout)
    await expect(shop.newReader().getFeatures(ask)).resolves.toBeDefined()
  })

  it('is read again after a moment, in the trip of the rows, and only then', async () => {
    const shop = await openShop()
    const ask = { features: ['spend', 'visits'], entities: [ann] }
    await shop.reader.getFeatures(ask)
    const { layoutReads } = shop.store
    shop.nowMs += 1000
    await shop.reader.getFeatures(ask)
    expect(shop.store.layoutReads).toBe(layoutReads)
    shop.nowMs += 1
    const trips = shop.store.trips.length
    await shop.reader.getFeatures(ask)
    expect(shop.store.layoutReads).toBe(layoutReads + 2)
    expect(shop.store.trips.length).toBe(trips + 1)
    // A clock that is set back must not stop the re-reading.
    shop.nowMs -= DAY
    await shop.reader.getFeatures(ask)
    expect(shop.store.layoutReads).toBe(layoutReads + 4)
  })

  it('that moves its pointer is followed by the request that finds out', async () => {
    const shop = await openShop()
    const ask = { view: 'spend', features: ['count_1d'], entities: [ann], asOf: NOON, explain: true }
    expect((await shop.reader.getFeatures(ask)).rows[0].values).toEqual([3])
    await shop.write(shop.spend, liveLanes(shop.spend, 'web', 1, 2), PAYMENTS.slice(0, 2))
    const second = layoutOf(shop.spend, { ...lanesOf({ logs: [{ name: 'web', shards: 1 }] }), generation: 2 }, 2)
    await shop.setLayout(shop.spend, second)
    expect((await shop.reader.getFeatures(ask)).metadata.versions[0].generation).toBe(1)
    shop.nowMs += 1001
    const answer = await shop.reader.getFeatures(ask)
    expect(answer.metadata.versions[0]).toMatchObject({ generation: 2, layoutVersion: 2 })
    expect(answer.rows[0].values).toEqual([2])
    expect(answer.explain!.trips).toBe(2)
  })

  it('that a row is ahead of is read again at once: no lane is missed', async () => {
    const shop = await openShop()
    const ask = { view: 'spend', features: ['count_1d'], entities: [ann], asOf: NOON }
    await shop.reader.getFeatures(ask)
    // A second log appears; its lanes hold two more payments of ann.
    const more = PAYMENTS.slice(1, 3).map((payment) => ({ ...payment, user: 'ann' }))
    await shop.setLayout(
      shop.spend,
      layoutOf(
        shop.spend,
        lanesOf({
          logs: [
            { name: 'web', shards: 1 },
            { name: 'app', shards: 3 },
          ],
        }),
        2,
      ),
    )
    await shop.write(shop.spend, liveLanes(shop.spend, 'app', 3), more, { layoutVersion: 2 })
    await shop.write(shop.spend, liveLanes(shop.spend, 'web', 1), PAYMENTS, { layoutVersion: 2 })
    const answer = await shop.reader.getFeatures(ask)
    expect(answer.rows[0]).toEqual({ values: [3 + 2], statuses: ['ok'] })
    expect(answer.metadata).toMatchObject({ partial: false, versions: [{ layoutVersion: 2 }] })
  })

  it('that stays behind its rows makes the answer partial, never silently short', async () => {
    const shop = await openShop()
    await shop.write(shop.spend, liveLanes(shop.spend, 'web', 1), PAYMENTS, { layoutVersion: 9 })
    const answer = await shop.reader.getFeatures({
      view: 'spend',
      features: ['count_1d'],
      entities: [ann, { user: 'nobody' }],
      asOf: NOON,
    })
    expect(answer.metadata.partial).toBe(true)
    expect(answer.rows).toEqual([
      { values: [3], statuses: ['incomplete'] },
      { values: [0], statuses: ['unknown_entity'] },
    ])
  })
})

describe('many requests at a time', () => {
  it('never mix their rows, however few mergers there are', async () => {
    const shop = await openShop([])
    const payments = Array.from(
      { length: 40 },
      (_, i): Payment => ({ at: NOON - HOUR + i, user: `user ${i % 20}`, amount: i % 20 }),
    )
    await shop.write(shop.spend, liveLanes(shop.spend, 'web', 1), payments)
    const reader = shop.newReader({ mergersMax: 2 })
    shop.store.hold()
    const asked = Array.from({ length: 50 }, async (_, i) => {
      const answer = await reader.getFeatures({
        view: 'spend',
        features: ['amount_sum_1d'],
        entities: [{ user: `user ${i % 20}` }],
        asOf: NOON,
      })
      return answer.rows[0].values[0]
    })
    // Two are on the wire, the others wait for a merger.
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(shop.store.trips.length).toBe(2)
    shop.store.letGo()
    expect(await Promise.all(asked)).toEqual(Array.from({ length: 50 }, (_, i) => 2 * (i % 20)))
  })

  it('that wait for a merger or the store end at their deadline, and leave nothing behind', async () => {
    const shop = await openShop()
    const reader = shop.newReader({ mergersMax: 1 })
    const ask = { view: 'spend', features: ['amount_sum_1d'], asOf: NOON }
    await reader.getFeatures({ ...ask, entities: [ann] })
    shop.store.hold()
    const late = [
      reader.getFeatures({ ...ask, entities: [ann] }, { deadlineMs: 20 }),
      reader.getFeatures({ ...ask, entities: [ann] }, { deadlineMs: 40 }),
    ]
    const patient = reader.getFeatures({ ...ask, entities: [{ user: 'bob' }] })
    for (const result of await Promise.allSettled(late)) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'DEADLINE' } })
    }
    // The rows of the late ones arrive now, while the patient one has the merger.
    shop.store.letGo()
    expect((await patient).rows[0].values).toEqual([3])
    expect((await reader.getFeatures({ ...ask, entities: [ann] })).rows[0].values).toEqual([64.75])
  })

  it('survive a core that stops: the next one gets a new one', async () => {
    const shop = await openShop()
    const core = loadCore()
    let broken = 0
    const failing = {
      module: core.module,
      instantiate(): CoreExports {
        const exports = core.instantiate()
        if (broken++ > 0) return exports
        const stop = (): never => {
          throw new Error('unreachable')
        }
        return { ...exports, merge: stop }
      },
    }
    const reader = shop.newReader({ core: failing, mergersMax: 1 })
    const ask = { view: 'spend', features: ['count_1d'], entities: [ann], asOf: NOON }
    const [first, second] = await Promise.allSettled([reader.getFeatures(ask), reader.getFeatures(ask)])
    expect(first).toMatchObject({ status: 'rejected', reason: { code: 'CORE_TRAP' } })
    expect(second).toMatchObject({ status: 'fulfilled', value: { rows: [{ values: [3] }] } })
  })

  it('fail with the store, coded, and go on with it', async () => {
    const shop = await openShop()
    const ask = { view: 'spend', features: ['count_1d'], entities: [ann], asOf: NOON }
    await shop.reader.getFeatures(ask)
    shop.store.fail(new Error('EIO'))
    await expect(shop.reader.getFeatures(ask)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    shop.store.fail(undefined)
    expect((await shop.reader.getFeatures(ask)).rows[0].values).toEqual([3])
  })
})

describe('readiness', () => {
  it('needs a layout of every view, and merges before the first request', async () => {
    const shop = await openShop()
    await expect(shop.newReader({ namespace: 'other' }).checkReady()).rejects.toMatchObject({ code: 'LAYOUT_MISSING' })
    let merges = 0
    const core = loadCore()
    const counting = {
      module: core.module,
      instantiate(): CoreExports {
        const exports = core.instantiate()
        const merge = (...call: Parameters<CoreExports['merge']>): void => {
          // Rows of real entities, not empty calls.
          if (call[3] > 0) merges++
          exports.merge(...call)
        }
        return { ...exports, merge }
      },
    }
    const reader = shop.newReader({ core: counting })
    await reader.checkReady()
    expect(merges).toBeGreaterThan(20)
    const warm = merges
    await reader.checkReady()
    expect(merges).toBe(warm)
  })

  it('comes without rows, too', async () => {
    const shop = await openShop([])
    await expect(shop.reader.checkReady()).resolves.toBeUndefined()
  })
})

function drawPayments(random: Random, count: number): Payment[] {
  const spanMs = 30 * HOUR
  return Array.from(
    { length: count },
    (_, i): Payment => ({
      at: floorTo(NOON - spanMs + (i * spanMs) / count, 1) + random.between(0, 100),
      user: `user ${random.below(12)}`,
      shop: BigInt(random.below(3)),
      amount: random.chance(0.1) ? null : random.between(-1000, 1000) / 7,
      points: random.chance(0.1) ? null : BigInt(random.between(-5, 5)) * 2n ** 58n,
      cents: BigInt(random.between(-99_999, 99_999)),
      note: random.chance(0.3) ? null : `note ${i}`,
    }),
  )
}

/** The payments over four history lanes, three shards of one log and one of another; nothing twice. */
async function spread(shop: Shop, payments: readonly Payment[]): Promise<void> {
  const logs = [
    { name: 'clicks', shards: 3 },
    { name: 'desk', shards: 1 },
  ]
  const cut = Math.floor(payments.length / 2)
  const live = payments.slice(cut)
  for (const plan of [shop.spend, shop.visits]) {
    await shop.setLayout(plan, layoutOf(plan, lanesOf({ history: 4, logs }), 2))
    await shop.write(plan, historyLanes(plan, 4), payments.slice(0, cut), { layoutVersion: 2 })
    await shop.write(
      plan,
      liveLanes(plan, 'clicks', 3),
      live.filter((_, i) => i % 3 > 0),
      { layoutVersion: 2 },
    )
    await shop.write(
      plan,
      liveLanes(plan, 'desk', 1),
      live.filter((_, i) => i % 3 === 0),
      { layoutVersion: 2 },
    )
  }
}

function keyOf(plan: Plan, entity: { user: string; shop: bigint }): KeyPart[] {
  return plan.state.entity.map((part) => entity[part.name as keyof typeof entity])
}

async function frontierOf(shop: Shop): Promise<number> {
  const answer = await shop.reader.getFeatures({ view: 'spend', entities: [ann], explain: true })
  return answer.rows[0].explain![0].completeThroughMs!
}

/** Flips one bit in the middle of a stored row. */
async function damage(shop: Shop, plan: Plan, key: Uint8Array): Promise<void> {
  const [lane] = liveLanes(plan, 'web', 1)
  const record = await shop.store.takeLane(lane, 'damage')
  for await (const row of shop.store.scanRows(lane)) {
    if (Buffer.compare(row.key, key) !== 0) continue
    const bytes = row.bytes.slice()
    bytes[bytes.length >> 1] ^= 1
    await shop.store.write(lane, record.token, record.sequence, {
      rows: [{ key: key.slice(), bytes }],
      flushingTo: record.flushingTo,
    })
    return
  }
  throw new Error('no such row')
}
