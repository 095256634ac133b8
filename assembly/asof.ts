/**
 * Features as of many instants: what `merge` would answer at t, had the log ended right before t. For training sets.
 *
 *   events of an entity, by time    e e e e e e e e e e e e e e e e e e e e e e …
 *   window as of t                          [start                  end)
 *   its sum                                 e e ├──────┼──────┤ e e              blocks, summed up when first asked for
 *
 * There are no tiles and no rows: partials commute and are exact, so a sum over blocks of events is the sum over any tiles
 * of the same events, bit for bit. Which events those are is said by the code that says it for a request (merge.ts
 * placeWindows), what they come to by the same partials. A window costs its two searches and two or three sums for each level
 * of blocks, however long it is.
 *
 * Events are held by asof-events.ts, for the entities that are asked about and no other.
 */
import { RAW_TIME_AT } from './layout'
import { accBytes, rawBytes } from './plan'
import { allocate, release, resetScratch, scratch } from './arena'
import { addAcc, addEvents, copyAcc, dropAccs, initAcc } from './dispatch'
import { NO_ENTITY, textAt } from './events'
import { accOf, accsAt, answerEntity, arrangeResults, placeWindows, reserveResults, startAtPlace, windowCount } from './merge'
import { askedCount, entityEnd, entityStart, firstEventMs, heldCount, orderEntity, orderedAt } from './asof-events'

/** Events in a block of the first level: 16. */
const FIRST_BITS: u32 = 4
/** Blocks in one of the next level: 4, so that a window's two ends cost at most three of each level. */
const FAN_BITS: u32 = 2
const LEVELS: i32 = 11

// Per level: its accumulators, one byte for each (is it summed up?), and how many there are.
const accsOfLevel = memory.data(11 * 4)
const knownOfLevel = memory.data(11 * 4)
const blocksOfLevel = memory.data(11 * 4)

function blockAccs(depth: i32): usize {
  return load<u32>(accsOfLevel + ((depth as usize) << 2)) as usize
}

function blockKnown(depth: i32): usize {
  return load<u32>(knownOfLevel + ((depth as usize) << 2)) as usize
}

function blockCount(depth: i32): u32 {
  return load<u32>(blocksOfLevel + ((depth as usize) << 2))
}

/** Room for the blocks of the events that were just put in order; none of them is summed up yet. */
export function openBlocks(): void {
  dropBlocks()
  let count = heldCount
  for (let depth = 0; depth < LEVELS; depth++) {
    count >>= depth == 0 ? FIRST_BITS : FAN_BITS
    const at = (depth as usize) << 2
    store<u32>(blocksOfLevel + at, count)
    if (count == 0) continue
    store<u32>(accsOfLevel + at, allocate((count as usize) * accBytes) as u32)
    const known = allocate(count)
    memory.fill(known, 0, count)
    store<u32>(knownOfLevel + at, known as u32)
  }
}

export function dropBlocks(): void {
  for (let depth = 0; depth < LEVELS; depth++) {
    const count = blockCount(depth)
    if (count == 0) continue
    const accs = blockAccs(depth)
    const known = blockKnown(depth)
    for (let i: u32 = 0; i < count; i++) {
      if (load<u8>(known + (i as usize)) != 0) dropAccs(accs + (i as usize) * accBytes, 1)
    }
    release(accs, (count as usize) * accBytes)
    release(known, count)
    store<u32>(blocksOfLevel + ((depth as usize) << 2), 0)
  }
}

@inline
function eventAt(rank: u32): usize {
  return orderedAt + (rank as usize) * rawBytes
}

/** acc += events [from, to), by their rank among all that are held. */
function addRange(acc: usize, from: u32, to: u32): void {
  // Up to the first edge of a block, then whole blocks, coarser and finer again, then the rest.
  if (to - from < 2 << FIRST_BITS) {
    if (from < to) addEvents(acc, eventAt(from), to - from, textAt)
    return
  }
  const low = (from + (1 << FIRST_BITS) - 1) >> FIRST_BITS
  const high = to >> FIRST_BITS
  if (from < low << FIRST_BITS) addEvents(acc, eventAt(from), (low << FIRST_BITS) - from, textAt)
  addBlocks(acc, 0, low, high)
  if (high << FIRST_BITS < to) addEvents(acc, eventAt(high << FIRST_BITS), to - (high << FIRST_BITS), textAt)
}

