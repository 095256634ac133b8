/**
 * HOT LOOP 1: a batch of events into the delta.
 *
 *   prepare     columns (expr) -> canonical keys -> verdicts (accept) -> entity numbers (keys) -> the forgotten out (forget)
 *   fold        watermark -> for each accepted event: a raw event of the head, or a slot -> every partial over the slots
 *
 * Between the two the host may look up what stored rows already hold (a replay after a crash). The delta never reads a
 * row: partials commute, so it is added to its row when it is flushed (flush.ts).
 *
 * Two passes, resolve then fold, beat one: the first touches every slot's line with nothing depending on it, so cache
 * misses overlap (core-notes: 16 against 19 ns at 10k keys).
 */
import { HEAD_RAW } from './layout'
import {
  disorderMs,
  headKind,
  headMs,
  laneCount,
  level,
  levelCount,
  programAt,
  programBytes,
  shard,
  shardCount,
  timeRegister,
} from './plan'
import { resetScratch, scratch } from './arena'
import { register } from './columns'
import { evaluate } from './expr'
import { accept, acceptedAt, acceptedCount, lateClockMs, setAccepted } from './accept'
import { buildKeys, intern, keyData, keyOffsets, laneHash, reserve } from './keys'
import {
  FOREIGN,
  admitEntities,
  dirtyAt,
  entityCapacity,
  appliedOf,
  entityTable,
  lanesAt,
  markDirty,
} from './entities'
import { addEvent, writeEvent } from './events'
import { lastLineMs, strikeForgotten } from './forget'
import { ENTITY_BITS, ENTITY_MASK, addSlotFor, paneOf, reservePanes, reserveSlots, slotsAt, slotsBefore, slotsEnd } from './slots'
import { foldPartials } from './dispatch'

/** No event older than this is expected; -1 before the first event. */
export let watermarkMs: i64 = -1
/** Events before it belong in tiles, those at or behind it stay raw (or, with sub-tiles, uncompacted). */
export let headFrontierMs: i64 = 0

/** Entity number of each accepted row. */
export let entitiesAt: usize = 0

// The batch between `prepare` and `fold`.
let firstPosition: f64 = 0
let positionsAt: usize = 0

export function setWatermark(watermark: i64, headFrontier: i64): void {
  watermarkMs = watermark
  headFrontierMs = headFrontier
}

/**
 * Moves the watermark up to `ms`, and the head's frontier behind it: never past `wallMs`, so that a log that runs ahead of
 * the clock can't make "now" unanswerable.
 */
export function advance(ms: i64, wallMs: i64): void {
  watermarkMs = max(watermarkMs, ms)
  headFrontierMs = max(headFrontierMs, min(watermarkMs, wallMs) - headMs)
}

export function prepare(
  columns: usize,
  n: i32,
  first: f64,
  positions: usize,
  recordTimes: usize,
  notAfterMs: i64,
): i32 {
  resetScratch()
  firstPosition = first
  positionsAt = positions
  evaluate(programAt, programBytes, columns, n)
  buildKeys(n)
  accept(n, first, positions, recordTimes, notAfterMs)
  // Another shard knows its own entities; who is to be forgotten is looked up by number, in every shard.
  if (shardCount > 1 && lastLineMs < 0) keepOwn()
  entitiesAt = scratch((acceptedCount as usize) << 2)
  for (let i = 0; i < acceptedCount; i += INTERNED) internRows(i, min(INTERNED, acceptedCount - i))
  admitEntities()
  return strikeForgotten(entitiesAt)
}

/** Keys that are interned at a time: a table with room for a batch of new ones would be twice as large as it need be, or more. */
const INTERNED: i32 = 1024

function internRows(first: i32, count: i32): void {
  const rows = acceptedAt + ((first as usize) << 2)
  const last = load<u32>(rows + (((count - 1) as usize) << 2)) as usize
  const bytes = load<u32>(keyOffsets + ((last + 1) << 2)) - load<u32>(keyOffsets + ((load<u32>(rows) as usize) << 2))
  reserve(entityTable(), count, bytes as usize)
  intern(entityTable(), keyData, keyOffsets, rows, count, entitiesAt + ((first as usize) << 2))
}

