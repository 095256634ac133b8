/**
 * Instants as Spark, Hive and Impala wrote them for years, in a type that Parquet has long given up:
 *
 *   cell = u64 nanoseconds of the day | i32 Julian day        12 bytes, little-endian
 *
 * The decoder makes nanoseconds of 64 bits of it, which end in the year 2262 and wrap around: a sentinel of 9999-12-31 would
 * come out as an instant of 1816. So it is told that these are 12 bytes of no meaning (they lie alike in a page), and the
 * microseconds are made here, floored, as Spark and DuckDB have them.
 */
import { bitAt } from '../model/columns.ts'
import { ThriftWriter } from './thrift.ts'

export const INT96 = 3
export const FIXED_BYTES = 7
export const INT96_BYTES = 12

const EPOCH_DAY = 2_440_588
const DAY_MICROS = 86_400_000_000

/** The schema element of a column of 12 bytes each. */
export function fixedElement(name: string, repetition: number): Uint8Array {
  return new ThriftWriter()
    .i32(1, FIXED_BYTES)
    .i32(2, INT96_BYTES)
    .i32(3, repetition)
    .binary(4, Buffer.from(name))
    .end()
}

/** `length` cells to microseconds since the epoch, in place; the bytes that they take. Throws RangeError. */
export function toMicros(cells: Uint8Array, length: number, validity: Uint8Array | undefined, bitOffset: number) {
  const view = new DataView(cells.buffer, cells.byteOffset, cells.byteLength)
  for (let row = 0; row < length; row++) {
    let micros = 0n
    if (validity === undefined || bitAt(validity, bitOffset + row)) {
      const at = INT96_BYTES * row
      const dayMicros = Math.floor((view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32) / 1000)
      const day = view.getInt32(at + 8, true)
      if (dayMicros >= DAY_MICROS) throw new RangeError(`an INT96 instant is ${dayMicros} microseconds into its day`)
      micros = BigInt(day - EPOCH_DAY) * BigInt(DAY_MICROS) + BigInt(dayMicros)
      if (micros !== BigInt.asIntN(64, micros)) throw new RangeError(`an INT96 instant is of Julian day ${day}`)
    }
    // A cell is shorter than what it is made of: nothing unread is written over.
    view.setBigInt64(8 * row, micros, true)
  }
  return cells.subarray(0, 8 * length)
}
