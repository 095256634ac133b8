/**
 * Delta + stored row -> new row. Compaction and eviction happen here and nowhere else, per row, when it is flushed.
 *
 *   1  the row's frontiers move to the lane's head frontier (never back)
 *   2  raw events behind the head's frontier, and the delta's slots, add up to *additions*, one per tile and level
 *   3  level 0 = stored tiles + additions
 *   4  each coarser level:   parent already written  -> stored tile + the additions below it + its own
 *                            parent's end just passed -> the sum of its children, old and new: once, bounded work; + its own
 *                            parent still open        -> nothing yet
 *   5  every level drops what lies below its eviction frontier, is measured, and is written
 *
 *            evicted     compacted                 head frontier
 *   head                                                │ raw raw raw …
 *   5m                       ├──┼──┼──┼──┼──┼──┼──┼──┼──┤        the last one partly filled
 *   1h          ├───────────┼───────────┼───────────┤
 *   1d   ├───────────────────┤
 *
 * An addition below a level's eviction frontier still reaches the coarser levels that have its parent. What comes out is a
 * function of the events in row and delta and of the frontiers alone: arrival, batches and flushes don't show.
 */
import {
  ERROR_ROW_REGRESSED,
  ERROR_ROW_SHAPE,
  FRONTIER_BYTES,
  FRONTIER_COMPACTED_AT,
  FRONTIER_EVICTED_AT,
  RAW_NULLS_AT,
  RAW_OP_AT,
  RAW_OP_INSERT,
  RAW_TIME_AT,
  ROW_APPLIED_AT,
  ROW_BYTES_AT,
  ROW_CHECKED_FROM,
  ROW_CHECKSUM_AT,
  ROW_COMPLETE_SINCE_AT,
  ROW_HEADER_BYTES,
  ROW_HEAD_FRONTIER_AT,
  ROW_HEAD_KIND_AT,
  ROW_LAYOUT_VERSION_AT,
  ROW_LEVELS_AT,
  ROW_MAGIC,
  ROW_MAGIC_AT,
  ROW_RESERVED_AT,
  ROW_RUNS_AT,
  ROW_VERSION,
  ROW_VERSION_AT,
  RUN_COUNT_AT,
  RUN_HEADER_BYTES,
  RUN_HEAD_LEVEL,
  RUN_HEAP_BYTES_AT,
  RUN_KIND_AT,
  RUN_LEVEL_AT,
  RUN_RAW,
  RUN_RESERVED_AT,
  RUN_ROWS_WIDTH_AT,
  RUN_STRIDE_AT,
  RUN_TILES,
  TILE_INDEX_AT,
} from './layout'
import { accBytes, completeSinceMs, headKind, layoutVersion, level, levelCount, rawBytes, runParamBytes, slotBytes } from './plan'
import { allocate, reallocate, release, resetScratch, scratch } from './arena'
import { NO_ENTITY, clearEvents, compareEvents, copyCells, eventsAt, eventsEnd, keepsText, textAt, textBytesOf } from './events'
import { Dirty, clearDirty, dirty, dirtyAt, dirtyCount, lanesAt } from './entities'
import { ENTITY_BITS, ENTITY_MASK, clearSlots, slotsAt, slotsEnd } from './slots'
import { headFrontierMs } from './fold'
import {
  addAcc,
  addEvents,
  addSlot,
  addTiles,
  boundShapes,
  copyTile,
  dropAccs,
  initAcc,
  initShapes,
  isMeasured,
  measureAcc,
  measureTile,
  shapeRowsWidth,
  shapeTextBytes,
  writeAcc,
  writeParams,
} from './dispatch'
import { Row, checksum, compactedTile, evictedTile, headRun, levelRun, openRow } from './row'
import { Run } from './partials/partial'

// ---- the delta in entity order ---------------------------------------------------------------------------------------

let slotOrderAt: usize = 0
let slotOrderBytes: usize = 0
let eventOrderAt: usize = 0
let eventOrderBytes: usize = 0
/** Dirty entities in the order of their lanes. */
let laneOrderAt: usize = 0
let laneOrderBytes: usize = 0

