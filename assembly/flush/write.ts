// The draft as the bytes of a row (row.ts draws them), each run as narrow as its tiles allow.
import {
  FRONTIER_BYTES,
  FRONTIER_COMPACTED_AT,
  FRONTIER_EVICTED_AT,
  RAW_NULLS_AT,
  RAW_OP_AT,
  RAW_OP_INSERT,
  RAW_TIME_AT,
  ROW_APPLIED_AT,
  ROW_BYTES_AT,
  ROW_CHECKED_FROM,
  ROW_CHECKSUM_AT,
  ROW_COMPLETE_SINCE_AT,
  ROW_HEADER_BYTES,
  ROW_HEAD_FRONTIER_AT,
  ROW_HEAD_KIND_AT,
  ROW_LAYOUT_VERSION_AT,
  ROW_LEVELS_AT,
  ROW_MAGIC,
  ROW_MAGIC_AT,
  ROW_RESERVED_AT,
  ROW_RUNS_AT,
  ROW_VERSION,
  ROW_VERSION_AT,
  RUN_COUNT_AT,
  RUN_HEADER_BYTES,
  RUN_HEAD_LEVEL,
  RUN_HEAP_BYTES_AT,
  RUN_KIND_AT,
  RUN_LEVEL_AT,
  RUN_RAW,
  RUN_RESERVED_AT,
  RUN_ROWS_WIDTH_AT,
  RUN_STRIDE_AT,
  RUN_TILES,
} from '../layout'
import { completeSinceMs, headKind, level, levelCount, rawBytes, runParamBytes } from '../plan'
import { copyCells, keepsText, textBytesOf } from '../events'
import {
  boundShapes,
  copyTile,
  initShapes,
  isMeasured,
  measureAcc,
  measureTile,
  shapeRowsWidth,
  shapeTextBytes,
  writeAcc,
  writeParams,
} from '../dispatch'
import { Row, checksum, levelRun } from '../row'
import { Run } from '../partials/partial'
import { alignOut, outAt, outEnd, reserveOut, takeOut } from './output'
import {
  dropChain,
  entriesOf,
  entryAt,
  entryCount,
  headFrontier,
  newCompacted,
  newEvicted,
  rawCount,
  rawEvent,
  rawHeap,
  retainedFrom,
} from './draft'

/** Writes the draft behind outEnd, and lets go of what it held. */
export function finishRow(row: Row, position: i64, version: u32): void {
  const isNew = changetype<usize>(row) == 0
  const start = outEnd
  let runs = 0
  reserveOut((ROW_HEADER_BYTES + levelCount * FRONTIER_BYTES) as usize)
  takeOut((ROW_HEADER_BYTES + levelCount * FRONTIER_BYTES) as usize)
  if (rawCount > retainedFrom) {
    writeRawRun()
    runs++
  }
  for (let i = 0; i < levelCount; i++) {
    const list = entriesOf(i)
    const count = entryCount(i)
    let first = 0
    while (first < count && (entryAt(list, first).index as i64) < newEvicted(i)) first++
    if (first == count) continue
    writeTileRun(i, list, first, count, isNew ? changetype<Run>(0) : levelRun(row, i))
    runs++
  }

  const at = outAt + start
  memory.fill(at, 0, ROW_HEADER_BYTES)
  store<u16>(at, ROW_MAGIC, ROW_MAGIC_AT)
  store<u8>(at, ROW_VERSION, ROW_VERSION_AT)
  store<u8>(at, levelCount as u8, ROW_LEVELS_AT)
  store<i64>(at, isNew ? position : max(position, row.applied), ROW_APPLIED_AT)
  store<u32>(at, isNew ? version : max(version, row.layoutVersion), ROW_LAYOUT_VERSION_AT)
  store<u32>(at, (outEnd - start) as u32, ROW_BYTES_AT)
  store<i64>(at, headFrontier, ROW_HEAD_FRONTIER_AT)
  store<i64>(at, isNew ? completeSinceMs : max(completeSinceMs, row.completeSinceMs), ROW_COMPLETE_SINCE_AT)
  store<u16>(at, runs as u16, ROW_RUNS_AT)
  store<u16>(at, headKind as u16, ROW_HEAD_KIND_AT)
  store<u32>(at, 0, ROW_RESERVED_AT)
  for (let i = 0; i < levelCount; i++) {
    const frontier = at + ROW_HEADER_BYTES + (i as usize) * FRONTIER_BYTES
    store<i64>(frontier, newCompacted(i), FRONTIER_COMPACTED_AT)
    store<i64>(frontier, newEvicted(i), FRONTIER_EVICTED_AT)
  }
  sealRow(start)
  dropChain()
}

/** Checksum, and the next row's alignment. */
function sealRow(start: usize): void {
  const at = outAt + start
  store<u32>(at, checksum(at + ROW_CHECKED_FROM, outEnd - start - ROW_CHECKED_FROM), ROW_CHECKSUM_AT)
  rowStart = start
  rowEnd = outEnd
  alignOut()
}

/** Where the last row stands in the output. */
export let rowStart: usize = 0
export let rowEnd: usize = 0

