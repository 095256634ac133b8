/**
 * Entities in the order of their keys. A store that keeps keys in order has neighbours on one page, so a chunk of rows in
 * this order touches few pages, each once, where one in the order of arrival touches as many as it has rows.
 *
 *   keys       c u s t o m e r - 4 7 1 1 0 8 1 5 …
 *              └ all share these ┘└ 8 bytes ┘      only these are sorted by: order is for speed, ties don't matter
 *
 * Least digit first, a byte a pass; bytes that all keys share cost nothing.
 */
import { allocate, release } from '../arena'
import { Dirty, dirty, entityTable } from '../entities'
import { keyRecord } from '../keys'

/** Below so many rows a flush is a write or two anyway. */
const ORDERED_FROM: u32 = 256
const DIGITS: i32 = 8
const counts = memory.data(8 * 256 * 4)

/** `order`: numbers of dirty entities (u32), `count` of them. */
export function orderByKey(order: usize, count: u32): void {
  if (count < ORDERED_FROM) return
  const shared = sharedBytes(order, count)
  const bytes = (count as usize) << 4
  let from = allocate(bytes)
  let into = allocate(bytes)
  memory.fill(counts, 0, DIGITS * 256 * 4)
  for (let i: u32 = 0; i < count; i++) {
    const index = load<u32>(order + ((i as usize) << 2))
    const word = wordAt(recordOf(dirty(index)), shared)
    store<u64>(from + ((i as usize) << 4), word)
    store<u32>(from + ((i as usize) << 4), index, 8)
    for (let digit = 0; digit < DIGITS; digit++) {
      const at = countAt(digit, (word >> ((digit << 3) as u64)) as u32)
      store<u32>(at, load<u32>(at) + 1)
    }
  }
  for (let digit = 0; digit < DIGITS; digit++) {
    if (load<u32>(countAt(digit, (load<u64>(from) >> ((digit << 3) as u64)) as u32)) == count) continue
    let before: u32 = 0
    for (let value: u32 = 0; value < 256; value++) {
      const at = countAt(digit, value)
      const here = load<u32>(at)
      store<u32>(at, before)
      before += here
    }
    for (let entry = from, end = from + bytes; entry < end; entry += 16) {
      const at = countAt(digit, (load<u64>(entry) >> ((digit << 3) as u64)) as u32)
      const place = load<u32>(at)
      store<u32>(at, place + 1)
      store<u64>(into + ((place as usize) << 4), load<u64>(entry))
      store<u64>(into + ((place as usize) << 4), load<u64>(entry, 8), 8)
    }
    const spare = from
    from = into
    into = spare
  }
  for (let i: u32 = 0; i < count; i++) store<u32>(order + ((i as usize) << 2), load<u32>(from + ((i as usize) << 4), 8))
  release(from, bytes)
  release(into, bytes)
}

@inline
function countAt(digit: i32, value: u32): usize {
  return counts + ((((digit << 8) as u32) | (value & 255)) as usize << 2)
}

@inline
function recordOf(entry: Dirty): usize {
  return keyRecord(entityTable(), entry.entity)
}

/** Leading bytes that all keys have in common. */
function sharedBytes(order: usize, count: u32): u32 {
  const first = recordOf(dirty(load<u32>(order)))
  let shared = load<u32>(first)
  for (let i: u32 = 1; i < count && shared > 0; i++) {
    const record = recordOf(dirty(load<u32>(order + ((i as usize) << 2))))
    shared = min(shared, load<u32>(record))
    let same: u32 = 0
    while (same < shared && load<u8>(record + (same as usize), 8) == load<u8>(first + (same as usize), 8)) same++
    shared = same
  }
  return shared
}

/** The 8 bytes of a key from `from` on, the first one highest; zeros behind its end. */
function wordAt(record: usize, from: u32): u64 {
  const left = load<u32>(record) - from
  const at = record + 8 + (from as usize)
  if (left >= 8) return bswap<u64>(load<u64>(at))
  let word: u64 = 0
  for (let i: u32 = 0; i < left; i++) word |= (load<u8>(at + (i as usize)) as u64) << ((56 - (i << 3)) as u64)
  return word
}
