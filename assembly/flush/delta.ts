// The delta in entity order: every dirty entity finds its slots and raw events in one piece.
import { RAW_OP_AT } from '../layout'
import { rawBytes, slotBytes } from '../plan'
import { allocate, release, resetScratch, scratch } from '../arena'
import { NO_ENTITY, clearEvents, compareEvents, eventsAt, eventsEnd, textAt } from '../events'
import { Dirty, clearDirty, dirty, dirtyAt, dirtyCount, lanesAt } from '../entities'
import { ENTITY_MASK, clearSlots, slotsAt, slotsEnd } from '../slots'
import { orderByKey } from './key-order'

let slotOrderAt: usize = 0
let slotOrderBytes: usize = 0
let eventOrderAt: usize = 0
let eventOrderBytes: usize = 0
/** Dirty entities in the order of their lanes. */
let laneOrderAt: usize = 0
let laneOrderBytes: usize = 0

/** Groups slots and raw events by entity (counting sort, arrival order kept) and entities by lane, each lane's by key. */
export function sortDelta(lanes: i32): void {
  const slots = (slotsEnd > slotBytes ? slotsEnd / slotBytes - 1 : 0) as u32
  const ownersBytes = (slots as usize) << 2
  const placesBytes = (dirtyCount as usize) << 3
  // Slots and events are met in the order of arrival, their entities at random: what is looked up for each is kept small.
  const owners = allocate(ownersBytes)
  const places = allocate(placesBytes)
  memory.fill(places, 0, placesBytes)
  for (let slot = slotsAt + slotBytes, owner = owners, end = slotsAt + slotsEnd; slot < end; slot += slotBytes, owner += 4) {
    const index = dirtyIndex(load<u32>(slot) & ENTITY_MASK)
    store<u32>(owner, index)
    countAt(places, index)
  }
  for (let event = rawBytes; event < eventsEnd; event += rawBytes) {
    const entity = load<u32>(eventsAt + event, RAW_OP_AT)
    if (entity != NO_ENTITY) countAt(places + 4, dirtyIndex(entity))
  }
  let slotPlace: u32 = 0
  let eventPlace: u32 = 0
  for (let i: u32 = 0; i < dirtyCount; i++) {
    const entry = dirty(i)
    const place = places + ((i as usize) << 3)
    entry.lane = load<u32>(lanesAt + ((entry.entity as usize) << 2))
    entry.slotStart = slotPlace
    entry.slotCount = load<u32>(place)
    entry.eventStart = eventPlace
    entry.eventCount = load<u32>(place, 4)
    store<u32>(place, slotPlace)
    store<u32>(place, eventPlace, 4)
    slotPlace += entry.slotCount
    eventPlace += entry.eventCount
  }
  slotOrderAt = room(slotOrderAt, slotOrderBytes, (slotPlace as usize) << 2)
  slotOrderBytes = max(slotOrderBytes, (slotPlace as usize) << 2)
  eventOrderAt = room(eventOrderAt, eventOrderBytes, (eventPlace as usize) << 2)
  eventOrderBytes = max(eventOrderBytes, (eventPlace as usize) << 2)
  let slot = slotBytes
  for (let owner = owners, end = owners + ownersBytes; owner < end; owner += 4, slot += slotBytes) {
    store<u32>(slotOrderAt + ((countAt(places, load<u32>(owner)) as usize) << 2), slot as u32)
  }
  for (let event = rawBytes; event < eventsEnd; event += rawBytes) {
    const entity = load<u32>(eventsAt + event, RAW_OP_AT)
    if (entity == NO_ENTITY) continue
    store<u32>(eventOrderAt + ((countAt(places + 4, dirtyIndex(entity)) as usize) << 2), event as u32)
  }
  release(owners, ownersBytes)
  release(places, placesBytes)

  laneOrderAt = room(laneOrderAt, laneOrderBytes, (dirtyCount as usize) << 2)
  laneOrderBytes = max(laneOrderBytes, (dirtyCount as usize) << 2)
  let placed: u32 = 0
  if (lanes == 1) {
    for (let i: u32 = 0; i < dirtyCount; i++) store<u32>(laneOrderAt + (i << 2), i)
    orderByKey(laneOrderAt, dirtyCount)
  } else {
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
    // Each lane's entry is by now where the lane ends.
    let start: u32 = 0
    for (let i = 0; i < lanes; i++) {
      const end = load<u32>(counts + ((i as usize) << 2))
      orderByKey(laneOrderAt + ((start as usize) << 2), end - start)
      start = end
    }
  }
}

/** The `place`th dirty entity in lane order. */
export function dirtyAtPlace(place: u32): Dirty {
  return dirty(load<u32>(laneOrderAt + (place << 2)))
}

@inline
function dirtyIndex(entity: u32): u32 {
  return load<u32>(dirtyAt + ((entity as usize) << 2)) - 1
}

/** Adds one to a dirty entity's count and returns what it was. */
@inline
function countAt(counts: usize, index: u32): u32 {
  const at = counts + ((index as usize) << 3)
  const count = load<u32>(at)
  store<u32>(at, count + 1)
  return count
}

/** Behind at most `count` places from `start`, all of one lane. */
export function endOfChunk(start: u32, count: u32): u32 {
  const lane = dirtyAtPlace(start).lane
  let low = start + 1
  let high = min(start + count, dirtyCount)
  // Mostly it is all of one lane, and every look is a cache miss.
  if (dirtyAtPlace(high - 1).lane == lane) return high
  while (low < high) {
    const middle = (low + high) >> 1
    if (dirtyAtPlace(middle).lane == lane) low = middle + 1
    else high = middle
  }
  return low
}

function room(at: usize, bytes: usize, wanted: usize): usize {
  if (at != 0 && wanted <= bytes) return at
  release(at, bytes)
  return allocate(wanted)
}

/** The entity's slots in arrival order: u32 offsets, `entry.slotCount` of them. */
@inline
export function slotsOf(entry: Dirty): usize {
  return slotOrderAt + ((entry.slotStart as usize) << 2)
}

/** The entity's raw events in their own order: u32 offsets, `entry.eventCount` of them. */
export function eventsOf(entry: Dirty): usize {
  const order = eventOrderAt + ((entry.eventStart as usize) << 2)
  if (entry.eventCount > 1) sortEvents(order, entry.eventCount as i32)
  return order
}

/** Empties the delta: everything in it is in rows that the store has. */
export function clearDelta(): void {
  clearSlots()
  clearEvents()
  clearDirty()
}

// Heap sort, in place: lists are short or already in order.

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