function writeRunHeader(at: usize, kind: i32, levelByte: i32, rowsWidth: i32, count: i32, stride: usize, heap: u32): void {
  store<u8>(at, kind as u8, RUN_KIND_AT)
  store<u8>(at, levelByte as u8, RUN_LEVEL_AT)
  store<u8>(at, rowsWidth as u8, RUN_ROWS_WIDTH_AT)
  store<u8>(at, 0, RUN_RESERVED_AT)
  store<i32>(at, count, RUN_COUNT_AT)
  store<u32>(at, stride as u32, RUN_STRIDE_AT)
  store<u32>(at, heap, RUN_HEAP_BYTES_AT)
}

function writeRawRun(): void {
  const count = rawCount - retainedFrom
  let text: u32 = 0
  if (keepsText()) {
    for (let i = retainedFrom; i < rawCount; i++) text += textBytesOf(rawEvent(i) + RAW_NULLS_AT)
  }
  const heapBytes = (text + 3) & ~3
  const body = (count as usize) * rawBytes
  const at = reserveOut((RUN_HEADER_BYTES as usize) + body + (heapBytes as usize))
  writeRunHeader(at, RUN_RAW, RUN_HEAD_LEVEL, 0, count, rawBytes, heapBytes)
  let target = at + RUN_HEADER_BYTES
  const heap = target + body
  let used: u32 = 0
  for (let i = retainedFrom; i < rawCount; i++, target += rawBytes) {
    const event = rawEvent(i)
    store<i64>(target, load<i64>(event, RAW_TIME_AT), RAW_TIME_AT)
    store<u32>(target, RAW_OP_INSERT, RAW_OP_AT)
    used = copyCells(target + RAW_NULLS_AT, event + RAW_NULLS_AT, rawHeap(i), heap, used)
  }
  memory.fill(heap + (used as usize), 0, (heapBytes - used) as usize)
  takeOut((RUN_HEADER_BYTES as usize) + body + (heapBytes as usize))
}

/** The smallest shape that fits all entries. Mostly the new tiles and a few old ones settle it. */
function measureEntries(list: usize, first: i32, end: i32, old: Run): void {
  initShapes()
  for (let i = first; i < end; i++) {
    const entry = entryAt(list, i)
    if (entry.acc != 0) measureAcc(entry.acc)
    else if (entry.run != changetype<usize>(old)) measureTile(changetype<Run>(entry.run), entry.tile)
  }
  if (changetype<usize>(old) == 0 || old.count == 0) return
  // Text has to be counted in full.
  const mayStop = !keepsText()
  boundShapes(old)
  for (let i = end - 1; i >= first; i--) {
    if (mayStop && isMeasured()) return
    const entry = entryAt(list, i)
    if (entry.acc == 0 && entry.run == changetype<usize>(old)) measureTile(old, entry.tile)
  }
}

function writeTileRun(index: i32, list: usize, first: i32, end: i32, old: Run): void {
  measureEntries(list, first, end, old)
  const rowsWidth = shapeRowsWidth
  const heapBytes = (shapeTextBytes + 3) & ~3
  const head = (RUN_HEADER_BYTES as usize) + runParamBytes
  const params = reserveOut(head) + RUN_HEADER_BYTES
  const stride = writeParams(params) as usize
  const count = end - first
  const body = (count as usize) * stride
  const at = reserveOut(head + body + (heapBytes as usize))
  const paramsAt = at + RUN_HEADER_BYTES
  writeRunHeader(at, RUN_TILES, index, rowsWidth, count, stride, heapBytes)

  const step = level(index).stepMs
  const heap = at + head + body
  let used: u32 = 0
  let target = at + head
  // Tiles whose widths stay are copied, neighbours together.
  const sameShape =
    changetype<usize>(old) != 0 &&
    old.count > 0 &&
    shapeTextBytes == 0 &&
    old.heapBytes == 0 &&
    old.rowsWidth == rowsWidth &&
    memory.compare(old.params, paramsAt, runParamBytes) == 0
  for (let i = first; i < end; i++) {
    const entry = entryAt(list, i)
    if (entry.acc != 0) used = writeAcc(paramsAt, rowsWidth, target, entry.index, step, entry.acc, heap, used)
    else if (sameShape && entry.run == changetype<usize>(old)) {
      let last = i
      while (last + 1 < end && entryAt(list, last + 1).tile == entryAt(list, last).tile + stride) last++
      const bytes = ((last - i + 1) as usize) * stride
      memory.copy(target, entry.tile, bytes)
      target += bytes - stride
      i = last
    } else used = copyTile(paramsAt, rowsWidth, target, changetype<Run>(entry.run), entry.tile, heap, used)
    target += stride
  }
  memory.fill(heap + (used as usize), 0, (heapBytes - used) as usize)
  takeOut(head + body + (heapBytes as usize))
}

/** Makes the last written row comparable: no positions, no versions, nothing that depends on when it was written. */
export function anonymiseRow(): void {
  const at = outAt + rowStart
  store<i64>(at, 0, ROW_APPLIED_AT)
  store<u32>(at, 0, ROW_LAYOUT_VERSION_AT)
  store<i64>(at, 0, ROW_COMPLETE_SINCE_AT)
  store<u32>(at, checksum(at + ROW_CHECKED_FROM, rowEnd - rowStart - ROW_CHECKED_FROM), ROW_CHECKSUM_AT)
}
