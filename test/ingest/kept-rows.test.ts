/** Rows that an owner keeps: always the last one written, within a bound. What flushes make of them: ingest.test.ts. */
import { describe, expect, it } from 'vitest'
import { KeptRows } from '../../src/ingest/kept-rows.ts'
import { seededRandom } from '../support/random.ts'

describe('kept rows', () => {
  it('are the last ones that were put, or none, and never more than the bound', () => {
    const seed = Number(process.env.TILEFOLD_SEED ?? 7)
    const random = seededRandom(seed)
    const kept = new KeptRows(20_000)
    const last = new Map<number, Uint8Array>()
    let found = 0
    for (let step = 0; step < 20_000; step++) {
      const entity = Math.floor(random.fraction() ** 3 * 200)
      const row = kept.get(entity)
      if (row !== undefined) {
        found++
        expect(row, `seed ${seed}, step ${step}`).toEqual(last.get(entity))
      }
      const next = new Uint8Array(random.below(random.chance(0.001) ? 30_000 : 300)).fill(random.below(256))
      kept.put(entity, next)
      last.set(entity, next)
      expect(kept.bytes, `seed ${seed}, step ${step}`).toBeLessThanOrEqual(20_000)
    }
    // Those that are asked for most stay.
    expect(found).toBeGreaterThan(5_000)
    kept.clear()
    expect(kept.bytes).toBe(0)
    expect([...last.keys()].some((entity) => kept.get(entity) !== undefined)).toBe(false)
  })

  it('are copies: whoever gave a row may use its memory again', () => {
    const kept = new KeptRows(10_000)
    const row = Uint8Array.of(1, 2, 3)
    kept.put(1, row)
    row.fill(9)
    expect(kept.get(1)).toEqual(Uint8Array.of(1, 2, 3))
  })

  it('of history are none', () => {
    const kept = new KeptRows(0)
    kept.put(1, Uint8Array.of(1))
    expect(kept.get(1)).toBeUndefined()
    expect(kept.bytes).toBe(0)
  })
})
