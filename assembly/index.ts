/**
 * The ABI: every export, here and in index-asof.ts and index-numbered.ts, and nothing else. Numbers and addresses only; README.md beside
 * this file has the memory map, the order of calls and the lifetimes.
 *
 * An instance serves one view and one input log (or merges rows of one view): memory is its own, and a trap takes only its
 * lanes down. Nothing is imported, so any WebAssembly host can run it.
 */
import { ABI_VERSION, VERDICT_ELSEWHERE } from './layout'
import { allocate, arenaBytes, release, resetScratch, trapCode, trapLine } from './arena'
import { laneCount, raiseLayoutVersion, readPlan } from './plan'
import {
  acceptedAt,
  clearCounters,
  counters,
  horizonMs,
  lateClockMs,
  logPosition,
  setClock,
  takeJudged,
  verdictsAt,
} from './accept'
import { admitEntities, appliedOf, clearEntities, dirtyCount, entityTable, lanesAt, setApplied } from './entities'
import { internOne, keyRecord, laneHash, reserve } from './keys'
import { clearEvents, eventBytesInUse } from './events'
import { drawLine, endErasing, erase } from './forget'
import { expectSlots, slotsEnd } from './slots'
import { IDS_FOLLOWED, idBytes, readIds, writeIds } from './dedupe'
import { advance as advanceWatermark, entitiesAt, fold, headFrontierMs, prepare, setWatermark, watermarkMs } from './fold'
import { advanceRow, flushRow } from './flush'
import { clearDelta, dirtyAtPlace, endOfChunk, sortDelta } from './flush/delta'
import { areUnwritten, flushNewRows, packKeys } from './flush/fresh'
import { clearOut, outAt, outEnd, reserveOut } from './flush/output'
import { uniteRows } from './flush/unite'
import { anonymiseRow, rowEnd, rowStart } from './flush/write'
import { takeTimes as takeTimesAt } from './times'
import { infosAt, mergeEntities, openForSweep, readFeatures, statusesAt, sweepRows, valuesAt } from './merge'

export * from './index-asof'
export * from './index-numbered'

/** The host refuses another number. */
export const abiVersion: i32 = ABI_VERSION

// ---- regions -------------------------------------------------------------------------------------------------------

let inputAt: usize = 0
let inputCapacity: usize = 0

/** Address of the input region with room for `bytes`; its first `keep` bytes stay. Good until the next call of it. */
export function reserveInput(bytes: usize, keep: usize): usize {
  if (bytes > inputCapacity) {
    const capacity = max(bytes + (bytes >> 1), 1 << 18)
    const next = allocate(capacity)
    if (inputAt != 0) {
      memory.copy(next, inputAt, keep)
      release(inputAt, inputCapacity)
    }
    inputAt = next
    inputCapacity = capacity
  }
  return inputAt
}

/** Code and line of the last trap. */
export function lastTrap(): i32 {
  return trapCode
}

export function lastTrapLine(): i32 {
  return trapLine
}

/** Bytes of memory handed out so far. */
export function memoryBytes(): usize {
  return arenaBytes()
}

// ---- set-up --------------------------------------------------------------------------------------------------------

/** Reads the plan at `at` (plan.ts). Once per instance. */
export function configure(at: usize): void {
  readPlan(at)
  clearEvents()
}

/** From now on only events of some times are taken: the `count` ranges at `at`, or (`inside` = 0) all others. See times.ts. */
export function takeTimes(at: usize, count: i32, inside: i32): void {
  takeTimesAt(at, count, inside != 0)
}

/** Reads windows and features at `at` (merge.ts). */
export function configureFeatures(at: usize): void {
  readFeatures(at)
}

// ---- events --------------------------------------------------------------------------------------------------------

/** Columns at `columns` (layout.ts COLUMN_) -> verdicts and entities; returns the rows accepted. See fold.ts. */
export function prepareBatch(
  columns: usize,
  n: i32,
  firstPosition: f64,
  positions: usize,
  recordTimes: usize,
  notAfterMs: f64,
): i32 {
  return prepare(columns, n, firstPosition, positions, recordTimes, notAfterMs as i64)
}

/** Folds what `prepareBatch` accepted; the head's frontier stays behind `wallMs`. */
export function foldBatch(wallMs: f64, replaying: i32): void {
  fold(wallMs as i64, replaying != 0)
}

/** From now on batches are of an internal topic: a router has judged their rows, whose positions are their records'. */
export function takeJudgedRows(): void {
  takeJudged()
}

