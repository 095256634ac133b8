import { describe, expect, it } from 'vitest'
import { type CoreExports, loadCore } from '../../src/engine/module.ts'
import { ann } from './payments.ts'
import { HOUR, liveLanes, NOON, openShop, type Payment } from './shop.ts'

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
