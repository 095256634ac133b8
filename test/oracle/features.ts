/**
 * What a request must answer: every feature from its definition, over the events of its window, in exact arithmetic and
 * rounded once.
 */
import type { KeyPart } from '../../src/model/key.ts'
import type {
  FeaturePlan,
  FeatureStatus,
  FeatureValue,
  Plan,
  ProjectedColumn,
  StatePlan,
  ValueType,
} from '../../src/model/plan.ts'
import type { NaiveEvent, Value } from './event.ts'
import { compareEvents, compareValues, DECIMAL_LIMIT, eventsOf, timeOf, valueIn } from './event.ts'
import type { Rational } from './rational.ts'
import { decimalText, rational, toDouble, UNITS_PER_ONE, unitsOfDouble } from './rational.ts'

export interface NaiveFeature {
  readonly name: string
  readonly value: FeatureValue
  /** Of the statuses only those that follow from the events: ok, empty, unknown_entity, overflow. */
  readonly status: FeatureStatus
}

/** Every feature of the plan, in its order, from the applied events of all lanes. */
export function naiveFeatures(
  applied: readonly NaiveEvent[],
  plan: Plan,
  key: readonly KeyPart[],
  asOfMs: number,
): NaiveFeature[] {
  const known = eventsOf(applied, key)
  return plan.features.map((feature) => {
    const { startMs, endMs } = windowOf(plan, feature.window, asOfMs)
    const inside = known.filter((event) => timeOf(event) >= startMs && timeOf(event) < endMs)
    const { value, status } = evaluate(inside, plan.state, feature)
    return { name: feature.name, value, status: known.length === 0 ? 'unknown_entity' : status }
  })
}

/** `[startMs, endMs)` of a window as of an instant: the start floored to the tail step, the end exact or a head step's. */
export function windowOf(plan: Plan, window: number, asOfMs: number): { startMs: number; endMs: number } {
  const { lengthMs, tailStepMs } = plan.windows[window]!
  const startMs = Math.floor((asOfMs - lengthMs) / tailStepMs) * tailStepMs
  if (plan.state.head.kind === 'raw') return { startMs, endMs: asOfMs }
  const headStepMs = plan.state.ladder[0]!.stepMs
  return { startMs, endMs: Math.floor(asOfMs / headStepMs) * headStepMs }
}

type Evaluation = { value: FeatureValue; status: 'ok' | 'empty' | 'overflow' }

function evaluate(events: readonly NaiveEvent[], state: StatePlan, feature: FeaturePlan): Evaluation {
  if (feature.partial === -1) return { value: events.length, status: events.length > 0 ? 'ok' : 'empty' }

  const column = state.columns[state.partials[feature.partial]!.column]!
  const filled = events.filter((event) => valueIn(event, column) !== null)
  if (feature.op === 'count') return { value: filled.length, status: filled.length > 0 ? 'ok' : 'empty' }

  const needed = feature.op === 'var_samp' || feature.op === 'stddev_samp' ? 2 : 1
  if (filled.length < needed) return { value: defaultOf(feature), status: 'empty' }

  const value = aggregate(filled, state, column, feature)
  return value === OVERFLOW ? { value: null, status: 'overflow' } : { value, status: 'ok' }
}

const OVERFLOW = Symbol('overflow')

/** One operation over at least one (for sample variance two) non-null cells. */
function aggregate(
  events: readonly NaiveEvent[],
  state: StatePlan,
  column: ProjectedColumn,
  feature: FeaturePlan,
): FeatureValue | typeof OVERFLOW {
  switch (feature.op) {
    case 'count':
      return events.length
    case 'sum':
      return present(exactSum(events, column), feature.type, column)
    case 'mean':
      return finite(exactMean(events, column))
    case 'var_pop':
      return finite(exactVariance(events, column, events.length))
    case 'var_samp':
      return finite(exactVariance(events, column, events.length - 1))
    case 'stddev_pop':
      return rootOf(finite(exactVariance(events, column, events.length)))
    case 'stddev_samp':
      return rootOf(finite(exactVariance(events, column, events.length - 1)))
    case 'min':
      return shown(extreme(events, column, -1), column)
    case 'max':
      return shown(extreme(events, column, 1), column)
    case 'bit_or':
      return events.map((event) => valueIn(event, column) as bigint).reduce((a, b) => a | b)
    case 'bit_and':
      return events.map((event) => valueIn(event, column) as bigint).reduce((a, b) => a & b)
    case 'first':
      return shown(valueIn(inOrder(events, state)[0]!, column), column)
    case 'last':
      return shown(valueIn(inOrder(events, state)[events.length - 1]!, column), column)
  }
}

