/**
 * Column batches made of plain events, in every legal disguise: bitmaps that start in the middle of a byte, text that
 * starts in the middle of its buffer, garbage under null cells, cells at odd addresses, narrower physical types.
 */

import type { Column, ColumnBatch, PhysicalType, TimeUnit } from '../../src/model/columns.ts'
import { CELL_BYTES } from '../../src/model/columns.ts'
import type { InputColumn, StatePlan } from '../../src/model/plan.ts'
import type { Cell, NaiveEvent } from '../oracle/event.ts'
import type { Random } from './random.ts'

/** The input columns that are not cells: the definitions of support/definitions.ts use these names. */
export const TIME_INPUT = 'ts'
export const ID_INPUT = 'event_id'
export const KEEP_INPUT = 'keep'

export interface BatchOptions {
  /** Rows per batch, taken in turn and from the start again; without it everything is one batch. */
  readonly sizes?: readonly number[]
  /** Give positions as an array even where a number would do. */
  readonly positionArrays?: boolean
}

/** The events in list order, split at the given sizes. Each input column keeps one physical type over all batches. */
export function toBatches(
  events: readonly NaiveEvent[],
  state: StatePlan,
  random: Random,
  options: BatchOptions = {},
): ColumnBatch[] {
  const sizes = options.sizes ?? [Math.max(1, events.length)]
  const disguises = state.inputs.map((input) =>
    drawDisguise(
      random,
      input,
      events.map((event) => cellFor(event, input, state)),
    ),
  )
  const batches: ColumnBatch[] = []
  for (let start = 0, i = 0; start < events.length; i++) {
    const rows = events.slice(start, start + sizes[i % sizes.length]!)
    const columns = state.inputs.map((input, column) =>
      buildColumn(
        random,
        input,
        disguises[column]!,
        rows.map((event) => cellFor(event, input, state)),
      ),
    )
    batches.push({
      length: rows.length,
      columns: random.shuffled(columns),
      positions: positionsOf(rows, options.positionArrays ?? random.chance(0.2)),
      ...(rows[0]!.recordTime !== undefined && { recordTimes: Float64Array.from(rows, (event) => event.recordTime!) }),
    })
    start += rows.length
  }
  return batches
}

/** What an input column holds for an event. */
function cellFor(event: NaiveEvent, input: InputColumn, state: StatePlan): Cell {
  if (input.name === TIME_INPUT) return event.time
  if (input.name === ID_INPUT) return event.id ?? null
  if (input.name === KEEP_INPUT) return event.keep
  const part = state.entity.findIndex((each) => each.name === input.name)
  if (part >= 0) return event.key[part] ?? null
  return event.cells[input.name] ?? null
}

function positionsOf(rows: readonly NaiveEvent[], asArray: boolean): number | Float64Array {
  const first = rows[0]!.position
  const isConsecutive = rows.every((event, i) => event.position === first + i)
  return isConsecutive && !asArray ? first : Float64Array.from(rows, (event) => event.position)
}

interface Disguise {
  readonly type: PhysicalType
  readonly unit?: TimeUnit
}

/** A physical type the input accepts and that holds every cell without loss. */
function drawDisguise(random: Random, input: InputColumn, cells: readonly Cell[]): Disguise {
  if (input.type === 'timestamp') return drawTimeDisguise(random, input, cells)
  const fitting = input.accepts.filter((type) => cells.every((cell) => cell === null || fits(cell, type, input)))
  if (fitting.length === 0) {
    throw new Error(`cannot lay out column ${input.name}: no type of ${input.accepts.join(', ')} holds its cells`)
  }
  return { type: random.pick(fitting) }
}

const UNITS_PER_MS: readonly (readonly [TimeUnit, bigint])[] = [
  ['ms', 1n],
  ['us', 1_000n],
  ['ns', 1_000_000n],
]

/** int64 in a unit that holds every instant; a plain integer column goes by the unit the input declares. */
function drawTimeDisguise(random: Random, input: InputColumn, cells: readonly Cell[]): Disguise {
  const fitting = UNITS_PER_MS.filter(([, perMs]) =>
    cells.every(
      (cell) => cell === null || isBetween(BigInt(cell as number | bigint) * perMs, -(2n ** 63n), 2n ** 63n - perMs),
    ),
  )
  if (input.unit === 'ms' && random.chance(0.5)) return { type: 'int64' }
  return { type: 'int64', unit: random.pick(fitting)[0] }
}

const INTEGER_RANGES: Partial<Record<PhysicalType, readonly [bigint, bigint]>> = {
  int8: [-(2n ** 7n), 2n ** 7n - 1n],
  int16: [-(2n ** 15n), 2n ** 15n - 1n],
  int32: [-(2n ** 31n), 2n ** 31n - 1n],
  int64: [-(2n ** 63n), 2n ** 63n - 1n],
  uint8: [0n, 2n ** 8n - 1n],
  uint16: [0n, 2n ** 16n - 1n],
  uint32: [0n, 2n ** 32n - 1n],
  uint64: [0n, 2n ** 64n - 1n],
}

