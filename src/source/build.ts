/**
 * Columns grown cell by cell, for sources that come as rows: JSON lines and pushed objects.
 *
 * A builder holds typed arrays of a fixed number of rows; `set` writes a row's cell and says whether the value fits. A
 * rejected row is written over by the next, so nothing has to be taken back. `finish` gives the arrays away.
 */
import type { Column } from '../model/columns.ts'
import type { InputColumn } from '../model/plan.ts'
import { readDecimal, readInt64, readTimestamp } from './cells.ts'

export interface ColumnBuilder {
  readonly input: InputColumn
  /** Writes the cell of `row`; false where the value does not fit, and the row is not to be counted. */
  set(row: number, value: unknown): boolean
  /** The same with text as it comes, UTF-8 that the caller answers for. Text columns only. */
  setUtf8?(row: number, bytes: Uint8Array, from: number, to: number): boolean
  /** The column of rows `0..length-1`; the builder starts anew. */
  finish(length: number): Column
}

export function createBuilder(input: InputColumn, rows: number): ColumnBuilder {
  switch (input.type) {
    case 'float64':
      return new Float64Builder(input, rows)
    case 'int64':
    case 'timestamp':
      return new Int64Builder(input, rows)
    case 'decimal':
      return new DecimalBuilder(input, rows)
    case 'bool':
      return new BoolBuilder(input, rows)
    case 'utf8':
      return new TextBuilder(input, rows)
  }
}

/** Validity of the rows written; absent from the column while nothing is null. */
class Validity {
  private bits: Uint8Array | undefined
  private readonly rows: number

  constructor(rows: number) {
    this.rows = rows
  }

  setNull(row: number): void {
    this.bits ??= new Uint8Array((this.rows + 7) >> 3).fill(255)
    this.bits[row >> 3]! &= ~(1 << (row & 7))
  }

  /** Needed where a rejected row may have left a null behind. */
  setPresent(row: number): void {
    if (this.bits !== undefined) this.bits[row >> 3]! |= 1 << (row & 7)
  }

  finish(length: number): Uint8Array | undefined {
    const bits = this.bits?.subarray(0, (length + 7) >> 3)
    this.bits = undefined
    return bits
  }
}

/** What all builders have: their input, and which of its rows are present. */
abstract class Builder implements ColumnBuilder {
  readonly input: InputColumn
  protected readonly rows: number
  protected readonly validity: Validity

  constructor(input: InputColumn, rows: number) {
    this.input = input
    this.rows = rows
    this.validity = new Validity(rows)
  }

  abstract set(row: number, value: unknown): boolean
  abstract finish(length: number): Column
}

class Float64Builder extends Builder {
  private cells = new Float64Array(this.rows)

  set(row: number, value: unknown): boolean {
    if (value === null || value === undefined) {
      this.cells[row] = 0
      this.validity.setNull(row)
      return true
    }
    if (typeof value === 'number') this.cells[row] = value
    else if (typeof value === 'bigint' && BigInt(Number(value)) === value) this.cells[row] = Number(value)
    else return false
    this.validity.setPresent(row)
    return true
  }

  finish(length: number): Column {
    const values = new Uint8Array(this.cells.buffer, 0, length * 8)
    this.cells = new Float64Array(this.rows)
    return { name: this.input.name, type: 'float64', values, validity: this.validity.finish(length) }
  }
}

/** int64, and timestamps as int64 milliseconds. */
class Int64Builder extends Builder {
  private cells = new BigInt64Array(this.rows)
  /** The same cells as halves: a number needs no bigint on its way. */
  private halves = new Int32Array(this.cells.buffer)

  set(row: number, value: unknown): boolean {
    if (value === null || value === undefined) {
      this.cells[row] = 0n
      this.validity.setNull(row)
      return true
    }
    const { type, unit } = this.input
    if (typeof value === 'number' && Number.isSafeInteger(value) && (type === 'int64' || (unit ?? 'ms') === 'ms')) {
      this.halves[2 * row] = value | 0
      this.halves[2 * row + 1] = Math.floor(value / 2 ** 32)
    } else {
      const cell = type === 'int64' ? readInt64(value) : readTimestamp(value, unit ?? 'ms')
      if (cell === undefined) return false
      this.cells[row] = cell
    }
    this.validity.setPresent(row)
    return true
  }

  finish(length: number): Column {
    const values = new Uint8Array(this.cells.buffer, 0, length * 8)
    this.cells = new BigInt64Array(this.rows)
    this.halves = new Int32Array(this.cells.buffer)
    const unit = this.input.type === 'timestamp' ? 'ms' : undefined
    return { name: this.input.name, type: 'int64', unit, values, validity: this.validity.finish(length) }
  }
}

/** Up to fifteen digits a double stands for one decimal only, and the powers up to 10^22 are exact doubles. */
const DIGITS_LIMIT = 1e15
const SCALE_MAX = 22

