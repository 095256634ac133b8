/**
 * Many rows in one call, of entities that the store has no row of: most of a history. Chunks go in the order of keys, the delta
 * lies in the order of arrival, so each entity, slot and key is a cache miss. A group of entities has them under way side by
 * side: short loops first touch what the long one then finds.
 */
import { allocate, release } from '../arena'
import { Dirty, appliedOf, entityTable } from '../entities'
import { keyRecord } from '../keys'
import { slotBytes } from '../plan'
import { slotsAt } from '../slots'
import { flushRow } from '../flush'
import { dirtyAtPlace, slotsOf } from './delta'
import { rowEnd, rowStart } from './write'

const GROUP: u32 = 64
const LINE: usize = 64
/** Keeps the touching loads alive. */
export let touched: u64 = 0

let boundsAt: usize = 0
let boundsBytes: usize = 0
let keysAt: usize = 0
let keysBytes: usize = 0

/** Writes the rows of `[start, end)` behind outEnd; returns where each begins and ends in the output, u32 pairs. */
export function flushNewRows(start: u32, end: u32, position: i64): usize {
  const bytes = ((end - start) as usize) << 3
  if (bytes > boundsBytes) {
    release(boundsAt, boundsBytes)
    boundsAt = allocate(bytes)
    boundsBytes = bytes
  }
  let bound = boundsAt
  for (let group = start; group < end; group += GROUP) {
    const stop = min(group + GROUP, end)
    touchDelta(group, stop)
    for (let place = group; place < stop; place++, bound += 8) {
      const error = flushRow(dirtyAtPlace(place), 0, 0, position)
      assert(error == 0)
      store<u32>(bound, rowStart as u32)
      store<u32>(bound, rowEnd as u32, 4)
    }
  }
  return boundsAt
}

function touchDelta(start: u32, end: u32): void {
  let sink: u64 = 0
  for (let place = start; place < end; place++) sink ^= load<u32>(changetype<usize>(dirtyAtPlace(place)))
  for (let place = start; place < end; place++) {
    const entry = dirtyAtPlace(place)
    if (entry.slotCount > 0) sink ^= load<u32>(slotsOf(entry))
  }
  for (let place = start; place < end; place++) sink ^= touchSlots(dirtyAtPlace(place))
  touched = sink
}

@inline
function touchSlots(entry: Dirty): u64 {
  let sink: u64 = 0
  const order = slotsOf(entry)
  for (let at = order, end = order + ((entry.slotCount as usize) << 2); at < end; at += 4) {
    const slot = slotsAt + (load<u32>(at) as usize)
    for (let line: usize = 0; line < slotBytes; line += LINE) sink ^= load<u64>(slot + line)
  }
  return sink
}

/** Have none of the entities at `[start, end)` had a row written since they are known? */
export function areUnwritten(start: u32, end: u32): bool {
  for (let place = start; place < end; place++) if (appliedOf(dirtyAtPlace(place).entity) >= 0) return false
  return true
}

/** Keys of the entities at `[start, end)`: a u32 each, the end of its key in the bytes that follow. */
export function packKeys(start: u32, end: u32): usize {
  let bytes: usize = 0
  for (let place = start; place < end; place++) touched ^= load<u32>(changetype<usize>(dirtyAtPlace(place)))
  for (let place = start; place < end; place++) bytes += load<u32>(recordOf(place))
  const all = (((end - start) as usize) << 2) + bytes
  if (all > keysBytes) {
    release(keysAt, keysBytes)
    keysAt = allocate(all)
    keysBytes = all
  }
  let at = keysAt
  const from = keysAt + (((end - start) as usize) << 2)
  let used: usize = 0
  for (let place = start; place < end; place++, at += 4) {
    const record = recordOf(place)
    const length = load<u32>(record) as usize
    // Keys are mostly short, and a call to copy costs more than they do.
    for (let i: usize = 0; i < length; i++) store<u8>(from + used + i, load<u8>(record + 8 + i))
    used += length
    store<u32>(at, used as u32)
  }
  return keysAt
}

@inline
function recordOf(place: u32): usize {
  return keyRecord(entityTable(), dirtyAtPlace(place).entity)
}
