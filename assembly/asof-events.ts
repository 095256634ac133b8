/**
 * The accepted events of the entities that are asked about, all of them at once, by entity and time.
 *
 *   keys       of the entities asked about, before the first event: their numbers come first
 *   cover      where it is known beforehand which instants are asked about: what no window can hold need not be held
 *   hold       batch by batch: what `prepare` accepted, in arrival order (the delta's own store of events)
 *   spill      where that grows too large: the events of every n-th entity as one block of bytes, for the host to keep
 *   load       such a block again
 *   order      by entity, then time, in one piece: from here on ranks are addresses
 *
 * Among events of one time any order will do: partials that need one compare the events themselves.
 */
import { RAW_NULLS_AT, RAW_OP_AT, RAW_TIME_AT, TIME_LIMIT, TYPE_F64, TYPE_I64 } from './layout'
import { column, columnCount, idType, rawBytes, timeRegister } from './plan'
import { allocate, reallocate, release, scratch } from './arena'
import { acceptedAt, acceptedCount } from './accept'
import { register } from './columns'
import { admitEntities, entityTable } from './entities'
import {
  addEvent,
  addRoom,
  clearEvents,
  copyCells,
  copyEvent,
  eventsAt,
  eventsEnd,
  growEvents,
  keepsText,
  textAt,
  textBytesOf,
  writeEvent,
} from './events'
import { clearOut, outAt, reserveOut, takeOut } from './flush/output'
import { entitiesAt } from './fold'
import { internOne, reserve } from './keys'
import { placeWindows, startAtPlace, windowCount } from './merge'

/** Entities that are asked about. */
export let askedCount: u32 = 0
/** Events in order. */
export let heldCount: u32 = 0
export let orderedAt: usize = 0
/** Rank of the first event of each entity asked about, and one more. */
let startsAt: usize = 0
let startsBytes: usize = 0

/** Adds the `n` keys data[offsets[i] .. offsets[i + 1]) to those asked about: numbers go on from the last call. */
export function askKeys(data: usize, offsets: usize, n: i32): void {
  assert(entityTable().count == askedCount)
  reserve(entityTable(), n, load<u32>(offsets + ((n as usize) << 2)) as usize)
  for (let i = 0; i < n; i++) {
    const at = offsets + ((i as usize) << 2)
    internOne(entityTable(), data + (load<u32>(at) as usize), (load<u32>(at, 4) - load<u32>(at)) as usize)
  }
  admitEntities()
  askedCount = entityTable().count
  if (askedCount <= firstsCount) return
  firstsAt = reallocate(firstsAt, (firstsCount as usize) << 3, (askedCount as usize) << 3)
  for (; firstsCount < askedCount; firstsCount++) store<i64>(firstsAt + ((firstsCount as usize) << 3), i64.MAX_VALUE)
}

// ---- what is asked about ---------------------------------------------------------------------------------------------

/** Time of the first event of each entity asked about, whether it is held or not. */
let firstsAt: usize = 0
let firstsCount: u32 = 0

@inline
export function firstEventMs(entity: u32): i64 {
  return load<i64>(firstsAt + ((entity as usize) << 3))
}

// A ring of bits per entity, one for each stretch of time, set where a window of one of its rows may lie. A stretch is an
// eighth of the longest window or less, so the ring is 32 of them long or more; where time goes round, more is held than needed.
const COVER_BITS: i64 = 256
const COVER_BYTES: usize = 32
let coverAt: usize = 0
let coverShift: i64 = 0

/** Rows of (entity, instant) that will be asked about; before the first event, all of them or none. */
export function coverRows(n: i32, entities: usize, asOfs: usize): void {
  if (coverAt == 0) {
    const bytes = max((askedCount as usize) * COVER_BYTES, 8)
    coverAt = allocate(bytes)
    memory.fill(coverAt, 0, bytes)
    const reach = placeWindows(TIME_LIMIT - 1) - startAtPlace(windowCount - 1)
    coverShift = 60 - clz<i64>(max<i64>(reach, 16))
  }
  for (let row: usize = 0; row < (n as usize); row++) {
    const entity = load<u32>(entities + (row << 2))
    if (entity >= askedCount) continue
    const end = placeWindows(load<f64>(asOfs + (row << 3)) as i64)
    const start = startAtPlace(windowCount - 1)
    const bits = coverAt + (entity as usize) * COVER_BYTES
    let stretch = start >> coverShift
    for (const last = min((end - 1) >> coverShift, stretch + COVER_BITS); stretch <= last; stretch++) {
      const at = bits + (((stretch & (COVER_BITS - 1)) >> 3) as usize)
      store<u8>(at, ((load<u8>(at) as u32) | (1 << ((stretch as u32) & 7))) as u8)
    }
  }
}

