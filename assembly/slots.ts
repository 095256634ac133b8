/**
 * The delta's tiles: one *slot* per (entity, level, tile) touched since the last flush, found through *panes*. The level is
 * the finest whose tile the flush will keep: mostly level 0, a coarser one for late events and in a backfill.
 *
 *   slot    tag u64 { level 4 bits, entity 28 bits, tile 32 bits } · rows u32 · partials …     slotBytes each, append only
 *   pane    for one tile: u32 slot number by entity number; a ring of them per level, tile number modulo the ring
 *
 * Panes are a cache and nothing else: an entry counts only if it was made since the last flush and its slot bears the right
 * tag, so neither a flush nor a reused pane has to clear anything, and no stale entry costs a look at a slot. A tile that lost its pane simply gets a second slot, and the
 * flush adds the two: partials don't care. Against hashing (entity, tile) this is 1.4 to 3 times as fast (core-notes).
 */
import { allocate, reallocate, release } from './arena'
import { copyBlock, dropSlot, initSlot } from './dispatch'
import { entityCapacity } from './entities'
import { wideCount } from './exact'
import { LEVELS_MAX } from './layout'
import { slotBytes } from './plan'

export let slotsAt: usize = 0
let slotsCapacity: usize = 0
/** Slot numbers count on from flush to flush, in units of 32 bytes: what was given to slots before the current ones. */
export let slotsBefore: u32 = 0
/** Bytes in use; the first slot starts at slotBytes, so offset 0 is nobody's. */
export let slotsEnd: usize = 0

const PANES_MAX: i32 = 64
const PANES_BYTES_MAX: u32 = 64 << 20
/** Entity numbers take the low bits of a tag's first word, the level the rest. */
export const ENTITY_BITS: u32 = 28
export const ENTITY_MASK: u32 = (1 << 28) - 1

const panes = memory.data(8 * 64 * 4)
export let paneMask: u32 = 63
let paneCapacity: u32 = 0

/** Growing copies, and touches memory anew: beyond this a delta that is known to become large gets all its room at once. */
const EXPECTED_FROM: usize = 16 << 20
let expectedBytes: usize = 0

export function expectSlots(bytes: usize): void {
  expectedBytes = bytes
}

export function reserveSlots(count: i32): void {
  if (slotsEnd == 0) slotsEnd = slotBytes
  const end = slotsEnd + (count as usize) * slotBytes
  if (end <= slotsCapacity) return
  let bytes = max(end + (end >> 1), 1 << 20)
  if (bytes > EXPECTED_FROM) bytes = max(bytes, expectedBytes)
  slotsAt = reallocate(slotsAt, slotsCapacity, bytes)
  slotsCapacity = bytes
  // The slot that empty pane entries name: no tag looks like this.
  store<u64>(slotsAt, u64.MAX_VALUE)
}

/** Makes the panes fit the number of entities: fewer of them when each is large. */
export function reservePanes(): void {
  if (entityCapacity <= paneCapacity) return
  for (let i = 0; i < LEVELS_MAX * PANES_MAX; i++) {
    release(load<u32>(panes + ((i as usize) << 2)) as usize, (paneCapacity as usize) << 2)
    store<u32>(panes + ((i as usize) << 2), 0)
  }
  paneCapacity = entityCapacity
  let count: u32 = PANES_MAX
  while (count > 4 && (count * paneCapacity) << 2 > PANES_BYTES_MAX) count >>= 1
  paneMask = count - 1
}

/** The pane of a level's tile: u32 slot offsets by entity. */
export function paneOf(index: i32, tile: u32): usize {
  const at = panes + (((index * PANES_MAX + ((tile & paneMask) as i32)) as usize) << 2)
  let pane = load<u32>(at) as usize
  if (pane == 0) {
    const bytes = (paneCapacity as usize) << 2
    pane = allocate(bytes)
    memory.fill(pane, 0, bytes)
    store<u32>(at, pane as u32)
  }
  return pane
}

let templateAt: usize = 0

/** A new slot's offset; `reserveSlots` came before, slots are multiples of 32 bytes. */
export function addSlotFor(tag: u64): usize {
  if (templateAt == 0) {
    templateAt = allocate(slotBytes)
    memory.fill(templateAt, 0, slotBytes)
    initSlot(templateAt)
  }
  const offset = slotsEnd
  const slot = slotsAt + offset

  copyBlock(slot, templateAt, slotBytes)
  store<u64>(slot, tag)
  slotsEnd = offset + slotBytes
  return offset
}

export function clearSlots(): void {
  if (wideCount != 0) for (let slot = slotsAt + slotBytes, end = slotsAt + slotsEnd; slot < end; slot += slotBytes) dropSlot(slot)
  slotsBefore += (slotsEnd >> 5) as u32
  slotsEnd = slotBytes
  // Before numbers could come round: 2^27 of them are a whole memory.
  if (slotsBefore >= 0xf000_0000) {
    slotsBefore = 0
    for (let i = 0; i < LEVELS_MAX * PANES_MAX; i++) {
      const pane = load<u32>(panes + ((i as usize) << 2)) as usize
      if (pane != 0) memory.fill(pane, 0, (paneCapacity as usize) << 2)
    }
  }
}
