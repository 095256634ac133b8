// The row under way: frontiers, raw events, and the tiles of each level as a list of entries.
import { RAW_TIME_AT, TILE_INDEX_AT } from '../layout'
import { accBytes } from '../plan'
import { scratch } from '../arena'
import { addAcc, addTiles, dropAccs, initAcc } from '../dispatch'
import { Run } from '../partials/partial'

/** The rows that it is made from. */
export const openedA = memory.data(48 + 9 * 48 + 9 * 256, 8)
export const openedB = memory.data(48 + 9 * 48 + 9 * 256, 8)

// ---- frontiers -----------------------------------------------------------------------------------------------------

export let headFrontier: i64 = 0

export function setHeadFrontier(ms: i64): void {
  headFrontier = ms
}

/** Per level: compacted and evicted. */
const frontiers = memory.data(8 * 16, 8)

export function setFrontiers(index: i32, compacted: i64, evicted: i64): void {
  store<i64>(frontiers + ((index as usize) << 4), compacted)
  store<i64>(frontiers + ((index as usize) << 4), evicted, 8)
}

export function newCompacted(index: i32): i64 {
  return load<i64>(frontiers + ((index as usize) << 4))
}

export function newEvicted(index: i32): i64 {
  return load<i64>(frontiers + ((index as usize) << 4), 8)
}

// ---- raw events ----------------------------------------------------------------------------------------------------

// Raw events in order: (event u32, heap u32) each.
let rawList: usize = 0
export let rawCount: i32 = 0
/** The first that stays raw. */
export let retainedFrom: i32 = 0

/** A list for `count` events, to be written in order. */
export function openEvents(count: i32): usize {
  rawCount = count
  retainedFrom = 0
  rawList = count == 0 ? 0 : scratch((count as usize) << 3)
  return rawList
}

@inline
export function putEvent(at: usize, event: usize, heap: usize): void {
  store<u32>(at, event as u32)
  store<u32>(at, heap as u32, 4)
}

/** Events before `ms` go to tiles. */
export function retainFrom(ms: i64): void {
  while (retainedFrom < rawCount && load<i64>(rawEvent(retainedFrom), RAW_TIME_AT) < ms) retainedFrom++
}

@inline
export function rawEvent(i: i32): usize {
  return load<u32>(rawList + ((i as usize) << 3)) as usize
}

@inline
export function rawHeap(i: i32): usize {
  return load<u32>(rawList + ((i as usize) << 3), 4) as usize
}

// ---- tiles ---------------------------------------------------------------------------------------------------------

/** One tile of a level while a row is rebuilt. */
@unmanaged
export class Entry {
  index: u32
  /** Stored tile that goes out as it is, or 0. */
  tile: usize
  /** Run of the stored tile. */
  run: usize
  /** Sum that goes out, or 0. */
  acc: usize
}

export const ENTRY_BYTES: usize = 16

@inline
export function entryAt(list: usize, i: i32): Entry {
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

export function dropChain(): void {
  for (let link = accChain; link != 0; link = load<u32>(link) as usize) dropAccs(link + 8, 1)
  accChain = 0
}

export function newEntry(list: usize, at: i32, index: u32): Entry {
  const entry = entryAt(list, at)
  entry.index = index
  entry.tile = 0
  entry.run = 0
  entry.acc = newAcc()
  return entry
}

export function addEntry(acc: usize, entry: Entry): void {
  if (entry.acc != 0) addAcc(acc, entry.acc)
  else addTiles(acc, changetype<Run>(entry.run), entry.tile, 1)
}

/** list[at..] = the run's tiles and the additions, by index; a tile with both becomes their sum. Returns the new end. */
export function uniteTiles(list: usize, at: i32, run: Run, added: usize, addedLength: i32): i32 {
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

/** Entries of each level: list u32, count i32. */
const levelLists = memory.data(8 * 8, 8)

export function setEntries(index: i32, list: usize, count: i32): void {
  store<u32>(levelLists + ((index as usize) << 3), list as u32)
  store<i32>(levelLists + ((index as usize) << 3), count, 4)
}

export function entriesOf(index: i32): usize {
  return load<u32>(levelLists + ((index as usize) << 3)) as usize
}

export function entryCount(index: i32): i32 {
  return load<i32>(levelLists + ((index as usize) << 3), 4)
}
