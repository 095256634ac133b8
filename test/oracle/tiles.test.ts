import { describe, expect, it } from 'vitest'
import type { StatePlan } from '../../src/model/plan.ts'
import type { Frontiers, NaiveEvent } from './naive.ts'
import { naivePartial, naiveTiles } from './naive.ts'
import { compare, fromDouble } from './rational.ts'

const STATE: StatePlan = {
  semantics: 1,
  source: 'events',
  inputs: [],
  program: '',
  registers: { time: 0, entity: [1], filter: -1, columns: [2], id: -1 },
  expressions: { time: 'ts' },
  entity: [{ name: 'user', type: 'utf8' }],
  columns: [{ name: 'x', type: 'float64' }],
  partials: [],
  ladder: [
    { stepMs: 1_000, keepMs: 10_000 },
    { stepMs: 4_000, keepMs: 100_000 },
  ],
  head: { kind: 'raw', lengthMs: 2_500 },
  edges: 'aligned',
  retentionMs: 100_000,
  lateness: { allowedMs: 0, policy: 'accept' },
  maxFutureMs: 0,
  disorderMs: 0,
}

function at(time: number, x: number | null = time): NaiveEvent {
  return { position: time, time, key: ['u'], cells: { x }, keep: true }
}

/** Times of the events in each tile, and of the raw ones. */
function timesOf(state: StatePlan, times: readonly number[], frontiers: Frontiers) {
  const { head, levels } = naiveTiles(
    times.map((time) => at(time)),
    state,
    frontiers,
  )
  const tiles = levels.map((level) =>
    Object.fromEntries([...level].map(([tile, events]) => [tile, events.map(({ time }) => time)])),
  )
  return { head: head.map(({ time }) => time), tiles }
}

describe('tiles', () => {
  const times = [0, 999, 1_000, 3_999, 4_000, 8_000, 8_499, 8_500, 9_000]

  it('hold everything before the head, the newest of level 0 being partial', () => {
    expect(timesOf(STATE, times, { headMs: 8_500, compactMs: [8_000, 8_000], evictMs: [0, 0] })).toEqual({
      head: [8_500, 9_000],
      tiles: [
        { 0: [0, 999], 1: [1_000], 3: [3_999], 4: [4_000], 8: [8_000, 8_499] },
        { 0: [0, 999, 1_000, 3_999], 1: [4_000] },
      ],
    })
  })

  it('are built up to the compaction frontier and kept from the eviction frontier on, both exact', () => {
    expect(timesOf(STATE, times, { headMs: 8_500, compactMs: [0, 7_999], evictMs: [1_000, 3_999] }).tiles).toEqual([
      { 1: [1_000], 3: [3_999], 4: [4_000], 8: [8_000, 8_499] },
      { 0: [0, 999, 1_000, 3_999] },
    ])
    expect(timesOf(STATE, times, { headMs: 8_500, compactMs: [0, 8_000], evictMs: [4_001, 4_000] }).tiles).toEqual([
      { 4: [4_000], 8: [8_000, 8_499] },
      { 1: [4_000] },
    ])
  })

  it('take the head too where it is made of sub-tiles', () => {
    const stepped: StatePlan = { ...STATE, head: { kind: 'step', lengthMs: 2_500 } }
    expect(timesOf(stepped, times, { headMs: 8_500, compactMs: [0, 4_000], evictMs: [4_000, 0] })).toEqual({
      head: [],
      tiles: [{ 4: [4_000], 8: [8_000, 8_499, 8_500], 9: [9_000] }, { 0: [0, 999, 1_000, 3_999] }],
    })
  })
})

describe('partials of a tile', () => {
  const events = [at(3, 2), at(1, null), at(2, 0.5), at(5, Number.NaN)]

  it('are exact and as asked', () => {
    const numeric = { kind: 'numeric', column: 0, sum: true, squares: true, min: true, max: true } as const
    const partial = naivePartial(events, STATE, numeric)
    if (partial.kind !== 'numeric') throw new Error('expected a numeric partial')
    expect([partial.count, partial.min, partial.max]).toEqual([2, 0.5, 2])
    expect(compare(partial.sum!, fromDouble(2.5))).toBe(0)
    expect(compare(partial.squares!, fromDouble(4.25))).toBe(0)
    const counting = { kind: 'numeric', column: 0, sum: false, squares: false, min: false, max: false } as const
    expect(naivePartial(events, STATE, counting)).toEqual({ kind: 'numeric', count: 2 })
  })

  it('name the event at an edge', () => {
    expect(naivePartial(events, STATE, { kind: 'edge', column: 0, last: false })).toMatchObject({
      value: 0.5,
      event: { time: 2 },
    })
    expect(naivePartial(events, STATE, { kind: 'edge', column: 0, last: true })).toMatchObject({
      value: 2,
      event: { time: 3 },
    })
    expect(naivePartial([], STATE, { kind: 'edge', column: 0, last: true })).toEqual({
      kind: 'edge',
      event: undefined,
      value: null,
    })
  })
})