/** Groups slots and raw events by entity (counting sort, arrival order kept) and entities by lane. */
export function sortDelta(lanes: i32): void {
  for (let slot = slotBytes; slot < slotsEnd; slot += slotBytes) {
    dirtyOf(load<u32>(slotsAt + slot) & ENTITY_MASK).slotCount++
  }
  for (let event = rawBytes; event < eventsEnd; event += rawBytes) {
    const entity = load<u32>(eventsAt + event, RAW_OP_AT)
    if (entity != NO_ENTITY) dirtyOf(entity).eventCount++
  }
  let slots: u32 = 0
  let events: u32 = 0
  for (let i: u32 = 0; i < dirtyCount; i++) {
    const entry = dirty(i)
    entry.lane = load<u32>(lanesAt + ((entry.entity as usize) << 2))
    entry.slotStart = slots
    entry.eventStart = events
    slots += entry.slotCount
    events += entry.eventCount
    entry.slotCount = 0
    entry.eventCount = 0
  }
  slotOrderAt = room(slotOrderAt, slotOrderBytes, (slots as usize) << 2)
  slotOrderBytes = max(slotOrderBytes, (slots as usize) << 2)
  eventOrderAt = room(eventOrderAt, eventOrderBytes, (events as usize) << 2)
  eventOrderBytes = max(eventOrderBytes, (events as usize) << 2)
  for (let slot = slotBytes; slot < slotsEnd; slot += slotBytes) {
    const entry = dirtyOf(load<u32>(slotsAt + slot) & ENTITY_MASK)
    store<u32>(slotOrderAt + ((entry.slotStart + entry.slotCount++) << 2), slot as u32)
  }
  for (let event = rawBytes; event < eventsEnd; event += rawBytes) {
    const entity = load<u32>(eventsAt + event, RAW_OP_AT)
    if (entity == NO_ENTITY) continue
    const entry = dirtyOf(entity)
    store<u32>(eventOrderAt + ((entry.eventStart + entry.eventCount++) << 2), event as u32)
  }

  laneOrderAt = room(laneOrderAt, laneOrderBytes, (dirtyCount as usize) << 2)
  laneOrderBytes = max(laneOrderBytes, (dirtyCount as usize) << 2)
  let placed: u32 = 0
  if (lanes == 1) for (let i: u32 = 0; i < dirtyCount; i++) store<u32>(laneOrderAt + (i << 2), i)
  else {
    resetScratch()
    const counts = scratch((lanes as usize) << 2)
    memory.fill(counts, 0, (lanes as usize) << 2)
    for (let i: u32 = 0; i < dirtyCount; i++) {
      const at = counts + (dirty(i).lane << 2)
      store<u32>(at, load<u32>(at) + 1)
    }
    for (let i = 0; i < lanes; i++) {
      const at = counts + ((i as usize) << 2)
      const count = load<u32>(at)
      store<u32>(at, placed)
      placed += count
    }
    for (let i: u32 = 0; i < dirtyCount; i++) {
      const at = counts + (dirty(i).lane << 2)
      store<u32>(laneOrderAt + (load<u32>(at) << 2), i)
      store<u32>(at, load<u32>(at) + 1)
    }
  }
}

/** The `place`th dirty entity in lane order. */
export function dirtyAtPlace(place: u32): Dirty {
  return dirty(load<u32>(laneOrderAt + (place << 2)))
}

function dirtyOf(entity: u32): Dirty {
  return dirty(load<u32>(dirtyAt + ((entity as usize) << 2)) - 1)
}

function room(at: usize, bytes: usize, wanted: usize): usize {
  if (at != 0 && wanted <= bytes) return at
  release(at, bytes)
  return allocate(wanted)
}

/** Empties the delta: everything in it is in rows that the store has. */
export function clearDelta(): void {
  clearSlots()
  clearEvents()
  clearDirty()
}

// ---- output --------------------------------------------------------------------------------------------------------

/** New rows, one behind the other, each 8-byte aligned. */
export let outAt: usize = 0
let outCapacity: usize = 0
export let outEnd: usize = 0

export function clearOut(): void {
  outEnd = 0
}

/** Room for `bytes` more behind outEnd; moves what is there, so addresses into it are good until the next call. */
export function reserveOut(bytes: usize): usize {
  const end = outEnd + bytes
  if (end > outCapacity) {
    const capacity = max(end << 1, 1 << 18)
    outAt = reallocate(outAt, outCapacity, capacity)
    outCapacity = capacity
  }
  return outAt + outEnd
}

// ---- working lists -------------------------------------------------------------------------------------------------

/** One tile of a level while a row is rebuilt. */
@unmanaged
class Entry {
  index: u32
  /** Stored tile that goes out as it is, or 0. */
  tile: usize
  /** Run of the stored tile. */
  run: usize
  /** Sum that goes out, or 0. */
  acc: usize
}

const ENTRY_BYTES: usize = 16

@inline
function entryAt(list: usize, i: i32): Entry {
  return changetype<Entry>(list + (i as usize) * ENTRY_BYTES)
}

// Accumulators of the row under way, chained so that what they hold outside can be given back.
let accChain: usize = 0

function newAcc(): usize {
  const link = scratch(accBytes + 8)
  store<u32>(link, accChain as u32)
  accChain = link
  initAcc(link + 8)
  return link + 8
}

