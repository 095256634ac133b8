// One entity's slots, by level and tile.
import { slotBytes } from '../plan'
import { scratch } from '../arena'
import { Dirty } from '../entities'
import { ENTITY_BITS, slotsAt } from '../slots'
import { addSlot } from '../dispatch'
import { slotsOf } from './delta'

// The entity's slots in the order of (level, tile), as u64 pairs { slot number 28 bits, tile 32 bits, level 4 bits }.
let pairsAt: usize = 0
let pairCount: i32 = 0
/** Slots that the levels so far have taken. */
export let slotsDone: i32 = 0

const PAIR_SLOT_BITS: u64 = 28
const PAIR_SLOT_MASK: u64 = (1 << 28) - 1

export function readSlots(entry: Dirty): void {
  pairCount = changetype<usize>(entry) == 0 ? 0 : (entry.slotCount as i32)
  slotsDone = 0
  pairsAt = scratch((pairCount as usize) << 3)
  const order = pairCount > 0 ? slotsOf(entry) : 0
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
export function slotsOfLevel(index: i32): i32 {
  let end = slotsDone
  while (end < pairCount && (load<u64>(pairsAt + ((end as usize) << 3)) >> 60) == (index as u64)) end++
  return end
}

export function takeSlots(end: i32): void {
  slotsDone = end
}

@inline
export function pairTile(i: i32): u32 {
  return (load<u64>(pairsAt + ((i as usize) << 3)) >> PAIR_SLOT_BITS) as u32
}

export function addPair(acc: usize, i: i32, stepMs: i64): void {
  const pair = load<u64>(pairsAt + ((i as usize) << 3))
  const slot = slotsAt + ((pair & PAIR_SLOT_MASK) as usize) * slotBytes
  addSlot(acc, slot, load<u32>(slot, 8), (pairTile(i) as i64) * stepMs)
}

// Heap sort, in place: lists are short or already in order.

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
