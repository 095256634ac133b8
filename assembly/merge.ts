/**
 * HOT LOOP 2: rows of entities -> values of all windows of a view, as of an instant.
 *
 *   S3            S2        S1   S0 …         e    as-of
 *   ├─────────────┼─────────┼────┼────────────┤────┤
 *     segment 3     2         1     0          raw
 *   └ window 3 ──────────────────────────────────┘
 *
 * Windows nest, since all of them end at as-of: their starts cut time into segments, each tile and event belongs to one
 * segment, and window k is the sum of segments 0..k. One sweep over a row serves all windows.
 *
 * A segment is covered by whole tiles of the row's own levels: the coarsest level as far as its frontiers allow, finer
 * tiles on both sides of it. What no tile can cover (as-of before the head's frontier and not on a tile's edge, or fine
 * tiles already evicted) makes the windows from there on `too old`; an answer is never short.
 *
 * All arithmetic on time is on tile numbers, precomputed per as-of: a request over many entities divides nothing per row.
 */
import {
  ENTITY_INFO_BYTES,
  HEAD_RAW,
  INFO_COMPLETE_SINCE,
  INFO_COMPLETE_THROUGH,
  INFO_ERROR,
  INFO_EVENTS,
  INFO_LAYOUT_VERSION,
  INFO_OLDEST_AS_OF,
  INFO_ROWS,
  INFO_TILES,
  LEVELS_MAX,
  OP_COUNT,
  RAW_TIME_AT,
  STATUS_EMPTY,
  STATUS_ERROR,
  STATUS_OK,
  STATUS_TOO_OLD,
  STATUS_UNKNOWN,
  TILE_INDEX_AT,
  WINDOWS_MAX,
} from './layout'
import { accBytes, headKind, level, levelCount, partial } from './plan'
import { allocate, release } from './arena'
import { addAcc, addEvents, addTiles, copyAcc, dropAccs, initAcc, lower } from './dispatch'
import { OPEN_ROW_BYTES, Row, compactedTile, evictedTile, headRun, levelRun, openRow } from './row'
import { Run } from './partials/partial'

export let windowCount: i32 = 0
let featureCount: i32 = 0
const windows = memory.data(64 * 16, 8)
let featuresAt: usize = 0
export let accsAt: usize = 0
/** The accumulator of further rows. */
let sharedAt: usize = 0
/** What the sweep adds to. */
let sumAt: usize = 0

// Results of the last call, by entity: infos, statuses (u8 by feature), values (16 bytes by feature).
export let infosAt: usize = 0
export let statusesAt: usize = 0
export let valuesAt: usize = 0
let entityRoom: i32 = 0

/** Reads i64 cells: windows, then per window length ms · tail step ms; features, then per feature op · partial · window. */
export function readFeatures(at: usize): void {
  windowCount = load<i64>(at) as i32
  assert(windowCount > 0 && windowCount <= WINDOWS_MAX)
  at += 8
  memory.copy(windows, at, (windowCount as usize) << 4)
  at += (windowCount as usize) << 4
  featureCount = load<i64>(at) as i32
  at += 8
  featuresAt = allocate(max((featureCount as usize) * 24, 8))
  memory.copy(featuresAt, at, (featureCount as usize) * 24)
  accsAt = allocate((windowCount as usize) * accBytes)
  sharedAt = allocate(accBytes)
  for (let i = 0; i < levelCount; i++) {
    store<i64>(scales + ((i as usize) << 3), level(i).stepMs / level(0).stepMs)
    store<i64>(ratios + ((i as usize) << 3), level(i).stepMs / level(max(i - 1, 0)).stepMs)
  }
  entityRoom = 0
  requestAsOf = i64.MIN_VALUE
}

// ---- as-of ---------------------------------------------------------------------------------------------------------

