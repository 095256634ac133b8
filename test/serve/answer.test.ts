import { describe, expect, it } from 'vitest'
import type { KeyPart } from '../../src/model/key.ts'
import type { Plan } from '../../src/model/plan.ts'
import type { FeatureAnswer } from '../../src/serve/respond.ts'
import { naiveAccept, naiveFeatures } from '../oracle/naive.ts'
import { seededRandom } from '../support/random.ts'
import { ann, DAY, drawPayments, spread } from './payments.ts'
import { eventOf, HOUR, MINUTE, NOON, openShop, PAYMENTS } from './shop.ts'

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

function keyOf(plan: Plan, entity: { user: string; shop: bigint }): KeyPart[] {
  return plan.state.entity.map((part) => entity[part.name as keyof typeof entity])
}
