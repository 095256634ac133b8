/**
 * What a definition compiles to: plain data, the only thing that the engine, the walks and the offline jobs interpret.
 *
 * A plan has two halves. `state` decides which events are accepted and what a row keeps; its hash names everything stored.
 * `features` and `windows` decide what is served from that state; they may change without a backfill.
 */
import type { PhysicalType, TimeUnit } from './columns.ts'

/** The type of a projected column, of a feature's value, and of a key part. */
export type ValueType = 'float64' | 'int64' | 'decimal' | 'bool' | 'utf8'

export interface Plan {
  readonly view: string
  readonly state: StatePlan
  /** 16 lower-case hex digits over the canonical JSON of `state` (definitions, names and defaults are not in it). */
  readonly stateHash: string
  readonly features: readonly FeaturePlan[]
  /** Window lengths in ms, ascending, each with the step its start is floored to. */
  readonly windows: readonly WindowPlan[]
  /** 16 hex digits over state and everything served. */
  readonly definitionHash: string
  /** A complete-through older than this behind as-of makes an answer `stale`; undefined = never. */
  readonly ttlMs?: number
}

export interface StatePlan {
  /** Version of the semantics: raised when the same definition would accept or keep other things. */
  readonly semantics: number
  /** Name of the kind of event: files, topics and pushes that carry it share columns and clocks. */
  readonly source: string
  /** The source's columns that the program reads, in the order of its LOAD instructions. */
  readonly inputs: readonly InputColumn[]
  /** Column program (assembly/expr.ts), base64 of little-endian i32 words followed by its constants. */
  readonly program: string
  /** Registers that hold what the walk needs after the program has run. */
  readonly registers: {
    /** TYPE_I64, milliseconds since the epoch. */
    readonly time: number
    /** One per key part, in the order of `entity`. */
    readonly entity: readonly number[]
    /** TYPE_BOOL, or -1: keep everything. Null counts as false. */
    readonly filter: number
    /** One per `columns` entry. */
    readonly columns: readonly number[]
    /** Event id, TYPE_UTF8 or TYPE_I64, or -1. */
    readonly id: number
  }
  /** What the program computes beside the columns, as normalised SQL: the part of it that the state hash covers. */
  readonly expressions: { readonly time: string; readonly filter?: string; readonly id?: string }
  readonly entity: readonly { readonly name: string; readonly type: 'utf8' | 'int64' | 'bool' }[]
  /** Projected columns; the head's raw events carry them, in this order. */
  readonly columns: readonly ProjectedColumn[]
  readonly id?: { readonly type: 'utf8' | 'int64' }
  readonly partials: readonly PartialPlan[]
  /** Finest first; each step divides the next. With `head.kind = 'step'` the first level is the head's sub-tiles. */
  readonly ladder: readonly LevelPlan[]
  readonly head: { readonly kind: 'raw' | 'step'; readonly lengthMs: number }
  readonly edges: 'aligned'
  /** Events whose coarsest tile ends this far behind the late clock go to the side output. */
  readonly retentionMs: number
  readonly lateness: { readonly allowedMs: number; readonly policy: 'accept' | 'side_output' | 'drop' }
  /** How far event time may be ahead of record time (or of the log's creation) before the event is rejected. */
  readonly maxFutureMs: number
  readonly dedupe?: { readonly withinMs: number }
  /** The watermark stays this far behind the late clock. */
  readonly disorderMs: number
}

export interface InputColumn {
  readonly name: string
  /** What the definition declares, and hence what a register holds after LOAD. */
  readonly type: ValueType | 'timestamp'
  readonly scale?: number
  /** `timestamp` only: the unit of a plain integer column; a column with a unit of its own must agree or is converted. */
  readonly unit?: TimeUnit
  /** Physical types that may be given for it. */
  readonly accepts: readonly PhysicalType[]
}

export interface ProjectedColumn {
  /** A column's name, or the expression's normalised text. */
  readonly name: string
  readonly type: ValueType
  /** decimal only. */
  readonly scale?: number
}

/**
 * One partial aggregate of the state.
 * - `numeric`: count of non-null cells of one column, and as asked: exact sum, exact sum of squares, min, max.
 * - `edge`: the first or last non-null cell by (event time, event id or all projected columns).
 * - `bits`: all non-null cells of an int64 column, OR-ed or (`and`) AND-ed bit by bit.
 */
export type PartialPlan =
  | {
      readonly kind: 'numeric'
      readonly column: number
      readonly sum: boolean
      readonly squares: boolean
      readonly min: boolean
      readonly max: boolean
    }
  | { readonly kind: 'edge'; readonly column: number; readonly last: boolean }
  | { readonly kind: 'bits'; readonly column: number; readonly and: boolean }

export interface LevelPlan {
  readonly stepMs: number
  /** A tile is kept while its end is newer than the head's frontier minus this. */
  readonly keepMs: number
}

export interface WindowPlan {
  readonly lengthMs: number
  /** Step that the start is floored to: a step of the ladder. */
  readonly tailStepMs: number
}

export type FeatureOp =
  | 'count'
  | 'sum'
  | 'mean'
  | 'min'
  | 'max'
  | 'var_pop'
  | 'var_samp'
  | 'stddev_pop'
  | 'stddev_samp'
  | 'first'
  | 'last'
  | 'bit_or'
  | 'bit_and'

export interface FeaturePlan {
  readonly name: string
  readonly op: FeatureOp
  /** Index into `state.partials`; -1 for `count(*)`, which counts a tile's rows. */
  readonly partial: number
  /** Index into `windows`. */
  readonly window: number
  readonly type: ValueType
  readonly scale?: number
  /** Served instead of null; JSON-safe: int64 and decimal as text, except that a count is a number. */
  readonly default?: number | string | boolean
}

/** A feature's value: float64 and count are numbers, int64 is a bigint, decimal a plain decimal string. */
export type FeatureValue = number | bigint | string | boolean | null

/**
 * - `ok`: computed from complete data
 * - `empty`: the entity is known, the window holds no (non-null) cell
 * - `unknown_entity`: no row for this entity in any lane
 * - `stale`: the data end more than `ttl` before as-of
 * - `incomplete`: the window reaches before the history the store holds, or rows are ahead of the layout the reader found
 * - `too_old`: as-of lies before the oldest instant the row can answer; use a training set
 * - `overflow`: the exact value does not fit the feature's type
 * - `error`: the row could not be read; the row's error says why
 * - `unavailable`: the part of the store that holds the entity did not answer in time, or refused; ask again
 */
export type FeatureStatus =
  | 'ok'
  | 'empty'
  | 'unknown_entity'
  | 'stale'
  | 'incomplete'
  | 'too_old'
  | 'overflow'
  | 'error'
  | 'unavailable'
