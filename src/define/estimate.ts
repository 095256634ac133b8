/**
 * What a row of a view costs: bytes per entity at a given rate, for `validate` to print before anything is stored.
 *
 * An upper bound as long as float64 magnitudes stay within 2^-12 .. 2^52, texts within TEXT_BYTES, and events come evenly; a
 * row's real bytes are trimmed further, run by run.
 */
import {
  FRONTIER_BYTES,
  NUMERIC_PARAM_BYTES,
  RAW_CELLS_AT,
  ROW_HEADER_BYTES,
  RUN_HEADER_BYTES,
  TILE_ROWS_AT,
} from '../../assembly/layout.ts'
import type { LevelPlan, PartialPlan, Plan, StatePlan, ValueType } from '../model/plan.ts'

export interface EntityEstimate {
  /** Events of one entity per second that the estimate is for. */
  readonly eventsPerSecond: number
  /** Raw events of the head; 0 where the head is kept as tiles. */
  readonly headEvents: number
  readonly headBytes: number
  readonly levels: readonly LevelEstimate[]
  readonly totalBytes: number
}

export interface LevelEstimate {
  readonly stepMs: number
  /** Tiles that are kept at most; fewer where events are rarer than tiles. */
  readonly tiles: number
  readonly tileBytes: number
  readonly bytes: number
}

const TILE_BYTES = TILE_ROWS_AT + 4
/** Limbs of exact sums and sums of squares, and the count before them: values as above, 2^32 of them. */
const SUM_BYTES: Record<ValueType, number> = { float64: 20, int64: 12, decimal: 20, bool: 8, utf8: 0 }
const SQUARES_BYTES: Record<ValueType, number> = { float64: 36, int64: 20, decimal: 36, bool: 8, utf8: 0 }
/** A u32 that says there was a cell, and the bits. */
const BITS_BYTES = 12
/** What a text is taken to have. */
const TEXT_BYTES = 24

/** Bytes that one entity's row takes at most at `eventsPerSecond`. */
export function estimateEntity(plan: Plan, eventsPerSecond: number): EntityEstimate {
  const { state } = plan
  const runBytes =
    RUN_HEADER_BYTES + state.partials.filter((each) => each.kind === 'numeric').length * NUMERIC_PARAM_BYTES
  const tileBytes = TILE_BYTES + state.partials.reduce((sum, each) => sum + partialBytes(each, state), 0)
  const levels = state.ladder.map((level) => estimateLevel(level, runBytes, tileBytes, eventsPerSecond))

  // The head's frontier follows the watermark, which follows the late clock.
  const headSeconds = (state.head.lengthMs + state.disorderMs) / 1000
  const headEvents = state.head.kind === 'raw' ? Math.ceil(headSeconds * eventsPerSecond) : 0
  const headBytes = headEvents === 0 ? 0 : RUN_HEADER_BYTES + headEvents * (RAW_CELLS_AT + cellsBytes(state))
  const rowBytes = ROW_HEADER_BYTES + state.ladder.length * FRONTIER_BYTES
  const totalBytes = rowBytes + headBytes + levels.reduce((sum, each) => sum + each.bytes, 0)
  return { eventsPerSecond, headEvents, headBytes, levels, totalBytes }
}

function estimateLevel(level: LevelPlan, runBytes: number, tileBytes: number, eventsPerSecond: number): LevelEstimate {
  const { stepMs, keepMs } = level
  // One more than fits: the oldest tile is cut by the frontier, the newest is open.
  const most = Math.ceil(keepMs / stepMs) + 1
  const tiles = Math.min(most, Math.ceil((keepMs / 1000) * eventsPerSecond) + 1)
  return { stepMs, tiles, tileBytes, bytes: runBytes + tiles * tileBytes }
}

function partialBytes(partial: PartialPlan, state: StatePlan): number {
  // An edge keeps its offset and, as any cell may decide a tie, the nulls and all cells of its event.
  if (partial.kind === 'edge') return 8 + cellsBytes(state)
  if (partial.kind === 'bits') return BITS_BYTES
  const { type } = state.columns[partial.column]!
  const extremes = Number(partial.min) + Number(partial.max)
  return (
    4 + (partial.sum ? SUM_BYTES[type] : 0) + (partial.squares ? SQUARES_BYTES[type] : 0) + extremes * cellBytes(type)
  )
}

/** Event id and projected cells of an event. */
function cellsBytes(state: StatePlan): number {
  const types = [...(state.id ? [state.id.type] : []), ...state.columns.map((each) => each.type)]
  return types.reduce((sum, each) => sum + cellBytes(each), 0)
}

function cellBytes(type: ValueType): number {
  if (type === 'utf8') return 8 + TEXT_BYTES
  return type === 'decimal' ? 16 : 8
}

// ---- from a sample ---------------------------------------------------------------------------------------------------

/** What rows of a sample were seen to take; where the sample has none of a kind, the bound above stands in. */
export interface MeasuredBytes {
  /** Of one raw event of the head. */
  readonly headEventBytes?: number
  /** Of one tile, finest level first. */
  readonly tileBytes: readonly (number | undefined)[]
}

export interface SteadyRow {
  readonly headEvents: number
  readonly headBytes: number
  readonly tiles: number
  readonly totalBytes: number
}

/**
 * What a row takes in the mean once its entity has been sending at `eventsPerSecond` for as long as tiles are kept. Events come by chance
 * (Poisson): of a level's tiles, the share 1 - e^(-rate · step) holds one.
 */
export function steadyRow(plan: Plan, eventsPerSecond: number, measured: MeasuredBytes): SteadyRow {
  const { state } = plan
  const bound = estimateEntity(plan, eventsPerSecond)
  const runParameters = state.partials.filter((each) => each.kind === 'numeric').length * NUMERIC_PARAM_BYTES
  let totalBytes = ROW_HEADER_BYTES + state.ladder.length * FRONTIER_BYTES
  let tiles = 0
  for (const [level, { stepMs, keepMs }] of state.ladder.entries()) {
    const held = (keepMs / stepMs) * -Math.expm1((-eventsPerSecond * stepMs) / 1000)
    tiles += held
    // A level without a tile has no run: its header comes with the chance that there is one.
    totalBytes += Math.min(1, held) * (RUN_HEADER_BYTES + runParameters)
    totalBytes += held * (measured.tileBytes[level] ?? bound.levels[level]!.tileBytes)
  }
  const headSeconds = state.head.kind === 'raw' ? (state.head.lengthMs + state.disorderMs) / 1000 : 0
  const headEvents = headSeconds * eventsPerSecond
  const eventBytes = measured.headEventBytes ?? RAW_CELLS_AT + cellsBytes(state)
  const headBytes = headEvents * eventBytes + Math.min(1, headEvents) * RUN_HEADER_BYTES
  return { headEvents, headBytes, tiles, totalBytes: totalBytes + headBytes }
}
