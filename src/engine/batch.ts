/**
 * A column batch into the core's input region: descriptors first, then the source's own buffers, copied as they are. No
 * object is made per event.
 */
import {
  COLUMN_BIT_OFFSET,
  COLUMN_BYTES,
  COLUMN_OFFSET_BASE,
  COLUMN_OFFSETS,
  COLUMN_PHYS,
  COLUMN_UNIT,
  COLUMN_VALID,
  COLUMN_VALUES,
  COLUMN_VALUES_BYTES,
  PHYS_BOOL,
  PHYS_DECIMAL128,
  PHYS_FLOAT32,
  PHYS_FLOAT64,
  PHYS_INT8,
  PHYS_INT16,
  PHYS_INT32,
  PHYS_INT64,
  PHYS_UINT8,
  PHYS_UINT16,
  PHYS_UINT32,
  PHYS_UINT64,
  PHYS_UTF8,
  UNIT_DAY,
  UNIT_MS,
  UNIT_NS,
  UNIT_S,
  UNIT_US,
} from '../../assembly/layout.ts'
import { CELL_BYTES, type Column, type ColumnBatch, type PhysicalType, type TimeUnit } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import type { InputColumn } from '../model/plan.ts'
import type { CoreExports } from './module.ts'

const PHYSICAL: Record<PhysicalType, number> = {
  bool: PHYS_BOOL,
  int8: PHYS_INT8,
  int16: PHYS_INT16,
  int32: PHYS_INT32,
  int64: PHYS_INT64,
  uint8: PHYS_UINT8,
  uint16: PHYS_UINT16,
  uint32: PHYS_UINT32,
  uint64: PHYS_UINT64,
  float32: PHYS_FLOAT32,
  float64: PHYS_FLOAT64,
  decimal128: PHYS_DECIMAL128,
  utf8: PHYS_UTF8,
}

const UNITS: Record<TimeUnit, number> = { s: UNIT_S, ms: UNIT_MS, us: UNIT_US, ns: UNIT_NS, day: UNIT_DAY }

/** The part of the core that a batch is written into. */
export type InputRegion = Pick<CoreExports, 'memory' | 'reserveInput'>

/** Where a written batch stands. */
export interface WrittenBatch {
  readonly columns: number
  readonly positions: number
  readonly recordTimes: number
}

/** The batch's column for each input, by name. Throws COLUMN_MISSING, COLUMN_TYPE. */
export function columnsFor(inputs: readonly InputColumn[], batch: ColumnBatch): Column[] {
  return inputs.map((input) => {
    const column = batch.columns.find((each) => each.name === input.name)
    if (!column) {
      const names = batch.columns.map((each) => each.name).join(', ')
      throw new TilefoldError(
        'COLUMN_MISSING',
        `cannot read column ${JSON.stringify(input.name)}: the batch has none of that name; got ${names}`,
      )
    }
    if (!input.accepts.includes(column.type)) {
      throw new TilefoldError(
        'COLUMN_TYPE',
        `cannot read column ${JSON.stringify(input.name)} as ${input.type}: got ${column.type}, expected ${input.accepts.join(' or ')}`,
      )
    }
    if (input.type === 'decimal' && column.type === 'decimal128' && column.scale !== input.scale) {
      throw new TilefoldError(
        'COLUMN_TYPE',
        `cannot read column ${JSON.stringify(input.name)}: got decimals of scale ${column.scale}, expected ${input.scale}`,
      )
    }
    return column
  })
}

/** The offsets of a column without rows, which need not have any. */
const NO_OFFSETS = new Int32Array(1)

/** A text column's offsets, and the bytes that belong to the batch: from the first offset to the last. */
function textOf(column: Column, length: number): { offsets: Int32Array; from: number; to: number } {
  const offsets = length === 0 ? NO_OFFSETS : (column.offsets ?? NO_OFFSETS)
  expectRoom(column.name, 'offsets', offsets.length, length + 1, length)
  const [from, to] = [offsets[0]!, offsets[length]!]
  if (from < 0 || to < from) {
    throw new TilefoldError(
      'BATCH_INVALID',
      `cannot read column ${JSON.stringify(column.name)}: got text from byte ${from} to ${to}, expected ascending offsets`,
    )
  }
  expectRoom(column.name, 'bytes of text', column.values.length, to, length)
  return { offsets, from, to }
}

