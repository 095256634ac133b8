import { describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import {
  bitAnd,
  bitOr,
  bool,
  count,
  decimal,
  defineView,
  first,
  float64,
  int64,
  last,
  max,
  mean,
  stddev,
  sum,
  timestamp,
  utf8,
  type ViewOptions,
} from '../../src/define/dsl.ts'
import { canonicalJson } from '../../src/define/hash.ts'
import { parseDefinitions } from '../../src/define/yaml.ts'
import { TilefoldError } from '../../src/model/errors.ts'
import type { Plan } from '../../src/model/plan.ts'
import { seededRandom } from '../support/random.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

const BASE = {
  name: 'departures',
  source: {
    name: 'flights',
    columns: {
      date: timestamp('us'),
      delay: int64(),
      fare: decimal(12, 2),
      speed: float64(),
      late: bool(),
      origin: utf8(),
      id: utf8(),
    },
  },
  entity: 'origin',
  time: 'date',
  filter: 'delay IS NOT NULL',
  aggregations: [count({ windows: ['1h', '24h', '7d', '30d'] }), mean('delay', { windows: ['24h'] })],
} as const satisfies ViewOptions

async function compile(change: Partial<ViewOptions> = {}): Promise<Plan> {
  return compileView(defineView({ ...BASE, ...change } as ViewOptions))
}

async function refusal(change: Partial<ViewOptions>): Promise<string> {
  const error = await compile(change).then(
    () => undefined,
    (each: unknown) => each,
  )
  expect(error).toBeInstanceOf(TilefoldError)
  return (error as TilefoldError).message
}

describe('windows and ladder', () => {
  it('floor a window to the largest step that is at most a twelfth of it and divides it', async () => {
    const windows = ['1h', '12h', '13h', '24h', '24h30m', '12d', '30d'] as const
    const plan = await compile({ aggregations: [count({ windows })] })
    expect(plan.windows).toEqual([
      { lengthMs: HOUR, tailStepMs: 5 * MINUTE },
      { lengthMs: 12 * HOUR, tailStepMs: HOUR },
      { lengthMs: 13 * HOUR, tailStepMs: HOUR },
      { lengthMs: 24 * HOUR, tailStepMs: HOUR },
      { lengthMs: 24.5 * HOUR, tailStepMs: 5 * MINUTE },
      { lengthMs: 12 * DAY, tailStepMs: DAY },
      { lengthMs: 30 * DAY, tailStepMs: DAY },
    ])
  })

  it('keep each level for the windows that start on it, and until its parent is whole', async () => {
    const slack = HOUR
    const plan = await compile({ aggregations: [count({ windows: ['1h', '24h', '7d', '30d'] })] })
    expect(plan.state.ladder).toEqual([
      // The 1 h window starts on 5 min tiles, and the longer windows need those up to the next whole hour before it.
      { stepMs: 5 * MINUTE, keepMs: HOUR + 5 * MINUTE + HOUR + slack },
      // So it is with 7 d, hours, and the next whole day.
      { stepMs: HOUR, keepMs: 7 * DAY + HOUR + DAY + slack },
      // 30 d + 1 d + 1 h of day tiles, rounded up to whole tiles.
      { stepMs: DAY, keepMs: 32 * DAY },
    ])
    // With one window there is nobody to share with; then its hour must be whole before the 5 min tiles go.
    const short = await compile({ aggregations: [count({ windows: ['1h'] })] })
    expect(short.state.ladder.map((each) => each.keepMs)).toEqual([HOUR + 5 * MINUTE + slack, DAY + slack, 2 * DAY])
  })

  it('put the sub-tiles of a head first', async () => {
    const plan = await compile({ head: '1m', headStep: '1s' })
    expect(plan.state.head).toEqual({ kind: 'step', lengthMs: MINUTE })
    expect(plan.state.ladder[0]).toEqual({ stepMs: 1000, keepMs: MINUTE + 5 * MINUTE })
    expect(plan.windows.map((each) => each.tailStepMs)).not.toContain(1000)
  })

  it('hold every law of a ladder, whatever is drawn', async () => {
    const STEPS = ['1s', '5s', '10s', '1m', '5m', '10m', '1h', '2h', '6h', '1d', '7d', '28d'] as const
    const LENGTHS = ['1m', '10m', '1h', '90m', '6h', '1d', '25h', '7d', '30d', '90d', '365d', '1800d'] as const
    let compiled = 0
    for (let seed = 1; seed <= 300; seed++) {
      const random = seededRandom(seed)
      const tiles = STEPS.filter(() => random.chance(0.3))
      const windows = LENGTHS.filter(() => random.chance(0.3))
      if (tiles.length === 0 || windows.length === 0) continue
      const plan = await compile({ tiles, aggregations: [count({ windows })], slack: '10m' }).catch(
        (error: unknown) => {
          if (error instanceof TilefoldError && error.code === 'DEFINITION_INVALID') return undefined
          throw error
        },
      )
      if (plan === undefined) continue
      compiled++
      const { ladder, retentionMs } = plan.state
      for (const [i, level] of ladder.entries()) {
        const label = `seed ${seed}, level ${i}`
        expect(level.keepMs % level.stepMs, label).toBe(0)
        const parent = ladder[i + 1]
        if (parent) {
          expect(parent.stepMs % level.stepMs, label).toBe(0)
          expect(level.keepMs, label).toBeGreaterThanOrEqual(parent.stepMs)
        }
        for (const window of plan.windows.filter((each) => each.tailStepMs === level.stepMs)) {
          expect(level.keepMs, label).toBeGreaterThanOrEqual(window.lengthMs + level.stepMs)
          expect(window.lengthMs / window.tailStepMs, label).toBeGreaterThanOrEqual(12)
          expect(window.lengthMs % window.tailStepMs, label).toBe(0)
        }
      }
      const longest = Math.max(...plan.windows.map((each) => each.lengthMs))
      expect(ladder.at(-1)!.keepMs, `seed ${seed}`).toBeGreaterThanOrEqual(longest)
      expect(retentionMs, `seed ${seed}`).toBe(longest + ladder.at(-1)!.stepMs)
    }
    expect(compiled).toBeGreaterThan(30)
  })
})

describe('partials', () => {
  it('merge what features need of a column', async () => {
    const plan = await compile({
      aggregations: [
        last('origin', { windows: ['1h'] }),
        stddev('delay', { windows: ['1h'] }),
        max('delay', { windows: ['24h'] }),
        first('delay', { windows: ['1h'] }),
        count('origin', { windows: ['1h'] }),
        sum('fare', { windows: ['1h'] }),
        mean('late', { windows: ['1h'] }),
        count({ windows: ['1h'] }),
      ],
    })
    const numeric = { kind: 'numeric', sum: false, squares: false, min: false, max: false }
    expect(plan.state.columns.map((each) => each.name)).toEqual(['delay', 'fare', 'late', 'origin'])
    expect(plan.state.partials).toEqual([
      { ...numeric, column: 0, sum: true, squares: true, max: true },
      { kind: 'edge', column: 0, last: false },
      { ...numeric, column: 1, sum: true },
      { ...numeric, column: 2, sum: true },
      { ...numeric, column: 3 },
      { kind: 'edge', column: 3, last: true },
    ])
    expect(plan.features.map((each) => [each.name, each.type, each.scale, each.partial])).toEqual([
      ['origin_last_1h', 'utf8', undefined, 5],
      ['delay_stddev_1h', 'float64', undefined, 0],
      ['delay_max_24h', 'int64', undefined, 0],
      ['delay_first_1h', 'int64', undefined, 1],
      ['origin_count_1h', 'int64', undefined, 4],
      ['fare_sum_1h', 'decimal', 2, 2],
      ['late_mean_1h', 'float64', undefined, 3],
      ['count_1h', 'int64', undefined, -1],
    ])
  })

  it('answer for bools what each operation means', async () => {
    const ops = [sum, mean, max, last] as const
    const plan = await compile({ aggregations: ops.map((op) => op('late', { windows: ['1h'] })) })
    expect(plan.features.map((each) => each.type)).toEqual(['int64', 'float64', 'bool', 'bool'])
  })

  it('of bits are one for each of the two, behind the edges, and of int64 alone', async () => {
    const windows = ['1h'] as const
    const plan = await compile({
      aggregations: [
        bitAnd('delay', { windows }),
        last('delay', { windows }),
        bitOr('delay', { windows }),
        max('delay', { windows }),
      ],
    })
    expect(plan.state.partials).toEqual([
      { kind: 'numeric', column: 0, sum: false, squares: false, min: false, max: true },
      { kind: 'edge', column: 0, last: true },
      { kind: 'bits', column: 0, and: false },
      { kind: 'bits', column: 0, and: true },
    ])
    expect(plan.features.map((each) => [each.name, each.type, each.partial])).toEqual([
      ['delay_bit_and_1h', 'int64', 3],
      ['delay_last_1h', 'int64', 1],
      ['delay_bit_or_1h', 'int64', 2],
      ['delay_max_1h', 'int64', 0],
    ])
    for (const [column, type] of [
      ['late', 'bool'],
      ['fare', 'decimal'],
      ['speed', 'float64'],
      ['origin', 'utf8'],
    ] as const) {
      expect(await refusal({ aggregations: [bitOr(column, { windows })] })).toMatch(
        new RegExp(`got bit_or of a ${type} column, expected int64`),
      )
    }
  })

  it('are as many as the core has room for', async () => {
    const columns = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`c${i}`, int64()]))
    const aggregations = Object.keys(columns).map((name) => sum(name, { windows: ['1h'] }))
    const source = { name: 'wide', columns: { ...columns, date: timestamp(), origin: utf8() } }
    expect(await refusal({ source, aggregations, filter: undefined })).toMatch(
      /got 40 aggregated columns, expected at most 31/,
    )
  })
})