function addBlocks(acc: usize, depth: i32, from: u32, to: u32): void {
  const low = (from + (1 << FAN_BITS) - 1) >> FAN_BITS
  const high = to >> FAN_BITS
  if (depth + 1 < LEVELS && low < high) {
    for (; from < low << FAN_BITS; from++) addAcc(acc, blockAt(depth, from))
    addBlocks(acc, depth + 1, low, high)
    from = high << FAN_BITS
  }
  for (; from < to; from++) addAcc(acc, blockAt(depth, from))
}

/** The sum of a block. */
function blockAt(depth: i32, index: u32): usize {
  const acc = blockAccs(depth) + (index as usize) * accBytes
  const known = blockKnown(depth) + (index as usize)
  if (load<u8>(known) != 0) return acc
  store<u8>(known, 1)
  initAcc(acc)
  if (depth == 0) addEvents(acc, eventAt(index << FIRST_BITS), 1 << FIRST_BITS, textAt)
  else for (let i: u32 = 0; i < 1 << FAN_BITS; i++) addAcc(acc, blockAt(depth - 1, (index << FAN_BITS) + i))
  return acc
}

@inline
function timeOf(rank: u32): i64 {
  return load<i64>(eventAt(rank), RAW_TIME_AT)
}

/** First rank in [from, to) whose event is at or after `ms`; `to` when there is none. Nobody could guess its branches. */
function search(ms: i64, from: u32, to: u32): u32 {
  let count = to - from
  while (count > 0) {
    const half = (count + 1) >> 1
    from += half & (0 - ((timeOf(from + half - 1) < ms) as u32))
    count -= half
  }
  return from
}

/** The same, for an instant anywhere: from where it would be if the events came evenly, in growing steps. */
function rankOf(ms: i64, from: u32, to: u32): u32 {
  if (to - from < 8) return search(ms, from, to)
  const oldest = timeOf(from)
  const newest = timeOf(to - 1)
  if (ms <= oldest) return from
  if (ms > newest) return to
  const share = ((ms - oldest) as f64) / ((newest - oldest) as f64)
  return rankNear(ms, from, to, from + min((share * ((to - from - 1) as f64)) as u32, to - from - 1))
}

/** The same, for an instant not far from the event at `guess` (from <= guess <= to): in growing steps from there. */
@inline
function rankNear(ms: i64, from: u32, to: u32, guess: u32): u32 {
  return guess == to || timeOf(guess) >= ms ? rankBefore(ms, from, guess) : rankBehind(ms, guess + 1, to)
}

function rankBefore(ms: i64, from: u32, to: u32): u32 {
  let step: u32 = 4
  while (step < to - from) {
    if (timeOf(to - step) < ms) return search(ms, to - step + 1, to)
    to -= step
    step <<= 1
  }
  return search(ms, from, to)
}

function rankBehind(ms: i64, from: u32, to: u32): u32 {
  let step: u32 = 4
  while (step < to - from) {
    if (timeOf(from + step) >= ms) return search(ms, from, from + step)
    from += step + 1
    step <<= 1
  }
  return search(ms, from, to)
}

/** The answers of `n` rows: entity numbers (u32) and instants (f64 ms). They stand where those of `merge` do. */
export function answerAsOf(n: i32, entities: usize, asOfs: usize): void {
  reserveResults(n)
  resetScratch()
  const rows = orderRows(n, entities, asOfs)
  const places = scratch((n as usize) << 2)
  lastEntity = NO_ENTITY
  for (let i = 0, at = rows; i < n; i++, at += ASKED_BYTES) {
    answerRow(i, load<u32>(at, 12), load<f64>(at) as i64)
    store<u32>(places + ((load<u32>(at, 8) as usize) << 2), i)
  }
  // Written one behind the other, and moved to their rows all at once: each would have waited for a place far from the last.
  arrangeResults(n, places)
}

// A row that is asked about: instant f64 · its number u32 · entity u32
const ASKED_BYTES: usize = 16
/** Stretches of time that rows are sorted into. */
const TIME_BUCKETS: usize = 1024