function dropChain(): void {
  for (let link = accChain; link != 0; link = load<u32>(link) as usize) dropAccs(link + 8, 1)
  accChain = 0
}

// The row under way: entries and additions of the level below, and of this one.
let lowerList: usize = 0
let lowerCount: i32 = 0
let addedList: usize = 0
let addedCount: i32 = 0

// Raw events of row and delta in order: (event u32, heap u32) each.
let rawList: usize = 0
let rawCount: i32 = 0

const openedA = memory.data(48 + 9 * 48 + 9 * 256, 8)
const openedB = memory.data(48 + 9 * 48 + 9 * 256, 8)
/** Frontiers of the row under way, per level: compacted and evicted. */
const frontiers = memory.data(8 * 16, 8)

function newCompacted(index: i32): i64 {
  return load<i64>(frontiers + ((index as usize) << 4))
}

function newEvicted(index: i32): i64 {
  return load<i64>(frontiers + ((index as usize) << 4), 8)
}

@inline
function floorDiv(a: i64, b: i64): i64 {
  return a >= 0 ? a / b : -((b - 1 - a) / b)
}

// ---- one row -------------------------------------------------------------------------------------------------------

/**
 * Writes the new row of a dirty entity behind outEnd. `stored` / `storedBytes`: its row in the store, 0 bytes when there is
 * none. Returns 0 or an ERROR_; then nothing was written.
 */
export function flushRow(entry: Dirty, stored: usize, storedBytes: u32, position: i64): i32 {
  resetScratch()
  const row = changetype<Row>(openedA)
  if (storedBytes > 0) {
    const error = openRow(stored, storedBytes, row)
    if (error != 0) return error
    if (row.applied > position || (row.applied as f64) >= entry.firstPosition) return ERROR_ROW_REGRESSED
  }
  rebuild(storedBytes > 0 ? row : changetype<Row>(0), entry, headFrontierMs)
  finishRow(storedBytes > 0 ? row : changetype<Row>(0), position, layoutVersion)
  return 0
}

/** As if the row had been flushed at the head frontier `frontierMs` with nothing new. */
export function advanceRow(stored: usize, storedBytes: u32, frontierMs: i64): i32 {
  resetScratch()
  const row = changetype<Row>(openedA)
  const error = openRow(stored, storedBytes, row)
  if (error != 0) return error
  rebuild(row, changetype<Dirty>(0), frontierMs)
  finishRow(row, row.applied, row.layoutVersion)
  return 0
}

let headFrontier: i64 = 0
let retainedFrom: i32 = 0
/** Entries of each level: list u32, count i32. */
const levelLists = memory.data(8 * 8, 8)

function rebuild(row: Row, entry: Dirty, frontierMs: i64): void {
  const isNew = changetype<usize>(row) == 0
  headFrontier = isNew ? frontierMs : max(frontierMs, row.headFrontierMs)
  moveFrontiers(row, isNew)
  gatherEvents(row, isNew, entry)
  addLevelZero(row, isNew, entry)
  for (let i = 1; i < levelCount; i++) addLevel(row, isNew, i)
}

function moveFrontiers(row: Row, isNew: bool): void {
  for (let i = levelCount - 1; i >= 0; i--) {
    const step = level(i).stepMs
    // Level 0 reaches up to the tile that the head's frontier cuts.
    let compacted = i == 0 ? floorDiv(headFrontier + step - 1, step) : floorDiv(headFrontier, step)
    let evicted = max<i64>(floorDiv(headFrontier - level(i).keepMs, step), 0)
    // Compaction comes before eviction: what no parent holds yet is kept.
    if (i < levelCount - 1) evicted = min(evicted, newCompacted(i + 1) * (level(i + 1).stepMs / step))
    compacted = max<i64>(compacted, 0)
    if (!isNew) {
      compacted = max(compacted, compactedTile(row, i))
      evicted = max(evicted, evictedTile(row, i))
    }
    store<i64>(frontiers + ((i as usize) << 4), compacted)
    store<i64>(frontiers + ((i as usize) << 4), evicted, 8)
  }
}