/** i64.MIN_VALUE: none yet. */
let requestAsOf: i64 = i64.MIN_VALUE
/** Window starts in ms, newest first, and the position of each window among them. */
const starts = memory.data(64 * 8, 8)
const places = memory.data(64 * 4)
/** Per place and level: the start in tiles, rounded up and rounded down; then as-of itself, rounded down. */
const startsUp = memory.data(64 * 8 * 8, 8)
const startsDown = memory.data(64 * 8 * 8, 8)
const asOfDown = memory.data(8 * 8, 8)
/** Tiles of the next finer level in one tile, and of the finest. */
const ratios = memory.data(8 * 8, 8)
const scales = memory.data(8 * 8, 8)

/** The only place that says which instants a window holds: sets starts and places, and returns where all windows end. */
export function placeWindows(asOfMs: i64): i64 {
  requestAsOf = i64.MIN_VALUE
  const end = headKind == HEAD_RAW ? asOfMs : asOfMs - (asOfMs % level(0).stepMs)
  for (let i = 0; i < windowCount; i++) {
    const length = load<i64>(windows + ((i as usize) << 4))
    const tail = load<i64>(windows + ((i as usize) << 4), 8)
    const start = max<i64>(end - length, 0)
    const floored = start - (start % tail)
    // Insertion by start, newest first: windows come ascending by length, so this hardly ever moves anything.
    let place = i
    for (; place > 0 && load<i64>(starts + (((place - 1) as usize) << 3)) < floored; place--) {
      store<i64>(starts + ((place as usize) << 3), load<i64>(starts + (((place - 1) as usize) << 3)))
    }
    store<i64>(starts + ((place as usize) << 3), floored)
  }
  for (let i = 0; i < windowCount; i++) {
    const length = load<i64>(windows + ((i as usize) << 4))
    const tail = load<i64>(windows + ((i as usize) << 4), 8)
    const start = max<i64>(end - length, 0)
    const floored = start - (start % tail)
    // The last of equal starts has every segment up to there.
    let place = windowCount - 1
    while (load<i64>(starts + ((place as usize) << 3)) != floored) place--
    store<i32>(places + ((i as usize) << 2), place)
  }
  return end
}

/** Start of the window at `place`, the newest first. */
@inline
export function startAtPlace(place: i32): i64 {
  return load<i64>(starts + ((place as usize) << 3))
}

function setAsOf(asOfMs: i64): void {
  if (asOfMs == requestAsOf) return
  placeWindows(asOfMs)
  requestAsOf = asOfMs
  for (let i = 0; i < levelCount; i++) store<i64>(asOfDown + ((i as usize) << 3), asOfMs / level(i).stepMs)
  for (let i = 0; i < windowCount; i++) {
    const start = load<i64>(starts + ((i as usize) << 3))
    for (let j = 0; j < levelCount; j++) {
      const at = (i * LEVELS_MAX + j) << 3
      const down = start / level(j).stepMs
      store<i64>(startsDown + (at as usize), down)
      store<i64>(startsUp + (at as usize), down * level(j).stepMs == start ? down : down + 1)
    }
  }
}

// ---- one row -------------------------------------------------------------------------------------------------------

const opened = memory.data(48 + 9 * 48 + 9 * 256, 8)
/** Per level: tiles of the run that are older than everything taken so far. */
const cursors = memory.data(8 * 4)
let tilesRead: u32 = 0
let eventsRead: u32 = 0
/** First segment that can't be answered; windowCount when all can. */
let tooOldFrom: i32 = 0
/** Accumulators that hold something: those which the first row set. */
let accsHeld: i32 = 0

export function accOf(place: i32): usize {
  return accsAt + (place as usize) * accBytes
}

/**
 * Sets the windows' accumulators to a row (`isFirst`), or adds a row to them. Newest segment first, each on top of a copy of
 * the one before: what has been added up to a window's start is the row's share of that window.
 */
