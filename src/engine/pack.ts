/**
 * A batch as one shared buffer, so that any number of worker threads read it without a copy each. What is packed is what
 * the core would copy anyway: the cells of the batch's own rows.
 */
import { CELL_BYTES, type Column, type ColumnBatch } from '../model/columns.ts'

/** Plain data that can be posted; `buffer` is shared and never written again. */
export interface PackedBatch {
  readonly buffer: SharedArrayBuffer
  readonly length: number
  readonly positions: number | { readonly at: number }
  readonly recordTimesAt?: number
  readonly columns: readonly PackedColumn[]
}

interface PackedColumn {
  readonly name: string
  readonly type: Column['type']
  readonly unit?: Column['unit']
  readonly scale?: number
  readonly bitOffset?: number
  readonly valuesAt: number
  readonly valuesBytes: number
  readonly offsetsAt?: number
  readonly validityAt?: number
  readonly validityBytes?: number
}

/** Packs the columns with the given names, those that the batch has. */
export function packBatch(batch: ColumnBatch, names: ReadonlySet<string>): PackedBatch {
  const pieces: { bytes: Uint8Array; at: number }[] = []
  let end = 0
  const place = (bytes: Uint8Array): number => {
    const at = (end + 7) & ~7
    pieces.push({ bytes, at })
    end = at + bytes.length
    return at
  }
  const n = batch.length
  const columns = batch.columns
    .filter((column) => names.has(column.name))
    .map((column): PackedColumn => {
      const { name, type, unit, scale, bitOffset } = column
      const bitmapBytes = ((bitOffset ?? 0) + n + 7) >> 3
      const validity = column.validity?.subarray(0, bitmapBytes)
      const nulls = validity ? { validityAt: place(validity), validityBytes: validity.length } : {}
      if (type === 'utf8') {
        const from = column.offsets![0]!
        const values = column.values.subarray(from, column.offsets![n]!)
        // Offsets count from the packed text's start.
        const offsets = from === 0 ? column.offsets!.subarray(0, n + 1) : column.offsets!.map((each) => each - from)
        const offsetsAt = place(new Uint8Array(offsets.buffer, offsets.byteOffset, (n + 1) * 4))
        return { name, type, bitOffset, ...nulls, offsetsAt, valuesAt: place(values), valuesBytes: values.length }
      }
      const values = column.values.subarray(0, type === 'bool' ? bitmapBytes : n * CELL_BYTES[type])
      return { name, type, unit, scale, bitOffset, ...nulls, valuesAt: place(values), valuesBytes: values.length }
    })
  const cells = (array: Float64Array) => place(new Uint8Array(array.buffer, array.byteOffset, n * 8))
  const positions = typeof batch.positions === 'number' ? batch.positions : { at: cells(batch.positions) }
  const recordTimesAt = batch.recordTimes ? cells(batch.recordTimes) : undefined
  const buffer = new SharedArrayBuffer(end)
  const target = new Uint8Array(buffer)
  for (const piece of pieces) target.set(piece.bytes, piece.at)
  return { buffer, length: n, positions, recordTimesAt, columns }
}

export function unpackBatch(packed: PackedBatch): ColumnBatch {
  const { buffer, length } = packed
  const cells = (at: number) => new Float64Array(buffer, at, length)
  return {
    length,
    positions: typeof packed.positions === 'number' ? packed.positions : cells(packed.positions.at),
    recordTimes: packed.recordTimesAt === undefined ? undefined : cells(packed.recordTimesAt),
    columns: packed.columns.map((column): Column => {
      const { name, type, unit, scale, bitOffset } = column
      return {
        name,
        type,
        unit,
        scale,
        bitOffset,
        values: new Uint8Array(buffer, column.valuesAt, column.valuesBytes),
        offsets: column.offsetsAt === undefined ? undefined : new Int32Array(buffer, column.offsetsAt, length + 1),
        validity:
          column.validityAt === undefined ? undefined : new Uint8Array(buffer, column.validityAt, column.validityBytes),
      }
    }),
  }
}