describe('hashes', () => {
  const yaml = `
views:
  - source:
      columns: { id: utf8, origin: utf8, late: bool, speed: float64, fare: "decimal(12, 2)", delay: int64, date: "timestamp[us]" }
      name: flights
    filter: delay is  not null
    aggregations:
      - windows: [24h]
        column: delay
        op: mean
      - { windows: [1h, 24h, 7d, 30d], op: count }
    time: date
    entity: [origin]
    name: departures
`

  it('are the same for the same definition in TypeScript and in YAML, in any order', async () => {
    const typed = await compile()
    const [view] = parseDefinitions(yaml, 'departures.yaml').views
    const written = await compileView(view!)
    expect(written.stateHash).toBe(typed.stateHash)
    expect(written.definitionHash).toBe(typed.definitionHash)
    expect(written.state).toEqual(typed.state)
    expect(typed.stateHash).toMatch(/^[0-9a-f]{16}$/)
  })

  it('of the state change with everything that decides what is accepted or kept', async () => {
    const changes: Partial<ViewOptions>[] = [
      {},
      { source: { ...BASE.source, name: 'flights2' } },
      { source: { ...BASE.source, columns: { ...BASE.source.columns, date: timestamp('ms') } } },
      { source: { ...BASE.source, columns: { ...BASE.source.columns, delay: float64() } } },
      { entity: 'id' },
      { entity: ['origin', 'id'] },
      { entity: ['id', 'origin'] },
      { filter: undefined },
      { filter: 'delay IS NULL' },
      { filter: 'delay > 5' },
      { filter: 'delay > 6' },
      { aggregations: [count({ windows: ['1h', '24h', '7d', '30d'] })] },
      { aggregations: [count({ windows: ['1h', '24h', '7d', '30d'] }), mean('fare', { windows: ['24h'] })] },
      { aggregations: [count({ windows: ['1h', '24h', '7d', '30d'] }), max('delay', { windows: ['24h'] })] },
      { aggregations: [count({ windows: ['1h', '24h', '7d', '60d'] }), mean('delay', { windows: ['24h'] })] },
      { tiles: ['1m', '1h', '1d'] },
      { head: '2m' },
      { headStep: '1s' },
      { lateness: { policy: 'drop' } },
      { lateness: { allowed: '1h' } },
      { lateness: { allowed: '1h', policy: 'side_output' } },
      { dedupe: { id: 'id' } },
      { dedupe: { id: 'origin' } },
      { dedupe: { id: 'id', within: '2h' } },
      { maxFuture: '2h' },
      { disorder: '2m' },
      { retention: '40d' },
      { slack: '2h' },
    ]
    const hashes = await Promise.all(changes.map(async (change) => (await compile(change)).stateHash))
    const twin = hashes.findIndex((each, i) => hashes.indexOf(each) !== i)
    expect(twin, `${JSON.stringify(changes[twin])} has the hash of another change`).toBe(-1)
  })

  it('of the state stay where only what is served changes, and the definition hash does not', async () => {
    const base = await compile()
    const changes: Partial<ViewOptions>[] = [
      { aggregations: [...BASE.aggregations, sum('delay', { windows: ['24h'] })] },
      { aggregations: [...BASE.aggregations, count({ windows: ['2d'] })] },
      { aggregations: [BASE.aggregations[0], mean('delay', { windows: ['24h'], as: 'average' })] },
      { aggregations: [BASE.aggregations[0], mean('delay', { windows: ['24h'], default: 0 })] },
      { ttl: '1h' },
      { name: 'takeoffs' },
    ]
    for (const change of changes) {
      const plan = await compile(change)
      expect(plan.stateHash, JSON.stringify(change)).toBe(base.stateHash)
      expect(plan.definitionHash, JSON.stringify(change)).not.toBe(base.definitionHash)
    }
  })

  it('do not change with spelling, order, or unused columns', async () => {
    const base = await compile({ filter: "delay>5 AND origin<>'JFK'" })
    const same: Partial<ViewOptions>[] = [
      { filter: "( delay > 5 ) and origin != 'JFK' -- busy" },
      { filter: "delay > 5 AND origin <> 'JFK'", aggregations: [...BASE.aggregations].reverse() },
      {
        filter: "delay > 5 AND origin <> 'JFK'",
        source: { ...BASE.source, columns: { ...BASE.source.columns, unused: utf8() } },
      },
      { filter: "delay > 5 AND origin <> 'JFK'", tiles: ['300s', '60m', '24h'], head: '60s' },
    ]
    for (const change of same) {
      const plan = await compile(change)
      expect(plan.stateHash, JSON.stringify(change)).toBe(base.stateHash)
      expect(plan.definitionHash, JSON.stringify(change)).toBe(base.definitionHash)
    }
  })

  it('spell JSON one way', () => {
    expect(canonicalJson({ b: 1, a: [{ d: undefined, c: null }], é: 'x' })).toBe('{"a":[{"c":null}],"b":1,"é":"x"}')
  })
})

