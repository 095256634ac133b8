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
import { textAt } from './events'
import { accOf, accsAt, answerEntity, placeWindows, reserveResults, startAtPlace, windowCount } from './merge'
import { askedCount, entityEnd, entityStart, firstEventMs, heldCount, orderedAt } from './asof-events'

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

/** First rank in [from, to) whose event is at or after `ms`; `to` when there is none. */
function search(ms: i64, from: u32, to: u32): u32 {
  while (from < to) {
    const middle = (from + to) >> 1
    if (timeOf(middle) < ms) from = middle + 1
    else to = middle
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
  const guess = from + min((share * ((to - from - 1) as f64)) as u32, to - from - 1)
  if (timeOf(guess) >= ms) return rankBefore(ms, from, guess)
  let low = guess + 1
  let step: u32 = 4
  while (step < to - low) {
    if (timeOf(low + step) >= ms) return search(ms, low, low + step)
    low += step + 1
    step <<= 1
  }
  return search(ms, low, to)
}

/** The same, for an instant that lies shortly before the event at `to`: in growing steps from there. */
function rankBefore(ms: i64, from: u32, to: u32): u32 {
  let step: u32 = 4
  while (step < to - from) {
    if (timeOf(to - step) < ms) return search(ms, to - step + 1, to)
    to -= step
    step <<= 1
  }
  return search(ms, from, to)
}

/** The answers of `n` rows: entity numbers (u32) and instants (f64 ms). They stand where those of `merge` do. */
export function answerAsOf(n: i32, entities: usize, asOfs: usize): void {
  reserveResults(n)
  resetScratch()
  const order = rowsByEntity(n, entities)
  for (let i: usize = 0, stop = (n as usize) << 2; i < stop; i += 4) {
    const row = load<u32>(order + i)
    answerRow(row as i32, load<u32>(entities + ((row as usize) << 2)), load<f64>(asOfs + ((row as usize) << 3)) as i64)
  }
}

/** Rows in the order of their entities, nearly: one that stands near another in memory is answered near it, too. */
function rowsByEntity(n: i32, entities: usize): usize {
  const order = scratch((n as usize) << 2)
  let shift: u32 = 0
  while (askedCount >> shift > (max(n, 1024) as u32)) shift++
  const buckets = (askedCount >> shift) + 2
  const starts = scratch((buckets as usize) << 2)
  memory.fill(starts, 0, (buckets as usize) << 2)
  for (let i: usize = 0, stop = (n as usize) << 2; i < stop; i += 4) {
    const at = starts + ((load<u32>(entities + i) >> shift) as usize << 2)
    store<u32>(at, load<u32>(at, 4) + 1, 4)
  }
  for (let at = starts + 4, stop = starts + ((buckets as usize) << 2); at < stop; at += 4) {
    store<u32>(at, load<u32>(at) + load<u32>(at - 4))
  }
  for (let row: usize = 0; row < (n as usize); row++) {
    const at = starts + ((load<u32>(entities + (row << 2)) >> shift) as usize << 2)
    const place = load<u32>(at)
    store<u32>(at, place + 1)
    store<u32>(order + ((place as usize) << 2), row as u32)
  }
  return order
}

function answerRow(row: i32, entity: u32, asOf: i64): void {
  const first = entityStart(entity)
  const last = entityEnd(entity)
  const end = placeWindows(asOf)
  let to = rankOf(end, first, last)
  initAcc(accsAt)
  for (let place = 0; place < windowCount; place++) {
    const acc = accOf(place)
    if (place > 0) copyAcc(acc, acc - accBytes)
    const from = rankBefore(startAtPlace(place), first, to)
    addRange(acc, from, to)
    to = from
  }
  answerEntity(row, firstEventMs(entity) < asOf)
}