/** What a record of an internal topic says: the clock of those that feed it, and its position. */
export function judged(clockMs: f64, recordPosition: f64): void {
  setClock(max(lateClockMs, clockMs as i64), max(logPosition, recordPosition))
}

/** Rows written from now on need a layout of this version to be found whole. */
export function raiseLayout(version: u32): void {
  raiseLayoutVersion(version)
}

/** Numbers (u32) of the rows that the last prepared batch has left, */
export function acceptedRows(): usize {
  return acceptedAt
}

/** and of their entities. */
export function acceptedEntities(): usize {
  return entitiesAt
}

/** One byte per row of the last prepared batch. */
export function verdicts(): usize {
  return verdictsAt
}

/** u64 per verdict. */
export function counterTable(): usize {
  return counters
}

// ---- clocks --------------------------------------------------------------------------------------------------------

/** Moves the watermark up by hand: an idle log, or the end of history. */
export function advance(ms: f64, wallMs: f64): void {
  advanceWatermark(ms as i64, wallMs as i64)
}

export function lateClock(): f64 {
  return lateClockMs as f64
}

export function watermark(): f64 {
  return watermarkMs as f64
}

export function headFrontier(): f64 {
  return headFrontierMs as f64
}

/** Last position of the log that was prepared. */
export function position(): f64 {
  return logPosition
}

// ---- entities ------------------------------------------------------------------------------------------------------

export function entityCount(): u32 {
  return entityTable().count
}

/** Address of an entity's key: length u32, number u32, bytes. */
export function entityKey(entity: u32): usize {
  return keyRecord(entityTable(), entity)
}

/** Lane of an entity; 2^32 - 1 when another instance folds it. */
export function entityLane(entity: u32): u32 {
  return load<u32>(lanesAt + ((entity as usize) << 2))
}

/** Position that the entity's stored row holds: a replay skips events up to there. */
export function setEntityApplied(entity: u32, appliedPosition: f64): void {
  setApplied(entity, appliedPosition)
}

export function entityApplied(entity: u32): f64 {
  return appliedOf(entity)
}

/** Entity number of a key, met or not; between batches. */
export function internKey(at: usize, length: u32): u32 {
  reserve(entityTable(), 1, length as usize)
  const entity = internOne(entityTable(), at, length as usize)
  admitEntities()
  return entity
}

/** Events of the entity from before `ms` are filtered from now on. See forget.ts. */
export function forgetBefore(entity: u32, ms: f64): void {
  drawLine(entity, ms as i64)
}

/** The entity's next row goes out empty; `hasRow`: the store holds one. Returns 0 where there is nothing to erase. */
export function eraseEntity(entity: u32, hasRow: i32): i32 {
  return erase(entity, hasRow != 0) ? 1 : 0
}

export function hashKey(at: usize, length: u32): u32 {
  return laneHash(at, length)
}

// ---- flush ---------------------------------------------------------------------------------------------------------

/** Bytes the delta holds: the measure for when to flush. */
export function deltaBytes(): usize {
  return slotsEnd + eventBytesInUse()
}

/** The delta is going to grow to about `bytes`: room is asked for once. */
export function expectDelta(bytes: usize): void {
  expectSlots(bytes)
}

/** Orders the delta for a flush; returns the dirty entities. They are addressed by place, ascending by lane. */
export function beginFlush(): u32 {
  sortDelta(laneCount)
  return dirtyCount
}

export function dirtyEntity(place: u32): u32 {
  return dirtyAtPlace(place).entity
}

export function dirtyLane(place: u32): u32 {
  return dirtyAtPlace(place).lane
}

/** Where a chunk that starts at place `start` ends: behind at most `count` entities, all of one lane. */
export function chunkEnd(start: u32, count: u32): u32 {
  return endOfChunk(start, count)
}

/** 1 where no row has been written, nor read in a replay, of any of the entities at `[start, end)` since they are known. */
export function chunkIsNew(start: u32, end: u32): i32 {
  return areUnwritten(start, end) ? 1 : 0
}

/** Keys of the entities at `[start, end)`: a u32 each, the end of its key in the bytes that follow. Good until the next call. */
export function chunkKeys(start: u32, end: u32): usize {
  return packKeys(start, end)
}

/**
 * Adds the rows of the dirty entities at `[start, end)`, none of which the store has a row of, to the output region. Returns where each
 * begins and ends in it, u32 pairs, good until the next call.
 */
export function writeNewRows(start: u32, end: u32, flushPosition: f64): usize {
  return flushNewRows(start, end, flushPosition as i64)
}

/** Position of the first event in the entity's delta. */
export function dirtyFirstPosition(place: u32): f64 {
  return dirtyAtPlace(place).firstPosition
}