/** Leaves the accepted rows whose entity is in a lane of ours: the others are judged, and then nobody here needs them. */
function keepOwn(): void {
  let kept: usize = 0
  for (let i: usize = 0, end = (acceptedCount as usize) << 2; i < end; i += 4) {
    const row = load<u32>(acceptedAt + i)
    const at = keyOffsets + ((row as usize) << 2)
    const lane = laneHash(keyData + (load<u32>(at) as usize), load<u32>(at, 4) - load<u32>(at)) % (laneCount as u32)
    if (lane % (shardCount as u32) != (shard as u32)) continue
    store<u32>(acceptedAt + kept, row)
    kept += 4
  }
  setAccepted((kept >> 2) as i32)
}

/** Folds what `prepare` accepted. `replaying`: skip events that their entity's stored row holds (entities.ts). */
export function fold(wallMs: i64, replaying: bool): void {
  if (lateClockMs >= 0) advance(lateClockMs - disorderMs, wallMs)
  foldRows(acceptedAt, entitiesAt, acceptedCount, register(timeRegister).data, replaying)
}

/** Folds rows[i] of the registers, which belong to entities[i], at times[rows[i]]. */
export function foldRows(rows: usize, entities: usize, n: i32, times: usize, replaying: bool): void {
  assert(entityTable().count <= ENTITY_MASK)
  reservePanes()
  reserveSlots(n)
  findEvictions()
  const bytes = (CHUNK as usize) << 2
  const slots = scratch(bytes)
  const slotRows = scratch(bytes)
  const offsets = scratch(bytes)
  for (let i = 0; i < n; i += CHUNK) {
    const at = (i as usize) << 2
    if (entityCapacity > TOUCHED_FROM) touch(rows + at, entities + at, min(n - i, CHUNK), times, slots)
    const resolved = resolve(rows + at, entities + at, min(n - i, CHUNK), times, replaying, slots, slotRows, offsets)
    foldPartials(slotRows, slots, offsets, resolved, times)
  }
}

/** Events that are resolved, then folded: their slots are still in the nearest cache by then. */
const CHUNK: i32 = 512

/** Above so many entities a pane is larger than the nearest caches. */
const TOUCHED_FROM: u32 = 1 << 16
const touched = memory.data(4)

/**
 * Reads what `resolve` is going to read: WebAssembly has no prefetch, but in loops as short as these some dozen misses are
 * under way at a time, and `resolve` then guesses no branch that waits for one. `numbers`: scratch.
 */
function touch(rows: usize, entities: usize, n: i32, times: usize, numbers: usize): void {
  const time = load<i64>(times + ((load<u32>(rows) as usize) << 3))
  const index = levelFor(time)
  if (index == levelCount) return
  const pane = paneOf(index, (time / level(index).stepMs) as u32)
  let sum: u32 = 0
  const stop = (n as usize) << 2
  for (let k: usize = 0; k < stop; k += 4) {
    const at = (load<u32>(entities + k) as usize) << 2
    sum ^= load<u32>(dirtyAt + at)
    store<u32>(numbers + k, load<u32>(pane + at))
  }
  const base = slotsAt
  const before = slotsBefore
  const end = (slotsEnd >> 5) as u32
  for (let k: usize = 0; k < stop; k += 4) {
    const number = load<u32>(numbers + k) - before
    sum ^= load<u32>(base + ((number < end ? number as usize : 0) << 5))
  }
  store<u32>(touched, sum)
}

/**
 * Start, in ms, of what each level will keep at the next flush, at the least: the head's frontier only moves on, and so do
 * the frontiers that follow from it (flush/rebuild.ts moveFrontiers).
 */
const keptFromMs = memory.data(8 * 8, 8)

function findEvictions(): void {
  for (let i = levelCount - 1; i >= 0; i--) {
    const step = level(i).stepMs
    let from = headFrontierMs - level(i).keepMs
    from = from <= 0 ? 0 : from - (from % step)
    if (i < levelCount - 1) {
      const parent = level(i + 1).stepMs
      from = min(from, headFrontierMs - (headFrontierMs % parent))
    }
    store<i64>(keptFromMs + ((i as usize) << 3), max<i64>(from, 0))
  }
}

