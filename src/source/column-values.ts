/** Cells of a column as values: what an answer would hold of them. Exact: integers are bigints, decimals text. */
import { bitAt, type Column } from '../model/columns.ts'
import { formatDecimal } from '../model/decimal.ts'

export type CellValue = number | bigint | string | boolean | null

const decoder = new TextDecoder()

/** A reader of the column's cells by row. */
export function cellReader(column: Column): (row: number) => CellValue {
  const { validity, bitOffset = 0 } = column
  const read = presentReader(column)
  if (validity === undefined) return read
  return (row) => (bitAt(validity, bitOffset + row) ? read(row) : null)
}

function presentReader({ type, values, offsets, scale, bitOffset = 0 }: Column): (row: number) => CellValue {
  const cells = new DataView(values.buffer, values.byteOffset, values.byteLength)
  switch (type) {
    case 'bool':
      return (row) => bitAt(values, bitOffset + row)
    case 'utf8':
      return (row) => decoder.decode(values.subarray(offsets![row]!, offsets![row + 1]!))
    case 'float64':
      return (row) => cells.getFloat64(row * 8, true)
    case 'float32':
      return (row) => cells.getFloat32(row * 4, true)
    case 'decimal128':
      return (row) =>
        formatDecimal(cells.getBigInt64(row * 16 + 8, true), cells.getBigUint64(row * 16, true), scale ?? 0)
    case 'int64':
      return (row) => cells.getBigInt64(row * 8, true)
    case 'uint64':
      return (row) => cells.getBigUint64(row * 8, true)
    case 'int32':
      return (row) => BigInt(cells.getInt32(row * 4, true))
    case 'uint32':
      return (row) => BigInt(cells.getUint32(row * 4, true))
    case 'int16':
      return (row) => BigInt(cells.getInt16(row * 2, true))
    case 'uint16':
      return (row) => BigInt(cells.getUint16(row * 2, true))
    case 'int8':
      return (row) => BigInt(cells.getInt8(row))
    case 'uint8':
      return (row) => BigInt(cells.getUint8(row))
  }
}
