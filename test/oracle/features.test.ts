import { describe, expect, it } from 'vitest'
import type { FeatureOp, Plan, ValueType } from '../../src/model/plan.ts'
import type { Cell, NaiveEvent } from './naive.ts'
import { naiveFeatures, windowOf } from './naive.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
/** Starts an hour. */
const T = 300_000 * HOUR

/** A plan of one column `x` with one feature per operation over one hour, its start floored to five minutes. */
function planOf(
  ops: readonly FeatureOp[],
  type: ValueType,
  changes: { scale?: number; step?: boolean; id?: boolean } = {},
): Plan {
  const own: ValueType[] = ['int64', 'decimal', 'bool']
  return {
    view: 'v',
    stateHash: '',
    definitionHash: '',
    windows: [{ lengthMs: HOUR, tailStepMs: 5 * MINUTE }],
    features: [
      { name: 'rows', op: 'count', partial: -1, window: 0, type: 'int64' },
      ...ops.map((op) => ({
        name: op,
        op,
        partial: op === 'first' ? 1 : op === 'last' ? 2 : 0,
        window: 0,
        type:
          op === 'mean' || op.startsWith('var') || op.startsWith('std')
            ? 'float64'
            : op === 'sum' && type === 'bool'
              ? 'int64'
              : type,
      })),
    ] as Plan['features'],
    state: {
      semantics: 1,
      source: 'events',
      inputs: [],
      program: '',
      registers: { time: 0, entity: [1], filter: -1, columns: [2, 3], id: -1 },
      expressions: { time: 'ts' },
      entity: [{ name: 'user', type: 'utf8' }],
      columns: [
        { name: 'x', type, ...(own.includes(type) && { scale: changes.scale ?? 0 }) },
        { name: 'y', type: 'utf8' },
      ],
      ...(changes.id && { id: { type: 'utf8' } }),
      partials: [
        { kind: 'numeric', column: 0, sum: true, squares: true, min: true, max: true },
        { kind: 'edge', column: 0, last: false },
        { kind: 'edge', column: 0, last: true },
      ],
      ladder: [
        { stepMs: changes.step ? 1_000 : 5 * MINUTE, keepMs: HOUR },
        { stepMs: HOUR, keepMs: HOUR },
      ],
      head: { kind: changes.step ? 'step' : 'raw', lengthMs: MINUTE },
      edges: 'aligned',
      retentionMs: HOUR,
      lateness: { allowedMs: 0, policy: 'accept' },
      maxFutureMs: 0,
      disorderMs: 0,
    },
  }
}

let position = 0
function at(time: number, x: Cell, more: Partial<NaiveEvent> = {}): NaiveEvent {
  return { position: position++, time, key: ['u'], cells: { x }, keep: true, ...more }
}

/** Answers by feature name: the value, or the value and a status other than ok. */
function ask(plan: Plan, events: readonly NaiveEvent[], asOfMs = T + 1): Record<string, unknown> {
  const answers = naiveFeatures(events, plan, ['u'], asOfMs)
  return Object.fromEntries(answers.map(({ name, value, status }) => [name, status === 'ok' ? value : [value, status]]))
}

const now = (...cells: Cell[]): NaiveEvent[] => cells.map((cell) => at(T, cell))

describe('the window', () => {
  it('ends exactly at as-of, without the event at as-of', () => {
    const plan = planOf([], 'float64')
    expect(ask(plan, [at(T, 1)], T)).toEqual({ rows: [0, 'empty'] })
    expect(ask(plan, [at(T, 1)], T + 1)).toEqual({ rows: 1 })
  })

  it('starts at as-of minus its length, floored to the tail step', () => {
    const plan = planOf([], 'float64')
    expect(windowOf(plan, 0, T + MINUTE)).toEqual({ startMs: T - HOUR, endMs: T + MINUTE })
    expect(ask(plan, [at(T - HOUR, 1)], T + 5 * MINUTE - 1)).toEqual({ rows: 1 })
    expect(ask(plan, [at(T - HOUR, 1)], T + 5 * MINUTE)).toEqual({ rows: [0, 'empty'] })
    expect(ask(plan, [at(T - HOUR - 1, 1)], T)).toEqual({ rows: [0, 'empty'] })
    // Before the epoch the floor still goes down.
    expect(windowOf(plan, 0, 1).startMs).toBe(-HOUR)
  })

  it('ends at a step where the head is made of steps', () => {
    const plan = planOf([], 'float64', { step: true })
    expect(ask(plan, [at(T + 999, 1)], T + 1_999)).toEqual({ rows: 1 })
    expect(ask(plan, [at(T + 999, 1)], T + 999)).toEqual({ rows: [0, 'empty'] })
    expect(ask(plan, [at(T, 1)], T + 999)).toEqual({ rows: [0, 'empty'] })
  })

  it('knows an entity without events from one whose window is empty', () => {
    const plan = planOf(['sum'], 'float64')
    expect(ask(plan, [])).toEqual({ rows: [0, 'unknown_entity'], sum: [null, 'unknown_entity'] })
    expect(ask(plan, [at(T, 1, { key: ['someone else'] })])).toEqual({
      rows: [0, 'unknown_entity'],
      sum: [null, 'unknown_entity'],
    })
    expect(ask(plan, [at(T + HOUR, 1)])).toEqual({ rows: [0, 'empty'], sum: [null, 'empty'] })
  })
})

