/** A plan as the core reads it: the cells that assembly/plan.ts and assembly/merge.ts document. */
import {
  ABI_VERSION,
  BITS_AND,
  EDGE_LAST,
  HEAD_RAW,
  HEAD_STEP,
  NUMERIC_MAX,
  NUMERIC_MIN,
  NUMERIC_SQUARES,
  NUMERIC_SUM,
  OP_BITS,
  OP_COUNT,
  OP_EDGE,
  OP_MAX,
  OP_MEAN,
  OP_MIN,
  OP_STDDEV_POP,
  OP_STDDEV_SAMP,
  OP_SUM,
  OP_VAR_POP,
  OP_VAR_SAMP,
  PARTIAL_BITS,
  PARTIAL_EDGE,
  PARTIAL_NUMERIC,
  POLICY_ACCEPT,
  POLICY_DROP,
  POLICY_SIDE_OUTPUT,
  TYPE_BOOL,
  TYPE_DEC,
  TYPE_F64,
  TYPE_I64,
  TYPE_UTF8,
} from '../../assembly/layout.ts'
import type { TakenTimes } from '../model/covers.ts'
import type { FeatureOp, PartialPlan, Plan, StatePlan, ValueType } from '../model/plan.ts'

/** Which part of a log an instance folds. */
export interface Shares {
  /** Lanes the log's entities are spread over; this instance folds the lanes congruent to `shard` modulo `shards`. */
  readonly lanes: number
  readonly shard: number
  readonly shards: number
  /** Written into new rows. */
  readonly completeSinceMs: number
  readonly layoutVersion: number
  /** Only events of these times; of all times unless told. */
  readonly takes?: TakenTimes | undefined
  /** Batches are of an internal topic, whose router has judged their rows. */
  readonly isJudged?: boolean
  /** How large the delta is going to be before it is flushed, where that is known. */
  readonly deltaBytes?: number | undefined
}

const POLICIES = { accept: POLICY_ACCEPT, side_output: POLICY_SIDE_OUTPUT, drop: POLICY_DROP }

/** What a projected cell is inside the core: booleans are the integers 0 and 1. */
const CELL_TYPES: Record<ValueType, number> = {
  float64: TYPE_F64,
  int64: TYPE_I64,
  decimal: TYPE_DEC,
  bool: TYPE_I64,
  utf8: TYPE_UTF8,
}

const KEY_TYPES = { utf8: TYPE_UTF8, int64: TYPE_I64, bool: TYPE_BOOL }

const OPERATIONS: Record<FeatureOp, number> = {
  count: OP_COUNT,
  sum: OP_SUM,
  mean: OP_MEAN,
  min: OP_MIN,
  max: OP_MAX,
  var_pop: OP_VAR_POP,
  var_samp: OP_VAR_SAMP,
  stddev_pop: OP_STDDEV_POP,
  stddev_samp: OP_STDDEV_SAMP,
  first: OP_EDGE,
  last: OP_EDGE,
  bit_or: OP_BITS,
  bit_and: OP_BITS,
}

export function stateProgram(state: StatePlan, shares: Shares): Uint8Array {
  const program = Buffer.from(state.program, 'base64')
  const cells = [
    ABI_VERSION,
    state.ladder.length,
    state.head.kind === 'raw' ? HEAD_RAW : HEAD_STEP,
    state.head.lengthMs,
    state.retentionMs,
    state.lateness.allowedMs,
    POLICIES[state.lateness.policy],
    state.maxFutureMs,
    state.disorderMs,
    state.dedupe ? state.dedupe.withinMs : -1,
    state.registers.time,
    state.registers.filter,
    state.registers.id,
    // An id without dedupe still orders events of one time.
    state.id ? KEY_TYPES[state.id.type] : 0,
    shares.lanes,
    shares.shard,
    shares.shards,
    shares.completeSinceMs,
    shares.layoutVersion,
    ...state.ladder.flatMap((level) => [level.stepMs, level.keepMs]),
    state.entity.length,
    ...state.entity.flatMap((part, i) => [state.registers.entity[i]!, KEY_TYPES[part.type]]),
    state.columns.length,
    ...state.columns.flatMap((each, i) => [state.registers.columns[i]!, CELL_TYPES[each.type], each.scale ?? 0]),
    state.partials.length,
    ...state.partials.flatMap(partialCells),
    program.length,
  ]
  const bytes = new Uint8Array(cells.length * 8 + Math.ceil(program.length / 8) * 8)
  writeCells(bytes, cells)
  bytes.set(program, cells.length * 8)
  return bytes
}

function partialCells(partial: PartialPlan): number[] {
  if (partial.kind === 'edge') return [PARTIAL_EDGE, partial.column, partial.last ? EDGE_LAST : 0]
  if (partial.kind === 'bits') return [PARTIAL_BITS, partial.column, partial.and ? BITS_AND : 0]
  const flags =
    (partial.sum ? NUMERIC_SUM : 0) |
    (partial.squares ? NUMERIC_SQUARES : 0) |
    (partial.min ? NUMERIC_MIN : 0) |
    (partial.max ? NUMERIC_MAX : 0)
  return [PARTIAL_NUMERIC, partial.column, flags]
}

export function featureProgram(plan: Plan): Uint8Array {
  const cells = [
    plan.windows.length,
    ...plan.windows.flatMap((window) => [window.lengthMs, window.tailStepMs]),
    plan.features.length,
    ...plan.features.flatMap((feature) => [OPERATIONS[feature.op], feature.partial, feature.window]),
  ]
  const bytes = new Uint8Array(cells.length * 8)
  writeCells(bytes, cells)
  return bytes
}

/** Pairs of cells, as assembly/times.ts reads them. */
export function rangeCells({ ranges }: TakenTimes): Uint8Array {
  const bytes = new Uint8Array(ranges.length * 16)
  writeCells(
    bytes,
    ranges.flatMap(({ fromMs, toMs }) => [fromMs, toMs]),
  )
  return bytes
}

function writeCells(bytes: Uint8Array, cells: readonly number[]): void {
  const view = new DataView(bytes.buffer)
  for (const [i, cell] of cells.entries()) view.setBigInt64(i * 8, BigInt(cell), true)
}