class DecimalBuilder extends Builder {
  private readonly scale = this.input.scale ?? 0
  private readonly power = this.scale <= SCALE_MAX ? 10 ** this.scale : 0
  /** Low and high half of each cell. */
  private cells = new BigInt64Array(this.rows * 2)
  /** The same cells as quarters. */
  private words = new Int32Array(this.cells.buffer)

  set(row: number, value: unknown): boolean {
    if (value === null || value === undefined) {
      this.write(row, 0)
      this.validity.setNull(row)
      return true
    }
    const scaled = typeof value === 'number' ? Math.round(value * this.power) : Number.NaN
    if (Math.abs(scaled) < DIGITS_LIMIT && scaled / this.power === value) this.write(row, scaled)
    else {
      const cell = readDecimal(value, this.scale)
      if (cell === undefined) return false
      this.cells[2 * row] = BigInt.asIntN(64, cell)
      this.cells[2 * row + 1] = cell >> 64n
    }
    this.validity.setPresent(row)
    return true
  }

  finish(length: number): Column {
    const values = new Uint8Array(this.cells.buffer, 0, length * 16)
    this.cells = new BigInt64Array(this.rows * 2)
    this.words = new Int32Array(this.cells.buffer)
    const { name, scale } = this.input
    return { name, type: 'decimal128', scale, values, validity: this.validity.finish(length) }
  }

  /** A small cell, sign-extended to 128 bits. */
  private write(row: number, cell: number): void {
    const at = 4 * row
    const sign = cell < 0 ? -1 : 0
    this.words[at] = cell | 0
    this.words[at + 1] = Math.floor(cell / 2 ** 32)
    this.words[at + 2] = sign
    this.words[at + 3] = sign
  }
}

class BoolBuilder extends Builder {
  private bits = new Uint8Array((this.rows + 7) >> 3)

  set(row: number, value: unknown): boolean {
    if (value === null || value === undefined) this.validity.setNull(row)
    else if (typeof value === 'boolean') this.validity.setPresent(row)
    else return false
    const bit = 1 << (row & 7)
    if (value === true) this.bits[row >> 3]! |= bit
    else this.bits[row >> 3]! &= ~bit
    return true
  }

  finish(length: number): Column {
    const values = this.bits.subarray(0, (length + 7) >> 3)
    this.bits = new Uint8Array((this.rows + 7) >> 3)
    return { name: this.input.name, type: 'bool', values, validity: this.validity.finish(length) }
  }
}

const encoder = new TextEncoder()
/** Below it a loop over the characters beats the call into the encoder. */
const SHORT_TEXT = 64

class TextBuilder extends Builder {
  private bytes = new Uint8Array(this.rows * 8)
  private offsets = new Int32Array(this.rows + 1)

  set(row: number, value: unknown): boolean {
    const start = this.offsets[row]!
    if (value === null || value === undefined) {
      this.validity.setNull(row)
      this.offsets[row + 1] = start
      return true
    }
    if (typeof value !== 'string') return false
    const end = this.write(value, start)
    if (end < 0) return false
    this.offsets[row + 1] = end
    this.validity.setPresent(row)
    return true
  }

  finish(length: number): Column {
    const offsets = this.offsets.subarray(0, length + 1)
    const values = this.bytes.subarray(0, offsets[length]!)
    this.bytes = new Uint8Array(Math.max(this.rows * 8, values.length))
    this.offsets = new Int32Array(this.rows + 1)
    return { name: this.input.name, type: 'utf8', values, offsets, validity: this.validity.finish(length) }
  }

  setUtf8(row: number, bytes: Uint8Array, from: number, to: number): boolean {
    const start = this.offsets[row]!
    const end = start + (to - from)
    if (end > this.bytes.length && !this.grow(end)) return false
    if (to - from > SHORT_TEXT) this.bytes.set(bytes.subarray(from, to), start)
    else for (let at = start, source = from; source < to; ) this.bytes[at++] = bytes[source++]!
    this.offsets[row + 1] = end
    this.validity.setPresent(row)
    return true
  }

  /** Bytes of `text` from `start`; where they end, or -1: a lone surrogate has no UTF-8, and offsets are 31 bits. */
  private write(text: string, start: number): number {
    const most = start + text.length * 3
    if (most > this.bytes.length && !this.grow(most)) return -1
    if (text.length <= SHORT_TEXT) {
      let at = start
      for (let i = 0; i < text.length; i++) {
        const code = text.charCodeAt(i)
        if (code > 127) {
          at = -1
          break
        }
        this.bytes[at++] = code
      }
      if (at >= 0) return at
    }
    if (!isWellFormed(text)) return -1
    return start + encoder.encodeInto(text, this.bytes.subarray(start)).written
  }

  private grow(bytes: number): boolean {
    if (bytes > 2 ** 31 - 1) return false
    const grown = new Uint8Array(Math.min(2 ** 31 - 1, bytes * 2))
    grown.set(this.bytes)
    this.bytes = grown
    return true
  }
}

/** No half of a surrogate pair stands alone. (Node has the method, the library types of ES2023 do not.) */
export function isWellFormed(text: string): boolean {
  return (text as unknown as { isWellFormed(): boolean }).isWellFormed()
}
