/** Rows with their keys, side by side in two buffers: a history has millions, and objects for each cost more than its bytes. */
export interface PackedRows {
  readonly keys: Uint8Array
  /** Where each key ends in `keys`; it begins where the one before ends. */
  readonly keyEnds: Uint32Array
  readonly bytes: Uint8Array
  /** Where each row begins and ends in `bytes`, in pairs. */
  readonly bounds: Uint32Array
  /** The rows that are meant: `[first, end)`. */
  readonly first: number
  readonly end: number
}

export interface KeyedRow {
  readonly key: Uint8Array
  readonly bytes: Uint8Array
}

/** One by one, for whoever cannot take them otherwise. Views, no copies. */
export function unpackRows(rows: readonly KeyedRow[] | PackedRows): readonly KeyedRow[] {
  if (!('bounds' in rows)) return rows
  const { keys, keyEnds, bytes, bounds, first, end } = rows
  return Array.from({ length: end - first }, (_, i) => {
    const at = first + i
    return {
      key: keys.subarray(at === 0 ? 0 : keyEnds[at - 1], keyEnds[at]),
      bytes: bytes.subarray(bounds[2 * at], bounds[2 * at + 1]),
    }
  })
}
