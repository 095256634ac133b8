import { describe, expect, it } from 'vitest'
import { encodeKey } from '../../src/model/key.ts'
import type { Plan } from '../../src/model/plan.ts'
import { ann, DAY } from './payments.ts'
import { layoutOf } from './plans.ts'
import { HOUR, lanesOf, liveLanes, MINUTE, NOON, openShop, PAYMENTS, type Shop } from './shop.ts'

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
