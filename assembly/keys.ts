/**
 * Entity keys: canonical bytes interned to small dense numbers, so that everything behind them is an array.
 *
 *   index    open addressing by tag, u64 each: { record offset u32, tag u32 }, 0 = empty; at most half full
 *   record   length u32 · number u32 · bytes …        the full key is compared, never the hash alone
 *
 * Keys come as offsets + bytes. In a large table each probe is a chain of cache misses, so a group of keys goes through
 * hash, touch index, touch record and probe side by side; in a small one that only costs (core-notes: 30 against 22 ns).
 */
import { KEY_BYTES_LIMIT, TYPE_BOOL, TYPE_I64, TYPE_UTF8 } from './layout'
import { allocate, reallocate, release, scratch } from './arena'
import { Register, isPresent, register } from './columns'
import { keyPart, keyPartCount } from './plan'

@unmanaged
export class KeyTable {
  index: usize
  /** Entries of the index, a power of two. */
  capacity: u32
  count: u32
  records: usize
  recordsCapacity: usize
  recordsEnd: usize
  /** Record offset by number. */
  refs: usize
  refsCapacity: u32
}

export const KEY_TABLE_BYTES: usize = 32
const RECORD_BYTES: usize = 8
const GROUP: i32 = 128
/** Index entries from which probes miss the nearest caches: 32k entries are 256 KB. */
const STAGED_CAPACITY: u32 = 1 << 15

const SEED: u64 = 0x9e37_79b9_7f4a_7c15
const MULTIPLIER: u64 = 0xd6e8_feb8_6659_fd93

@inline
function mix(hash: u64, word: u64): u64 {
  hash = (hash ^ word) * MULTIPLIER
  return hash ^ (hash >> 32)
}

/**
 * Loads only inside [at, at + length): words overlap. Keys of 8 to 24 bytes take three words whatever their length, so that
 * lengths at random don't end a loop where nobody can guess.
 */
@inline
function hashBytes(at: usize, length: usize): u64 {
  let hash = SEED ^ ((length as u64) * MULTIPLIER)
  if (length >= 8) {
    const last = length - 8
    hash = mix(hash, load<u64>(at))
    hash = mix(hash, load<u64>(at + min<usize>(last, 8)))
    for (let i: usize = 16; i < last; i += 8) hash = mix(hash, load<u64>(at + i))
    hash = (hash ^ load<u64>(at + last)) * MULTIPLIER
  } else if (length >= 4) {
    const word = (load<u32>(at) as u64) | ((load<u32>(at + length - 4) as u64) << 32)
    hash = (hash ^ word) * MULTIPLIER
  } else if (length > 0) {
    hash = (hash ^ (shortWord(at, length) as u64)) * MULTIPLIER
  }
  hash ^= hash >> 32
  hash *= MULTIPLIER
  return hash ^ (hash >> 29)
}

/** The same words as those that are hashed, and nearly always equal. */
@inline
function sameBytes(a: usize, b: usize, length: usize): bool {
  if (length >= 8) {
    const last = length - 8
    const middle = min<usize>(last, 8)
    let differs = load<u64>(a) ^ load<u64>(b)
    differs |= load<u64>(a + middle) ^ load<u64>(b + middle)
    for (let i: usize = 16; i < last; i += 8) differs |= load<u64>(a + i) ^ load<u64>(b + i)
    return (differs | (load<u64>(a + last) ^ load<u64>(b + last))) == 0
  }
  if (length >= 4) return load<u32>(a) == load<u32>(b) && load<u32>(a + length - 4) == load<u32>(b + length - 4)
  return length == 0 || shortWord(a, length) == shortWord(b, length)
}

/** All of one to three bytes. */
@inline
function shortWord(at: usize, length: usize): u32 {
  const first = load<u8>(at) as u32
  const middle = load<u8>(at + (length >> 1)) as u32
  return first | (middle << 8) | ((load<u8>(at + length - 1) as u32) << 16)
}

/** Words that overlap: parts of keys are short, and a call of `memory.copy` costs more than copying some dozen bytes. */
@inline
function copyText(into: usize, from: usize, length: usize): void {
  if (length > 64) memory.copy(into, from, length)
  else if (length >= 8) {
    const last = length - 8
    for (let i: usize = 0; i < last; i += 8) store<u64>(into + i, load<u64>(from + i))
    store<u64>(into + last, load<u64>(from + last))
  } else if (length >= 4) {
    const last = load<u32>(from + length - 4)
    store<u32>(into, load<u32>(from))
    store<u32>(into + length - 4, last)
  } else if (length > 0) {
    store<u8>(into + length - 1, load<u8>(from + length - 1))
    store<u8>(into + (length >> 1), load<u8>(from + (length >> 1)))
    store<u8>(into, load<u8>(from))
  }
}

export function clearTable(table: KeyTable): void {
  release(table.index, (table.capacity as usize) << 3)
  release(table.records, table.recordsCapacity)
  release(table.refs, (table.refsCapacity as usize) << 2)
  memory.fill(changetype<usize>(table), 0, KEY_TABLE_BYTES)
}

