/**
 * The row of an entity written from its events alone, by the drawing in assembly/row.ts and nothing else of the core: what the
 * normalised bytes must be.
 */
import {
  EDGE_NONE,
  HEAD_RAW,
  HEAD_STEP,
  NUMERIC_PARAM_BYTES,
  NUMERIC_PARAM_N_WIDTH,
  NUMERIC_PARAM_SQUARES_BASE,
  NUMERIC_PARAM_SQUARES_LIMBS,
  NUMERIC_PARAM_SUM_BASE,
  NUMERIC_PARAM_SUM_LIMBS,
  RAW_OP_INSERT,
  ROW_BYTES_AT,
  ROW_CHECKED_FROM,
  ROW_CHECKSUM_AT,
  ROW_HEAD_FRONTIER_AT,
  ROW_HEAD_KIND_AT,
  ROW_HEADER_BYTES,
  ROW_LEVELS_AT,
  ROW_MAGIC,
  ROW_RUNS_AT,
  ROW_VERSION,
  ROW_VERSION_AT,
  RUN_HEAD_LEVEL,
  RUN_RAW,
  RUN_TILES,
} from '../../assembly/layout.ts'
import type { PartialPlan, ProjectedColumn, StatePlan } from '../../src/model/plan.ts'
import { idOf, timeOf, type Value, valueIn } from '../oracle/event.ts'
import { type NaiveEvent, naivePartial, naiveTiles } from '../oracle/naive.ts'

/** The row of `applied`, one entity's events, at a head frontier; without applied position and versions, as normalised. */
export function naiveRow(applied: readonly NaiveEvent[], state: StatePlan, headMs: number): Uint8Array {
  const frontiers = frontiersAt(state, headMs)
  const tiles = naiveTiles(applied, state, {
    headMs,
    compactMs: frontiers.map(({ compacted }, i) => compacted * state.ladder[i]!.stepMs),
    evictMs: frontiers.map(({ evicted }, i) => evicted * state.ladder[i]!.stepMs),
  })
  const runs: number[][] = []
  if (tiles.head.length > 0) runs.push(rawRun(tiles.head, state))
  for (const [level, byIndex] of tiles.levels.entries()) {
    if (byIndex.size > 0) runs.push(tileRun(level, byIndex, state))
  }

  const row = new Uint8Array([
    ...new Array(ROW_HEADER_BYTES).fill(0),
    ...frontiers.flatMap(({ compacted, evicted }) => [...whole(BigInt(compacted), 8), ...whole(BigInt(evicted), 8)]),
    ...runs.flat(),
  ])
  const view = new DataView(row.buffer)
  view.setUint16(0, ROW_MAGIC, true)
  view.setUint8(ROW_VERSION_AT, ROW_VERSION)
  view.setUint8(ROW_LEVELS_AT, state.ladder.length)
  view.setUint32(ROW_BYTES_AT, row.length, true)
  view.setBigInt64(ROW_HEAD_FRONTIER_AT, BigInt(headMs), true)
  view.setUint16(ROW_RUNS_AT, runs.length, true)
  view.setUint16(ROW_HEAD_KIND_AT, state.head.kind === 'raw' ? HEAD_RAW : HEAD_STEP, true)
  return sealRow(row)
}

/** Tile numbers: everything below `compacted` is written, nothing below `evicted` is kept. */
export function frontiersAt(state: StatePlan, headMs: number): { compacted: number; evicted: number }[] {
  const { ladder } = state
  const compacted = ladder.map(({ stepMs }, i) => (i === 0 ? Math.ceil(headMs / stepMs) : Math.floor(headMs / stepMs)))
  return ladder.map(({ stepMs, keepMs }, i) => {
    const parent = ladder[i + 1]
    const written = parent ? compacted[i + 1]! * (parent.stepMs / stepMs) : Number.POSITIVE_INFINITY
    return {
      compacted: compacted[i]!,
      evicted: Math.max(0, Math.min(Math.floor((headMs - keepMs) / stepMs), written)),
    }
  })
}

// ---- runs ------------------------------------------------------------------------------------------------------------

const utf8 = new TextEncoder()

/** Text behind a run's tiles or events, in the order of its references. */
class Heap {
  readonly bytes: number[] = []