/**
 * The rows in the order of their entities, and nearly of time: one whose events stand near another's in memory is answered
 * near it, and finds its windows' ends a few events further. Two counting sorts, of which the second leaves equals in place.
 */
function orderRows(n: i32, entities: usize, asOfs: usize): usize {
  let from = scratch((n as usize) * ASKED_BYTES)
  const into = scratch((n as usize) * ASKED_BYTES)
  let oldest = Infinity
  let newest: f64 = 0
  for (let row: usize = 0; row < (n as usize); row++) {
    oldest = min(oldest, load<f64>(asOfs + (row << 3)))
    newest = max(newest, load<f64>(asOfs + (row << 3)))
  }
  const scale = ((TIME_BUCKETS - 1) as f64) / max(newest - oldest, 1)
  const times = scratch((TIME_BUCKETS + 1) << 2)
  memory.fill(times, 0, (TIME_BUCKETS + 1) << 2)
  for (let row: usize = 0; row < (n as usize); row++) {
    countOne(times + (((load<f64>(asOfs + (row << 3)) - oldest) * scale) as usize << 2))
  }
  addUp(times, TIME_BUCKETS)
  for (let row: usize = 0; row < (n as usize); row++) {
    const asOf = load<f64>(asOfs + (row << 3))
    const at = from + takePlace(times + (((asOf - oldest) * scale) as usize << 2)) * ASKED_BYTES
    store<f64>(at, asOf)
    store<u32>(at, row as u32, 8)
    store<u32>(at, load<u32>(entities + (row << 2)), 12)
  }

  let shift: u32 = 0
  while (askedCount >> shift > (max(n, 1024) as u32)) shift++
  const buckets = ((askedCount >> shift) + 1) as usize
  const starts = scratch((buckets + 1) << 2)
  memory.fill(starts, 0, (buckets + 1) << 2)
  for (let i: usize = 0, stop = (n as usize) << 2; i < stop; i += 4) {
    countOne(starts + ((load<u32>(entities + i) >> shift) as usize << 2))
  }
  addUp(starts, buckets)
  for (const stop = from + (n as usize) * ASKED_BYTES; from < stop; from += ASKED_BYTES) {
    const at = into + takePlace(starts + ((load<u32>(from, 12) >> shift) as usize << 2)) * ASKED_BYTES
    store<u64>(at, load<u64>(from))
    store<u64>(at, load<u64>(from, 8), 8)
  }
  return into
}

// Counting sort: counts stand one place to the right, so that once they are added up each bucket's next place is at its own.

@inline
function countOne(bucket: usize): void {
  store<u32>(bucket, load<u32>(bucket, 4) + 1, 4)
}

function addUp(counts: usize, buckets: usize): void {
  for (let at = counts + 4, stop = counts + ((buckets + 1) << 2); at < stop; at += 4) {
    store<u32>(at, load<u32>(at) + load<u32>(at - 4))
  }
}

@inline
function takePlace(bucket: usize): usize {
  const place = load<u32>(bucket)
  store<u32>(bucket, place + 1)
  return place as usize
}

/** Of the row before: its entity, the rank of its windows' end, and that of each window's start. */
let lastEntity: u32 = NO_ENTITY
let lastTo: u32 = 0
const lastFrom = memory.data(64 * 4)

function answerRow(index: i32, entity: u32, asOf: i64): void {
  orderEntity(entity)
  const first = entityStart(entity)
  const last = entityEnd(entity)
  const end = placeWindows(asOf)
  const isNext = entity == lastEntity
  let to = isNext ? rankNear(end, first, last, lastTo) : rankOf(end, first, last)
  lastEntity = entity
  lastTo = to
  initAcc(accsAt)
  for (let place = 0; place < windowCount; place++) {
    const acc = accOf(place)
    if (place > 0) copyAcc(acc, acc - accBytes)
    const hint = lastFrom + ((place as usize) << 2)
    const start = startAtPlace(place)
    const from = isNext ? rankNear(start, first, to, min(load<u32>(hint), to)) : rankBefore(start, first, to)
    store<u32>(hint, from)
    addRange(acc, from, to)
    to = from
  }
  answerEntity(index, firstEventMs(entity) < asOf)
}
