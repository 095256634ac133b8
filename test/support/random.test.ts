import { describe, expect, it } from 'vitest'
import { seededRandom, zipf } from './random.ts'

describe('seeded random', () => {
  it('repeats itself for a seed and differs between seeds', () => {
    const draw = (seed: number): number[] => {
      const random = seededRandom(seed)
      return Array.from({ length: 50 }, () => random.bits())
    }
    expect(draw(1)).toEqual(draw(1))
    expect(draw(1)).not.toEqual(draw(2))
    expect(new Set(Array.from({ length: 200 }, (_, seed) => draw(seed)[0])).size).toBe(200)
  })

  it('stays in its ranges and reaches their ends', () => {
    const random = seededRandom(3)
    const seen = new Set(Array.from({ length: 500 }, () => random.between(-2, 2)))
    expect([...seen].sort((a, b) => a - b)).toEqual([-2, -1, 0, 1, 2])
    for (let i = 0; i < 1_000; i++) {
      const fraction = random.fraction()
      expect(fraction >= 0 && fraction < 1).toBe(true)
    }
    expect(random.chance(0)).toBe(false)
    expect(random.chance(1)).toBe(true)
  })

  it('shuffles without loss', () => {
    const items = Array.from({ length: 30 }, (_, i) => i)
    const shuffled = seededRandom(4).shuffled(items)
    expect(shuffled).not.toEqual(items)
    expect([...shuffled].sort((a, b) => a - b)).toEqual(items)
  })

  it('draws ranks with probability falling as 1 / rank', () => {
    const draw = zipf(seededRandom(5), 100, 1)
    const counts = new Array<number>(100).fill(0)
    for (let i = 0; i < 100_000; i++) counts[draw()]!++
    // Sum of 1/k for k up to 100 is 5.187: rank 0 has 19.3 %, rank 1 half of it, rank 9 a tenth.
    const harmonic = Array.from({ length: 100 }, (_, i) => 1 / (i + 1)).reduce((a, b) => a + b)
    for (const rank of [0, 1, 9, 99]) {
      const expected = 100_000 / harmonic / (rank + 1)
      expect(Math.abs(counts[rank]! - expected), `rank ${rank}`).toBeLessThan(5 * Math.sqrt(expected))
    }
  })
})
