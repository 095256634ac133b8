import type { PackedKey, RowKey } from './lmdb-key.ts'

/** What is used of lmdb, with the keys that `writeKey` takes. */
export interface Environment {
  /** A copy. */
  getBinary(key: Uint8Array | RowKey): Buffer | undefined
  /** lmdb's own buffer, good until the next read; see `viewOf`. */
  getBinaryFast(key: Uint8Array | RowKey): Buffer | undefined
  doesExist(key: Uint8Array): boolean
  getKeys(range: { start: Uint8Array; end: Uint8Array; reverse?: boolean; limit?: number }): Iterable<Buffer>
  put(key: Uint8Array | RowKey | PackedKey, value: Uint8Array): unknown
  remove(key: Uint8Array): unknown
  transactionSync<T>(work: () => T, flags: number): T
  resetReadTxn(): void
  close(): Promise<void>
}

/** lmdb takes the address of the bytes, which it cannot for memory shared between threads. */
export function plain(bytes: Uint8Array): Uint8Array {
  return bytes.buffer instanceof ArrayBuffer ? bytes : new Uint8Array(bytes)
}