/** rawList = the row's raw events and the delta's, in order; retainedFrom = the first that stays raw. */
function gatherEvents(row: Row, isNew: bool, entry: Dirty): void {
  const run = isNew ? changetype<Run>(0) : headRun(row)
  const stored = isNew ? 0 : run.count
  const fresh = changetype<usize>(entry) == 0 ? 0 : (entry.eventCount as i32)
  rawCount = stored + fresh
  retainedFrom = 0
  if (rawCount == 0) return
  rawList = scratch((rawCount as usize) << 3)
  const order = fresh > 0 ? eventOrderAt + ((entry.eventStart as usize) << 2) : 0
  if (fresh > 1) sortEvents(order, fresh)
  let i = 0
  let j = 0
  for (let at = rawList; i < stored || j < fresh; at += 8) {
    const a = i < stored ? run.first + (i as usize) * run.stride : 0
    const b = j < fresh ? eventsAt + (load<u32>(order + ((j as usize) << 2)) as usize) : 0
    const takeStored = b == 0 || (a != 0 && compareEvents(a, run.heap, b, textAt) <= 0)
    store<u32>(at, (takeStored ? a : b) as u32)
    store<u32>(at, (takeStored ? run.heap : textAt) as u32, 4)
    if (takeStored) i++
    else j++
  }
  while (retainedFrom < rawCount && load<i64>(rawEvent(retainedFrom), RAW_TIME_AT) < headFrontier) retainedFrom++
}

@inline
function rawEvent(i: i32): usize {
  return load<u32>(rawList + ((i as usize) << 3)) as usize
}

@inline
function rawHeap(i: i32): usize {
  return load<u32>(rawList + ((i as usize) << 3), 4) as usize
}

/** Level 0's additions from slots and raw events, then its entries. */
function addLevelZero(row: Row, isNew: bool, entry: Dirty): void {
  const step = level(0).stepMs
  readSlots(entry)
  const end = slotsOfLevel(0)
  addedList = scratch(((end + retainedFrom) as usize) * ENTRY_BYTES)
  addedCount = 0
  let i = 0
  let j = 0
  let open = changetype<Entry>(0)
  while (i < end || j < retainedFrom) {
    const slotTile = i < end ? pairTile(i) : u32.MAX_VALUE
    const eventTile = j < retainedFrom ? ((load<i64>(rawEvent(j), RAW_TIME_AT) / step) as u32) : u32.MAX_VALUE
    const tile = min(slotTile, eventTile)
    if (addedCount == 0 || open.index != tile) open = newEntry(addedList, addedCount++, tile)
    if (i < end && slotTile == tile) addPair(open.acc, i++, step)
    else {
      addEvents(open.acc, rawEvent(j), 1, rawHeap(j))
      j++
    }
  }
  slotsDone = end
  const run = isNew ? changetype<Run>(0) : levelRun(row, 0)
  lowerList = scratch(((addedCount + (isNew ? 0 : run.count)) as usize) * ENTRY_BYTES)
  lowerCount = uniteTiles(lowerList, 0, run, addedList, addedCount)
  store<u32>(levelLists, lowerList as u32)
  store<i32>(levelLists, lowerCount, 4)
}

// The entity's slots in the order of (level, tile), as u64 pairs { slot number 28 bits, tile 32 bits, level 4 bits }.
let pairsAt: usize = 0
let pairCount: i32 = 0
/** Slots that the levels so far have taken. */
let slotsDone: i32 = 0

const PAIR_SLOT_BITS: u64 = 28
const PAIR_SLOT_MASK: u64 = (1 << 28) - 1

function readSlots(entry: Dirty): void {
  pairCount = changetype<usize>(entry) == 0 ? 0 : (entry.slotCount as i32)
  slotsDone = 0
  pairsAt = scratch((pairCount as usize) << 3)
  const order = pairCount > 0 ? slotOrderAt + ((entry.slotStart as usize) << 2) : 0
  let sorted = true
  let previous: u64 = 0
  for (let i = 0; i < pairCount; i++) {
    const offset = load<u32>(order + ((i as usize) << 2)) as usize
    const tag = load<u64>(slotsAt + offset)
    const index = ((tag as u32) >> ENTITY_BITS) as u64
    const pair = (index << 60) | ((tag >> 32) << PAIR_SLOT_BITS) | ((offset / slotBytes) as u64)
    store<u64>(pairsAt + ((i as usize) << 3), pair)
    if (pair < previous) sorted = false
    previous = pair
  }
  if (!sorted) sortPairs(pairsAt, pairCount)
}

/** End of the pairs of a level; they start at slotsDone. */
function slotsOfLevel(index: i32): i32 {
  let end = slotsDone
  while (end < pairCount && (load<u64>(pairsAt + ((end as usize) << 3)) >> 60) == (index as u64)) end++
  return end
}

@inline
function pairTile(i: i32): u32 {
  return (load<u64>(pairsAt + ((i as usize) << 3)) >> PAIR_SLOT_BITS) as u32
}

function addPair(acc: usize, i: i32, stepMs: i64): void {
  const pair = load<u64>(pairsAt + ((i as usize) << 3))
  const slot = slotsAt + ((pair & PAIR_SLOT_MASK) as usize) * slotBytes
  addSlot(acc, slot, load<u32>(slot, 8), (pairTile(i) as i64) * stepMs)
}