/** 1 where a window may hold it, else 0. */
@inline
function coveredBit(entity: u32, time: i64): u32 {
  const stretch = (time >> coverShift) & (COVER_BITS - 1)
  const bits = load<u8>(coverAt + (entity as usize) * COVER_BYTES + ((stretch >> 3) as usize)) as u32
  return (bits >> ((stretch as u32) & 7)) & 1
}

// ---- holding ---------------------------------------------------------------------------------------------------------

/** The rows of a prepared batch as the host asks about them; see index.ts asofRows. */
export function writeAsked(n: i32): usize {
  const times = register(timeRegister).data
  const at = scratch((n as usize) * 12)
  const numbers = at + ((n as usize) << 3)
  memory.fill(at, 0, (n as usize) << 3)
  memory.fill(numbers, 0xff, (n as usize) << 2)
  for (let i = 0; i < acceptedCount; i++) {
    const row = load<u32>(acceptedAt + ((i as usize) << 2)) as usize
    store<f64>(at + (row << 3), load<i64>(times + (row << 3)) as f64)
    store<u32>(numbers + (row << 2), load<u32>(entitiesAt + ((i as usize) << 2)))
  }
  return at
}

export function forgetAsked(): void {
  askedCount = 0
}

/** Room for `count` events: what is known beforehand need not be copied as it grows. */
export function reserveHeld(count: u32): void {
  growEvents(((count + 1) as usize) * rawBytes)
}

/** Holds the events of the prepared batch whose entity is asked about, at an instant that a window may hold. */
export function holdBatch(): void {
  const times = register(timeRegister).data
  const rows = scratch((acceptedCount as usize) << 2)
  const entities = scratch((acceptedCount as usize) << 2)
  let count: usize = 0
  for (let i: usize = 0, end = (acceptedCount as usize) << 2; i < end; i += 4) {
    const entity = load<u32>(entitiesAt + i)
    if (entity >= askedCount) continue
    const row = load<u32>(acceptedAt + i)
    const time = load<i64>(times + ((row as usize) << 3))
    if (time < firstEventMs(entity)) store<i64>(firstsAt + ((entity as usize) << 3), time)
    // Written in any case, and counted where it is held: nobody could guess a branch.
    store<u32>(rows + (count << 2), row)
    store<u32>(entities + (count << 2), entity)
    count += coverAt == 0 ? 1 : (coveredBit(entity, time) as usize)
  }
  if (!isFlat()) {
    for (let i: usize = 0; i < count << 2; i += 4) {
      const row = load<u32>(rows + i)
      writeEvent(addEvent(), row as i32, load<i64>(times + ((row as usize) << 3)), load<u32>(entities + i))
    }
    return
  }
  const first = addRoom(count as i32) + eventsAt
  for (let i: usize = 0, event = first; i < count << 2; i += 4, event += rawBytes) {
    store<i64>(event, load<i64>(times + ((load<u32>(rows + i) as usize) << 3)), RAW_TIME_AT)
    store<u32>(event, load<u32>(entities + i), RAW_OP_AT)
    store<u32>(event, 0, RAW_NULLS_AT)
  }
  for (let i = 0; i < columnCount; i++) writeColumn(i, rows, first, count)
}

/** Only columns of 8 bytes, and no id? Then events are written column by column. */
function isFlat(): bool {
  if (idType != 0) return false
  for (let i = 0; i < columnCount; i++) if (column(i).type != TYPE_F64 && column(i).type != TYPE_I64) return false
  return true
}

function writeColumn(index: i32, rows: usize, first: usize, count: usize): void {
  const cells = register(column(index).register)
  const cellAt = column(index).cellAt as usize
  const data = cells.data
  const valid = cells.valid
  for (let i: usize = 0, event = first; i < count << 2; i += 4, event += rawBytes) {
    const row = load<u32>(rows + i) as usize
    if (valid == 0 || load<u8>(valid + row) != 0) store<u64>(event + cellAt, load<u64>(data + (row << 3)))
    else {
      store<u64>(event + cellAt, 0)
      store<u32>(event, load<u32>(event, RAW_NULLS_AT) | (2 << index), RAW_NULLS_AT)
    }
  }
}

// ---- blocks of bytes -------------------------------------------------------------------------------------------------

// count u32 · text bytes u32 · events (the entity in place of the op) · text, padded to 8
const BLOCK_HEAD: usize = 8

