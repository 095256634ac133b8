/**
 * A feature view as its author declared it, checked and with every default filled in: what the TypeScript DSL and the YAML
 * reader both produce, and the only thing the compiler reads.
 */
import type { TimeUnit } from '../model/columns.ts'
import type { FeatureOp, ValueType } from '../model/plan.ts'
import type { Origin } from './problems.ts'

export interface ViewDefinition {
  readonly name: string
  readonly source: { readonly name: string; readonly columns: readonly SourceColumn[] }
  /** Columns that make up the entity key, in order. */
  readonly entity: readonly string[]
  /** The timestamp column that holds the event time. */
  readonly time: string
  /** SQL, bool. */
  readonly filter?: string
  readonly aggregations: readonly AggregationDefinition[]
  /** Finest first. */
  readonly tilesMs: readonly number[]
  readonly edges: 'aligned'
  readonly headMs: number
  readonly headStepMs?: number
  /** `allowedMs` undefined: the retention. */
  readonly lateness: { readonly policy: LatePolicy; readonly allowedMs?: number }
  readonly dedupe?: { readonly id: string; readonly withinMs: number }
  readonly maxFutureMs: number
  readonly disorderMs: number
  /** undefined: the longest window and one coarsest step. */
  readonly retentionMs?: number
  readonly ttlMs?: number
  readonly slackMs: number
  /** Where each part was written, for errors. */
  readonly origin: Origin
}

export type LatePolicy = 'accept' | 'side_output' | 'drop'

export interface SourceColumn {
  readonly name: string
  readonly type: ValueType | 'timestamp'
  /** decimal only. */
  readonly precision?: number
  readonly scale?: number
  /** timestamp only. */
  readonly unit?: TimeUnit
}

export interface AggregationDefinition {
  /** As written: aliases keep their name in the features'. */
  readonly op: AggregationOp
  /** A column's name or a SQL expression; absent for `count`: rows. */
  readonly column?: string
  readonly windows: readonly { readonly text: string; readonly lengthMs: number }[]
  /** Base of the features' names, `{as}_{window}`. */
  readonly as?: string
  /** The feature's whole name; one window only. */
  readonly name?: string
  readonly default?: number | string | boolean
}

/** Every accepted operation and what it means. */
export const AGGREGATION_OPS = {
  count: 'count',
  sum: 'sum',
  mean: 'mean',
  avg: 'mean',
  min: 'min',
  max: 'max',
  var_pop: 'var_pop',
  var_samp: 'var_samp',
  variance: 'var_samp',
  stddev_pop: 'stddev_pop',
  stddev_samp: 'stddev_samp',
  stddev: 'stddev_samp',
  first: 'first',
  last: 'last',
  bit_or: 'bit_or',
  bit_and: 'bit_and',
} as const satisfies Record<string, FeatureOp>

export type AggregationOp = keyof typeof AGGREGATION_OPS

const HOUR_MS = 3_600_000

/** What a definition that says nothing gets. */
export const DEFAULTS = {
  namespace: 'default',
  tiles: ['5m', '1h', '1d'],
  edges: 'aligned',
  /** Raw events behind the watermark: as-of may lie this far back. */
  headMs: 60_000,
  policy: 'accept',
  dedupeWithinMs: HOUR_MS,
  /** A row dated 2200 must not become the newest event. */
  maxFutureMs: HOUR_MS,
  /** Sources deliver neighbours out of order by seconds; a minute of watermark delay costs a minute of raw events. */
  disorderMs: 60_000,
  /** Tiles that only an as-of up to this far behind the head frontier needs. */
  slackMs: HOUR_MS,
} as const

/** Every bound that a definition is checked against. */
export const LIMITS = {
  stepMsMin: 1000,
  stepMsMax: 28 * 24 * HOUR_MS,
  /** Five years, leap days included. */
  windowMsMax: 1827 * 24 * HOUR_MS,
  /** A window's start is floored to its tail step: at most a twelfth of the window. */
  tailSteps: 12,
  /** Tiles of one level that a row may hold; more make a read of the row slow, and a coarser step is missing. */
  levelTilesMax: 10_000,
  headMsMin: 1000,
  headMsMax: 24 * HOUR_MS,
  disorderMsMax: 24 * HOUR_MS,
  slackMsMax: 31 * 24 * HOUR_MS,
  retentionMsMax: 3660 * 24 * HOUR_MS,
  expressionCharsMax: 4096,
  textLiteralBytesMax: 1024,
  nameCharsMax: 128,
  viewsMax: 256,
  aggregationsMax: 256,
  sourceColumnsMax: 1000,
} as const

/** Properties of every JavaScript object: a result keyed by them would lie. */
export const RESERVED_NAMES: readonly string[] = ['__proto__', 'constructor', 'prototype']
