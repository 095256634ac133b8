import { describe, expect, it } from 'vitest'
import { openShop } from './shop.ts'
describe('x', () => {
  it('works', async () => {
    const shop = await openShop()
    const a = await shop.reader.getFeatures({ features: ['spend', 'visits'], entities: [{ user: 'ann', shop: 1 }, { user: 'bob', shop: 2n**60n }, {user: 'zed', shop: 3}], explain: true })
    console.dir(a, { depth: 10 })
    await shop.reader.checkReady()
  })
})