/** list[at..] = the run's tiles and the additions, by index; a tile with both becomes their sum. Returns the new end. */
function uniteTiles(list: usize, at: i32, run: Run, added: usize, addedLength: i32): i32 {
  const count = changetype<usize>(run) == 0 ? 0 : run.count
  let i = 0
  let j = 0
  while (i < count || j < addedLength) {
    const tile = i < count ? run.first + (i as usize) * run.stride : 0
    const index = i < count ? load<u32>(tile, TILE_INDEX_AT) : u32.MAX_VALUE
    const addition = entryAt(added, j)
    const target = entryAt(list, at++)
    if (j < addedLength && addition.index <= index) {
      target.index = addition.index
      target.tile = 0
      target.run = 0
      target.acc = addition.acc
      j++
      if (i < count && addition.index == index) {
        target.acc = newAcc()
        addTiles(target.acc, run, tile, 1)
        addEntry(target.acc, addition)
        i++
      } else if (addition.acc == 0) {
        target.tile = addition.tile
        target.run = addition.run
      }
    } else {
      target.index = index
      target.tile = tile
      target.run = changetype<usize>(run)
      target.acc = 0
      i++
    }
  }
  return at
}

function addEntry(acc: usize, entry: Entry): void {
  if (entry.acc != 0) addAcc(acc, entry.acc)
  else addTiles(acc, changetype<Run>(entry.run), entry.tile, 1)
}

/**
 * Adds entry `from` and those behind it that lie before tile `stop` and, in a stored run, right behind one another. Returns
 * the next entry.
 */
function addNeighbours(acc: usize, list: usize, from: i32, end: i32, stop: u64): i32 {
  const entry = entryAt(list, from)
  if (entry.acc != 0) {
    addAcc(acc, entry.acc)
    return from + 1
  }
  const run = changetype<Run>(entry.run)
  let next = from + 1
  for (let tile = entry.tile + run.stride; next < end; next++, tile += run.stride) {
    const other = entryAt(list, next)
    if (other.tile != tile || other.run != entry.run || (other.index as u64) >= stop) break
  }
  addTiles(acc, run, entry.tile, next - from)
  return next
}

/** A coarser level's entries and additions: from the level below, and from the slots that were folded at this one. */
function addLevel(row: Row, isNew: bool, index: i32): void {
  const step = level(index).stepMs
  const ratio = (step / level(index - 1).stepMs) as u32
  const before = isNew ? 0 : compactedTile(row, index)
  const now = newCompacted(index)
  const slotEnd = slotsOfLevel(index)
  let slot = slotsDone
  slotsDone = slotEnd

  // Additions whose parent is written already.
  const added = scratch(((addedCount + slotEnd - slot) as usize) * ENTRY_BYTES)
  let count = 0
  let open = changetype<Entry>(0)
  let i = 0
  while (i < addedCount || slot < slotEnd) {
    const childParent = i < addedCount ? entryAt(addedList, i).index / ratio : u32.MAX_VALUE
    const slotTile = slot < slotEnd ? pairTile(slot) : u32.MAX_VALUE
    const tile = min(childParent, slotTile)
    if ((tile as i64) >= before) break
    if (count == 0 || open.index != tile) open = newEntry(added, count++, tile)
    if (slotTile == tile && slot < slotEnd) addPair(open.acc, slot++, step)
    else addEntry(open.acc, entryAt(addedList, i++))
  }

  // Parents whose end has just been passed: the sum of all their children.
  const run = isNew ? changetype<Run>(0) : levelRun(row, index)
  const stored = isNew ? 0 : run.count
  const list = scratch(((stored + count + lowerCount + slotEnd - slot) as usize) * ENTRY_BYTES)
  let end = uniteTiles(list, 0, run, added, count)
  let from = firstEntryFrom(before * (ratio as i64))
  open = changetype<Entry>(0)
  while (from < lowerCount || slot < slotEnd) {
    const childParent = from < lowerCount ? entryAt(lowerList, from).index / ratio : u32.MAX_VALUE
    const slotTile = slot < slotEnd ? pairTile(slot) : u32.MAX_VALUE
    const tile = min(childParent, slotTile)
    if ((tile as i64) >= now) break
    if (changetype<usize>(open) == 0 || open.index != tile) open = newEntry(list, end++, tile)
    if (slotTile == tile && slot < slotEnd) addPair(open.acc, slot++, step)
    else from = addNeighbours(open.acc, lowerList, from, lowerCount, ((tile as u64) + 1) * (ratio as u64))
  }
  assert(slot == slotEnd)
  lowerList = list
  lowerCount = end
  addedList = added
  addedCount = count
  store<u32>(levelLists + ((index as usize) << 3), list as u32)
  store<i32>(levelLists + ((index as usize) << 3), end, 4)
}