  reference(text: string): number[] {
    const added = utf8.encode(text)
    const offset = added.length === 0 ? 0 : this.bytes.length
    this.bytes.push(...added)
    return [...whole(BigInt(offset), 4), ...whole(BigInt(added.length), 4)]
  }

  padded(): number[] {
    return [...this.bytes, ...new Array((4 - (this.bytes.length % 4)) % 4).fill(0)]
  }
}

function run(
  head: { kind: number; level: number; rowsWidth: number },
  parameters: number[],
  items: number[][],
  heap: Heap,
): number[] {
  const text = heap.padded()
  return [
    ...[head.kind, head.level, head.rowsWidth, 0],
    ...whole(BigInt(items.length), 4),
    ...whole(BigInt(items[0]!.length), 4),
    ...whole(BigInt(text.length), 4),
    ...parameters,
    ...items.flat(),
    ...text,
  ]
}

function rawRun(events: readonly NaiveEvent[], state: StatePlan): number[] {
  const heap = new Heap()
  const items = events.map((event) => [
    ...whole(BigInt(timeOf(event)), 8),
    ...[RAW_OP_INSERT, 0, 0, 0],
    ...cellsOf(event, state, heap),
  ])
  return run({ kind: RUN_RAW, level: RUN_HEAD_LEVEL, rowsWidth: 0 }, [], items, heap)
}

/** Nulls, then the id where one is declared, then every projected column; null cells are zeros. */
function cellsOf(event: NaiveEvent, state: StatePlan, heap: Heap): number[] {
  let nulls = 0
  const cells: number[] = []
  if (state.id) {
    const id = idOf(event)
    if (id === null) nulls |= 1
    cells.push(...cellBytes(id, { name: 'id', type: state.id.type }, heap))
  }
  for (const [i, column] of state.columns.entries()) {
    const value = valueIn(event, column)
    if (value === null) nulls |= 2 << i
    cells.push(...cellBytes(value, column, heap))
  }
  return [...whole(BigInt(nulls >>> 0), 4), ...cells]
}

function cellBytes(value: Value, column: ProjectedColumn, heap: Heap): number[] {
  if (value === null) return new Array(column.type === 'decimal' ? 16 : 8).fill(0)
  if (column.type === 'utf8') return heap.reference(value as string)
  if (column.type === 'float64') return double(value as number)
  if (column.type === 'decimal') return whole(value as bigint, 16)
  return whole(BigInt(value), 8)
}

function tileRun(level: number, byIndex: ReadonlyMap<number, readonly NaiveEvent[]>, state: StatePlan): number[] {
  const indexes = [...byIndex.keys()].sort((a, b) => a - b)
  const tiles = indexes.map((index) => byIndex.get(index)!)
  const rowsWidth = 4
  const heap = new Heap()
  const shapes = state.partials.map((partial) => shapeOf(tiles, state, partial, rowsWidth))
  const items = tiles.map((events, i) => [
    ...whole(BigInt(indexes[i]!), 4),
    ...whole(BigInt(events.length), rowsWidth),
    ...state.partials.flatMap((partial, j) => {
      if (partial.kind === 'bits') return bitsCell(events, state, partial)
      return partial.kind === 'edge'
        ? edgeCell(events, state, partial, indexes[i]! * state.ladder[level]!.stepMs, heap)
        : numericCell(events, state, partial, shapes[j]!)
    }),
  ])
  const parameters = state.partials.flatMap((partial, j) =>
    partial.kind === 'numeric' ? parametersOf(shapes[j]!) : [],
  )
  return run({ kind: RUN_TILES, level, rowsWidth }, parameters, items, heap)
}

// ---- numeric partials ------------------------------------------------------------------------------------------------

/** Limbs [low, high) of the run's sums: limb i weighs 2^(32 i). */
interface Limbs {
  readonly low: number
  readonly high: number
}

interface Shape {
  readonly countWidth: number
  readonly sum: Limbs
  readonly squares: Limbs
}

type Numeric = Extract<PartialPlan, { kind: 'numeric' }>

/** Lowest limb in which a double's sum, or its sum of squares, can have a bit: 2^-1074 and 2^-2148. */
const SUM_BASE = -34
const SQUARES_BASE = -68

