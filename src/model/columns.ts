/**
 * The one column form every source produces and the core reads: Arrow's buffers as they are, plus positions.
 * No object is made per event.
 */

/** How a column's cells lie in memory, little-endian. Names are Arrow's. */
export type PhysicalType =
  | 'bool' // bitmap, least significant bit first
  | 'int8'
  | 'int16'
  | 'int32'
  | 'int64'
  | 'uint8'
  | 'uint16'
  | 'uint32'
  | 'uint64'
  | 'float32'
  | 'float64'
  | 'decimal128' // scaled two's complement integer, 16 bytes
  | 'utf8' // int32 offsets + bytes

export interface Column {
  readonly name: string
  readonly type: PhysicalType
  /** Set when the source itself says that the column is an instant; `undefined` for plain integers. */
  readonly unit?: TimeUnit
  /** Digits behind the point; decimal128 only. */
  readonly scale?: number
  /**
   * Cells of rows `0..length-1`, starting at byte 0 (for `bool`: at bit `bitOffset`). For `utf8` the text bytes that
   * `offsets` point into.
   */
  readonly values: Uint8Array
  /** `utf8` only: `length + 1` ascending offsets into `values`; the first need not be 0. */
  readonly offsets?: Int32Array
  /** Arrow validity bitmap (1 = present), least significant bit first, from bit `bitOffset`; absent when nothing is null. */
  readonly validity?: Uint8Array
  /** Bit at which row 0 lies in `validity` and in a `bool` column's `values`; 0..7. */
  readonly bitOffset?: number
}

export type TimeUnit = 's' | 'ms' | 'us' | 'ns' | 'day'

export interface ColumnBatch {
  /** Rows; the readers yield batches of at most 65,536. */
  readonly length: number
  readonly columns: readonly Column[]
  /**
   * Where the rows stand in their input log. A number is the position of row 0, the rest follow without holes; an array
   * has one position per row, in log order: a row at or before a position already seen is a redelivery and is skipped.
   */
  readonly positions: number | Float64Array
  /** Record time per row in milliseconds where the log has one (Kafka); absent elsewhere. */
  readonly recordTimes?: Float64Array
  /** Of an internal topic: what its router says of the rows, which it has judged. All of them share one position. */
  readonly routed?: RoutedRange
}

/** A record of an internal topic stands for the records `[from, to)` of one source log: those of this lane are its rows. */
export interface RoutedRange {
  /** Position of the record itself. */
  readonly position: number
  readonly log: string
  /** Where the record before it ended, of this log in this lane; -1 for the first. */
  readonly from: number
  readonly to: number
  /** The source's late clock behind them. */
  readonly clockMs: number
  /** Nothing comes from there at the moment: nobody waits for its clock. */
  readonly isIdle: boolean
  /** Logs that are routed into the lane. */
  readonly logs: number
  /** Of the layout that the router went by: rows that take its events are not to be read with an older one. */
  readonly layoutVersion: number
}

/** The bytes that row `row` of a bitmap column holds. */
export function bitAt(bitmap: Uint8Array, bit: number): boolean {
  return ((bitmap[bit >> 3]! >> (bit & 7)) & 1) === 1
}

/** Rows `[start, end)` of a batch, without a copy. */
export function sliceBatch(batch: ColumnBatch, start: number, end: number): ColumnBatch {
  if (start === 0 && end === batch.length) return batch
  const columns = batch.columns.map((column): Column => {
    const bit = (column.bitOffset ?? 0) + start
    const validity = column.validity?.subarray(bit >> 3)
    if (column.type === 'bool') {
      return { ...column, values: column.values.subarray(bit >> 3), validity, bitOffset: bit & 7 }
    }
    if (column.type === 'utf8') {
      return { ...column, offsets: column.offsets!.subarray(start, end + 1), validity, bitOffset: bit & 7 }
    }
    const width = CELL_BYTES[column.type]
    return { ...column, values: column.values.subarray(start * width, end * width), validity, bitOffset: bit & 7 }
  })
  return {
    length: end - start,
    columns,
    positions: typeof batch.positions === 'number' ? batch.positions + start : batch.positions.subarray(start, end),
    recordTimes: batch.recordTimes?.subarray(start, end),
  }
}

/** Bytes of one cell; `bool` and `utf8` have no fixed cell. */
export const CELL_BYTES: Record<Exclude<PhysicalType, 'bool' | 'utf8'>, number> = {
  int8: 1,
  int16: 2,
  int32: 4,
  int64: 8,
  uint8: 1,
  uint16: 2,
  uint32: 4,
  uint64: 8,
  float32: 4,
  float64: 8,
  decimal128: 16,
}
