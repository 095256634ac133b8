import { describe, expect, it } from 'vitest'
import type { StatePlan } from '../../src/model/plan.ts'
import { TIME_LIMIT_MS } from '../../src/model/time.ts'
import type { NaiveEvent, Verdict } from './naive.ts'
import { countVerdicts, naiveAccept } from './naive.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
/** A round instant: the start of a UTC day. */
const T = 11_000 * DAY

function stateOf(changes: Partial<StatePlan> = {}): StatePlan {
  return {
    semantics: 1,
    source: 'events',
    inputs: [],
    program: '',
    registers: { time: 0, entity: [1], filter: -1, columns: [], id: -1 },
    expressions: { time: 'ts' },
    entity: [{ name: 'user', type: 'utf8' }],
    columns: [],
    partials: [],
    ladder: [
      { stepMs: HOUR, keepMs: 3 * DAY },
      { stepMs: DAY, keepMs: 30 * DAY },
    ],
    head: { kind: 'raw', lengthMs: 60_000 },
    edges: 'aligned',
    retentionMs: 1_000 * DAY,
    lateness: { allowedMs: 0, policy: 'accept' },
    maxFutureMs: 1_000 * DAY,
    disorderMs: 0,
    ...changes,
  }
}

type Draft = Partial<NaiveEvent> & { readonly time: NaiveEvent['time'] }

function judge(state: StatePlan, drafts: readonly Draft[], notAfterMs = T + 100 * DAY): Verdict[] {
  const events = drafts.map((draft, position) => ({ position, key: ['u'], cells: {}, keep: true, ...draft }))
  return naiveAccept(events, state, { notAfterMs }).verdicts.map((each) => each.verdict)
}

describe('rejection', () => {
  it('takes a bad key or a bad time, and nothing else, and leaves the clock alone', () => {
    const strict = stateOf({ lateness: { allowedMs: 0, policy: 'drop' }, maxFutureMs: 10 })
    const verdicts = judge(
      strict,
      [
        { time: T + 50, key: [null] },
        { time: T + 50, key: [''] },
        { time: T + 50, key: ['x'.repeat(1_025)] },
        { time: T + 50, key: ['\ud800'] },
        { time: null },
        { time: -1 },
        { time: TIME_LIMIT_MS },
        { time: 2n ** 63n - 1n },
        { time: T + 100 + 11 },
        { time: T + 49 },
      ],
      T + 100,
    )
    expect(verdicts).toEqual([
      ...Array(4).fill('rejected:key'),
      ...Array(4).fill('rejected:time'),
      'rejected:future',
      // Had one of those before moved the clock to T + 50, this one would be late.
      'applied',
    ])
  })

  it('counts the lengths of text parts where the key has several', () => {
    const state = stateOf({
      entity: [
        { name: 'a', type: 'utf8' },
        { name: 'b', type: 'int64' },
        { name: 'c', type: 'bool' },
      ],
    })
    const longest = 1_024 - 4 - 8 - 1
    const [fits, tooLong, missing] = judge(state, [
      { time: T, key: ['x'.repeat(longest), 1n, true] },
      { time: T, key: ['x'.repeat(longest + 1), 1n, true] },
      { time: T, key: ['x', 1n] },
    ])
    expect([fits, tooLong, missing]).toEqual(['applied', 'rejected:key', 'rejected:key'])
  })

  it('lets an event be as far in the future as max_future, measured from the record time', () => {
    const state = stateOf({ maxFutureMs: 5 })
    const verdicts = judge(state, [
      { time: T + 5, recordTime: T },
      { time: T + 6, recordTime: T },
    ])
    expect(verdicts).toEqual(['applied', 'rejected:future'])
  })
})

describe('the late clock', () => {
  const state = stateOf({ lateness: { allowedMs: 10, policy: 'side_output' } })

  it('is the running maximum of event times: exactly the allowed lateness is in time', () => {
    expect(
      judge(state, [{ time: T + 100 }, { time: T + 90 }, { time: T + 89 }, { time: T + 200 }, { time: T + 189 }]),
    ).toEqual(['applied', 'applied', 'late', 'applied', 'late'])
  })

  it('is held back by the record time, and by not_after where there is none', () => {
    expect(
      judge(state, [
        { time: T + 100, recordTime: T + 20 },
        { time: T + 10, recordTime: T + 20 },
        { time: T + 9, recordTime: T + 20 },
      ]),
    ).toEqual(['applied', 'applied', 'late'])
    expect(judge(state, [{ time: T + 100 }, { time: T + 10 }, { time: T + 9 }], T + 20)).toEqual([
      'applied',
      'applied',
      'late',
    ])
  })

  it('is advanced by filtered and duplicate events', () => {
    const filtered = stateOf({ ...state, registers: { ...state.registers, filter: 2 } })
    expect(judge(filtered, [{ time: T + 100, keep: null }, { time: T + 89 }])).toEqual(['filtered', 'late'])
    const unique = stateOf({ ...state, dedupe: { withinMs: DAY }, id: { type: 'utf8' } })
    expect(
      judge(unique, [
        { time: T, id: 'a' },
        { time: T + 100, id: 'a' },
        { time: T + 89, id: 'b' },
      ]),
    ).toEqual(['applied', 'duplicate', 'late'])
  })

  it('is reported, and starts at minus infinity', () => {
    expect(naiveAccept([], state, { notAfterMs: T }).lateClockMs).toBe(Number.NEGATIVE_INFINITY)
    const event = { position: 3, time: T - 5, key: ['u'], cells: {}, keep: true }
    expect(naiveAccept([event], state, { notAfterMs: T }).lateClockMs).toBe(T - 5)
    expect(() => naiveAccept([event], state)).toThrow('notAfterMs')
  })
})

