/**
 * What the core knows of an entity besides its key, in arrays by entity number; and the dirty list, the entities touched
 * since the last flush. A lane's memory may be dropped at any time between flushes: everything here is rebuilt from the
 * log and the store.
 */
import { reallocate } from './arena'
import { clearLines } from './forget'
import { KeyTable, clearTable, keyRecord, laneHash } from './keys'
import { laneCount, shard, shardCount } from './plan'

const table = memory.data(32, 8)

export function entityTable(): KeyTable {
  return changetype<KeyTable>(table)
}

/** Lane of an entity this instance does not fold. */
export const FOREIGN: u32 = 0xffff_ffff

// Per entity: its lane (or FOREIGN); 1 + its place in the dirty list, 0 = clean; the position its stored row holds.
export let lanesAt: usize = 0
export let dirtyAt: usize = 0
let appliedAt: usize = 0
export let entityCapacity: u32 = 0
/** Entities that have their lane set. */
let known: u32 = 0

/** Extends the arrays to every interned key. */
export function admitEntities(): void {
  const count = entityTable().count
  if (count > entityCapacity) {
    const capacity = max<u32>(count + (count >> 1), 1024)
    lanesAt = reallocate(lanesAt, (entityCapacity as usize) << 2, (capacity as usize) << 2)
    dirtyAt = reallocate(dirtyAt, (entityCapacity as usize) << 2, (capacity as usize) << 2)
    appliedAt = reallocate(appliedAt, (entityCapacity as usize) << 3, (capacity as usize) << 3)
    entityCapacity = capacity
  }
  for (; known < count; known++) {
    const record = keyRecord(entityTable(), known)
    const lane = laneCount == 1 && shardCount == 1 ? 0 : laneHash(record + 8, load<u32>(record)) % (laneCount as u32)
    store<u32>(lanesAt + ((known as usize) << 2), lane % (shardCount as u32) == (shard as u32) ? lane : FOREIGN)
    store<u32>(dirtyAt + ((known as usize) << 2), 0)
    store<f64>(appliedAt + ((known as usize) << 3), -1)
  }
}

/** Position that the entity's stored row holds already; -1 unless the host read the row during a replay, or we wrote it. */
export function appliedOf(entity: u32): f64 {
  return load<f64>(appliedAt + ((entity as usize) << 3))
}

export function setApplied(entity: u32, position: f64): void {
  store<f64>(appliedAt + ((entity as usize) << 3), position)
}

/** Forgets every key. Only between flushes, when nothing is dirty. */
export function clearEntities(): void {
  assert(dirtyCount == 0)
  clearTable(entityTable())
  clearLines()
  known = 0
}

// ---- the dirty list ------------------------------------------------------------------------------------------------

@unmanaged
export class Dirty {
  entity: u32
  lane: u32
  /** Position of the first event of the delta. */
  firstPosition: f64
  // Its slots and raw events, in the order that `sortDelta` (flush/delta.ts) made; the lane is set there, too.
  slotStart: u32
  slotCount: u32
  eventStart: u32
  eventCount: u32
}

const DIRTY_BYTES: usize = 32
let dirtyListAt: usize = 0
let dirtyCapacity: u32 = 0
export let dirtyCount: u32 = 0

export function dirty(index: u32): Dirty {
  return changetype<Dirty>(dirtyListAt + (index as usize) * DIRTY_BYTES)
}

/** Puts the entity on the list, once. */
export function markDirty(entity: u32, position: f64): void {
  const at = dirtyAt + ((entity as usize) << 2)
  if (load<u32>(at) != 0) return
  if (dirtyCount == dirtyCapacity) {
    const capacity = max<u32>(dirtyCapacity << 1, 1024)
    dirtyListAt = reallocate(dirtyListAt, (dirtyCapacity as usize) * DIRTY_BYTES, (capacity as usize) * DIRTY_BYTES)
    dirtyCapacity = capacity
  }
  const entry = dirty(dirtyCount++)
  entry.entity = entity
  entry.firstPosition = position
  entry.slotCount = 0
  entry.eventCount = 0
  store<u32>(at, dirtyCount)
}

export function clearDirty(): void {
  for (let i: u32 = 0; i < dirtyCount; i++) store<u32>(dirtyAt + ((dirty(i).entity as usize) << 2), 0)
  dirtyCount = 0
}
