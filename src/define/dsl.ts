/**
 * Definitions in TypeScript. The names of a view's features are computed by the type system, so `FeaturesOf<typeof view>` is
 * the type of its answers:
 *
 *   const departures = defineView({
 *     name: 'departures',
 *     source: { name: 'flights', columns: { date: timestamp('us'), delay: int64(), origin: utf8() } },
 *     entity: 'origin',
 *     time: 'date',
 *     filter: 'delay IS NOT NULL',
 *     aggregations: [count({ windows: ['1h', '24h'] }), mean('delay', { windows: ['24h'] })],
 *   })
 *   FeaturesOf<typeof departures>   // { count_1h: number; count_24h: number; delay_mean_24h: number | null }
 */
import type { TimeUnit } from '../model/columns.ts'
import type { FeatureValue, ValueType } from '../model/plan.ts'
import { checkView } from './check.ts'
import { type Origin, type Path, Problems, type Spot } from './problems.ts'
import type { AGGREGATION_OPS, AggregationOp, LatePolicy, ViewDefinition } from './view.ts'

// ---- columns ---------------------------------------------------------------------------------------------------------

export interface ColumnSpec<Type extends ValueType | 'timestamp' = ValueType | 'timestamp'> {
  readonly type: Type
  /** As YAML writes it. */
  readonly text: string
}

export function int64(): ColumnSpec<'int64'> {
  return { type: 'int64', text: 'int64' }
}

export function float64(): ColumnSpec<'float64'> {
  return { type: 'float64', text: 'float64' }
}

export function bool(): ColumnSpec<'bool'> {
  return { type: 'bool', text: 'bool' }
}

export function utf8(): ColumnSpec<'utf8'> {
  return { type: 'utf8', text: 'utf8' }
}

/** `precision` digits (1..38), `scale` of them behind the point. Exact: values are scaled integers, answers strings. */
export function decimal(precision: number, scale: number): ColumnSpec<'decimal'> {
  return { type: 'decimal', text: `decimal(${precision},${scale})` }
}

/** An instant; `unit` is what plain integers count. A source that states its own unit is converted. */
export function timestamp(unit: TimeUnit = 'ms'): ColumnSpec<'timestamp'> {
  return { type: 'timestamp', text: `timestamp[${unit}]` }
}

// ---- aggregations ----------------------------------------------------------------------------------------------------

type TimeSuffix = 'ms' | 's' | 'm' | 'h' | 'd' | 'w'
/** `90s`, `5m`, `1h30m`, `7d`. */
export type Duration = `${number}${TimeSuffix}` | `${number}${TimeSuffix}${number}${TimeSuffix}`

export interface AggregationOptions {
  /** Window lengths; a window as of t is [t - length, t). */
  readonly windows: readonly Duration[]
  /** Base of the features' names, `{as}_{window}`; needed where the column is an expression. */
  readonly as?: string
  /** The feature's whole name; one window only. */
  readonly name?: string
  /** Served instead of null. */
  readonly default?: number | string | boolean
}

export interface Aggregation<
  Op extends AggregationOp = AggregationOp,
  Column extends string | undefined = string | undefined,
  Options extends AggregationOptions = AggregationOptions,
> {
  readonly op: Op
  readonly column: Column
  readonly options: Options
}

type ColumnAggregation<Op extends AggregationOp> = <
  const Column extends string,
  const Options extends AggregationOptions,
>(
  column: Column,
  options: Options,
) => Aggregation<Op, Column, Options>

function columnAggregation<Op extends AggregationOp>(op: Op): ColumnAggregation<Op> {
  return (column, options) => ({ op, column, options })
}

/** Rows, or with a column its non-null cells. */
export function count<const Options extends AggregationOptions>(
  options: Options,
): Aggregation<'count', undefined, Options>
export function count<const Column extends string, const Options extends AggregationOptions>(
  column: Column,
  options: Options,
): Aggregation<'count', Column, Options>
export function count(column: string | AggregationOptions, options?: AggregationOptions): Aggregation {
  return typeof column === 'string'
    ? { op: 'count', column, options: options! }
    : { op: 'count', column: undefined, options: column }
}

