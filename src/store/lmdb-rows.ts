/** Rows into LMDB, one by one or out of one buffer: the keys are written where LMDB wants them, and no object is made per row. */
import type { PackedRows } from '../model/packed-rows.ts'
import { type Environment, plain } from './lmdb-environment.ts'
import { type LaneKeys, PackedKey, RowKey } from './lmdb-key.ts'
import type { StoredRow } from './port.ts'
import { appliedBetween, appliedOf, withApplied } from './rules.ts'

export class LmdbRows {
  readonly #db: Environment
  readonly #rowKey = new RowKey()
  readonly #packedKey = new PackedKey()

  constructor(db: Environment) {
    this.#db = db
  }

  /** No stored row is beyond `flushingTo`, so only a row that is given as older than it needs a look at the stored one. */
  put(keys: LaneKeys, row: StoredRow, flushingTo: number): void {
    const key = this.#rowKey
    key.prefix = keys.rows
    key.entity = row.key
    let bytes = plain(row.bytes)
    if (appliedOf(bytes) < flushingTo) {
      const stored = this.#db.getBinaryFast(key)
      const applied = stored === undefined ? -1 : appliedOf(stored)
      if (applied > appliedOf(bytes)) bytes = withApplied(bytes, applied)
    }
    this.#db.put(key, bytes)
  }

  putPacked(keys: LaneKeys, rows: PackedRows, flushingTo: number): void {
    const key = this.#packedKey
    key.prefix = keys.rows
    key.keys = rows.keys
    const { bounds, keyEnds, end } = rows
    const bytes = plain(rows.bytes)
    for (let i = rows.first; i < end; i++) {
      const from = bounds[2 * i]!
      const to = bounds[2 * i + 1]!
      key.from = i === 0 ? 0 : keyEnds[i - 1]!
      key.to = keyEnds[i]!
      if (appliedBetween(bytes, from, to) >= flushingTo) this.#db.put(key, bytes.subarray(from, to))
      else this.put(keys, { key: rows.keys.subarray(key.from, key.to), bytes: bytes.subarray(from, to) }, flushingTo)
    }
  }
}