/** Room for `more` keys of `bytes` bytes in all, so that interning them moves nothing. */
export function reserve(table: KeyTable, more: u32, bytes: usize): void {
  const wanted = table.count + more
  if (wanted > table.refsCapacity) {
    const capacity = max<u32>(wanted + (wanted >> 1), 1024)
    table.refs = reallocate(table.refs, (table.refsCapacity as usize) << 2, (capacity as usize) << 2)
    table.refsCapacity = capacity
  }
  // A record's bytes are padded to 8, so that records stay aligned.
  const end = max(table.recordsEnd, 8) + bytes + (more as usize) * (RECORD_BYTES + 8)
  if (end > table.recordsCapacity) {
    const capacity = max(end + (end >> 1), 1 << 16)
    table.records = reallocate(table.records, table.recordsCapacity, capacity)
    table.recordsCapacity = capacity
  }
  if (table.recordsEnd == 0) table.recordsEnd = 8
  if (wanted << 1 > table.capacity) growIndex(table, wanted)
}

/** Entries keep their order but for one bit of their tags, so both indexes are walked almost in line. */
function growIndex(table: KeyTable, wanted: u32): void {
  let capacity: u32 = 1024
  while (capacity < wanted << 1) capacity <<= 1
  const bytes = (capacity as usize) << 3
  const index = allocate(bytes)
  memory.fill(index, 0, bytes)
  const mask = capacity - 1
  for (let old = table.index, end = old + ((table.capacity as usize) << 3); old < end; old += 8) {
    const entry = load<u64>(old)
    if (entry == 0) continue
    let at = ((entry >> 32) as u32) & mask
    while (load<u32>(index + ((at as usize) << 3)) != 0) at = (at + 1) & mask
    store<u64>(index + ((at as usize) << 3), entry)
  }
  release(table.index, (table.capacity as usize) << 3)
  table.index = index
  table.capacity = capacity
}

@inline
function probe(table: KeyTable, index: usize, mask: u32, records: usize, hash: u64, key: usize, length: usize): u32 {
  const tag = (hash >> 32) as u32
  let at = tag & mask
  while (true) {
    const entry = load<u64>(index + ((at as usize) << 3))
    if (entry == 0) return insert(table, index + ((at as usize) << 3), hash, key, length)
    if (((entry >> 32) as u32) == tag) {
      const record = records + ((entry as u32) as usize)
      if (load<u32>(record) == (length as u32) && sameBytes(record + RECORD_BYTES, key, length)) {
        return load<u32>(record, 4)
      }
    }
    at = (at + 1) & mask
  }
}

function insert(table: KeyTable, entry: usize, hash: u64, key: usize, length: usize): u32 {
  const ref = table.recordsEnd
  const record = table.records + ref
  const number = table.count++
  store<u32>(record, length as u32)
  store<u32>(record, number, 4)
  memory.copy(record + RECORD_BYTES, key, length)
  table.recordsEnd = (ref + RECORD_BYTES + length + 7) & ~7
  store<u32>(table.refs + ((number as usize) << 2), ref as u32)
  store<u64>(entry, (ref as u64) | (hash & 0xffff_ffff_0000_0000))
  return number
}

/** The number of one key, new ones included; `reserve` came before. */
export function internOne(table: KeyTable, key: usize, length: usize): u32 {
  return probe(table, table.index, table.capacity - 1, table.records, hashBytes(key, length), key, length)
}

const groupHashes = memory.data(128 * 8, 8)
/** Keeps the touching loads alive. */
export let touched: u64 = 0

/** numbers[i] = number of the key of row rows[i], whose bytes are data[offsets[row] .. offsets[row + 1]). */
export function intern(table: KeyTable, data: usize, offsets: usize, rows: usize, n: i32, numbers: usize): void {
  const index = table.index
  const mask = table.capacity - 1
  const records = table.records
  if (table.capacity < STAGED_CAPACITY) {
    for (let i: usize = 0, end = (n as usize) << 2; i < end; i += 4) {
      const at = offsets + ((load<u32>(rows + i) as usize) << 2)
      const key = data + (load<u32>(at) as usize)
      const length = (load<u32>(at, 4) - load<u32>(at)) as usize
      store<u32>(numbers + i, probe(table, index, mask, records, hashBytes(key, length), key, length))
    }
    return
  }
  for (let start = 0; start < n; start += GROUP) {
    const end = min(start + GROUP, n)
    let sink: u64 = 0
    for (let i = start; i < end; i++) {
      const at = offsets + ((load<u32>(rows + ((i as usize) << 2)) as usize) << 2)
      const key = data + (load<u32>(at) as usize)
      const hash = hashBytes(key, (load<u32>(at, 4) - load<u32>(at)) as usize)
      store<u64>(groupHashes + (((i - start) as usize) << 3), hash)
    }
    // The shorter the loop, the more misses are under way at a time.
    for (let at = groupHashes, stop = groupHashes + (((end - start) as usize) << 3); at < stop; at += 8) {
      sink ^= load<u64>(index + (((load<u32>(at, 4) & mask) as usize) << 3))
    }
    for (let i = start; i < end; i++) {
      const tag = load<u32>(groupHashes + (((i - start) as usize) << 3), 4)
      sink ^= load<u64>(records + (load<u32>(index + (((tag & mask) as usize) << 3)) as usize))
    }
    touched = sink
    for (let i = start; i < end; i++) {
      const at = offsets + ((load<u32>(rows + ((i as usize) << 2)) as usize) << 2)
      const key = data + (load<u32>(at) as usize)
      const length = (load<u32>(at, 4) - load<u32>(at)) as usize
      const hash = load<u64>(groupHashes + (((i - start) as usize) << 3))
      store<u32>(numbers + ((i as usize) << 2), probe(table, index, mask, records, hash, key, length))
    }
  }
}

