/** Cells of a column batch as plain values, for looking at a sample: nothing that folds goes this way. */
import { bitAt, CELL_BYTES, type Column } from '../model/columns.ts'
import { formatDecimal } from '../model/decimal.ts'

export type Cell = number | bigint | string | boolean | null

const decoder = new TextDecoder()

/** Cell of row `row`: integers of 64 bits are bigints, decimals text, null is null. */
export function cellReader(column: Column): (row: number) => Cell {
  const { validity, bitOffset = 0 } = column
  const read = valueReader(column)
  return (row) => (validity !== undefined && !bitAt(validity, bitOffset + row) ? null : read(row))
}

function valueReader(column: Column): (row: number) => Cell {
  const { type, values, offsets, bitOffset = 0 } = column
  if (type === 'bool') return (row) => bitAt(values, bitOffset + row)
  if (type === 'utf8') return (row) => decoder.decode(values.subarray(offsets![row]!, offsets![row + 1]!))
  const view = new DataView(values.buffer, values.byteOffset, values.byteLength)
  const width = CELL_BYTES[type]
  switch (type) {
    case 'int8':
      return (row) => view.getInt8(row)
    case 'int16':
      return (row) => view.getInt16(row * width, true)
    case 'int32':
      return (row) => view.getInt32(row * width, true)
    case 'int64':
      return (row) => view.getBigInt64(row * width, true)
    case 'uint8':
      return (row) => view.getUint8(row)
    case 'uint16':
      return (row) => view.getUint16(row * width, true)
    case 'uint32':
      return (row) => view.getUint32(row * width, true)
    case 'uint64':
      return (row) => view.getBigUint64(row * width, true)
    case 'float32':
      return (row) => view.getFloat32(row * width, true)
    case 'float64':
      return (row) => view.getFloat64(row * width, true)
    case 'decimal128':
      return (row) =>
        formatDecimal(view.getBigInt64(row * 16 + 8, true), view.getBigUint64(row * 16, true), column.scale ?? 0)
  }
}