/** Writes the held events of entities ≡ part (mod parts) to the output region; returns its bytes. They stay held. */
export function spillPart(part: u32, parts: u32): usize {
  clearOut()
  let count: u32 = 0
  let text: u32 = 0
  for (let event = eventsAt + rawBytes, end = eventsAt + eventsEnd; event < end; event += rawBytes) {
    if (load<u32>(event, RAW_OP_AT) % parts != part) continue
    count++
    if (keepsText()) text += textBytesOf(event + RAW_NULLS_AT)
  }
  const bytes = (BLOCK_HEAD + (count as usize) * rawBytes + (text as usize) + 7) & ~7
  let into = reserveOut(bytes)
  const heap = into + BLOCK_HEAD + (count as usize) * rawBytes
  store<u32>(into, count)
  store<u32>(into, text, 4)
  into += BLOCK_HEAD
  let used: u32 = 0
  for (let event = eventsAt + rawBytes, end = eventsAt + eventsEnd; event < end; event += rawBytes) {
    if (load<u32>(event, RAW_OP_AT) % parts != part) continue
    store<i64>(into, load<i64>(event, RAW_TIME_AT), RAW_TIME_AT)
    store<u32>(into, load<u32>(event, RAW_OP_AT), RAW_OP_AT)
    used = copyCells(into + RAW_NULLS_AT, event + RAW_NULLS_AT, textAt, heap, used)
    into += rawBytes
  }
  takeOut(bytes)
  assert(outAt + bytes >= heap + (used as usize))
  return bytes
}

/** Holds the events of a block that `spillPart` wrote. */
export function loadPart(at: usize): void {
  const count = load<u32>(at)
  const heap = at + BLOCK_HEAD + (count as usize) * rawBytes
  for (let i: u32 = 0; i < count; i++) copyEvent(at + BLOCK_HEAD + (i as usize) * rawBytes, heap)
}

export function dropHeld(): void {
  clearEvents()
  heldCount = 0
}

// ---- order -----------------------------------------------------------------------------------------------------------

@inline
export function entityStart(entity: u32): u32 {
  return load<u32>(startsAt + ((entity as usize) << 2))
}

@inline
export function entityEnd(entity: u32): u32 {
  return load<u32>(startsAt + (((entity + 1) as usize) << 2))
}

/** Entities are parted by their numbers' high bits into so many parts at most. */
const PARTS_MAX: u32 = 256
let partShift: u32 = 0
/** Per part: the first of its events among all of them; while events are moved, where the next one goes. */
const partStarts = memory.data(257 * 4)
const partOrdered = memory.data(256)
/** The events by part. */
let partedAt: usize = 0
let partedBytes: usize = 0
/** Where the next event to be moved stands among those held; 0: not begun. */
let nextEvent: usize = 0
const STEP_EVENTS: usize = 1 << 16

/**
 * Puts everything held in order, a step a call; true when it is done. In steps, because the engine does not replace the code
 * of a loop while it runs, and the first code is three times slower.
 *
 * Here events move to their part of the entities, and when one of those is first asked about, from there to their entity:
 * places for all entities at once are more than caches hold, of cells and of pages, and what has just been put in order is
 * still near when it is answered from. They end where they began.
 */
export function orderEvents(): bool {
  if (nextEvent == 0) countParts()
  const end = min(nextEvent + STEP_EVENTS * rawBytes, eventsEnd)
  for (let event = eventsAt + nextEvent, stop = eventsAt + end; event < stop; event += rawBytes) {
    moveTo(partedAt, partStarts + ((load<u32>(event, RAW_OP_AT) >> partShift) as usize << 2), event)
  }
  nextEvent = end
  if (end < eventsEnd) return false
  // Each start has moved on to the next one's place.
  for (let part = PARTS_MAX; part > 0; part--) {
    const at = partStarts + ((part as usize) << 2)
    store<u32>(at, load<u32>(at - 4))
  }
  store<u32>(partStarts, 0)
  nextEvent = 0
  return true
}

function countParts(): void {
  nextEvent = rawBytes
  heldCount = ((eventsEnd - rawBytes) / rawBytes) as u32
  orderedAt = eventsAt + rawBytes
  release(startsAt, startsBytes)
  startsBytes = ((askedCount + 2) as usize) << 2
  startsAt = allocate(startsBytes)
  release(partedAt, partedBytes)
  partedBytes = eventsEnd
  partedAt = allocate(partedBytes)
  memory.fill(partOrdered, 0, PARTS_MAX as usize)
  partShift = 0
  while (askedCount >> partShift >= PARTS_MAX) partShift++

  memory.fill(partStarts, 0, ((PARTS_MAX + 1) as usize) << 2)
  for (let event = eventsAt + rawBytes, end = eventsAt + eventsEnd; event < end; event += rawBytes) {
    const at = partStarts + ((load<u32>(event, RAW_OP_AT) >> partShift) as usize << 2)
    store<u32>(at, load<u32>(at, 4) + 1, 4)
  }
  for (let at = partStarts + 4, end = partStarts + ((PARTS_MAX as usize) << 2); at <= end; at += 4) {
    store<u32>(at, load<u32>(at) + load<u32>(at - 4))
  }
}

