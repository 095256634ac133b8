/**
 * Arrow's C data interface, read from the memory of a 32-bit WebAssembly module and copied out.
 *
 *   ArrowArray   0 i64 length · 8 i64 null count · 16 i64 offset · 24 i64 buffers · 32 i64 children
 *                40 u32 → buffers (u32 each) · 44 u32 → children (u32 each) · 48 dictionary · 52 release · 56 private
 *
 * The copy is the only one between the decoder and the batch, and it is needed: the module's memory moves when it grows.
 * All columns of a batch go into one ArrayBuffer, cells on multiples of 8, so a batch is handed to another thread as one.
 */
import { CELL_BYTES, type Column } from '../model/columns.ts'
import type { InputColumn } from '../model/plan.ts'
import { INT96_BYTES, toMicros } from './int96.ts'
import { nullColumn, type SourceField } from './match.ts'

const LENGTH = 0
const NULL_COUNT = 8
const OFFSET = 16
const BUFFERS = 40
const CHILDREN = 44
const ALIGNMENT = 8

/** One column to copy: the struct's child, and what it is. */
export interface WantedColumn {
  readonly child: number
  readonly input: InputColumn
  readonly field: SourceField
  /** Its cells are 12 bytes and become microseconds. */
  readonly isInt96?: boolean
}

interface Part {
  readonly from: number
  readonly bytes: number
  to: number
}

interface Planned {
  readonly wanted: WantedColumn
  readonly bitOffset: number
  readonly values?: Part
  readonly offsets?: Part
  readonly validity?: Part
  /** First text byte: what the offsets count from. */
  readonly textStart: number
}

/** The columns of the struct array at `address`, in the order wanted, in a buffer of `allocate`'s. Throws RangeError. */
export function copyColumns(
  memory: ArrayBuffer,
  address: number,
  wanted: readonly WantedColumn[],
  allocate: (bytes: number) => ArrayBuffer,
): { readonly length: number; readonly columns: readonly Column[] } {
  const cells = new DataView(memory)
  const length = readLong(cells, address + LENGTH)
  const rowOffset = readLong(cells, address + OFFSET)
  const children = cells.getUint32(address + CHILDREN, true)

  // Where everything goes, then one allocation, then the copies.
  let total = 0
  const part = (from: number, bytes: number): Part => {
    const to = total
    total += (bytes + ALIGNMENT - 1) & -ALIGNMENT
    return { from, bytes, to }
  }
  const plans = wanted.map((each): Planned => {
    const array = cells.getUint32(children + 4 * each.child, true)
    return planColumn(cells, array, rowOffset, length, each, part)
  })
  const out = allocate(total)
  const take = ({ from, bytes, to }: Part): Uint8Array => {
    const copy = new Uint8Array(out, to, bytes)
    copy.set(new Uint8Array(memory, from, bytes))
    return copy
  }
  return { length, columns: plans.map((plan) => takeColumn(plan, length, take)) }
}

function planColumn(
  cells: DataView,
  array: number,
  rowOffset: number,
  length: number,
  wanted: WantedColumn,
  part: (from: number, bytes: number) => Part,
): Planned {
  const { physical } = wanted.field
  const first = rowOffset + readLong(cells, array + OFFSET)
  if (readLong(cells, array + LENGTH) < length)
    throw new RangeError(`column ${wanted.input.name} is shorter than its batch`)
  if (physical === 'null' || physical === undefined) return { wanted, bitOffset: 0, textStart: 0 }
  const buffers = cells.getUint32(array + BUFFERS, true)
  const bitmap = cells.getUint32(buffers, true)
  const values = cells.getUint32(buffers + 4, true)
  const bitOffset = first & 7
  const bitmapBytes = (bitOffset + length + 7) >> 3
  const nulls = bitmap !== 0 && cells.getBigInt64(array + NULL_COUNT, true) !== 0n
  const validity = nulls ? part(bitmap + (first >> 3), bitmapBytes) : undefined
  if (physical === 'bool')
    return { wanted, bitOffset, validity, values: part(values + (first >> 3), bitmapBytes), textStart: 0 }
  if (physical !== 'utf8') {
    const width = wanted.isInt96 ? INT96_BYTES : CELL_BYTES[physical]
    return { wanted, bitOffset, validity, values: part(values + first * width, length * width), textStart: 0 }
  }
  const offsets = part(values + first * 4, (length + 1) * 4)
  const textStart = cells.getInt32(offsets.from, true)
  const textEnd = cells.getInt32(offsets.from + length * 4, true)
  const text = part(cells.getUint32(buffers + 8, true) + textStart, textEnd - textStart)
  return { wanted, bitOffset, validity, values: text, offsets, textStart }
}

function takeColumn(plan: Planned, length: number, take: (part: Part) => Uint8Array): Column {
  const { input, field, isInt96 } = plan.wanted
  if (plan.values === undefined || field.physical === undefined || field.physical === 'null')
    return nullColumn(input, length)
  const values = take(plan.values)
  const validity = plan.validity && take(plan.validity)
  const { bitOffset } = plan
  const column = {
    name: input.name,
    type: field.physical,
    values: isInt96 ? toMicros(values, length, validity, bitOffset) : values,
    validity,
    bitOffset,
  }
  if (plan.offsets === undefined) return { ...column, unit: field.unit, scale: field.scale }
  const bytes = take(plan.offsets)
  const offsets = new Int32Array(bytes.buffer, bytes.byteOffset, length + 1)
  if (plan.textStart !== 0) for (let row = 0; row <= length; row++) offsets[row]! -= plan.textStart
  return { ...column, offsets }
}

function readLong(cells: DataView, at: number): number {
  return Number(cells.getBigInt64(at, true))
}