describe('retention', () => {
  it('is judged by the end of the coarsest tile, under every policy', () => {
    const state = stateOf({ retentionMs: 2 * DAY })
    // As old as retention is not older: with the clock at T + 3d, the day tile that ends at T + 1d still counts.
    expect(judge(state, [{ time: T + 3 * DAY }, { time: T + DAY - 1 }, { time: T }])).toEqual([
      'applied',
      'applied',
      'applied',
    ])
    expect(judge(state, [{ time: T + 3 * DAY + 1 }, { time: T + DAY - 1 }, { time: T + DAY }])).toEqual([
      'applied',
      'retention',
      'applied',
    ])
  })

  it('comes before lateness', () => {
    const state = stateOf({ retentionMs: DAY, lateness: { allowedMs: 0, policy: 'drop' } })
    expect(judge(state, [{ time: T + 9 * DAY }, { time: T }, { time: T + 9 * DAY - 1 }])).toEqual([
      'applied',
      'retention',
      'late',
    ])
  })
})

describe('dedupe', () => {
  const state = stateOf({
    registers: { time: 0, entity: [1], filter: 2, columns: [], id: 3 },
    dedupe: { withinMs: 100 },
    id: { type: 'utf8' },
    lateness: { allowedMs: 200, policy: 'drop' },
  })

  it('keeps the first in log order, filtered ones too, and never a null id', () => {
    expect(
      judge(state, [
        { time: T, id: 'a' },
        { time: T, id: 'a' },
        { time: T, id: 'b', keep: false },
        { time: T, id: 'b' },
        { time: T, id: null },
        { time: T, id: null },
        { time: T },
      ]),
    ).toEqual(['applied', 'duplicate', 'filtered', 'duplicate', 'applied', 'applied', 'applied'])
  })

  it('is asked before the filter', () => {
    expect(
      judge(state, [
        { time: T, id: 'a' },
        { time: T, id: 'a', keep: false },
      ]),
    ).toEqual(['applied', 'duplicate'])
  })

  it('looks no farther than `within` behind the clock', () => {
    expect(
      judge(state, [
        { time: T, id: 'a' },
        { time: T + 100, id: 'z' },
        { time: T, id: 'a' },
      ]),
    ).toEqual(['applied', 'applied', 'duplicate'])
    expect(
      judge(state, [
        { time: T, id: 'a' },
        { time: T + 101, id: 'z' },
        { time: T, id: 'a' },
      ]),
    ).toEqual(['applied', 'applied', 'applied'])
  })

  it('forgets an id once the event that took it is behind the horizon, trimmed or not', () => {
    expect(
      judge(state, [
        { time: T, id: 'a' },
        { time: T + 101, id: 'a' },
        { time: T + 101, id: 'a' },
      ]),
    ).toEqual(['applied', 'applied', 'duplicate'])
  })

  it('registers nothing for a late event', () => {
    expect(
      judge(state, [
        { time: T + 300, id: 'z' },
        { time: T, id: 'a' },
        { time: T + 300, id: 'a' },
      ]),
    ).toEqual(['applied', 'late', 'applied'])
  })
})

describe('the log', () => {
  it('is read in position order, and a redelivered position counts once', () => {
    const state = stateOf({ lateness: { allowedMs: 0, policy: 'drop' } })
    const event = { key: ['u'], cells: {}, keep: true }
    const acceptance = naiveAccept(
      [
        { ...event, position: 7, time: T + 1 },
        { ...event, position: 2, time: T + 2 },
        { ...event, position: 7, time: T + 1 },
      ],
      state,
      { notAfterMs: T + DAY },
    )
    expect(acceptance.verdicts.map((each) => [each.event.position, each.verdict])).toEqual([
      [2, 'applied'],
      [7, 'late'],
    ])
    expect(countVerdicts(acceptance)).toMatchObject({ applied: 1, late: 1, duplicate: 0 })
  })
})
