// The stages of a rebuilt row: frontiers, raw events, level 0, each coarser level.
import { RAW_TIME_AT } from '../layout'
import { level, levelCount } from '../plan'
import { scratch } from '../arena'
import { compareEvents, eventsAt, textAt } from '../events'
import { Dirty } from '../entities'
import { addAcc, addEvents, addTiles } from '../dispatch'
import { Row, compactedTile, evictedTile, headRun, levelRun } from '../row'
import { Run } from '../partials/partial'
import { eventsOf } from './delta'
import {
  ENTRY_BYTES,
  Entry,
  addEntry,
  entryAt,
  headFrontier,
  newCompacted,
  newEntry,
  openEvents,
  putEvent,
  rawEvent,
  rawHeap,
  retainFrom,
  retainedFrom,
  setEntries,
  setFrontiers,
  uniteTiles,
} from './draft'
import { addPair, pairTile, readSlots, slotsDone, slotsOfLevel, takeSlots } from './pairs'

// Entries and additions of the level below, while levels are gone through upwards.
let lowerList: usize = 0
let lowerCount: i32 = 0
let addedList: usize = 0
let addedCount: i32 = 0

export function moveFrontiers(row: Row, isNew: bool): void {
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
    setFrontiers(i, compacted, evicted)
  }
}

@inline
function floorDiv(a: i64, b: i64): i64 {
  return a >= 0 ? a / b : -((b - 1 - a) / b)
}

/** The row's raw events and the delta's, in order; those behind the head's frontier stay raw. */
export function gatherEvents(row: Row, isNew: bool, entry: Dirty): void {
  const run = isNew ? changetype<Run>(0) : headRun(row)
  const stored = isNew ? 0 : run.count
  const fresh = changetype<usize>(entry) == 0 ? 0 : (entry.eventCount as i32)
  if (stored + fresh == 0) {
    openEvents(0)
    return
  }
  const list = openEvents(stored + fresh)
  const order = fresh > 0 ? eventsOf(entry) : 0
  let i = 0
  let j = 0
  for (let at = list; i < stored || j < fresh; at += 8) {
    const a = i < stored ? run.first + (i as usize) * run.stride : 0
    const b = j < fresh ? eventsAt + (load<u32>(order + ((j as usize) << 2)) as usize) : 0
    const takeStored = b == 0 || (a != 0 && compareEvents(a, run.heap, b, textAt) <= 0)
    putEvent(at, takeStored ? a : b, takeStored ? run.heap : textAt)
    if (takeStored) i++
    else j++
  }
  retainFrom(headFrontier)
}

/** Level 0's additions from slots and raw events, then its entries. */
export function addLevelZero(row: Row, isNew: bool, entry: Dirty): void {
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
  takeSlots(end)
  const run = isNew ? changetype<Run>(0) : levelRun(row, 0)
  lowerList = scratch(((addedCount + (isNew ? 0 : run.count)) as usize) * ENTRY_BYTES)
  lowerCount = uniteTiles(lowerList, 0, run, addedList, addedCount)
  setEntries(0, lowerList, lowerCount)
}

/** A coarser level's entries and additions: from the level below, and from the slots that were folded at this one. */
export function addLevel(row: Row, isNew: bool, index: i32): void {
  const step = level(index).stepMs
  const ratio = (step / level(index - 1).stepMs) as u32
  const before = isNew ? 0 : compactedTile(row, index)
  const now = newCompacted(index)
  const slotEnd = slotsOfLevel(index)
  let slot = slotsDone
  takeSlots(slotEnd)

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
  setEntries(index, list, end)
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