/** The cells as whole numbers over one denominator: exact for every numeric type, and for bool as 0 and 1. */
function exactCells(
  events: readonly NaiveEvent[],
  column: ProjectedColumn,
): { numerators: bigint[]; denominator: bigint } {
  const values = events.map((event) => valueIn(event, column))
  switch (column.type) {
    case 'float64':
      return { numerators: values.map((value) => unitsOfDouble(value as number)), denominator: UNITS_PER_ONE }
    case 'decimal':
      return { numerators: values as bigint[], denominator: 10n ** BigInt(column.scale ?? 0) }
    case 'int64':
      return { numerators: values as bigint[], denominator: 1n }
    case 'bool':
      return { numerators: values.map((value) => (value === true ? 1n : 0n)), denominator: 1n }
    case 'utf8':
      throw new Error(`cannot add up text of column ${column.name}`)
  }
}

function total(numerators: readonly bigint[]): bigint {
  let sum = 0n
  for (const numerator of numerators) sum += numerator
  return sum
}

export function exactSum(events: readonly NaiveEvent[], column: ProjectedColumn): Rational {
  const { numerators, denominator } = exactCells(events, column)
  return rational(total(numerators), denominator)
}

export function exactSquares(events: readonly NaiveEvent[], column: ProjectedColumn): Rational {
  const { numerators, denominator } = exactCells(events, column)
  return rational(total(numerators.map((numerator) => numerator * numerator)), denominator * denominator)
}

function exactMean(events: readonly NaiveEvent[], column: ProjectedColumn): Rational {
  const { numerators, denominator } = exactCells(events, column)
  return rational(total(numerators), denominator * BigInt(numerators.length))
}

/**
 * The sum of squared deviations from the mean over `divisor`. The deviation of a cell x/d from the mean S/(n·d) is
 * (n·x - S)/(n·d), so everything stays whole until the last division.
 */
function exactVariance(events: readonly NaiveEvent[], column: ProjectedColumn, divisor: number): Rational {
  const { numerators, denominator } = exactCells(events, column)
  const count = BigInt(numerators.length)
  const sum = total(numerators)
  const squares = numerators.map((numerator) => (count * numerator - sum) ** 2n)
  return rational(total(squares), (count * denominator) ** 2n * BigInt(divisor))
}

/** The least (sign -1) or the greatest (sign 1) cell. */
function extreme(events: readonly NaiveEvent[], column: ProjectedColumn, sign: number): Value {
  let best = valueIn(events[0]!, column)
  for (const event of events) {
    const value = valueIn(event, column)
    if (sign * compareValues(value, best, column.type) > 0) best = value
  }
  return best
}

export function inOrder(events: readonly NaiveEvent[], state: StatePlan): NaiveEvent[] {
  return [...events].sort((a, b) => compareEvents(a, b, state))
}

const INT64_MIN = -(2n ** 63n)
const INT64_MAX = 2n ** 63n - 1n

/** A sum in the feature's own type, or an overflow. */
function present(sum: Rational, type: ValueType, column: ProjectedColumn): FeatureValue | typeof OVERFLOW {
  if (type === 'float64') return finite(sum)
  const whole = sum.numerator
  if (type === 'decimal') {
    return whole > -DECIMAL_LIMIT && whole < DECIMAL_LIMIT ? decimalText(whole, column.scale ?? 0) : OVERFLOW
  }
  return whole >= INT64_MIN && whole <= INT64_MAX ? whole : OVERFLOW
}

function finite(exact: Rational): number | typeof OVERFLOW {
  const rounded = toDouble(exact)
  return Number.isFinite(rounded) ? rounded : OVERFLOW
}

/** stddev is the square root of the variance as rounded. */
function rootOf(variance: number | typeof OVERFLOW): number | typeof OVERFLOW {
  return variance === OVERFLOW ? OVERFLOW : Math.sqrt(variance)
}

/** A cell as an answer shows it: decimals as text. */
function shown(value: Value, column: ProjectedColumn): FeatureValue {
  return column.type === 'decimal' && value !== null ? decimalText(value as bigint, column.scale ?? 0) : value
}

/** `default` stands for a null answer; in a definition int64 is written as a JSON number or its digits. */
function defaultOf(feature: FeaturePlan): FeatureValue {
  if (feature.default === undefined) return null
  return feature.type === 'int64' ? BigInt(feature.default) : feature.default
}