/** The exact sum as a whole number of 2^(32 * base). */
function exactLimbs(
  events: readonly NaiveEvent[],
  state: StatePlan,
  partial: Numeric,
): { sum: bigint; squares: bigint } {
  const exact = naivePartial(events, state, { ...partial, sum: true, squares: true })
  if (exact.kind !== 'numeric') throw new Error('a numeric partial is no edge')
  const isFloat = state.columns[partial.column]!.type === 'float64'
  return {
    sum: isFloat ? exact.sum!.numerator << BigInt(-32 * SUM_BASE - 1074) : exact.sum!.numerator,
    squares: isFloat ? exact.squares!.numerator << BigInt(-32 * SQUARES_BASE - 2148) : exact.squares!.numerator,
  }
}

function shapeOf(
  tiles: readonly (readonly NaiveEvent[])[],
  state: StatePlan,
  partial: PartialPlan,
  rowsWidth: number,
): Shape {
  const none = { low: 0, high: 0 }
  if (partial.kind !== 'numeric') return { countWidth: 0, sum: none, squares: none }
  const column = state.columns[partial.column]!
  const differs = tiles.some((events) => events.some((event) => valueIn(event, column) === null))
  const base = column.type === 'float64' ? { sum: SUM_BASE, squares: SQUARES_BASE } : { sum: 0, squares: 0 }
  const exact = column.type === 'utf8' ? [] : tiles.map((events) => exactLimbs(events, state, partial))
  return {
    countWidth: differs ? rowsWidth : 0,
    sum: partial.sum
      ? limbsOf(
          exact.map(({ sum }) => sum),
          base.sum,
        )
      : none,
    squares: partial.squares
      ? limbsOf(
          exact.map(({ squares }) => squares),
          base.squares,
        )
      : none,
  }
}

/** The fewest limbs that hold all of the numbers in two's complement. */
function limbsOf(numbers: readonly bigint[], base: number): Limbs {
  let low = Number.POSITIVE_INFINITY
  let high = Number.NEGATIVE_INFINITY
  for (const number of numbers) {
    if (number === 0n) continue
    let first = 0
    while ((number >> BigInt(32 * first)) % 2n ** 32n === 0n) first++
    let end = first + 1
    while (number !== BigInt.asIntN(32 * end, number)) end++
    low = Math.min(low, base + first)
    high = Math.max(high, base + end)
  }
  return low < high ? { low, high } : { low: 0, high: 0 }
}

function parametersOf({ countWidth, sum, squares }: Shape): number[] {
  const bytes: number[] = new Array(NUMERIC_PARAM_BYTES).fill(0)
  bytes[NUMERIC_PARAM_N_WIDTH] = countWidth
  bytes[NUMERIC_PARAM_SUM_BASE] = sum.low & 255
  bytes[NUMERIC_PARAM_SUM_LIMBS] = sum.high - sum.low
  bytes[NUMERIC_PARAM_SQUARES_BASE] = squares.low & 255
  bytes[NUMERIC_PARAM_SQUARES_LIMBS] = squares.high - squares.low
  return bytes
}

function numericCell(events: readonly NaiveEvent[], state: StatePlan, partial: Numeric, shape: Shape): number[] {
  const column = state.columns[partial.column]!
  const exact = naivePartial(events, state, { ...partial, sum: false, squares: false })
  if (exact.kind !== 'numeric') throw new Error('a numeric partial is no edge')
  const bytes = whole(BigInt(exact.count), shape.countWidth)
  const isFloat = column.type === 'float64'
  const written = (number: bigint, { low, high }: Limbs, base: number) =>
    whole(number >> BigInt(32 * (low - base)), 4 * (high - low))
  if (shape.sum.high > shape.sum.low) {
    bytes.push(...written(exactLimbs(events, state, partial).sum, shape.sum, isFloat ? SUM_BASE : 0))
  }
  if (shape.squares.high > shape.squares.low) {
    bytes.push(...written(exactLimbs(events, state, partial).squares, shape.squares, isFloat ? SQUARES_BASE : 0))
  }
  if (partial.min) bytes.push(...extreme(exact.min ?? null, column, 1n))
  if (partial.max) bytes.push(...extreme(exact.max ?? null, column, -1n))
  return bytes
}