function newEntry(list: usize, at: i32, index: u32): Entry {
  const entry = entryAt(list, at)
  entry.index = index
  entry.tile = 0
  entry.run = 0
  entry.acc = newAcc()
  return entry
}

function firstEntryFrom(index: i64): i32 {
  let low = 0
  let high = lowerCount
  while (low < high) {
    const middle = (low + high) >> 1
    if ((entryAt(lowerList, middle).index as i64) < index) low = middle + 1
    else high = middle
  }
  return low
}

// ---- writing -------------------------------------------------------------------------------------------------------

function finishRow(row: Row, position: i64, version: u32): void {
  const isNew = changetype<usize>(row) == 0
  const start = outEnd
  let runs = 0
  outEnd += (ROW_HEADER_BYTES + levelCount * FRONTIER_BYTES) as usize
  reserveOut(0)
  if (rawCount > retainedFrom) {
    writeRawRun()
    runs++
  }
  for (let i = 0; i < levelCount; i++) {
    const list = load<u32>(levelLists + ((i as usize) << 3)) as usize
    const count = load<i32>(levelLists + ((i as usize) << 3), 4)
    let first = 0
    while (first < count && (entryAt(list, first).index as i64) < newEvicted(i)) first++
    if (first == count) continue
    writeTileRun(i, list, first, count, isNew ? changetype<Run>(0) : levelRun(row, i))
    runs++
  }

  const at = outAt + start
  memory.fill(at, 0, ROW_HEADER_BYTES)
  store<u16>(at, ROW_MAGIC, ROW_MAGIC_AT)
  store<u8>(at, ROW_VERSION, ROW_VERSION_AT)
  store<u8>(at, levelCount as u8, ROW_LEVELS_AT)
  store<i64>(at, isNew ? position : max(position, row.applied), ROW_APPLIED_AT)
  store<u32>(at, isNew ? version : max(version, row.layoutVersion), ROW_LAYOUT_VERSION_AT)
  store<u32>(at, (outEnd - start) as u32, ROW_BYTES_AT)
  store<i64>(at, headFrontier, ROW_HEAD_FRONTIER_AT)
  store<i64>(at, isNew ? completeSinceMs : max(completeSinceMs, row.completeSinceMs), ROW_COMPLETE_SINCE_AT)
  store<u16>(at, runs as u16, ROW_RUNS_AT)
  store<u16>(at, headKind as u16, ROW_HEAD_KIND_AT)
  store<u32>(at, 0, ROW_RESERVED_AT)
  for (let i = 0; i < levelCount; i++) {
    const frontier = at + ROW_HEADER_BYTES + (i as usize) * FRONTIER_BYTES
    store<i64>(frontier, newCompacted(i), FRONTIER_COMPACTED_AT)
    store<i64>(frontier, newEvicted(i), FRONTIER_EVICTED_AT)
  }
  sealRow(start)
  dropChain()
}

/** Checksum, and the next row's alignment. */
function sealRow(start: usize): void {
  const at = outAt + start
  store<u32>(at, checksum(at + ROW_CHECKED_FROM, outEnd - start - ROW_CHECKED_FROM), ROW_CHECKSUM_AT)
  rowStart = start
  rowEnd = outEnd
  outEnd = (outEnd + 7) & ~7
}

/** Where the last row stands in the output. */
export let rowStart: usize = 0
export let rowEnd: usize = 0

function writeRunHeader(at: usize, kind: i32, levelByte: i32, rowsWidth: i32, count: i32, stride: usize, heap: u32): void {
  store<u8>(at, kind as u8, RUN_KIND_AT)
  store<u8>(at, levelByte as u8, RUN_LEVEL_AT)
  store<u8>(at, rowsWidth as u8, RUN_ROWS_WIDTH_AT)
  store<u8>(at, 0, RUN_RESERVED_AT)
  store<i32>(at, count, RUN_COUNT_AT)
  store<u32>(at, stride as u32, RUN_STRIDE_AT)
  store<u32>(at, heap, RUN_HEAP_BYTES_AT)
}