function sweep(row: Row, isFirst: bool): void {
  const asOf = requestAsOf
  for (let i = 0; i < levelCount; i++) store<i32>(cursors + ((i as usize) << 2), levelRun(row, i).count)
  sumAt = isFirst ? accsAt : sharedAt
  initAcc(sumAt)

  // Where tiles end: the head's frontier, as-of itself where it lies on a tile's edge, or nowhere.
  const asOfTile = load<i64>(asOfDown)
  let topTile: i64 = asOfTile
  let events = 0
  if (headKind == HEAD_RAW) {
    if (asOf >= row.headFrontierMs) {
      topTile = compactedTile(row, 0)
      events = eventsBefore(headRun(row), headRun(row).count, asOf)
    } else if (asOfTile * level(0).stepMs != asOf) {
      tooOldFrom = 0
      if (isFirst) accsHeld = 0
      return
    }
  }
  accsHeld = isFirst ? 1 : accsHeld
  for (let place = 0; place < tooOldFrom; place++) {
    if (isFirst && place > 0) {
      sumAt = accOf(place)
      copyAcc(sumAt, sumAt - accBytes)
      accsHeld = place + 1
    }
    if (events > 0) events = addRecent(headRun(row), place, events)
    if (!coverSegment(row, place, topTile)) {
      tooOldFrom = place
      break
    }
    if (!isFirst) addAcc(accOf(place), sharedAt)
  }
  if (!isFirst) dropAccs(sharedAt, 1)
}

/** How many of the first `count` events of the head are before `ms`. */
function eventsBefore(run: Run, count: i32, ms: i64): i32 {
  while (count > 0 && load<i64>(run.first + ((count - 1) as usize) * run.stride, RAW_TIME_AT) >= ms) count--
  return count
}

/** Adds those of the first `count` raw events that lie in segment `place`; returns how many are older. */
function addRecent(run: Run, place: i32, count: i32): i32 {
  const first = eventsBefore(run, count, load<i64>(starts + ((place as usize) << 3)))
  if (first == count) return count
  addEvents(sumAt, run.first + (first as usize) * run.stride, count - first, run.heap)
  eventsRead += (count - first) as u32
  return first
}

/** Adds the tiles of segment `place` below `topTile` (a level 0 tile number); false when some of it can't be covered. */
function coverSegment(row: Row, place: i32, topTile: i64): bool {
  const up = startsUp + ((place * LEVELS_MAX) << 3) as usize
  const down: usize = place == 0 ? 0 : startsDown + (((place - 1) * LEVELS_MAX) << 3) as usize
  const end0 = down == 0 ? topTile : min(topTile, load<i64>(down))
  const start0 = load<i64>(up)
  if (start0 >= end0) return true
  // From the coarsest level down: its body first, then finer tiles on both sides of what is covered.
  let coveredLow: i64 = 0
  let coveredHigh: i64 = -1
  let ratio: i64 = 1
  for (let i = levelCount - 1; i >= 0; i--) {
    const lowest = max(load<i64>(up + ((i as usize) << 3)), evictedTile(row, i))
    let highest = end0
    if (i > 0) {
      highest = min(compactedTile(row, i), load<i64>(asOfDown + ((i as usize) << 3)))
      if (down != 0) highest = min(highest, load<i64>(down + ((i as usize) << 3)))
    }
    if (coveredHigh < 0) {
      if (lowest < highest) {
        addSpan(row, i, lowest, highest)
        coveredLow = lowest
        coveredHigh = highest
      }
    } else {
      coveredLow *= ratio
      coveredHigh *= ratio
      if (coveredHigh < highest && coveredHigh >= lowest) {
        addSpan(row, i, coveredHigh, highest)
        coveredHigh = highest
      }
      if (lowest < coveredLow) {
        addSpan(row, i, lowest, coveredLow)
        coveredLow = lowest
      }
    }
    const scale = load<i64>(scales + ((i as usize) << 3))
    if (coveredHigh * scale == end0 && coveredLow * scale == start0) return true
    if (i > 0) ratio = load<i64>(ratios + ((i as usize) << 3))
  }
  return false
}

/** Adds the run's tiles with numbers in [low, high). Spans of a level come newest first. */
function addSpan(row: Row, index: i32, low: i64, high: i64): void {
  const run = levelRun(row, index)
  const cursorAt = cursors + ((index as usize) << 2)
  let end = load<i32>(cursorAt)
  if (end == 0) return
  const newest = tileIndex(run, end - 1)
  if (newest >= high) end = lowerBound(run, high, max<i64>((end as i64) - (newest - high + 1), 0) as i32, end)
  // In a dense run the first tile is exactly where its number says.
  const guess = max<i64>((end as i64) - (high - low), 0) as i32
  const first = end > 0 && tileIndex(run, guess) == low ? guess : lowerBound(run, low, guess, end)
  store<i32>(cursorAt, first)
  if (first == end) return
  tilesRead += (end - first) as u32
  addTiles(sumAt, run, run.first + (first as usize) * run.stride, end - first)
}