/** A minimum (sign 1) or maximum (sign -1); of nothing, the type's own end. */
function extreme(value: Value, { type }: ProjectedColumn, sign: bigint): number[] {
  if (type === 'float64') return double(value === null ? Number(sign) * Number.POSITIVE_INFINITY : (value as number))
  const bits = type === 'decimal' ? 128n : 64n
  const end = sign > 0n ? 2n ** (bits - 1n) - 1n : -(2n ** (bits - 1n))
  return whole(value === null ? end : BigInt(value), Number(bits) / 8)
}

// ---- edges -----------------------------------------------------------------------------------------------------------

function edgeCell(
  events: readonly NaiveEvent[],
  state: StatePlan,
  partial: PartialPlan,
  tileMs: number,
  heap: Heap,
): number[] {
  const edge = naivePartial(events, state, partial)
  const column = state.columns[partial.column]!
  // One column of 8 bytes decides ties by itself, so it is all that is kept.
  const isInline = !state.id && state.columns.length === 1 && column.type !== 'utf8' && column.type !== 'decimal'
  if (edge.kind !== 'edge' || edge.event === undefined) {
    const cells = (state.id ? 8 : 0) + state.columns.reduce((sum, { type }) => sum + (type === 'decimal' ? 16 : 8), 0)
    return [...whole(BigInt(EDGE_NONE), 4), ...new Array(isInline ? 8 : 4 + cells).fill(0)]
  }
  const offset = whole(BigInt(timeOf(edge.event) - tileMs), 4)
  return [...offset, ...(isInline ? cellBytes(edge.value, column, heap) : cellsOf(edge.event, state, heap))]
}

// ---- bits ------------------------------------------------------------------------------------------------------------

type Bits = Extract<PartialPlan, { kind: 'bits' }>

function bitsCell(events: readonly NaiveEvent[], state: StatePlan, partial: Bits): number[] {
  const bits = naivePartial(events, state, partial)
  if (bits.kind !== 'bits') throw new Error('bits are nothing else')
  return [...whole(bits.value === null ? 0n : 1n, 4), ...whole(bits.value ?? (partial.and ? -1n : 0n), 8)]
}

// ---- bytes -----------------------------------------------------------------------------------------------------------

/** The low `bytes` bytes of the number in two's complement, little-endian. */
function whole(number: bigint, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, i) => Number((number >> BigInt(8 * i)) & 255n))
}

function double(number: number): number[] {
  return [...new Uint8Array(new Float64Array([number]).buffer)]
}

/** Puts the right length and checksum into a row, in place. */
export function sealRow(row: Uint8Array): Uint8Array {
  const view = new DataView(row.buffer, row.byteOffset, row.byteLength)
  view.setUint32(ROW_BYTES_AT, row.length, true)
  view.setUint32(ROW_CHECKSUM_AT, checksum(row.subarray(ROW_CHECKED_FROM)), true)
  return row
}

const MASK = 2n ** 64n - 1n
const MIX_1 = 0x9e3779b185ebca87n
const MIX_2 = 0xc2b2ae3d27d4eb4fn

/** The checksum of assembly/row.ts, on BigInts. */
export function checksum(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const lanes: [sum: bigint, sumOfSums: bigint][] = [
    [0n, 0n],
    [0n, 0n],
    [0n, 0n],
    [0n, 0n],
  ]
  const add = (lane: [bigint, bigint], word: bigint) => {
    lane[0] = (lane[0] + word) & MASK
    lane[1] = (((lane[1] << 5n) | (lane[1] >> 59n)) + lane[0]) & MASK
  }
  let at = 0
  for (; at + 32 <= bytes.length; at += 32) {
    for (let i = 0; i < 4; i++) add(lanes[i]!, view.getBigUint64(at + 8 * i, true))
  }
  for (; at < bytes.length; at += 4) add(lanes[0]!, BigInt(view.getUint32(at, true)))
  let hash = (BigInt(bytes.length) * MIX_1) & MASK
  for (const [sum, sumOfSums] of lanes) {
    hash = ((hash ^ sum) * MIX_1) & MASK
    hash ^= hash >> 32n
    hash = ((hash ^ sumOfSums) * MIX_2) & MASK
    hash ^= hash >> 29n
  }
  return Number((hash ^ (hash >> 32n)) & 0xffffffffn)
}