/** Exact, rounded once: float64, int64 (bools count as 0 and 1), decimal in the column's scale. */
export const sum = columnAggregation('sum')
/** Exact sum over count, rounded once; of bools a rate. */
export const mean = columnAggregation('mean')
/** `mean` under SQL's name. */
export const avg = columnAggregation('avg')
export const min = columnAggregation('min')
export const max = columnAggregation('max')
/** Population variance, from exact power sums. */
export const varPop = columnAggregation('var_pop')
/** Sample variance: null below two cells. */
export const varSamp = columnAggregation('var_samp')
/** `varSamp` under SQL's name. */
export const variance = columnAggregation('variance')
export const stddevPop = columnAggregation('stddev_pop')
/** Sample standard deviation: null below two cells. */
export const stddevSamp = columnAggregation('stddev_samp')
/** `stddevSamp` under SQL's name. */
export const stddev = columnAggregation('stddev')
/** Of the earliest event with a non-null cell, by event time. */
export const first = columnAggregation('first')
/** Of the latest event with a non-null cell, by event time. */
export const last = columnAggregation('last')
/** All int64 cells OR-ed bit by bit: which flags were seen at all. */
export const bitOr = columnAggregation('bit_or')
/** All int64 cells AND-ed bit by bit: which flags every event had. */
export const bitAnd = columnAggregation('bit_and')

// ---- views -----------------------------------------------------------------------------------------------------------

export type Columns = Readonly<Record<string, ColumnSpec>>

export interface ViewOptions {
  readonly name: string
  /** The kind of event: its name and the columns that the view may use. */
  readonly source: { readonly name: string; readonly columns: Columns }
  /** The column, or columns, that say what the features are about. */
  readonly entity: string | readonly string[]
  /** The timestamp column that holds the event time. */
  readonly time: string
  /** SQL, bool: events for which it is false or null are left out. */
  readonly filter?: string
  readonly aggregations: readonly Aggregation[]
  /** Widths of the tiles, finest first, each dividing the next; 5m, 1h, 1d by default. */
  readonly tiles?: readonly Duration[]
  readonly edges?: 'aligned'
  /** How long events stay raw behind the watermark; 1m by default. */
  readonly head?: Duration
  /** Keeps the head as tiles of this width instead: as-of is then floored to it. For views with very hot entities. */
  readonly headStep?: Duration
  readonly lateness?: { readonly allowed?: Duration; readonly policy?: LatePolicy }
  /** The first event with an id wins, within a time behind the late clock (1h by default). */
  readonly dedupe?: { readonly id: string; readonly within?: Duration }
  /** How far event time may be ahead of record time; 1h by default. */
  readonly maxFuture?: Duration
  /** How far out of order events arrive in general; 1m by default. */
  readonly disorder?: Duration
  /** Events older than this go to the side output; the longest window and a coarsest tile by default. */
  readonly retention?: Duration
  /** Answers from data that end longer ago than this are stale; never by default. */
  readonly ttl?: Duration
  /** How far behind the head an as-of still finds the tiles its windows start in; 1h by default. */
  readonly slack?: Duration
}

declare const FEATURES: unique symbol
declare const ENTITY: unique symbol

/** A checked definition that carries the types of its features and of its entity. */
export interface FeatureView<Features = unknown, Entity = unknown> extends ViewDefinition {
  readonly [FEATURES]?: Features
  readonly [ENTITY]?: Entity
}

/** Names and types of a view's features: counts are numbers, everything else may be null. */
export type FeaturesOf<View> = View extends FeatureView<infer Features, infer _Entity> ? Features : never

/** Names and types of a view's key columns. */
export type EntityOf<View> = View extends FeatureView<infer _Features, infer Entity> ? Entity : never

/**
 * Checks a definition and gives it its types. Throws DEFINITION_INVALID with every problem in `details.problems`.
 */