/** The events of the entity are in order, and stand in [entityStart, entityEnd). */
@inline
export function orderEntity(entity: u32): void {
  if (load<u8>(partOrdered + ((entity >> partShift) as usize)) == 0) orderPart(entity >> partShift)
}

function orderPart(part: u32): void {
  store<u8>(partOrdered + (part as usize), 1)
  const first = load<u32>(partStarts + ((part as usize) << 2))
  const last = load<u32>(partStarts + ((part as usize) << 2), 4)
  const low = part << partShift
  const high = min(low + (1 << partShift), askedCount)
  const starts = startsAt + ((low as usize) << 2)
  // Counted one entry to the right, so that the sums are the starts. What is behind the last entity is the next part's start.
  const next = scratch(((high - low + 2) as usize) << 2)
  memory.fill(next, 0, ((high - low + 2) as usize) << 2)
  const begin = partedAt + (first as usize) * rawBytes
  const end = partedAt + (last as usize) * rawBytes
  for (let event = begin; event < end; event += rawBytes) {
    const at = next + ((load<u32>(event, RAW_OP_AT) - low) as usize << 2)
    store<u32>(at, load<u32>(at, 4) + 1, 4)
  }
  store<u32>(next, first)
  for (let i: usize = 1; i <= ((high - low) as usize); i++) {
    store<u32>(next + (i << 2), load<u32>(next + (i << 2)) + load<u32>(next + (i << 2) - 4))
  }
  memory.copy(starts, next, ((high - low + 1) as usize) << 2)
  for (let event = begin; event < end; event += rawBytes) {
    moveTo(orderedAt, next + ((load<u32>(event, RAW_OP_AT) - low) as usize << 2), event)
  }
  for (let entity = low; entity < high; entity++) sortEntity(entityStart(entity), entityEnd(entity))
}

/** Copies an event to the rank that stands at `next`, and moves that on. */
@inline
function moveTo(into: usize, next: usize, event: usize): void {
  const rank = load<u32>(next)
  store<u32>(next, rank + 1)
  copyWords(into + (rank as usize) * rawBytes, event)
}

@inline
function copyWords(into: usize, from: usize): void {
  for (const end = into + rawBytes; into < end; into += 8, from += 8) store<u64>(into, load<u64>(from))
}

@inline
function timeAt(rank: u32): i64 {
  return load<i64>(orderedAt + (rank as usize) * rawBytes, RAW_TIME_AT)
}

/** Most logs come in time order, or nearly so: then this only looks. Else a merge sort of ranks, and one move of events. */
function sortEntity(first: u32, last: u32): void {
  let sorted = first
  while (sorted + 1 < last && timeAt(sorted) <= timeAt(sorted + 1)) sorted++
  if (sorted + 1 >= last) return
  const count = last - first
  const bytes = (count as usize) << 2
  let from = allocate(bytes)
  let into = allocate(bytes)
  for (let i: u32 = 0; i < count; i++) store<u32>(from + ((i as usize) << 2), first + i)
  for (let width: u32 = 1; width < count; width <<= 1) {
    for (let low: u32 = 0; low < count; low += width << 1) mergeRuns(from, into, low, min(low + width, count), min(low + (width << 1), count))
    const spare = from
    from = into
    into = spare
  }
  const moved = allocate((count as usize) * rawBytes)
  for (let i: u32 = 0; i < count; i++) {
    copyWords(moved + (i as usize) * rawBytes, orderedAt + (load<u32>(from + ((i as usize) << 2)) as usize) * rawBytes)
  }
  memory.copy(orderedAt + (first as usize) * rawBytes, moved, (count as usize) * rawBytes)
  release(moved, (count as usize) * rawBytes)
  release(from, bytes)
  release(into, bytes)
}

function mergeRuns(from: usize, into: usize, low: u32, middle: u32, high: u32): void {
  let left = low
  let right = middle
  const inOrder = middle >= high || timeAt(rankIn(from, middle - 1)) <= timeAt(rankIn(from, middle))
  for (let i = low; i < high; i++) {
    const takeLeft = left < middle && (inOrder || right >= high || timeAt(rankIn(from, left)) <= timeAt(rankIn(from, right)))
    store<u32>(into + ((i as usize) << 2), rankIn(from, takeLeft ? left++ : right++))
  }
}

@inline
function rankIn(list: usize, i: u32): u32 {
  return load<u32>(list + ((i as usize) << 2))
}