describe('exact numbers', () => {
  it('cancels what a plain sum loses', () => {
    const values = now(1e308, 1e308, 5e-324, -1e308, -1e308)
    expect(ask(planOf(['sum', 'mean'], 'float64'), values)).toEqual({ rows: 5, sum: 5e-324, mean: 0 })
    expect(ask(planOf(['sum'], 'float64'), now(0.1, 0.2, 0.3))).toEqual({ rows: 3, sum: 0.6 })
  })

  it('calls only a final value out of range an overflow', () => {
    expect(
      ask(planOf(['sum', 'mean', 'var_pop', 'stddev_pop'], 'float64'), now(Number.MAX_VALUE, Number.MAX_VALUE)),
    ).toEqual({
      rows: 2,
      sum: [null, 'overflow'],
      mean: Number.MAX_VALUE,
      var_pop: 0,
      stddev_pop: 0,
    })
    expect(ask(planOf(['var_pop', 'stddev_samp'], 'float64'), now(1e308, -1e308))).toEqual({
      rows: 2,
      var_pop: [null, 'overflow'],
      stddev_samp: [null, 'overflow'],
    })
  })

  it('takes variance from the definition', () => {
    // 2, 4, 4, 4, 5, 5, 7, 9: mean 5, squared deviations 9 + 1 + 1 + 1 + 0 + 0 + 4 + 16 = 32.
    const values = now(2, 4, 4, 4, 5, 5, 7, 9)
    expect(ask(planOf(['mean', 'var_pop', 'var_samp', 'stddev_pop', 'stddev_samp'], 'float64'), values)).toEqual({
      rows: 8,
      mean: 5,
      var_pop: 4,
      var_samp: 32 / 7,
      stddev_pop: 2,
      stddev_samp: Math.sqrt(32 / 7),
    })
    // Far from zero the textbook difference of sums would lose all of it.
    expect(ask(planOf(['var_pop'], 'float64'), now(1e15, 1e15 + 1))).toEqual({ rows: 2, var_pop: 0.25 })
  })

  it('needs two cells for a sample', () => {
    expect(ask(planOf(['var_pop', 'var_samp', 'stddev_samp'], 'float64'), now(3))).toEqual({
      rows: 1,
      var_pop: 0,
      var_samp: [null, 'empty'],
      stddev_samp: [null, 'empty'],
    })
  })

  it('keeps int64 whole, and says when a sum leaves it', () => {
    const max = 2n ** 63n - 1n
    expect(ask(planOf(['sum', 'mean', 'min', 'max'], 'int64'), now(max, max, -max))).toEqual({
      rows: 3,
      sum: max,
      mean: Number(max) / 3,
      min: -max,
      max,
    })
    expect(ask(planOf(['sum'], 'int64'), now(max, 1n))).toEqual({ rows: 2, sum: [null, 'overflow'] })
    expect(ask(planOf(['sum'], 'int64'), now(-max, -1n))).toEqual({ rows: 2, sum: -(2n ** 63n) })
    expect(ask(planOf(['sum'], 'int64'), now(-max, -2n))).toEqual({ rows: 2, sum: [null, 'overflow'] })
  })

  it("joins the bits of integers, those of negative ones in two's complement", () => {
    const plan = planOf(['bit_or', 'bit_and'], 'int64')
    expect(ask(plan, now(0b1100n, null, 0b0110n))).toEqual({ rows: 3, bit_or: 0b1110n, bit_and: 0b0100n })
    expect(ask(plan, now(-8n, 3n))).toEqual({ rows: 2, bit_or: -5n, bit_and: 0n })
    expect(ask(plan, now(null))).toEqual({ rows: 1, bit_or: [null, 'empty'], bit_and: [null, 'empty'] })
  })

  it('answers decimals as text with their scale, up to 38 digits', () => {
    const most = 10n ** 38n - 1n
    const plan = planOf(['sum', 'mean', 'min', 'max'], 'decimal', { scale: 2 })
    expect(ask(plan, now({ dec: 150n }, { dec: -5n }))).toEqual({
      rows: 2,
      sum: '1.45',
      mean: 0.725,
      min: '-0.05',
      max: '1.50',
    })
    expect(ask(plan, now({ dec: most }, { dec: 1n }))).toMatchObject({
      sum: [null, 'overflow'],
      max: `${'9'.repeat(36)}.99`,
    })
    expect(ask(plan, now({ dec: -most }, { dec: -1n }))).toMatchObject({ sum: [null, 'overflow'] })
  })

  it('counts true as one', () => {
    expect(ask(planOf(['sum', 'mean', 'min', 'max'], 'bool'), now(true, false, true, true))).toEqual({
      rows: 4,
      sum: 3n,
      mean: 0.75,
      min: false,
      max: true,
    })
  })
})

