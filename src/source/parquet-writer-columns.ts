/**
 * Columns of a row group as it grows: Arrow's buffers, one per column, appended to from batches, messages and nothing.
 *
 * They double as they fill and are given away whole, so a row costs a copy of its cells and no object.
 */
import { bitAt, CELL_BYTES, type Column, type TimeUnit } from '../model/columns.ts'

/** What a written column can be: every type that a definition declares, and bytes. */
export type WriterType = 'bool' | 'int32' | 'int64' | 'float64' | 'decimal128' | 'utf8' | 'binary'

export interface WriterField {
  readonly name: string
  readonly type: WriterType
  /** Set: the cells are instants, UTC. */
  readonly unit?: TimeUnit
  /** decimal128 only. */
  readonly scale?: number
  readonly isRequired?: boolean
}

/** Cells from byte 0, validity from bit 0. */
export interface WriterColumn extends WriterField {
  readonly length: number
  readonly nulls: number
  readonly values: Uint8Array
  readonly offsets?: Int32Array
  readonly validity?: Uint8Array
}

const ROWS_MIN = 1024

export class ColumnBuffer {
  readonly field: WriterField
  length = 0
  #nulls = 0
  #rows = ROWS_MIN
  /** Bytes of one cell; 0: bits, -1: offsets and bytes. */
  readonly #width: number
  #values: Uint8Array
  /** The same as 32-bit numbers, little-endian as everything here: no bigint is made on the way. */
  #halves: Int32Array = new Int32Array(0)
  #offsets: Int32Array
  #validity: Uint8Array

  constructor(field: WriterField) {
    this.field = field
    const { type } = field
    this.#width = type === 'bool' ? 0 : type === 'utf8' || type === 'binary' ? -1 : CELL_BYTES[type]
    this.#values = new Uint8Array(this.#valueBytes(ROWS_MIN))
    this.#offsets = new Int32Array(this.#width < 0 ? ROWS_MIN + 1 : 0)
    this.#validity = new Uint8Array(ROWS_MIN >> 3)
  }

  /** Bytes that the cells take. */
  get bytes(): number {
    const { length } = this
    return this.#width < 0 ? this.#offsets[length]! + 4 * length : this.#valueBytes(length)
  }

  /** Rows `[from, to)` of a column of the same type. */
  append(column: Column, from: number, to: number): void {
    const start = this.length
    this.#reserve(to - from)
    const bit = column.bitOffset ?? 0
    for (let row = from; row < to; row++) {
      if (column.validity === undefined || bitAt(column.validity, bit + row)) this.#setPresent(start + row - from)
      else this.#nulls++
    }
    if (this.#width > 0) {
      this.#values.set(column.values.subarray(from * this.#width, to * this.#width), start * this.#width)
    } else if (this.#width === 0) {
      for (let row = from; row < to; row++) if (bitAt(column.values, bit + row)) this.#setBit(start + row - from)
    } else this.#appendText(column, from, to, start)
    this.length += to - from
  }

  appendNulls(count: number): void {
    this.#reserve(count)
    if (this.#width < 0) this.#offsets.fill(this.#offsets[this.length]!, this.length + 1, this.length + count + 1)
    this.length += count
    this.#nulls += count
  }

  /** Text and bytes only. */
  appendBytes(bytes: Uint8Array | null): void {
    if (bytes === null) {
      this.appendNulls(1)
      return
    }
    this.#reserve(1)
    const at = this.#offsets[this.length]!
    this.#reserveBytes(at + bytes.length)
    this.#values.set(bytes, at)
    this.#setPresent(this.length)
    this.#offsets[++this.length] = at + bytes.length
  }

  /** Whole numbers within 2^53; int32 and int64 only. */
  appendWhole(value: number): void {
    this.#reserve(1)
    if (this.#halves.buffer !== this.#values.buffer) this.#halves = new Int32Array(this.#values.buffer)
    if (this.#width === 4) this.#halves[this.length] = value
    else {
      this.#halves[2 * this.length] = value | 0
      this.#halves[2 * this.length + 1] = Math.floor(value / 2 ** 32)
    }
    this.#setPresent(this.length++)
  }

  /** The column so far; the buffer starts anew. */
  take(): WriterColumn {
    const { length } = this
    const column: WriterColumn = {
      ...this.field,
      length,
      nulls: this.#nulls,
      values: this.#values.subarray(0, this.#width < 0 ? this.#offsets[length]! : this.#valueBytes(length)),
      ...(this.#width < 0 ? { offsets: this.#offsets.subarray(0, length + 1) } : {}),
      ...(this.#nulls > 0 ? { validity: this.#validity.subarray(0, (length + 7) >> 3) } : {}),
    }
    // As much room as it took: the next row group is likely as large.
    this.#values = new Uint8Array(this.#values.length)
    this.#offsets = new Int32Array(this.#offsets.length)
    this.#validity = new Uint8Array(this.#validity.length)
    this.length = 0
    this.#nulls = 0
    return column
  }

  #appendText(column: Column, from: number, to: number, start: number): void {
    const offsets = column.offsets!
    const at = this.#offsets[start]!
    const shift = at - offsets[from]!
    this.#reserveBytes(offsets[to]! + shift)
    this.#values.set(column.values.subarray(offsets[from]!, offsets[to]!), at)
    for (let row = from; row < to; row++) this.#offsets[start + row - from + 1] = offsets[row + 1]! + shift
  }

  #valueBytes(rows: number): number {
    if (this.#width === 0) return (rows + 7) >> 3
    return this.#width < 0 ? rows * 16 : rows * this.#width
  }

  #reserve(rows: number): void {
    const needed = this.length + rows
    if (needed <= this.#rows) return
    this.#rows = Math.max(needed, this.#rows * 2)
    if (this.#width >= 0) this.#values = grown(this.#values, this.#valueBytes(this.#rows))
    else this.#offsets = grownOffsets(this.#offsets, this.#rows + 1)
    this.#validity = grown(this.#validity, (this.#rows + 7) >> 3)
  }

  #reserveBytes(bytes: number): void {
    if (bytes > 2 ** 31 - 1) throw new RangeError(`a row group holds ${bytes} bytes of one column`)
    if (bytes > this.#values.length) {
      this.#values = grown(this.#values, Math.min(2 ** 31 - 1, Math.max(bytes, this.#values.length * 2)))
    }
  }

  #setPresent(row: number): void {
    this.#validity[row >> 3]! |= 1 << (row & 7)
  }

  #setBit(row: number): void {
    this.#values[row >> 3]! |= 1 << (row & 7)
  }
}

function grown(bytes: Uint8Array, length: number): Uint8Array {
  const larger = new Uint8Array(length)
  larger.set(bytes)
  return larger
}

function grownOffsets(offsets: Int32Array, length: number): Int32Array {
  const larger = new Int32Array(length)
  larger.set(offsets)
  return larger
}