function fits(cell: NonNullable<Cell>, type: PhysicalType, input: InputColumn): boolean {
  const range = INTEGER_RANGES[type]
  if (range) {
    const whole = wholeOf(cell, input)
    return whole !== undefined && isBetween(whole, range[0], range[1])
  }
  if (type === 'decimal128') return input.type === 'decimal'
  if (type === 'float64') return input.type === 'float64'
  if (type === 'float32') return input.type === 'float64' && Object.is(Math.fround(Number(cell)), Number(cell))
  return type === input.type
}

/** The cell as an integer, where it is one (a decimal with zeros behind the point). */
function wholeOf(cell: NonNullable<Cell>, input: InputColumn): bigint | undefined {
  if (typeof cell === 'bigint') return cell
  if (typeof cell === 'number') return Number.isSafeInteger(cell) && !Object.is(cell, -0) ? BigInt(cell) : undefined
  if (typeof cell !== 'object') return undefined
  const one = 10n ** BigInt(input.scale ?? 0)
  return cell.dec % one === 0n ? cell.dec / one : undefined
}

function isBetween(value: bigint, low: bigint, high: bigint): boolean {
  return value >= low && value <= high
}

/** Lays out one column's cells. Bytes that belong to no cell are random: nothing may depend on them. */
function buildColumn(random: Random, input: InputColumn, disguise: Disguise, cells: readonly Cell[]): Column {
  const bitOffset = random.below(8)
  const hasNulls = cells.some((cell) => cell === null)
  const base = {
    name: input.name,
    type: disguise.type,
    ...(disguise.unit !== undefined && { unit: disguise.unit }),
    ...(disguise.type === 'decimal128' && { scale: input.scale ?? 0 }),
    ...((hasNulls || random.chance(0.2)) && {
      validity: buildBitmap(
        random,
        cells.map((cell) => cell !== null),
        bitOffset,
      ),
    }),
    ...((bitOffset > 0 || random.chance(0.5)) && { bitOffset }),
  }
  if (disguise.type === 'bool') {
    const values = cells.map((cell) => (cell === null ? random.chance(0.5) : cell === true))
    return { ...base, values: buildBitmap(random, values, bitOffset) }
  }
  if (disguise.type === 'utf8') return { ...base, ...buildText(random, cells) }
  return { ...base, values: buildCells(random, input, disguise, cells) }
}

function buildBitmap(random: Random, bits: readonly boolean[], bitOffset: number): Uint8Array {
  const bitmap = oddlyPlaced(random, Math.ceil((bitOffset + bits.length) / 8))
  for (const [i, isSet] of bits.entries()) {
    const bit = bitOffset + i
    bitmap[bit >> 3] = isSet ? bitmap[bit >> 3]! | (1 << (bit & 7)) : bitmap[bit >> 3]! & ~(1 << (bit & 7))
  }
  return bitmap
}

const utf8 = new TextEncoder()

/** Text as a slice of a longer column: bytes before and behind, and null rows that own bytes too. */
function buildText(random: Random, cells: readonly Cell[]): { values: Uint8Array; offsets: Int32Array } {
  const texts = cells.map((cell) => (cell === null ? random.bytes(random.below(6)) : utf8.encode(cell as string)))
  const before = random.below(20)
  const offsets = Int32Array.from({ length: cells.length + 1 }, () => before)
  for (const [i, text] of texts.entries()) offsets[i + 1] = offsets[i]! + text.length
  const values = oddlyPlaced(random, offsets[cells.length]! + random.below(20))
  for (const [i, text] of texts.entries()) values.set(text, offsets[i]!)
  return { values, offsets }
}

function buildCells(random: Random, input: InputColumn, disguise: Disguise, cells: readonly Cell[]): Uint8Array {
  const width = CELL_BYTES[disguise.type as keyof typeof CELL_BYTES]
  const values = oddlyPlaced(random, cells.length * width)
  const view = new DataView(values.buffer, values.byteOffset, values.byteLength)
  const perMs = UNITS_PER_MS.find(([unit]) => unit === disguise.unit)?.[1] ?? 1n
  for (const [row, cell] of cells.entries()) {
    if (cell === null) continue
    const at = row * width
    if (disguise.type === 'float64') view.setFloat64(at, Number(cell), true)
    else if (disguise.type === 'float32') view.setFloat32(at, Number(cell), true)
    else if (disguise.type === 'decimal128') writeWhole(view, at, width, (cell as { dec: bigint }).dec)
    // Instants round down to the millisecond, so digits behind it change nothing.
    else writeWhole(view, at, width, wholeOf(cell, input)! * perMs + BigInt(random.below(Number(perMs))))
  }
  return values
}

function writeWhole(view: DataView, at: number, width: number, value: bigint): void {
  let rest = value
  for (let i = 0; i < width; i++) {
    view.setUint8(at + i, Number(rest & 255n))
    rest >>= 8n
  }
}

/** Random bytes inside a larger buffer, at any address, aligned or not. */
function oddlyPlaced(random: Random, length: number): Uint8Array {
  const before = random.below(9)
  return random.bytes(before + length + random.below(9)).subarray(before, before + length)
}
