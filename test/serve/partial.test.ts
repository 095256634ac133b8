/** Answers from a store of which a part is late, or refuses: the rest is answered, and nothing looks whole that is not. */
import { describe, expect, it } from 'vitest'
import { TilefoldError } from '../../src/model/errors.ts'
import { laneHash } from '../../src/model/key.ts'
import { answerJson } from '../../src/serve/answer-json.ts'
import { ann } from './payments.ts'
import { layoutOf } from './plans.ts'
import { historyLanes, lanesOf, liveLanes, NOON, openShop, PAYMENTS, type Shop } from './shop.ts'

const bob = { user: 'bob', shop: 2n ** 60n }
const refused = new TilefoldError('STORE_UNAVAILABLE', 'cannot read rows in Redis 10.0.0.7:6379: OOM')
const features = ['spend:count_1d', 'spend:amount_sum_1d']
const shortly = { deadlineMs: 60 }

/** `spend` in five live lanes; ann and bob are in different ones. */
async function openSharded(): Promise<{ shop: Shop; laneOf: (user: string) => ReturnType<typeof liveLanes>[number] }> {
  const shop = await openShop([])
  const lanes = liveLanes(shop.spend, 'web', 5)
  await shop.setLayout(shop.spend, layoutOf(shop.spend, lanesOf({ logs: [{ name: 'web', shards: 5 }] }), 2))
  await shop.write(shop.spend, lanes, PAYMENTS, { layoutVersion: 2 })
  const laneOf = (user: string) => lanes[laneHash(Buffer.from(user)) % 5]
  expect(laneOf('ann')).not.toBe(laneOf('bob'))
  // Layouts are known from here on.
  await shop.reader.getFeatures({ features, entities: [ann] })
  return { shop, laneOf }
}

describe('a lane', () => {
  it('that is late at the deadline makes its entities unavailable, and no other', async () => {
    const { shop, laneOf } = await openSharded()
    const ask = { features, entities: [ann, bob, { user: 'nobody' }], asOf: NOON }
    const whole = await shop.reader.getFeatures(ask)
    expect(whole.metadata.partial).toBe(false)
    shop.store.lose(laneOf('bob'))
    const answer = await shop.reader.getFeatures(ask, shortly)
    expect(answer.metadata.partial).toBe(true)
    expect(answer.rows[0]).toEqual(whole.rows[0])
    expect(answer.rows[1]).toEqual({
      values: [null, null],
      statuses: ['unavailable', 'unavailable'],
      errors: [{ view: 'spend', code: 'DEADLINE', message: expect.stringContaining('did not answer') }],
    })
    shop.store.letGo()
    expect(await shop.reader.getFeatures(ask, shortly)).toEqual(whole)
  })

  it('that refuses does so at once, and its servers are not named', async () => {
    const { shop, laneOf } = await openSharded()
    shop.store.lose(laneOf('ann'), refused)
    // Without a deadline: nobody waits for what was refused.
    const answer = await shop.reader.getFeatures({ features, entities: [ann, bob], asOf: NOON })
    expect(answer.rows[0]).toMatchObject({ statuses: ['unavailable', 'unavailable'] })
    expect(answer.rows[1]).toEqual({ values: [1, 3], statuses: ['ok', 'ok'] })
    const text = answerJson(answer)
    expect(JSON.parse(text)).toMatchObject({
      metadata: { partial: true },
      rows: [{ values: [null, null], errors: [{ view: 'spend', code: 'STORE_UNAVAILABLE' }] }, { values: [1, 3] }],
    })
    expect(text).not.toContain('10.0.0.7')
  })

  it.each([
    ['the history', 'spend', 0],
    ['the live lane', 'spend', 1],
  ])('of several that hold an entity makes all of it unavailable in that view: %s', async (_what, _view, which) => {
    const shop = await openShop([])
    const lanes = [historyLanes(shop.spend, 1)[0], liveLanes(shop.spend, 'web', 1)[0]]
    const layout = lanesOf({ history: 1, logs: [{ name: 'web', shards: 1 }] })
    await shop.setLayout(shop.spend, layoutOf(shop.spend, layout, 2))
    await shop.write(shop.spend, [lanes[0]], PAYMENTS.slice(0, 2), { layoutVersion: 2 })
    await shop.write(shop.spend, [lanes[1]], PAYMENTS.slice(2), { layoutVersion: 2 })
    await shop.write(shop.visits, liveLanes(shop.visits, 'web', 1), PAYMENTS)
    const ask = { features: ['spend:count_1d', 'visits:count_1d'], entities: [ann], asOf: NOON }
    expect((await shop.reader.getFeatures(ask)).rows[0]).toEqual({ values: [3, 2], statuses: ['ok', 'ok'] })
    shop.store.lose(lanes[which])
    const answer = await shop.reader.getFeatures({ ...ask, explain: true }, shortly)
    expect(answer.rows[0]).toMatchObject({ values: [null, 2], statuses: ['unavailable', 'ok'] })
    expect(answer.rows[0].errors).toHaveLength(1)
    expect(answer.metadata.partial).toBe(true)
    // What was read is told, too.
    expect(answer.rows[0].explain![0].rows.map(({ lane }) => lane)).toEqual([lanes[1 - which].lane])
  })
})