@inline
function tileIndex(run: Run, i: i32): i64 {
  return load<u32>(run.first + (i as usize) * run.stride, TILE_INDEX_AT) as i64
}

/** First tile in [from, to) whose number is at least `index`; `to` when there is none. */
function lowerBound(run: Run, index: i64, from: i32, to: i32): i32 {
  while (from < to) {
    const middle = (from + to) >> 1
    if (tileIndex(run, middle) < index) from = middle + 1
    else to = middle
  }
  return from
}

// ---- a request -----------------------------------------------------------------------------------------------------

/**
 * Merges `count` entities. `asOfs`: f64 ms each. `rows`: `rowCount` triples of u32 (entity, address, bytes), ascending by
 * entity. Results stand at infosAt, statusesAt and valuesAt until the next call; text values point into the rows.
 */
export function mergeEntities(count: i32, asOfs: usize, rows: usize, rowCount: i32): void {
  reserveResults(count)
  let next = 0
  for (let entity = 0; entity < count; entity++) {
    setAsOf(load<f64>(asOfs + ((entity as usize) << 3)) as i64)
    tooOldFrom = windowCount
    tilesRead = 0
    eventsRead = 0
    let error = 0
    let merged = 0
    let through = f64.MAX_VALUE
    let oldest: f64 = -1
    let since: f64 = -1
    let version: u32 = 0
    for (; next < rowCount; next++) {
      const entry = rows + (next as usize) * 12
      if ((load<u32>(entry) as i32) != entity) break
      const row = changetype<Row>(opened)
      const refused = openRow(load<u32>(entry, 4) as usize, load<u32>(entry, 8), row)
      if (refused != 0) {
        error = refused
        continue
      }
      merged++
      through = min(through, row.headFrontierMs as f64)
      oldest = max(oldest, row.headFrontierMs as f64)
      since = max(since, row.completeSinceMs as f64)
      version = max(version, row.layoutVersion)
      if (tooOldFrom > 0) sweep(row, merged == 1)
    }
    const info = infosAt + (entity as usize) * ENTITY_INFO_BYTES
    store<u32>(info, merged, INFO_ROWS)
    store<u32>(info, error, INFO_ERROR)
    store<f64>(info, merged == 0 ? -1 : through, INFO_COMPLETE_THROUGH)
    store<f64>(info, oldest, INFO_OLDEST_AS_OF)
    store<u32>(info, version, INFO_LAYOUT_VERSION)
    store<u32>(info, tilesRead, INFO_TILES)
    store<u32>(info, eventsRead, INFO_EVENTS)
    store<f64>(info, since, INFO_COMPLETE_SINCE)
    if (merged == 0) {
      accsHeld = windowCount
      for (let i = 0; i < windowCount; i++) initAcc(accOf(i))
    }
    lowerEntity(entity, merged == 0 ? STATUS_UNKNOWN : STATUS_OK, error != 0)
    dropAccs(accsAt, accsHeld)
  }
}

let sweptAt: usize = 0
let sweptRoom: i32 = 0

/** Opens a row for `sweepRows`, for the bench: row number `index` of at most `count`. Returns 0 or an ERROR_. */
export function openForSweep(index: i32, count: i32, at: usize, bytes: u32): i32 {
  if (sweptRoom < count) {
    sweptAt = allocate((count as usize) * OPEN_ROW_BYTES)
    sweptRoom = count
  }
  return openRow(at, bytes, changetype<Row>(sweptAt + (index as usize) * OPEN_ROW_BYTES))
}