/** Throws BATCH_INVALID where a buffer is shorter than the rows need: what lies behind it is somebody else's. */
function expectRoom(name: string, what: string, got: number, expected: number, rows: number): void {
  if (got >= expected) return
  throw new TilefoldError(
    'BATCH_INVALID',
    `cannot read column ${JSON.stringify(name)}: got ${got} ${what}, expected ${expected} for ${rows} rows`,
  )
}

/** Copies the batch into the input region. Addresses are good until the region is reserved again. Throws BATCH_INVALID. */
export function writeBatch(core: InputRegion, columns: readonly Column[], batch: ColumnBatch): WrittenBatch {
  const n = batch.length
  const pieces: { bytes: Uint8Array; at: number }[] = []
  let end = columns.length * COLUMN_BYTES
  const place = (bytes: Uint8Array): number => {
    const at = (end + 15) & ~15
    pieces.push({ bytes, at })
    end = at + bytes.length
    return at
  }
  const descriptors = columns.map((column) => {
    const bit = column.bitOffset ?? 0
    const bitmapBytes = n === 0 ? 0 : (bit + n + 7) >> 3
    if (column.validity) expectRoom(column.name, 'bytes of validity', column.validity.length, bitmapBytes, n)
    const valid = column.validity ? place(column.validity.subarray(0, bitmapBytes)) : 0
    if (column.type === 'utf8') {
      const { offsets, from, to } = textOf(column, n)
      const offsetBytes = new Uint8Array(offsets.buffer, offsets.byteOffset, (n + 1) * 4)
      return {
        column,
        bit,
        valid,
        offsets: place(offsetBytes),
        base: from,
        values: place(column.values.subarray(from, to)),
        bytes: to - from,
      }
    }
    const bytes = column.type === 'bool' ? bitmapBytes : n * CELL_BYTES[column.type]
    expectRoom(column.name, 'bytes of cells', column.values.length, bytes, n)
    return { column, bit, valid, offsets: 0, base: 0, values: place(column.values.subarray(0, bytes)), bytes }
  })
  if (typeof batch.positions !== 'number') expectRoom('positions', 'positions', batch.positions.length, n, n)
  if (batch.recordTimes) expectRoom('recordTimes', 'record times', batch.recordTimes.length, n, n)
  const positions =
    typeof batch.positions === 'number'
      ? 0
      : place(new Uint8Array(batch.positions.buffer, batch.positions.byteOffset, n * 8))
  const recordTimes = batch.recordTimes
    ? place(new Uint8Array(batch.recordTimes.buffer, batch.recordTimes.byteOffset, n * 8))
    : 0

  // The region may move the memory, so views are made after it is reserved.
  const base = core.reserveInput(end + 16, 0) >>> 0
  const memory = new Uint8Array(core.memory.buffer)
  const view = new DataView(core.memory.buffer)
  for (const piece of pieces) memory.set(piece.bytes, base + piece.at)
  for (const [i, each] of descriptors.entries()) {
    const at = base + i * COLUMN_BYTES
    const unit = each.column.unit
    view.setUint32(at + COLUMN_PHYS, PHYSICAL[each.column.type], true)
    view.setUint32(at + COLUMN_VALUES, base + each.values, true)
    view.setUint32(at + COLUMN_VALID, each.valid === 0 ? 0 : base + each.valid, true)
    view.setUint32(at + COLUMN_BIT_OFFSET, each.bit, true)
    view.setUint32(at + COLUMN_OFFSETS, each.offsets === 0 ? 0 : base + each.offsets, true)
    view.setUint32(at + COLUMN_OFFSET_BASE, each.base, true)
    view.setUint32(at + COLUMN_VALUES_BYTES, each.bytes, true)
    view.setUint32(at + COLUMN_UNIT, unit === undefined ? 0 : UNITS[unit], true)
  }
  return {
    columns: base,
    positions: positions === 0 ? 0 : base + positions,
    recordTimes: recordTimes === 0 ? 0 : base + recordTimes,
  }
}