describe('null cells', () => {
  it('are skipped, and so are floats that are not finite', () => {
    const values = now(null, Number.NaN, Infinity, -Infinity, 2)
    expect(ask(planOf(['count', 'sum', 'min', 'max', 'first', 'last'], 'float64'), values)).toEqual({
      rows: 5,
      count: 1,
      sum: 2,
      min: 2,
      max: 2,
      first: 2,
      last: 2,
    })
  })

  it('are what lies beyond the type', () => {
    const digits = 10n ** 38n
    expect(
      ask(planOf(['count'], 'decimal'), now({ dec: digits }, { dec: -digits }, { dec: digits - 1n })),
    ).toMatchObject({ count: 1 })
    expect(ask(planOf(['count'], 'int64'), now(2n ** 63n, -(2n ** 63n)))).toMatchObject({ count: 1 })
    // 4,096 bytes of text are a cell, 4,097 are not; bytes, not characters.
    const texts = now('x'.repeat(4_096), 'x'.repeat(4_097), 'é'.repeat(2_048), 'é'.repeat(2_049))
    expect(ask(planOf(['count'], 'utf8'), texts)).toMatchObject({ count: 2 })
  })

  it('leave a feature empty when there is nothing else', () => {
    expect(ask(planOf(['count', 'sum', 'last'], 'float64'), now(null, Number.NaN))).toEqual({
      rows: 2,
      count: [0, 'empty'],
      sum: [null, 'empty'],
      last: [null, 'empty'],
    })
  })

  it('give way to a default, which an overflow does not', () => {
    const withDefault = (plan: Plan, value: number): Plan => ({
      ...plan,
      features: plan.features.map((feature) => ({ ...feature, default: value })),
    })
    expect(ask(withDefault(planOf(['count', 'sum'], 'int64'), -1), now(null))).toEqual({
      rows: 1,
      count: [0, 'empty'],
      sum: [-1n, 'empty'],
    })
    expect(ask(withDefault(planOf(['sum'], 'float64'), 7), [])).toEqual({
      rows: [0, 'unknown_entity'],
      sum: [7, 'unknown_entity'],
    })
    expect(ask(withDefault(planOf(['sum'], 'int64'), 7), now(2n ** 63n - 1n, 1n))).toMatchObject({
      sum: [null, 'overflow'],
    })
  })

  it('know no minus zero', () => {
    const answers = ask(planOf(['sum', 'min', 'max', 'last'], 'float64'), now(-0))
    for (const name of ['sum', 'min', 'max', 'last']) expect(answers[name]).toBe(0)
  })
})

describe('first and last', () => {
  const ends = planOf(['first', 'last'], 'float64')

  it('go by event time', () => {
    expect(ask(ends, [at(T - 1, 5), at(T - 3, 7), at(T - 2, 9)])).toEqual({ rows: 3, first: 7, last: 5 })
  })

  it('break ties by every projected column, null first, and text by its bytes', () => {
    const tie = (x: Cell, y: Cell): NaiveEvent => at(T, x, { cells: { x, y } })
    expect(ask(ends, [tie(2, 'b'), tie(1, 'a'), tie(null, 'z')])).toEqual({ rows: 3, first: 1, last: 2 })
    const text = planOf(['first', 'last'], 'utf8')
    // In UTF-16 order 😀 (surrogates) would stand before U+FFFF; in bytes it is the greater one.
    expect(ask(text, [tie('\u{FFFF}', null), tie('😀', null), tie('a\0', null), tie('a', null)])).toEqual({
      rows: 4,
      first: 'a',
      last: '😀',
    })
  })

  it('take one event for all columns: the order is of events, not of cells', () => {
    const two = planOf(['last'], 'utf8')
    const plan: Plan = {
      ...two,
      features: [...two.features, { name: 'last_y', op: 'last', partial: 3, window: 0, type: 'utf8' }],
      state: { ...two.state, partials: [...two.state.partials, { kind: 'edge', column: 1, last: true }] },
    }
    const tie = (x: Cell, y: Cell): NaiveEvent => at(T, x, { cells: { x, y } })
    expect(ask(plan, [tie('b', 'low'), tie('a', 'high')])).toEqual({ rows: 2, last: 'b', last_y: 'low' })
  })

  it('go by the id first where one is declared, null ids before all', () => {
    const plan = planOf(['first', 'last'], 'float64', { id: true })
    expect(ask(plan, [at(T, 1, { id: 'b' }), at(T, 2, { id: 'a' })])).toEqual({ rows: 2, first: 2, last: 1 })
    expect(ask(plan, [at(T, 1, { id: 'b' }), at(T, 2, { id: null })])).toEqual({ rows: 2, first: 2, last: 1 })
    expect(ask(plan, [at(T, 1, { id: null }), at(T, 2, { id: null })])).toEqual({ rows: 2, first: 1, last: 2 })
  })
})