/** The sweep alone, for the bench: `times` opened rows in turn, each into all windows, without opening and rounding. */
export function sweepRows(count: i32, times: i32, asOfMs: i64): void {
  setAsOf(asOfMs)
  let next = 0
  for (let time = 0; time < times; time++) {
    tooOldFrom = windowCount
    sweep(changetype<Row>(sweptAt + (next as usize) * OPEN_ROW_BYTES), true)
    dropAccs(accsAt, accsHeld)
    if (++next == count) next = 0
  }
}

// Statuses and values of the same size as the results, while those are put in another order.
let spareStatusesAt: usize = 0
let spareValuesAt: usize = 0

/** Puts the results of `count` entities in another order: the `i`-th is then what places[i] (u32) was. */
export function arrangeResults(count: i32, places: usize): void {
  const cells = (entityRoom as usize) * (featureCount as usize)
  if (spareValuesAt == 0) {
    spareStatusesAt = allocate(max(cells, 1))
    spareValuesAt = allocate(max(cells << 4, 1))
  }
  const statuses = spareStatusesAt
  const values = spareValuesAt
  let status = statuses
  let value = values
  for (let i = 0; i < count; i++) {
    const place = (load<u32>(places + ((i as usize) << 2)) as usize) * (featureCount as usize)
    const fromStatus = statusesAt + place
    const fromValue = valuesAt + (place << 4)
    for (let j: usize = 0; j < (featureCount as usize); j++) {
      store<u8>(status++, load<u8>(fromStatus + j))
      store<u64>(value, load<u64>(fromValue + (j << 4)))
      store<u64>(value, load<u64>(fromValue + (j << 4), 8), 8)
      value += 16
    }
  }
  spareStatusesAt = statusesAt
  spareValuesAt = valuesAt
  statusesAt = statuses
  valuesAt = values
}

export function reserveResults(count: i32): void {
  if (count <= entityRoom) return
  const cells = (entityRoom as usize) * (featureCount as usize)
  release(spareStatusesAt, max(cells, 1))
  release(spareValuesAt, max(cells << 4, 1))
  spareStatusesAt = 0
  spareValuesAt = 0
  release(infosAt, (entityRoom as usize) * ENTITY_INFO_BYTES)
  release(statusesAt, max(cells, 1))
  release(valuesAt, max(cells << 4, 1))
  entityRoom = max(count, 64)
  const wanted = (entityRoom as usize) * (featureCount as usize)
  infosAt = allocate((entityRoom as usize) * ENTITY_INFO_BYTES)
  statusesAt = allocate(max(wanted, 1))
  valuesAt = allocate(max(wanted << 4, 1))
}

/** Answers from accumulators that were filled elsewhere, all of them (asof.ts), and gives back what they hold. */
export function answerEntity(entity: i32, isKnown: bool): void {
  tooOldFrom = windowCount
  lowerEntity(entity, isKnown ? STATUS_OK : STATUS_UNKNOWN, false)
  dropAccs(accsAt, windowCount)
}

function lowerEntity(entity: i32, status: i32, failed: bool): void {
  const base = entity * featureCount
  for (let i = 0; i < featureCount; i++) {
    const feature = featuresAt + (i as usize) * 24
    const op = load<i64>(feature) as i32
    const index = load<i64>(feature, 8) as i32
    const place = load<i32>(places + ((load<i64>(feature, 16) as usize) << 2))
    const out = valuesAt + (((base + i) as usize) << 4)
    const at = statusesAt + ((base + i) as usize)
    store<u64>(out, 0)
    if (failed) store<u8>(at, STATUS_ERROR as u8)
    else if (place >= tooOldFrom) store<u8>(at, STATUS_TOO_OLD as u8)
    else {
      let outcome = lowerOne(accOf(place), op, index, out)
      if (status != STATUS_OK) outcome = status
      store<u8>(at, outcome as u8)
    }
  }
}

function lowerOne(acc: usize, op: i32, index: i32, out: usize): i32 {
  if (index >= 0) {
    const status = lower(partial(index), acc, op, out)
    return op == OP_COUNT && load<f64>(out) == 0 ? STATUS_EMPTY : status
  }
  const rows = load<i64>(acc)
  store<f64>(out, rows as f64)
  return rows == 0 ? STATUS_EMPTY : STATUS_OK
}