function writeRawRun(): void {
  const count = rawCount - retainedFrom
  let text: u32 = 0
  if (keepsText()) {
    for (let i = retainedFrom; i < rawCount; i++) text += textBytesOf(rawEvent(i) + RAW_NULLS_AT)
  }
  const heapBytes = (text + 3) & ~3
  const body = (count as usize) * rawBytes
  const at = reserveOut((RUN_HEADER_BYTES as usize) + body + (heapBytes as usize))
  writeRunHeader(at, RUN_RAW, RUN_HEAD_LEVEL, 0, count, rawBytes, heapBytes)
  let target = at + RUN_HEADER_BYTES
  const heap = target + body
  let used: u32 = 0
  for (let i = retainedFrom; i < rawCount; i++, target += rawBytes) {
    const event = rawEvent(i)
    store<i64>(target, load<i64>(event, RAW_TIME_AT), RAW_TIME_AT)
    store<u32>(target, RAW_OP_INSERT, RAW_OP_AT)
    used = copyCells(target + RAW_NULLS_AT, event + RAW_NULLS_AT, rawHeap(i), heap, used)
  }
  memory.fill(heap + (used as usize), 0, (heapBytes - used) as usize)
  outEnd += (RUN_HEADER_BYTES as usize) + body + (heapBytes as usize)
}

/** The smallest shape that fits all entries. Mostly the new tiles and a few old ones settle it. */
function measureEntries(list: usize, first: i32, end: i32, old: Run): void {
  initShapes()
  for (let i = first; i < end; i++) {
    const entry = entryAt(list, i)
    if (entry.acc != 0) measureAcc(entry.acc)
    else if (entry.run != changetype<usize>(old)) measureTile(changetype<Run>(entry.run), entry.tile)
  }
  if (changetype<usize>(old) == 0 || old.count == 0) return
  // Text has to be counted in full.
  const mayStop = !keepsText()
  boundShapes(old)
  for (let i = end - 1; i >= first; i--) {
    if (mayStop && isMeasured()) return
    const entry = entryAt(list, i)
    if (entry.acc == 0 && entry.run == changetype<usize>(old)) measureTile(old, entry.tile)
  }
}

function writeTileRun(index: i32, list: usize, first: i32, end: i32, old: Run): void {
  measureEntries(list, first, end, old)
  const rowsWidth = shapeRowsWidth
  const heapBytes = (shapeTextBytes + 3) & ~3
  const head = (RUN_HEADER_BYTES as usize) + runParamBytes
  const params = reserveOut(head) + RUN_HEADER_BYTES
  const stride = writeParams(params) as usize
  const count = end - first
  const body = (count as usize) * stride
  const at = reserveOut(head + body + (heapBytes as usize))
  const paramsAt = at + RUN_HEADER_BYTES
  writeRunHeader(at, RUN_TILES, index, rowsWidth, count, stride, heapBytes)

  const step = level(index).stepMs
  const heap = at + head + body
  let used: u32 = 0
  let target = at + head
  // Tiles whose widths stay are copied, neighbours together.
  const sameShape =
    changetype<usize>(old) != 0 &&
    old.count > 0 &&
    shapeTextBytes == 0 &&
    old.heapBytes == 0 &&
    old.rowsWidth == rowsWidth &&
    memory.compare(old.params, paramsAt, runParamBytes) == 0
  for (let i = first; i < end; i++) {
    const entry = entryAt(list, i)
    if (entry.acc != 0) used = writeAcc(paramsAt, rowsWidth, target, entry.index, step, entry.acc, heap, used)
    else if (sameShape && entry.run == changetype<usize>(old)) {
      let last = i
      while (last + 1 < end && entryAt(list, last + 1).tile == entryAt(list, last).tile + stride) last++
      const bytes = ((last - i + 1) as usize) * stride
      memory.copy(target, entry.tile, bytes)
      target += bytes - stride
      i = last
    } else used = copyTile(paramsAt, rowsWidth, target, changetype<Run>(entry.run), entry.tile, heap, used)
    target += stride
  }
  memory.fill(heap + (used as usize), 0, (heapBytes - used) as usize)
  outEnd += head + body + (heapBytes as usize)
}

// ---- rows of several lanes -----------------------------------------------------------------------------------------

/** Writes the union of two rows that stand at the same frontiers (advanceRow), as one row. */
export function uniteRows(a: usize, aBytes: u32, b: usize, bBytes: u32): i32 {
  resetScratch()
  const first = changetype<Row>(openedA)
  const second = changetype<Row>(openedB)
  let error = openRow(a, aBytes, first)
  if (error == 0) error = openRow(b, bBytes, second)
  if (error != 0) return error
  if (first.headFrontierMs != second.headFrontierMs) return ERROR_ROW_SHAPE
  headFrontier = first.headFrontierMs
  for (let i = 0; i < levelCount; i++) {
    store<i64>(frontiers + ((i as usize) << 4), compactedTile(first, i))
    store<i64>(frontiers + ((i as usize) << 4), evictedTile(first, i), 8)
  }
  uniteEvents(headRun(first), headRun(second))
  for (let i = 0; i < levelCount; i++) {
    const run = levelRun(second, i)
    const added = scratch((run.count as usize) * ENTRY_BYTES)
    for (let j = 0; j < run.count; j++) {
      const entry = entryAt(added, j)
      entry.tile = run.first + (j as usize) * run.stride
      entry.index = load<u32>(entry.tile, TILE_INDEX_AT)
      entry.run = changetype<usize>(run)
      entry.acc = 0
    }
    const list = scratch(((levelRun(first, i).count + run.count) as usize) * ENTRY_BYTES)
    store<u32>(levelLists + ((i as usize) << 3), list as u32)
    store<i32>(levelLists + ((i as usize) << 3), uniteTiles(list, 0, levelRun(first, i), added, run.count), 4)
  }
  finishRow(first, max(first.applied, second.applied), max(first.layoutVersion, second.layoutVersion))
  return 0
}

