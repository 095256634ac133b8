import { describe, expect, it } from 'vitest'
import { ann, DAY } from './payments.ts'
import { layoutOf } from './plans.ts'
import { lanesOf, liveLanes, NAMESPACE, NOON, openShop, PAYMENTS } from './shop.ts'

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

  it('that has no lanes yet is read again at every request: the first lane is not missed for a moment', async () => {
    const shop = await openShop()
    const ask = { view: 'spend', features: ['count_1d'], entities: [ann], asOf: NOON }
    const reader = shop.newReader()
    await shop.setLayout(shop.spend, layoutOf(shop.spend, {}, 2))
    expect((await reader.getFeatures(ask)).rows[0]).toEqual({ values: [0], statuses: ['unknown_entity'] })
    await shop.setLayout(shop.spend, layoutOf(shop.spend, lanesOf({ logs: [{ name: 'web', shards: 1 }] }), 3))
    expect((await reader.getFeatures(ask)).rows[0]).toEqual({ values: [3], statuses: ['ok'] })
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