describe('programs', () => {
  it('compute what expressions share once', async () => {
    const one = await compile({ filter: 'delay > 5', aggregations: [mean('delay > 5', { as: 'a', windows: ['1h'] })] })
    const two = await compile({
      filter: 'delay > 5',
      aggregations: [mean('delay > 5', { as: 'a', windows: ['1h'] }), max('delay>5', { as: 'b', windows: ['1h'] })],
    })
    expect(two.state.program).toBe(one.state.program)
    expect(two.state.columns).toHaveLength(1)
  })

  it('of deep graphs are small and quick', async () => {
    const deep = `${'abs('.repeat(30)}speed${')'.repeat(30)}`
    const wide = `greatest(${Array.from({ length: 20 }, (_, i) => `speed + ${i}`).join(', ')})`
    const plan = await compile({
      aggregations: [max(deep, { as: 'deep', windows: ['1h'] }), max(wide, { as: 'wide', windows: ['1h'] })],
    })
    expect(plan.state.columns).toHaveLength(2)
  })

  it('that need too many registers are refused', async () => {
    const long = Array.from({ length: 200 }, (_, i) => `speed * ${i}`).join(' + ')
    expect(await refusal({ aggregations: [max(long, { as: 'long', windows: ['1h'] })] })).toMatch(
      /more than 256 operations/,
    )
  })
})
