import type { KeyedRow, PackedRows } from '../../src/model/packed-rows.ts'

/** Side by side, with a gap behind each row, as the core leaves them. */
export function packRows(rows: readonly KeyedRow[]): PackedRows {
  const keyEnds = new Uint32Array(rows.length)
  const bounds = new Uint32Array(2 * rows.length)
  const bytes: number[] = []
  const keys: number[] = []
  for (const [i, row] of rows.entries()) {
    keys.push(...row.key)
    keyEnds[i] = keys.length
    bounds[2 * i] = bytes.length
    bytes.push(...row.bytes)
    bounds[2 * i + 1] = bytes.length
    bytes.push(0xdb, 0xdb, 0xdb)
  }
  return { keys: Uint8Array.from(keys), keyEnds, bytes: Uint8Array.from(bytes), bounds, first: 0, end: rows.length }
}