function uniteEvents(a: Run, b: Run): void {
  rawCount = a.count + b.count
  retainedFrom = 0
  rawList = scratch((rawCount as usize) << 3)
  let i = 0
  let j = 0
  for (let at = rawList; i < a.count || j < b.count; at += 8) {
    const x = a.first + (i as usize) * a.stride
    const y = b.first + (j as usize) * b.stride
    const takeA = j == b.count || (i < a.count && compareEvents(x, a.heap, y, b.heap) <= 0)
    store<u32>(at, (takeA ? x : y) as u32)
    store<u32>(at, (takeA ? a.heap : b.heap) as u32, 4)
    if (takeA) i++
    else j++
  }
}

/** Makes the last written row comparable: no positions, no versions, nothing that depends on when it was written. */
export function anonymiseRow(): void {
  const at = outAt + rowStart
  store<i64>(at, 0, ROW_APPLIED_AT)
  store<u32>(at, 0, ROW_LAYOUT_VERSION_AT)
  store<i64>(at, 0, ROW_COMPLETE_SINCE_AT)
  store<u32>(at, checksum(at + ROW_CHECKED_FROM, rowEnd - rowStart - ROW_CHECKED_FROM), ROW_CHECKSUM_AT)
}

// ---- sorting: heap sort, in place; lists are short or already in order ---------------------------------------------

function sortPairs(pairs: usize, count: i32): void {
  for (let start = (count >> 1) - 1; start >= 0; start--) siftPair(pairs, start, count)
  for (let end = count - 1; end > 0; end--) {
    const top = load<u64>(pairs)
    store<u64>(pairs, load<u64>(pairs + ((end as usize) << 3)))
    store<u64>(pairs + ((end as usize) << 3), top)
    siftPair(pairs, 0, end)
  }
}

function siftPair(pairs: usize, root: i32, end: i32): void {
  const value = load<u64>(pairs + ((root as usize) << 3))
  for (let child = 2 * root + 1; child < end; child = 2 * root + 1) {
    if (child + 1 < end && load<u64>(pairs + (((child + 1) as usize) << 3)) > load<u64>(pairs + ((child as usize) << 3))) {
      child++
    }
    if (load<u64>(pairs + ((child as usize) << 3)) <= value) break
    store<u64>(pairs + ((root as usize) << 3), load<u64>(pairs + ((child as usize) << 3)))
    root = child
  }
  store<u64>(pairs + ((root as usize) << 3), value)
}

function sortEvents(order: usize, count: i32): void {
  let sorted = true
  for (let i = 1; i < count && sorted; i++) sorted = eventOrder(load<u32>(order + ((i - 1) << 2)), load<u32>(order + (i << 2))) <= 0
  if (sorted) return
  for (let start = (count >> 1) - 1; start >= 0; start--) siftEvent(order, start, count)
  for (let end = count - 1; end > 0; end--) {
    const top = load<u32>(order)
    store<u32>(order, load<u32>(order + ((end as usize) << 2)))
    store<u32>(order + ((end as usize) << 2), top)
    siftEvent(order, 0, end)
  }
}

function siftEvent(order: usize, root: i32, end: i32): void {
  const value = load<u32>(order + ((root as usize) << 2))
  for (let child = 2 * root + 1; child < end; child = 2 * root + 1) {
    const at = order + ((child as usize) << 2)
    if (child + 1 < end && eventOrder(load<u32>(at, 4), load<u32>(at)) > 0) child++
    const best = load<u32>(order + ((child as usize) << 2))
    if (eventOrder(best, value) <= 0) break
    store<u32>(order + ((root as usize) << 2), best)
    root = child
  }
  store<u32>(order + ((root as usize) << 2), value)
}

@inline
function eventOrder(a: u32, b: u32): i32 {
  return compareEvents(eventsAt + (a as usize), textAt, eventsAt + (b as usize), textAt)
}
