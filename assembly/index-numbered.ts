/** The ABI of hosts that number entities themselves, and of the bench: the fold and the keys, each alone. index.ts exports it. */
import { TYPE_F64 } from './layout'
import { allocate, resetScratch } from './arena'
import { register } from './columns'
import { column, columnCount } from './plan'
import { admitEntities, entityTable } from './entities'
import { KeyTable, clearTable, intern, reserve } from './keys'
import { foldRows } from './fold'

/**
 * The fold alone, for hosts that number entities themselves and for the bench: `n` rows with entity numbers (u32), times
 * (i64 ms) and one F64 column without nulls. `admit` made the numbers known.
 */
export function foldNumbered(entities: usize, times: usize, values: usize, n: i32): void {
  const cells = register(column(0).register)
  cells.type = TYPE_F64
  cells.data = values
  cells.valid = 0
  assert(columnCount == 1 && (n as u32) <= identityCount)
  resetScratch()
  foldRows(identityAt, entities, n, times, false)
}

let identityAt: usize = 0
let identityCount: u32 = 0

/** Makes entity numbers 0..count-1 known (their keys are their numbers) and row numbers up to `rows`. */
export function admit(count: u32, rows: u32): void {
  const key = allocate(8)
  reserve(entityTable(), count, (count as usize) << 3)
  const offsets = allocate(8)
  store<u32>(offsets, 0)
  store<u32>(offsets, 8, 4)
  const row = allocate(4)
  store<u32>(row, 0)
  const number = allocate(4)
  for (let i: u32 = 0; i < count; i++) {
    store<u64>(key, i as u64)
    intern(entityTable(), key, offsets, row, 1, number)
  }
  admitEntities()
  identityAt = allocate((rows as usize) << 2)
  identityCount = rows
  for (let i: u32 = 0; i < rows; i++) store<u32>(identityAt + ((i as usize) << 2), i)
}

/** Key interning alone, for the bench: a key table of its own. rows = 0..n-1. */
export function internKeys(data: usize, offsets: usize, n: i32, numbers: usize): u32 {
  const table = changetype<KeyTable>(spareTable)
  reserve(table, n as u32, (load<u32>(offsets + ((n as usize) << 2)) - load<u32>(offsets)) as usize)
  assert((n as u32) <= identityCount)
  intern(table, data, offsets, identityAt, n, numbers)
  return table.count
}

const spareTable = memory.data(32, 8)

export function clearKeys(): void {
  clearTable(changetype<KeyTable>(spareTable))
}
