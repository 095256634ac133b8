/** Which entities are spread: by their share of a log's events and the lanes there are, and not by chance. */
import { describe, expect, it } from 'vitest'
import { EPOCH_EVENTS, HeavyHitters } from '../../src/stream/heavy-hitters.ts'
import { type Random, seededRandom } from '../support/random.ts'

/** Epochs in which entity 0 has so much of the events; the others are 5,000. Returns how widely it is spread after each. */
function widths(lanes: number, shares: readonly number[], random: Random): number[] {
  const heavy = new HeavyHitters(lanes)
  const active = new Map<number, number>()
  return shares.map((share) => {
    let ends = 0
    for (let i = 1; i < EPOCH_EVENTS; i++) if (heavy.add(random.chance(share) ? 0 : 1 + random.below(5_000))) ends++
    expect([ends, heavy.add(1)]).toEqual([0, true])
    for (const [entity, width] of heavy.endEpoch((each) => active.get(each) ?? 1)) active.set(entity, width)
    expect([...active.keys()].filter((entity) => entity !== 0)).toEqual([])
    return active.get(0) ?? 1
  })
}

describe('heavy hitters', () => {
  it.each([
    [4, 0.9, 4],
    [4, 0.45, 2],
    [4, 0.3, 1],
    [16, 0.9, 16],
    [16, 0.2, 4],
    [16, 0.05, 1],
    [3, 0.9, 3],
    [1, 1, 1],
  ])('among %d lanes, one with %d of the events has %d', (lanes, share, width) => {
    expect(widths(lanes, [share, share, share], seededRandom(1))).toEqual([width, width, width])
  })

  it('are gathered when they have been light for a while, and not in a moment of rest', () => {
    const rest = (epochs: number) => Array<number>(epochs).fill(0.01)
    // Half would do by and by, for that long, and no less: the burst in the middle asked for it.
    expect(widths(8, [0.9, ...rest(4), 0.9, ...rest(4)], seededRandom(2))).toEqual([8, 8, 8, 8, 8, 8, 8, 8, 4, 4])
    expect(widths(8, [0.9, ...rest(20)], seededRandom(3)).at(-1)).toBe(1)
  })

  it('begin anew with other numbers', () => {
    const heavy = new HeavyHitters(4)
    for (let i = 0; i < EPOCH_EVENTS - 1; i++) heavy.add(7)
    heavy.clear()
    for (let i = 1; i < EPOCH_EVENTS; i++) heavy.add(i)
    expect(heavy.add(0)).toBe(true)
    expect(heavy.endEpoch(() => 1)).toEqual(new Map())
  })
})