describe('a store that answers nothing', () => {
  it('is too late, or refuses: an error of the request', async () => {
    const { shop, laneOf } = await openSharded()
    shop.store.lose(laneOf('ann'))
    shop.store.lose(laneOf('bob'), refused)
    const ask = (user: string) => shop.reader.getFeatures({ features, entities: [{ user }], asOf: NOON }, shortly)
    await expect(ask('ann')).rejects.toMatchObject({ code: 'DEADLINE' })
    await expect(ask('bob')).rejects.toBe(refused)
    const both = shop.reader.getFeatures({ features, entities: [ann, bob], asOf: NOON }, shortly)
    await expect(both).rejects.toMatchObject({ code: 'DEADLINE' })
  })
})

describe('a layout that cannot be read again', () => {
  const ask = { view: 'spend', features: ['count_1d'], entities: [ann], asOf: NOON }

  it('leaves what was known of it in use, and the answer says that lanes may be missing', async () => {
    const shop = await openShop()
    expect((await shop.reader.getFeatures(ask)).rows[0]).toEqual({ values: [3], statuses: ['ok'] })
    shop.nowMs += 1001
    shop.store.holdLayouts(Promise.reject(refused))
    const answer = await shop.reader.getFeatures(ask)
    expect(answer.rows[0]).toEqual({ values: [3], statuses: ['incomplete'] })
    expect(answer.metadata.partial).toBe(true)
    shop.store.holdLayouts(undefined)
    expect((await shop.reader.getFeatures(ask)).rows[0]).toEqual({ values: [3], statuses: ['ok'] })
  })

  it('keeps a request waiting until its deadline, and those that come later not at all', async () => {
    const shop = await openShop()
    await shop.reader.getFeatures(ask)
    shop.nowMs += 1001
    let release = () => {}
    shop.store.holdLayouts(
      new Promise((resolve) => {
        release = resolve
      }),
    )
    const { layoutReads } = shop.store
    const incomplete = { values: [3], statuses: ['incomplete'] }
    expect((await shop.reader.getFeatures(ask, { deadlineMs: 300 })).rows[0]).toEqual(incomplete)
    // No deadline: it would wait for ever.
    expect((await shop.reader.getFeatures(ask)).rows[0]).toEqual(incomplete)
    expect(shop.store.layoutReads).toBe(layoutReads + 1)
    release()
    await new Promise((resolve) => setTimeout(resolve, 5))
    expect((await shop.reader.getFeatures(ask)).rows[0].statuses).toEqual(['ok'])
  })

  it('fails the request where it now says what cannot be answered', async () => {
    const shop = await openShop()
    await shop.reader.getFeatures(ask)
    await shop.setLayout(shop.spend, layoutOf({ ...shop.spend, stateHash: 'f'.repeat(16) }))
    shop.nowMs += 1001
    await expect(shop.reader.getFeatures(ask)).rejects.toMatchObject({ code: 'DEFINITION_CHANGED' })
  })
})
