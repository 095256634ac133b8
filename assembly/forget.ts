/**
 * Entities that were asked to be forgotten. Each has a *line*, the instant of the request: an event from before it doesn't
 * count any more, wherever it comes from (the live log, a replay, a backfill), and is `filtered`. That is decided behind all
 * other verdicts, so clocks and dedupe are what they would be without it.
 *
 * What was folded before the request became known is struck out at once: *erasing* an entity drops its delta, and its row
 * goes out without tiles at the next flush (flush.ts).
 */
import { VERDICT_APPLIED, VERDICT_FILTERED } from './layout'
import { reallocate, release } from './arena'
import { register } from './columns'
import { acceptedAt, acceptedCount, counters, setAccepted, verdictsAt } from './accept'
import { dirtyAt, entityCapacity, markDirty } from './entities'
import { timeRegister } from './plan'

/** The last of all lines; live events are soon behind it, and then nothing is looked up. -1: nobody was forgotten. */
export let lastLineMs: i64 = -1

// Per entity: its line (i64), then whether it is being erased (u8).
let linesAt: usize = 0
let erasingAt: usize = 0
let capacity: u32 = 0
let erasingCount: u32 = 0

function makeRoom(): void {
  if (capacity >= entityCapacity) return
  linesAt = reallocate(linesAt, (capacity as usize) << 3, (entityCapacity as usize) << 3)
  erasingAt = reallocate(erasingAt, capacity as usize, entityCapacity as usize)
  const more = (entityCapacity - capacity) as usize
  memory.fill(linesAt + ((capacity as usize) << 3), 0, more << 3)
  memory.fill(erasingAt + (capacity as usize), 0, more)
  capacity = entityCapacity
}

/** Events of the entity from before `ms` don't count from now on. */
export function drawLine(entity: u32, ms: i64): void {
  makeRoom()
  const at = linesAt + ((entity as usize) << 3)
  store<i64>(at, max(load<i64>(at), ms))
  lastLineMs = max(lastLineMs, ms)
}

/** Takes back the acceptance of what lies before its entity's line; returns how many rows are left. */
export function strikeForgotten(entities: usize): i32 {
  if (lastLineMs < 0) return acceptedCount
  const times = register(timeRegister).data
  const applied = counters + (VERDICT_APPLIED << 3)
  const filtered = counters + (VERDICT_FILTERED << 3)
  let kept: usize = 0
  for (let i: usize = 0, end = (acceptedCount as usize) << 2; i < end; i += 4) {
    const row = load<u32>(acceptedAt + i)
    const entity = load<u32>(entities + i)
    const time = load<i64>(times + ((row as usize) << 3))
    if (time < lastLineMs && entity < capacity && time < load<i64>(linesAt + ((entity as usize) << 3))) {
      store<u8>(verdictsAt + (row as usize), VERDICT_FILTERED as u8)
      store<u64>(applied, load<u64>(applied) - 1)
      store<u64>(filtered, load<u64>(filtered) + 1)
      continue
    }
    store<u32>(acceptedAt + kept, row)
    store<u32>(entities + kept, entity)
    kept += 4
  }
  setAccepted((kept >> 2) as i32)
  return acceptedCount
}

/** Marks the entity for the next flush, if it has a row or a delta; returns whether it does. */
export function erase(entity: u32, hasRow: bool): bool {
  if (!hasRow && load<u32>(dirtyAt + ((entity as usize) << 2)) == 0) return false
  makeRoom()
  // No event of the delta: none lies before anything that the row holds.
  markDirty(entity, Infinity)
  const at = erasingAt + (entity as usize)
  if (load<u8>(at) == 0) erasingCount++
  store<u8>(at, 1)
  return true
}

@inline
export function isErasing(entity: u32): bool {
  return erasingCount != 0 && entity < capacity && load<u8>(erasingAt + (entity as usize)) != 0
}

/** The rows of the erased are written. */
export function endErasing(): void {
  if (erasingCount != 0) memory.fill(erasingAt, 0, capacity as usize)
  erasingCount = 0
}

/** Entity numbers mean nothing any more. */
export function clearLines(): void {
  release(linesAt, (capacity as usize) << 3)
  release(erasingAt, capacity as usize)
  linesAt = 0
  erasingAt = 0
  capacity = 0
  erasingCount = 0
  lastLineMs = -1
}
