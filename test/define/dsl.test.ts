import { describe, expect, expectTypeOf, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import {
  avg,
  bitAnd,
  bitOr,
  bool,
  count,
  decimal,
  defineView,
  type EntityOf,
  type FeaturesOf,
  first,
  float64,
  int64,
  last,
  max,
  mean,
  min,
  stddev,
  stddevPop,
  sum,
  timestamp,
  utf8,
  type ViewOptions,
  variance,
  varPop,
} from '../../src/define/dsl.ts'
import { parseDefinitions } from '../../src/define/yaml.ts'
import { TilefoldError } from '../../src/model/errors.ts'
import type { FeatureValue } from '../../src/model/plan.ts'

const columns = {
  date: timestamp('us'),
  delay: int64(),
  speed: float64(),
  fare: decimal(12, 2),
  late: bool(),
  origin: utf8(),
  destination: utf8(),
}

const view = defineView({
  name: 'departures',
  source: { name: 'flights', columns },
  entity: ['origin', 'destination'],
  time: 'date',
  aggregations: [
    count({ windows: ['1h', '24h'] }),
    count('delay', { windows: ['1h'] }),
    sum('delay', { windows: ['1h'] }),
    sum('fare', { windows: ['1h'] }),
    sum('speed', { windows: ['1h'] }),
    sum('late', { windows: ['1h'] }),
    mean('delay', { windows: ['1h', '24h'] }),
    avg('late', { windows: ['1h'] }),
    min('fare', { windows: ['1h'] }),
    max('late', { windows: ['1h'] }),
    max('date', { windows: ['1h'] }),
    varPop('speed', { windows: ['1h'] }),
    variance('speed', { windows: ['1h'] }),
    stddev('fare', { windows: ['1h'] }),
    stddevPop('fare', { windows: ['1h'] }),
    first('destination', { windows: ['1h'] }),
    last('delay', { windows: ['1h'], name: 'latest_delay' }),
    bitOr('delay', { windows: ['1h'] }),
    bitAnd('delay', { windows: ['1h'] }),
    mean('delay > 15', { windows: ['1h', '7d'], as: 'late_rate' }),
    last('coalesce(delay, 0)', { windows: ['1h'], as: 'filled' }),
  ],
})

type Features = FeaturesOf<typeof view>

interface Expected {
  count_1h: number
  count_24h: number
  delay_count_1h: number
  delay_sum_1h: bigint | null
  fare_sum_1h: string | null
  speed_sum_1h: number | null
  late_sum_1h: bigint | null
  delay_mean_1h: number | null
  delay_mean_24h: number | null
  late_avg_1h: number | null
  fare_min_1h: string | null
  late_max_1h: boolean | null
  date_max_1h: bigint | null
  speed_var_pop_1h: number | null
  speed_variance_1h: number | null
  fare_stddev_1h: number | null
  fare_stddev_pop_1h: number | null
  destination_first_1h: string | null
  latest_delay: bigint | null
  delay_bit_or_1h: bigint | null
  delay_bit_and_1h: bigint | null
  late_rate_1h: number | null
  late_rate_7d: number | null
  filled_1h: FeatureValue
}

describe('types of a view', () => {
  it('are the names and values of its features', () => {
    expectTypeOf<Features>().toEqualTypeOf<Expected>()
    expectTypeOf<Features['delay_mean_24h']>().toEqualTypeOf<number | null>()
    // @ts-expect-error: no such window
    expectTypeOf<Features['delay_mean_7d']>().toBeNever()
  })

  it('are the names and values of its key', () => {
    expectTypeOf<EntityOf<typeof view>>().toEqualTypeOf<{ origin: string; destination: string }>()
    const single = defineView({
      name: 'accounts',
      source: { name: 'payments', columns: { at: timestamp(), account: int64(), test: bool() } },
      entity: 'account',
      time: 'at',
      aggregations: [count({ windows: ['1h'] })],
    })
    expectTypeOf<EntityOf<typeof single>>().toEqualTypeOf<{ account: bigint | number }>()
    expectTypeOf<FeaturesOf<typeof single>>().toEqualTypeOf<{ count_1h: number }>()
  })

  it('are open where the definition is not known to the compiler', () => {
    const options: ViewOptions = {
      name: 'open',
      source: { name: 'flights', columns },
      entity: 'origin',
      time: 'date',
      aggregations: [count({ windows: ['1h'] })],
    }
    const open = defineView(options)
    expectTypeOf<FeaturesOf<typeof open>>().toEqualTypeOf<{ [x: string]: FeatureValue }>()
  })

  it('refuse durations without a unit', () => {
    // @ts-expect-error: a number and a unit
    expect(() => mean('delay', { windows: ['1 hour'] })).not.toThrow()
    // @ts-expect-error: the unit is missing
    expect(() => mean('delay', { windows: ['60'] })).not.toThrow()
    expectTypeOf(mean('delay', { windows: ['1h30m'] }).op).toEqualTypeOf<'mean'>()
  })

  it('are the names that the plan has', async () => {
    const plan = await compileView(view)
    const names: Record<keyof Expected, true> = {
      count_1h: true,
      count_24h: true,
      delay_count_1h: true,
      delay_sum_1h: true,
      fare_sum_1h: true,
      speed_sum_1h: true,
      late_sum_1h: true,
      delay_mean_1h: true,
      delay_mean_24h: true,
      late_avg_1h: true,
      fare_min_1h: true,
      late_max_1h: true,
      date_max_1h: true,
      speed_var_pop_1h: true,
      speed_variance_1h: true,
      fare_stddev_1h: true,
      fare_stddev_pop_1h: true,
      destination_first_1h: true,
      latest_delay: true,
      delay_bit_or_1h: true,
      delay_bit_and_1h: true,
      late_rate_1h: true,
      late_rate_7d: true,
      filled_1h: true,
    }
    expect(plan.features.map((each) => each.name).sort()).toEqual(Object.keys(names).sort())
  })
})

describe('defineView', () => {
  const base = {
    name: 'departures',
    source: { name: 'flights', columns },
    entity: 'origin',
    time: 'date',
    aggregations: [count({ windows: ['1h'] })],
  } as const

  function refusal(change: Record<string, unknown>): string {
    try {
      defineView({ ...base, ...change } as unknown as ViewOptions)
    } catch (error) {
      expect(error).toBeInstanceOf(TilefoldError)
      expect((error as TilefoldError).code).toBe('DEFINITION_INVALID')
      return (error as TilefoldError).message
    }
    throw new Error('the definition was accepted')
  }

  it('says where in the view a mistake is, in its own words', () => {
    expect(refusal({ entity: 'orign' })).toBe(
      'cannot use definition at view "departures", entity: got unknown column "orign", did you mean "origin"?',
    )
    expect(refusal({ headStep: '7s' })).toMatch(/view "departures", headStep: got "7s"/)
    expect(refusal({ maxFuture: 'soon' })).toMatch(/view "departures", maxFuture: got "soon"/)
    expect(refusal({ lateness: { polcy: 'drop' } })).toMatch(
      /lateness\.polcy: got unknown key "polcy", did you mean "policy"\?/,
    )
    expect(refusal({ aggregations: [mean('delay', { windows: ['1h', '1x' as '1h'] })] })).toMatch(
      /aggregations\[0\]\.windows\[1\]: got "1x"/,
    )
    expect(refusal({ source: { name: 'flights', columns: { date: timestamp(), origin: decimal(50, 2) } } })).toMatch(
      /source\.columns\.origin: got "decimal\(50,2\)"/,
    )
  })

  it('takes what plain JavaScript may hand it as mistakes, not as crashes', () => {
    for (const [key, value] of [
      ['name', undefined],
      ['name', 7],
      ['name', '__proto__'],
      ['source', undefined],
      ['source', { name: 'x', columns: null }],
      ['source', { name: 'x', columns: { date: 'timestamp[us]', origin: 'utf8' } }],
      ['source', { name: 'x', columns: { date: null } }],
      ['entity', []],
      ['entity', 3],
      ['entity', ['origin', 'origin']],
      ['time', null],
      ['aggregations', 'count'],
      ['aggregations', [null]],
      ['aggregations', [{ op: 'count' }]],
      ['tiles', []],
      ['tiles', [1]],
      ['ttl', 60],
      ['edges', 'exact'],
      ['windows', ['1h']],
    ] as const) {
      expect(refusal({ [key]: value }), `${key} = ${JSON.stringify(value)}`).toMatch(/^cannot use definition/)
    }
  })

  it('fills in what YAML fills in', () => {
    const text = `
views:
  - name: departures
    source: { name: flights, columns: { date: "timestamp[us]", delay: int64, speed: float64, fare: "decimal(12,2)", late: bool, origin: utf8, destination: utf8 } }
    entity: origin
    time: date
    aggregations: [{ op: count, windows: [1h] }]
`
    const [written] = parseDefinitions(text, 'x.yaml').views
    const { origin: _1, ...fromYaml } = written!
    const { origin: _2, ...fromTypes } = defineView(base)
    expect(fromTypes).toEqual(fromYaml)
  })
})
