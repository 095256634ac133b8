/** Rows on their way to the store, one by one or side by side, and how much of a write they are. */
import type { PackedRows } from '../model/packed-rows.ts'
import type { StoredRow } from '../store/port.ts'
import { appliedBetween } from '../store/rules.ts'

export type LaneRows = readonly StoredRow[] | PackedRows

/** What a row costs beside its bytes, so that a million tiny rows do not make one write. */
const ROW_OVERHEAD_BYTES = 64

/** What rows add to a write. */
export function bytesOf(rows: LaneRows): number {
  if ('bounds' in rows) return bytesBefore(rows, rows.end) - bytesBefore(rows, rows.first)
  return rows.reduce((sum, { key, bytes }) => sum + key.length + bytes.length + ROW_OVERHEAD_BYTES, 0)
}

/** Of the rows before the `at`th, those that are not meant included. */
function bytesBefore({ keyEnds, bounds }: PackedRows, at: number): number {
  return at === 0 ? 0 : keyEnds[at - 1]! + bounds[2 * at - 1]! + at * ROW_OVERHEAD_BYTES
}

/** In pieces of about `bytesMax`; `check` is given the applied position of each row. */
export function chunksOfPacked(rows: PackedRows, bytesMax: number, check: (applied: number) => void): PackedRows[] {
  const { bytes, bounds, end } = rows
  const chunks: PackedRows[] = []
  for (let first = rows.first, at = first; at < end; ) {
    check(appliedBetween(bytes, bounds[2 * at]!, bounds[2 * at + 1]!))
    at++
    if (at < end && bytesBefore(rows, at) - bytesBefore(rows, first) < bytesMax) continue
    chunks.push({ ...rows, first, end: at })
    first = at
  }
  return chunks
}
