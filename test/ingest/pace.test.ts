/** The bucket that bounds how fast rows are written: counted, not timed. */
import { describe, expect, it } from 'vitest'
import { createPace, Pace, type PaceState } from '../../src/ingest/pace.ts'

/** A clock that only sleeping moves. */
function taker(state: PaceState, clock: { micros: number }): Pace {
  return new Pace(state, {
    clock: () => clock.micros,
    sleep: async (ms) => {
      clock.micros += ms * 1000
    },
  })
}

describe('a pace', () => {
  it('lets through what it says, by rows', async () => {
    const clock = { micros: 5_000_000 }
    const pace = taker(createPace({ unit: 'rows', perSecond: 1000 }), clock)
    for (let i = 0; i < 50; i++) await pace.take(200, 1e9)
    // The last of them is not paid for yet.
    expect(clock.micros - 5_000_000).toBe(49 * 200_000)
  })

  it('lets through what it says, by bytes, however they come', async () => {
    const clock = { micros: 0 }
    const pace = taker(createPace({ unit: 'bytes', perSecond: 1_000_000 }), clock)
    const sizes = [1, 999, 250_000, 0, 3_000_000, 77]
    for (const size of sizes) await pace.take(1e6, size)
    expect(clock.micros).toBe(sizes.slice(0, -1).reduce((sum, size) => sum + size, 0))
  })

  it('saves nothing up: behind a pause comes no burst', async () => {
    const clock = { micros: 0 }
    const pace = taker(createPace({ unit: 'rows', perSecond: 10 }), clock)
    await pace.take(10, 0)
    clock.micros = 3_600_000_000
    const from = clock.micros
    for (let i = 0; i < 4; i++) await pace.take(10, 0)
    expect(clock.micros - from).toBe(3_000_000)
  })

  it('is one for all that share it', async () => {
    const state = createPace({ unit: 'rows', perSecond: 100 })
    const starts: number[] = []
    const clock = () => 0
    const takers = [0, 1, 2].map(
      () =>
        new Pace(state, {
          clock,
          sleep: async (ms) => {
            starts.push(ms)
          },
        }),
    )
    for (let round = 0; round < 3; round++) for (const pace of takers) await pace.take(100, 0)
    expect(starts).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((second) => second * 1000))
  })
})
