import { describe, expect, it } from 'vitest'
import { type CoreExports, loadCore } from '../../src/engine/module.ts'
import { openShop } from './shop.ts'

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
