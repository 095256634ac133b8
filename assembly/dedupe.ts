/**
 * Event ids seen, with the event time of their first event. An id counts while its time is within the horizon, that is, no
 * further than `within` behind the late clock; when older ones are thrown away can't be seen. Decided once per input log.
 */
import { reallocate } from './arena'
import { KeyTable, clearTable, internOne, keyRecord, reserve } from './keys'

const table = memory.data(32, 8)
let timesAt: usize = 0
let timesCapacity: u32 = 0
/** Entries at which the set is looked through for old ones. */
let sweepAt: u32 = 1 << 16

function ids(): KeyTable {
  return changetype<KeyTable>(table)
}

/** False when the id is known within the horizon; else it is known from now on. */
export function admitId(id: usize, length: usize, timeMs: i64, horizonMs: i64): bool {
  reserve(ids(), 1, length)
  const before = ids().count
  const number = internOne(ids(), id, length)
  const isNew = number == before
  if (isNew && ids().refsCapacity > timesCapacity) {
    timesAt = reallocate(timesAt, (timesCapacity as usize) << 3, (ids().refsCapacity as usize) << 3)
    timesCapacity = ids().refsCapacity
  }
  const at = timesAt + ((number as usize) << 3)
  if (!isNew && load<i64>(at) >= horizonMs) return false
  store<i64>(at, timeMs)
  if (isNew && ids().count >= sweepAt) sweep(horizonMs)
  return true
}

const kept = memory.data(32, 8)

/** Keeps the ids within the horizon, in a new table. */
function sweep(horizonMs: i64): void {
  const target = changetype<KeyTable>(kept)
  memory.fill(kept, 0, 32)
  for (let number: u32 = 0; number < ids().count; number++) {
    const time = load<i64>(timesAt + ((number as usize) << 3))
    if (time < horizonMs) continue
    const record = keyRecord(ids(), number)
    const length = load<u32>(record) as usize
    reserve(target, 1, length)
    // Its new number is never larger, so the times move down in place.
    const next = internOne(target, record + 8, length)
    store<i64>(timesAt + ((next as usize) << 3), time)
  }
  clearTable(ids())
  memory.copy(table, kept, 32)
  sweepAt = max<u32>(ids().count << 1, 1 << 16)
}

export function clearIds(): void {
  clearTable(ids())
}

/** Bytes `writeIds` takes. */
export function idBytes(horizonMs: i64): usize {
  let bytes: usize = 8
  for (let number: u32 = 0; number < ids().count; number++) {
    if (load<i64>(timesAt + ((number as usize) << 3)) < horizonMs) continue
    bytes += 12 + (load<u32>(keyRecord(ids(), number)) as usize)
  }
  return bytes
}

/** count u64, then each: time i64, length u32, bytes. Only ids within the horizon. */
export function writeIds(at: usize, horizonMs: i64): usize {
  const head = at
  let count: u64 = 0
  at += 8
  for (let number: u32 = 0; number < ids().count; number++) {
    const time = load<i64>(timesAt + ((number as usize) << 3))
    if (time < horizonMs) continue
    const record = keyRecord(ids(), number)
    const length = load<u32>(record)
    store<i64>(at, time)
    store<u32>(at, length, 8)
    memory.copy(at + 12, record + 8, length)
    at += 12 + (length as usize)
    count++
  }
  store<u64>(head, count)
  return at
}

/** Of the count: something else stands behind the ids. */
export const IDS_FOLLOWED: u64 = 1 << 63

/** Reads what `writeIds` wrote; the address behind it, or 0 when the bytes do not hold together. */
export function readIds(at: usize, end: usize): usize {
  clearIds()
  if (at + 8 > end) return 0
  const count = load<u64>(at) & ~IDS_FOLLOWED
  at += 8
  for (let i: u64 = 0; i < count; i++) {
    if (at + 12 > end) return 0
    const length = load<u32>(at, 8) as usize
    if (length > end - at - 12) return 0
    admitId(at + 12, length, load<i64>(at), i64.MIN_VALUE)
    at += 12 + length
  }
  return at
}