/** The finest level that keeps the tile of `time`; levelCount when none does. */
function levelFor(time: i64): i32 {
  let i = 0
  while (i < levelCount && time < load<i64>(keptFromMs + ((i as usize) << 3))) i++
  return i
}

/** Fills slots, rows and offsets in tile of the events that are folded; returns how many. */
function resolve(
  rows: usize,
  entities: usize,
  n: i32,
  times: usize,
  replaying: bool,
  slots: usize,
  slotRows: usize,
  offsets: usize,
): i32 {
  // Where every lane is ours, nobody's has to be looked up.
  return shardCount == 1 && !replaying
    ? resolveEach(rows, entities, n, times, false, false, slots, slotRows, offsets)
    : resolveEach(rows, entities, n, times, shardCount != 1, replaying, slots, slotRows, offsets)
}

@inline
function resolveEach(
  rows: usize,
  entities: usize,
  n: i32,
  times: usize,
  sharing: bool,
  replaying: bool,
  slots: usize,
  slotRows: usize,
  offsets: usize,
): i32 {
  const base = slotsAt
  const frontier = headKind == HEAD_RAW ? headFrontierMs : i64.MAX_VALUE
  const before = slotsBefore
  let end = (slotsEnd >> 5) as u32
  let resolved: usize = 0
  // Events come mostly in the pane of the one before: in [tileMs, tileMs + spanMs).
  let pane: usize = 0
  let tag: u64 = 0
  let tileMs: i64 = 0
  let spanMs: u64 = 0
  for (let i: usize = 0, stop = (n as usize) << 2; i < stop; i += 4) {
    const row = load<u32>(rows + i)
    const entity = load<u32>(entities + i)
    if (sharing && load<u32>(lanesAt + ((entity as usize) << 2)) == FOREIGN) continue
    if (replaying && positionOf(row) <= appliedOf(entity)) continue
    const time = load<i64>(times + ((row as usize) << 3))
    let sinceMs = (time - tileMs) as u64
    if (sinceMs >= spanMs) {
      if (time >= frontier) {
        markDirty(entity, positionOf(row))
        writeEvent(addEvent(), row as i32, time, entity)
        continue
      }
      const index = levelFor(time)
      if (index == levelCount) {
        // Older than anything that is kept: nothing but the entity's existence is left of it.
        markDirty(entity, positionOf(row))
        continue
      }
      const stepMs = level(index).stepMs
      const tile = (time / stepMs) as u32
      tag = ((tile as u64) << 32) | ((index as u64) << (ENTITY_BITS as u64))
      tileMs = (tile as i64) * stepMs
      let endMs = min(tileMs + stepMs, frontier)
      // A finer level may keep the tile's newer part.
      for (let j = 0; j < index; j++) endMs = min(endMs, load<i64>(keptFromMs + ((j as usize) << 3)))
      spanMs = (endMs - tileMs) as u64
      sinceMs = (time - tileMs) as u64
      pane = paneOf(index, tile)
    }
    const entry = pane + ((entity as usize) << 2)
    const number = load<u32>(entry) - before
    let slot = base + ((number as usize) << 5)
    if (number >= end || load<u64>(slot) != (tag | (entity as u64))) {
      const offset = addSlotFor(tag | (entity as u64))
      slot = base + offset
      end = (slotsEnd >> 5) as u32
      store<u32>(entry, before + ((offset >> 5) as u32))
      markDirty(entity, positionOf(row))
    }
    store<u32>(slot, load<u32>(slot, 8) + 1, 8)
    store<u32>(slots + resolved, slot as u32)
    store<u32>(slotRows + resolved, row)
    store<u32>(offsets + resolved, sinceMs as u32)
    resolved += 4
  }
  return (resolved >> 2) as i32
}

@inline
function positionOf(row: u32): f64 {
  return positionsAt == 0 ? firstPosition + (row as f64) : load<f64>(positionsAt + ((row as usize) << 3))
}