/** Empties the output region. */
export function beginRows(): void {
  clearOut()
}

/**
 * Adds the new row of the dirty entity at `place` to the output region: its stored row (0 bytes: none) and its delta, at
 * `flushPosition`. Returns 0 or an ERROR_.
 */
export function writeRow(place: u32, stored: usize, storedBytes: u32, flushPosition: f64): i32 {
  return flushRow(dirtyAtPlace(place), stored, storedBytes, flushPosition as i64)
}

/** Last row of the output region: its address, until the next row is written (`outputAddress` may be another one then), and its bytes. */
export function rowAddress(): usize {
  return outAt + rowStart
}

export function rowBytes(): usize {
  return rowEnd - rowStart
}

export function outputBytes(): usize {
  return outEnd
}

export function outputAddress(): usize {
  return outAt
}

/** Every row is in the store: empties the delta. */
export function endFlush(): void {
  clearDelta()
  endErasing()
}

/** Drops all keys, between flushes: a lane that has met too many entities. Lines go with them. */
export function forgetEntities(): void {
  clearEntities()
}

// ---- checkpoints ---------------------------------------------------------------------------------------------------

/**
 * Writes clocks, counters and dedupe ids to the output region; returns the bytes (at outputAddress). The last counter stands
 * behind the ids, and only where it counted something: checkpoints from before there was one are what they were.
 */
export function writeCheckpoint(): usize {
  clearOut()
  const horizon = horizonMs()
  const elsewhere = load<u64>(counters + (VERDICT_ELSEWHERE << 3))
  const bytes = (104 as usize) + idBytes(horizon) + (elsewhere == 0 ? 0 : 8)
  const at = reserveOut(bytes)
  store<f64>(at, logPosition)
  store<i64>(at, lateClockMs, 8)
  store<i64>(at, watermarkMs, 16)
  store<i64>(at, headFrontierMs, 24)
  memory.copy(at + 32, counters, 72)
  const behind = writeIds(at + 104, horizon)
  if (elsewhere != 0) {
    store<u64>(at + 104, load<u64>(at + 104) | IDS_FOLLOWED)
    store<u64>(behind, elsewhere)
  }
  return bytes
}

/** Reads what `writeCheckpoint` wrote; 0, or 1 when the bytes do not hold together. */
export function readCheckpoint(at: usize, bytes: usize): i32 {
  if (bytes < 112) return 1
  const behind = readIds(at + 104, at + bytes)
  const more: usize = (load<u64>(at + 104) & IDS_FOLLOWED) == 0 ? 0 : 8
  if (behind == 0 || behind + more != at + bytes) return 1
  setClock(load<i64>(at, 8), load<f64>(at))
  setWatermark(load<i64>(at, 16), load<i64>(at, 24))
  memory.copy(counters, at + 32, 72)
  store<u64>(counters + (VERDICT_ELSEWHERE << 3), more == 0 ? 0 : load<u64>(behind))
  return 0
}

/** A log that starts at `firstPosition`: what lies before it was never there. */
export function startAt(firstPosition: f64): void {
  setClock(-1, firstPosition - 1)
  clearCounters()
}

// ---- rows ----------------------------------------------------------------------------------------------------------

/** Adds to the output region the row as if flushed at `frontierMs` with nothing new. Returns 0 or an ERROR_. */
export function advanceStoredRow(at: usize, bytes: u32, frontierMs: f64): i32 {
  return advanceRow(at, bytes, frontierMs as i64)
}

/** Adds to the output region the union of two rows that stand at the same frontiers. Returns 0 or an ERROR_. */
export function uniteStoredRows(a: usize, aBytes: u32, b: usize, bBytes: u32): i32 {
  return uniteRows(a, aBytes, b, bBytes)
}

/** Strips the last row of the output region of what depends on when it was written. */
export function anonymise(): void {
  anonymiseRow()
}

// ---- merge ---------------------------------------------------------------------------------------------------------

/** See mergeEntities in merge.ts. */
export function merge(count: i32, asOfs: usize, rows: usize, rowCount: i32): void {
  mergeEntities(count, asOfs, rows, rowCount)
}

/** The sweep alone, for the bench: openForSweep and sweepRows in merge.ts. */
export function openSwept(index: i32, count: i32, at: usize, bytes: u32): i32 {
  return openForSweep(index, count, at, bytes)
}

export function sweepSwept(count: i32, times: i32, asOfMs: f64): void {
  sweepRows(count, times, asOfMs as i64)
}

export function infos(): usize {
  return infosAt
}

export function statuses(): usize {
  return statusesAt
}

export function values(): usize {
  return valuesAt
}
