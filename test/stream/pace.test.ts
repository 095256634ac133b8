/** When a partition is flushed: at once when idle, the less often the longer it takes, never later than was asked for. */
import { describe, expect, it } from 'vitest'
import { Pace } from '../../src/stream/pace.ts'
import { seededRandom } from '../support/random.ts'

describe('the pace of flushes', () => {
  it('is soon when nothing was flushed lately, and rests between two that follow each other', () => {
    const pace = new Pace(5, 1_000)
    expect(pace.delayMs(0, false)).toBe(5)
    pace.flushed(100, 200)
    // A quarter of a flush of rest, counted from the end of the last.
    expect(pace.delayMs(100, false)).toBe(50)
    expect(pace.delayMs(130, false)).toBe(20)
    expect(pace.delayMs(10_000, false)).toBe(5)
    // One slow flush is forgotten by and by.
    for (let nowMs = 200; nowMs < 1_000; nowMs += 100) pace.flushed(nowMs, 1)
    expect(pace.delayMs(1_000, false)).toBe(5)
  })

  it('is as rare as may be far behind, and within its bounds whatever happens', () => {
    const random = seededRandom(1)
    for (let round = 0; round < 200; round++) {
      const maxMs = random.between(1, 2_000)
      const pace = new Pace(random.between(0, 3_000), maxMs)
      for (let nowMs = 0; nowMs < 5_000; nowMs += random.between(1, 900)) {
        expect(pace.delayMs(nowMs, true)).toBe(maxMs)
        const delayMs = pace.delayMs(nowMs, false)
        expect(delayMs).toBeGreaterThanOrEqual(0)
        expect(delayMs).toBeLessThanOrEqual(maxMs)
        pace.flushed(nowMs, random.between(0, 10_000))
      }
    }
  })
})