export function defineView<const Options extends ViewOptions>(
  options: Options,
): FeatureView<Flat<FeatureMap<Options['aggregations'], Options['source']['columns']>>, Flat<EntityMap<Options>>> {
  const origin = originOf(options.name)
  const problems = new Problems(origin)
  const view = checkView(plainView(options), [], problems)
  problems.finish()
  return { ...view!, origin }
}

/** The same keys as in YAML, so that there is one set of checks. */
function plainView({ headStep, maxFuture, source, aggregations, ...options }: ViewOptions): Record<string, unknown> {
  const columns = source?.columns
  const isObject = typeof columns === 'object' && columns !== null
  const plain: Record<string, unknown> = {
    ...options,
    head_step: headStep,
    max_future: maxFuture,
    source: isObject
      ? { ...source, columns: Object.fromEntries(Object.entries(columns).map(([name, spec]) => [name, spec?.text])) }
      : source,
    aggregations: Array.isArray(aggregations)
      ? (aggregations as readonly Aggregation[]).map((each) =>
          typeof each === 'object' && each !== null ? { op: each.op, column: each.column, ...each.options } : each,
        )
      : aggregations,
  }
  return plain
}

const CAMEL_KEYS: Record<string, string> = { head_step: 'headStep', max_future: 'maxFuture' }

function originOf(name: unknown): Origin {
  const view = typeof name === 'string' ? `view ${JSON.stringify(name)}` : 'a view'
  return {
    locate(path: Path, { offset }: Spot = {}) {
      const keys = path.map((key, i) =>
        typeof key === 'number' ? `[${key}]` : `${i > 0 ? '.' : ''}${CAMEL_KEYS[key] ?? key}`,
      )
      const place = keys.length === 0 ? '' : `, ${keys.join('')}`
      return { text: `${view}${place}${offset === undefined ? '' : `, character ${offset + 1}`}` }
    },
  }
}

// ---- types of features -----------------------------------------------------------------------------------------------

type Flat<T> = { [Key in keyof T]: T[Key] }

/** One entry per feature; a list that is no tuple has names the types can't know. */
type FeatureMap<
  Aggregations extends readonly Aggregation[],
  Declared extends Columns,
> = number extends Aggregations['length']
  ? Record<string, FeatureValue>
  : {
      [Index in keyof Aggregations & `${number}` as FeatureName<Aggregations[Index]>]: FeatureType<
        Aggregations[Index],
        Declared
      >
    }

type FeatureName<A> =
  A extends Aggregation<infer Op, infer Column, infer Options>
    ? Options extends { readonly name: infer Name extends string }
      ? Name
      : Options extends { readonly as: infer As extends string }
        ? `${As}_${Options['windows'][number]}`
        : Column extends string
          ? `${Column}_${Op}_${Options['windows'][number]}`
          : `${Op}_${Options['windows'][number]}`
    : never

type FeatureType<A, Declared extends Columns> =
  A extends Aggregation<infer Op, infer Column, infer _Options>
    ? (typeof AGGREGATION_OPS)[Op] extends 'count'
      ? number
      : (typeof AGGREGATION_OPS)[Op] extends 'mean' | 'var_pop' | 'var_samp' | 'stddev_pop' | 'stddev_samp'
        ? number | null
        : Column extends keyof Declared
          ? (Op extends 'sum' ? SumValue<Declared[Column]['type']> : CellValue<Declared[Column]['type']>) | null
          : FeatureValue
    : never

type CellValue<Type> = Type extends 'float64'
  ? number
  : Type extends 'int64' | 'timestamp'
    ? bigint
    : Type extends 'bool'
      ? boolean
      : string

type SumValue<Type> = Type extends 'bool' ? bigint : CellValue<Type>

type EntityMap<Options extends ViewOptions> = {
  [Name in EntityNames<Options['entity']>]: Name extends keyof Options['source']['columns']
    ? KeyValue<Options['source']['columns'][Name]['type']>
    : never
}

type EntityNames<Entity> = Entity extends string ? Entity : Entity extends readonly string[] ? Entity[number] : never

type KeyValue<Type> = Type extends 'utf8' ? string : Type extends 'bool' ? boolean : bigint | number