/** Address of the record of a number: length u32, number u32, bytes. */
export function keyRecord(table: KeyTable, number: u32): usize {
  return table.records + (load<u32>(table.refs + ((number as usize) << 2)) as usize)
}

// ---- canonical keys of a batch ---------------------------------------------------------------------------------------

// Row r's key is keyData[keyOffsets[r] .. keyOffsets[r + 1]); a row without a usable key has length 0.
export let keyData: usize = 0
export let keyOffsets: usize = 0

/** Finds or builds the canonical keys of rows 0..n-1. See model/key.ts for the form. */
export function buildKeys(n: i32): void {
  const first = register(keyPart(0).register)
  if (keyPartCount == 1 && first.type == TYPE_UTF8 && first.valid == 0) {
    keyData = first.data
    keyOffsets = first.offsets
    return
  }
  keyOffsets = scratch(((n + 1) as usize) << 2)
  let bytes: usize = 0
  for (let row = 0; row < n; row++) {
    store<u32>(keyOffsets + ((row as usize) << 2), bytes as u32)
    bytes += keyLength(row)
  }
  store<u32>(keyOffsets + ((n as usize) << 2), bytes as u32)
  keyData = scratch(bytes + 8)
  for (let row = 0; row < n; row++) {
    const at = keyOffsets + ((row as usize) << 2)
    if (load<u32>(at, 4) != load<u32>(at)) writeKey(keyData + (load<u32>(at) as usize), row)
  }
}

/** 0 when a part is null, an empty text, or the whole is longer than a key may be. */
function keyLength(row: i32): usize {
  let length: usize = 0
  for (let i = 0; i < keyPartCount; i++) {
    const cells = register(keyPart(i).register)
    if (!isPresent(cells, row)) return 0
    if (cells.type != TYPE_UTF8) {
      length += cells.type == TYPE_BOOL ? 1 : 8
      continue
    }
    const text = partLength(cells, row)
    if (text == 0) return 0
    length += text + (keyPartCount > 1 ? 4 : 0)
  }
  return length > (KEY_BYTES_LIMIT as usize) ? 0 : length
}

function partLength(cells: Register, row: i32): usize {
  const at = cells.offsets + ((row as usize) << 2)
  return (load<u32>(at, 4) - load<u32>(at)) as usize
}

function writeKey(at: usize, row: i32): void {
  for (let i = 0; i < keyPartCount; i++) {
    const cells = register(keyPart(i).register)
    if (cells.type == TYPE_I64) {
      store<u64>(at, load<u64>(cells.data + ((row as usize) << 3)))
      at += 8
    } else if (cells.type == TYPE_BOOL) {
      store<u8>(at, load<u8>(cells.data + (row as usize)))
      at++
    } else {
      const length = partLength(cells, row)
      if (keyPartCount > 1) {
        store<u32>(at, length as u32)
        at += 4
      }
      copyText(at, cells.data + (load<u32>(cells.offsets + ((row as usize) << 2)) as usize), length)
      at += length
    }
  }
}

/** Is row `row`'s key usable? */
@inline
export function hasKey(row: i32): bool {
  const at = keyOffsets + ((row as usize) << 2)
  const length = load<u32>(at, 4) - load<u32>(at)
  return length != 0 && length <= (KEY_BYTES_LIMIT as u32)
}

// ---- lanes -----------------------------------------------------------------------------------------------------------

/** MurmurHash3, 32 bits, seed 0: model/key.ts has the same. */
export function laneHash(at: usize, length: u32): u32 {
  let hash: u32 = 0
  const whole = length & ~3
  for (let i: u32 = 0; i < whole; i += 4) {
    hash ^= scramble(load<u32>(at + (i as usize)))
    hash = rotl<u32>(hash, 13) * 5 + 0xe654_6b64
  }
  let tail: u32 = 0
  for (let i = length; i > whole; i--) tail = (tail << 8) | (load<u8>(at + ((i - 1) as usize)) as u32)
  if (whole < length) hash ^= scramble(tail)
  hash ^= length
  hash = (hash ^ (hash >> 16)) * 0x85eb_ca6b
  hash = (hash ^ (hash >> 13)) * 0xc2b2_ae35
  return hash ^ (hash >> 16)
}

function scramble(word: u32): u32 {
  return rotl<u32>(word * 0xcc9e_2d51, 15) * 0x1b87_3593
}
