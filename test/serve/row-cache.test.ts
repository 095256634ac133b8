import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { createServerMetrics } from '../../src/observe/metrics.ts'
import { NO_SERVER_METRICS } from '../../src/observe/port.ts'
import { answerJson } from '../../src/serve/answer-json.ts'
import { RowCache } from '../../src/serve/row-cache.ts'
import type { RowRead } from '../../src/store/port.ts'
import { numberOf, parseExposition } from '../observe/exposition.ts'
import { ann } from './payments.ts'
import { layoutOf } from './plans.ts'
import { lanesOf, liveLanes, NOON, openShop, PAYMENTS } from './shop.ts'

const ask = { view: 'spend', features: ['count_1d'], asOf: NOON, explain: true }
const nobody = { user: 'nobody' }
const long = { bytesMax: 1 << 20, maxAgeMs: 3_600_000 }

describe('kept rows', () => {
  it('are used as long as they may, also those that are not there, and no longer', async () => {
    const shop = await openShop()
    const maxAgeMs = 400
    const reader = shop.newReader({ rowCache: { bytesMax: 1 << 20, maxAgeMs } })
    const start = performance.now()
    const first = await reader.getFeatures({ ...ask, entities: [ann, nobody] })
    expect(first.rows.map(({ values, statuses }) => [values, statuses])).toEqual([
      [[3], ['ok']],
      [[0], ['unknown_entity']],
    ])
    await shop.write(shop.spend, liveLanes(shop.spend, 'web', 1), PAYMENTS.slice(0, 1))
    const trips = shop.store.trips.length
    const again = await reader.getFeatures({ ...ask, entities: [nobody, ann, ann] })
    // A machine that took longer for that has nothing to tell of the cache.
    if (performance.now() - start < maxAgeMs) {
      expect(shop.store.trips).toHaveLength(trips)
      expect(again.rows.map(({ values }) => values)).toEqual([[0], [3], [3]])
      expect(again.rows[1].explain).toEqual(first.rows[0].explain)
    }
    await sleep(maxAgeMs)
    const late = await reader.getFeatures({ ...ask, entities: [ann] })
    expect(late.rows[0].values).toEqual([1])
    expect(shop.store.trips.length).toBeGreaterThan(trips)
  })

  it('tell how old they may be; their own frontier decides what is stale', async () => {
    const shop = await openShop()
    const plans = [{ ...shop.spend, ttlMs: 60_000 }, shop.visits]
    const reader = shop.newReader({ plans, rowCache: long })
    const [frontierMs] = (await reader.getFeatures({ ...ask, entities: [ann] })).rows[0].explain!.map(
      (each) => each.completeThroughMs!,
    )
    const answer = await reader.getFeatures({ ...ask, entities: [ann], asOf: frontierMs + 60_001 })
    expect(answer.rows[0].statuses).toEqual(['stale'])
    expect(answer.rows[0].explain![0].completeThroughMs).toBe(frontierMs)
    expect(JSON.parse(answerJson(answer)).metadata.row_max_age_ms).toBe(3_600_000)
    const plain = await shop.reader.getFeatures({ ...ask, entities: [ann] })
    expect(JSON.parse(answerJson(plain)).metadata).not.toHaveProperty('row_max_age_ms')
  })

  it('are read beside rows that are not kept, each for its entity', async () => {
    const shop = await openShop()
    const reader = shop.newReader({ rowCache: long })
    const entities = [ann, { user: 'bob' }, nobody, ann]
    const whole = await shop.reader.getFeatures({ ...ask, entities })
    await reader.getFeatures({ ...ask, entities: [ann] })
    const mixed = await reader.getFeatures({ ...ask, entities })
    expect(shop.store.trips.at(-1)!.map(({ key }) => Buffer.from(key).toString())).toEqual(['bob', 'nobody'])
    expect(mixed.rows).toEqual(whole.rows)
  })

  it('are not found through another layout, nor after the layouts were told to be old', async () => {
    const shop = await openShop()
    const reader = shop.newReader({ rowCache: long })
    await reader.getFeatures({ ...ask, entities: [ann] })
    const layout = { ...lanesOf({ logs: [{ name: 'web', shards: 1 }] }), generation: 2 }
    await shop.write(shop.spend, liveLanes(shop.spend, 'web', 1, 2), PAYMENTS.slice(0, 1))
    await shop.setLayout(shop.spend, layoutOf(shop.spend, layout, 2))
    shop.nowMs += 1001
    expect((await reader.getFeatures({ ...ask, entities: [ann] })).rows[0].values).toEqual([1])
    await shop.write(shop.spend, liveLanes(shop.spend, 'web', 1, 2), PAYMENTS.slice(0, 2))
    expect((await reader.getFeatures({ ...ask, entities: [ann] })).rows[0].values).toEqual([1])
    reader.expireLayouts()
    expect((await reader.getFeatures({ ...ask, entities: [ann] })).rows[0].values).toEqual([2])
  })

  it('are counted', async () => {
    const shop = await openShop()
    const metrics = createServerMetrics({ version: '1', clock: Date.now })
    const reader = shop.newReader({ rowCache: long, metrics })
    await reader.getFeatures({ ...ask, entities: [ann] })
    await reader.getFeatures({ ...ask, entities: [ann, nobody, ann] })
    const families = parseExposition(await metrics.text())
    expect(numberOf(families, 'tilefold_row_cache_lookups_total')).toBe(4)
    expect(numberOf(families, 'tilefold_row_cache_hits_total')).toBe(2)
  })
})

describe('the bytes of kept rows', () => {
  const lane = { namespace: 'n', stateHash: 's', generation: 1, lane: 'h0' }

  /** A cache over rows of so many bytes, and the keys that were not in it. */
  function openCache(bytesMax: number, rowBytes: (key: string) => number) {
    const missed: string[] = []
    const inner = {
      readRows: async (reads: readonly RowRead[], sink: (index: number, bytes: Uint8Array | undefined) => void) => {
        for (const [i, { key }] of reads.entries()) {
          const text = Buffer.from(key).toString()
          missed.push(text)
          sink(i, new Uint8Array(rowBytes(text)))
        }
      },
    }
    const cache = new RowCache(inner, { bytesMax, maxAgeMs: 3_600_000 }, NO_SERVER_METRICS)
    const get = (key: string) => cache.readRows([{ lane, key: Buffer.from(key) }], () => {})
    return { cache, missed, get }
  }

  it('are bounded: what was not used for longest goes first', async () => {
    const { cache, missed, get } = openCache(10_000, () => 800)
    for (let i = 0; i < 100; i++) {
      await get(`k${i}`)
      await get('hot')
      expect(cache.bytes).toBeLessThanOrEqual(10_000)
    }
    expect(cache.bytes).toBeGreaterThan(8_000)
    expect(missed.filter((key) => key === 'hot')).toHaveLength(1)
    missed.length = 0
    for (let i = 99; i > 92; i--) await get(`k${i}`)
    expect(missed).toEqual([])
    await get('k0')
    expect(missed).toEqual(['k0'])
  })

  it('are none of a row that would be all there is', async () => {
    const { cache, missed, get } = openCache(10_000, (key) => (key === 'huge' ? 20_000 : 100))
    await get('small')
    await get('huge')
    await get('small')
    await get('huge')
    expect(missed).toEqual(['small', 'huge', 'huge'])
    cache.clear()
    expect(cache.bytes).toBe(0)
  })
})
