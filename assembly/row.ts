/**
 * The packed row: everything one lane knows of one entity, canonical, merged in place without a parse.
 *
 *    0        2        3        4            8                16             20
 *   ┌────────┬────────┬────────┬────────────┬────────────────┬──────────────┬──────────────┐
 *   │ magic  │version │ levels │ checksum   │ applied i64    │ layout ver.  │ row bytes    │
 *   ├────────┴────────┴────────┴────────────┼────────────────┼──────────────┴──────────────┤
 *   │ 24  head frontier i64 (ms)            │ 32 complete-since i64 (ms)                   │
 *   ├──────────────┬──────────────┬─────────┴────┬───────────────────────────────────────-─┘
 *   │ 40 runs u16  │ 42 head kind │ 44 zero      │
 *   ├──────────────┴──────────────┴──────────────┤
 *   │ 48  per level, finest first: compacted i64 · evicted i64 (tile numbers)
 *   ├────────────────────────────────────────────
 *   │ runs: the head's raw events (when there are any), then one per level that has tiles, finest first
 *   └────────────────────────────────────────────
 *
 *   run ┌──────┬───────┬────────────┬──────┬─────────┬──────────┬──────────────┐
 *       │ kind │ level │ rows width │ zero │ count   │ stride   │ heap bytes   │   16 bytes
 *       ├──────┴───────┴────────────┴──────┴─────────┴──────────┴──────────────┤
 *       │ parameters of each partial (tiles only): widths and limb bases       │
 *       ├──────────────────────────────────────────────────────────────────────┤
 *       │ count × stride: tiles by index, or raw events by their total order   │
 *       ├──────────────────────────────────────────────────────────────────────┤
 *       │ heap: text, in the order of its references, padded with zeros to 4   │
 *       └──────────────────────────────────────────────────────────────────────┘
 *
 * A tile exists exactly when an accepted event lies in it. Tiles of a run have one stride: the widths are the smallest that
 * fit all of them, hence a function of the run's events alone. Level 0 also holds the tile that the head's frontier cuts,
 * with the events before the frontier. A raw run with a ladder level is reserved: raw blocks in place of sparse tiles.
 *
 * Everything is little-endian. Rows come from outside: nothing here is believed before `openRow` has checked it.
 */
import {
  ERROR_ROW_CHECKSUM,
  ERROR_ROW_MAGIC,
  ERROR_ROW_SHAPE,
  ERROR_ROW_SHORT,
  ERROR_ROW_TEXT,
  ERROR_ROW_VERSION,
  EDGE_NONE,
  FRONTIER_BYTES,
  FRONTIER_COMPACTED_AT,
  FRONTIER_EVICTED_AT,
  PARTIAL_EDGE,
  RAW_NULLS_AT,
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
  RUN_ROWS_WIDTH_AT,
  RUN_STRIDE_AT,
  RUN_TILES,
} from './layout'
import { headKind, level, levelCount, partial, partialCount, rawBytes, runParamBytes } from './plan'
import { keepsText, textFollows } from './events'
import { plainForm, tileBytes } from './dispatch'
import { CELLS_BYTES, Run, cellAt } from './partials/partial'

/** A row that `openRow` has checked. Good while its bytes stay where they are. */
@unmanaged
export class Row {
  at: usize
  bytes: u32
  applied: i64
  layoutVersion: u32
  headFrontierMs: i64
  completeSinceMs: i64
}

const RUN_STRUCT_BYTES: usize = 48
/** Cell offsets of every run stand behind the runs. */
const CELLS_AT: usize = 48 + 9 * 48
export const ROW_STRUCT_BYTES: usize = 48
/** A row with its runs: the head, then one per level; a run that the row lacks has count 0. */
export const OPEN_ROW_BYTES: usize = 48 + 9 * 48 + 9 * 256

export function headRun(row: Row): Run {
  return changetype<Run>(changetype<usize>(row) + ROW_STRUCT_BYTES)
}

export function levelRun(row: Row, index: i32): Run {
  return changetype<Run>(changetype<usize>(row) + ROW_STRUCT_BYTES + ((index + 1) as usize) * RUN_STRUCT_BYTES)
}

/** Tiles of the level below this number are written (level 0: up to the tile that the head's frontier cuts). */
export function compactedTile(row: Row, index: i32): i64 {
  return load<i64>(row.at + ROW_HEADER_BYTES + (index as usize) * FRONTIER_BYTES, FRONTIER_COMPACTED_AT)
}

/** Tiles of the level below this number are gone. */
export function evictedTile(row: Row, index: i32): i64 {
  return load<i64>(row.at + ROW_HEADER_BYTES + (index as usize) * FRONTIER_BYTES, FRONTIER_EVICTED_AT)
}

const MIX_1: u64 = 0x9e37_79b1_85eb_ca87
const MIX_2: u64 = 0xc2b2_ae3d_27d4_eb4f

/**
 * Four lanes of Fletcher's double sum over 8-byte words, then mixed: every flipped bit changes a sum, every exchange of words
 * a sum of sums. The second sum turns as it grows: two flips of top bits would cancel in plain sums. Half the cost of
 * multiplying, and most of the cost of opening a row.
 */
export function checksum(at: usize, bytes: usize): u32 {
  let a1: u64 = 0
  let a2: u64 = 0
  let a3: u64 = 0
  let a4: u64 = 0
  let b1: u64 = 0
  let b2: u64 = 0
  let b3: u64 = 0
  let b4: u64 = 0
  const end = at + bytes
  for (; at + 32 <= end; at += 32) {
    a1 += load<u64>(at)
    a2 += load<u64>(at, 8)
    a3 += load<u64>(at, 16)
    a4 += load<u64>(at, 24)
    b1 = rotl<u64>(b1, 5) + a1
    b2 = rotl<u64>(b2, 5) + a2
    b3 = rotl<u64>(b3, 5) + a3
    b4 = rotl<u64>(b4, 5) + a4
  }
  for (; at < end; at += 4) {
    a1 += load<u32>(at) as u64
    b1 = rotl<u64>(b1, 5) + a1
  }
  let hash = (bytes as u64) * MIX_1
  hash = mix(hash, a1, b1)
  hash = mix(hash, a2, b2)
  hash = mix(hash, a3, b3)
  hash = mix(hash, a4, b4)
  return (hash ^ (hash >> 32)) as u32
}

@inline
function mix(hash: u64, a: u64, b: u64): u64 {
  hash = (hash ^ a) * MIX_1
  hash ^= hash >> 32
  hash = (hash ^ b) * MIX_2
  return hash ^ (hash >> 29)
}

/** Checks `bytes` bytes at `at` and fills `row` and its runs; returns 0 or an ERROR_. `row` has OPEN_ROW_BYTES. */
export function openRow(at: usize, bytes: u32, row: Row): i32 {
  const frontiers = (ROW_HEADER_BYTES + levelCount * FRONTIER_BYTES) as u32
  if (bytes < (ROW_HEADER_BYTES as u32)) return ERROR_ROW_SHORT
  if (load<u16>(at, ROW_MAGIC_AT) != ROW_MAGIC) return ERROR_ROW_MAGIC
  if (load<u8>(at, ROW_VERSION_AT) != ROW_VERSION) return ERROR_ROW_VERSION
  if (load<u32>(at, ROW_BYTES_AT) != bytes || (bytes & 3) != 0 || bytes < frontiers) return ERROR_ROW_SHORT
  if (load<u32>(at, ROW_CHECKSUM_AT) != checksum(at + ROW_CHECKED_FROM, (bytes as usize) - ROW_CHECKED_FROM)) {
    return ERROR_ROW_CHECKSUM
  }
  if ((load<u8>(at, ROW_LEVELS_AT) as i32) != levelCount) return ERROR_ROW_SHAPE
  if ((load<u16>(at, ROW_HEAD_KIND_AT) as i32) != headKind) return ERROR_ROW_SHAPE
  row.at = at
  row.bytes = bytes
  row.applied = load<i64>(at, ROW_APPLIED_AT)
  row.layoutVersion = load<u32>(at, ROW_LAYOUT_VERSION_AT)
  row.headFrontierMs = load<i64>(at, ROW_HEAD_FRONTIER_AT)
  row.completeSinceMs = load<i64>(at, ROW_COMPLETE_SINCE_AT)
  emptyRow(row)

  // Runs stand in order: the head, then levels, each at most once.
  let cursor = at + (frontiers as usize)
  const end = at + (bytes as usize)
  let previous = -2
  for (let i = load<u16>(at, ROW_RUNS_AT) as i32; i > 0; i--) {
    if (end - cursor < (RUN_HEADER_BYTES as usize)) return ERROR_ROW_SHORT
    const kind = load<u8>(cursor, RUN_KIND_AT)
    const levelByte = load<u8>(cursor, RUN_LEVEL_AT) as i32
    const index = levelByte == RUN_HEAD_LEVEL ? -1 : levelByte
    if (index <= previous || index >= levelCount) return ERROR_ROW_SHAPE
    if (index < 0 ? kind != RUN_RAW : kind != RUN_TILES) return ERROR_ROW_SHAPE
    previous = index
    const run = levelRun(row, index)
    run.cells = changetype<usize>(row) + CELLS_AT + ((index + 1) as usize) * CELLS_BYTES
    const error = openRun(cursor, end, index, run)
    if (error != 0) return error
    cursor = run.heap + (run.heapBytes as usize)
  }
  return cursor == end ? 0 : ERROR_ROW_SHAPE
}

/** As if no event lay in it; the header stays. */
export function emptyRow(row: Row): void {
  for (let i = -1; i < levelCount; i++) levelRun(row, i).count = 0
}

function openRun(at: usize, end: usize, index: i32, run: Run): i32 {
  const params = at + RUN_HEADER_BYTES
  const paramBytes: usize = index < 0 ? 0 : runParamBytes
  run.level = index
  run.count = load<i32>(at, RUN_COUNT_AT)
  run.stride = load<u32>(at, RUN_STRIDE_AT) as usize
  run.heapBytes = load<u32>(at, RUN_HEAP_BYTES_AT)
  run.params = params
  run.rowsWidth = load<u8>(at, RUN_ROWS_WIDTH_AT) as i32
  run.stepMs = index < 0 ? 0 : level(index).stepMs
  run.first = params + paramBytes
  const body = (run.count as u64) * (run.stride as u64)
  if (run.count <= 0 || (run.first as u64) + body + (run.heapBytes as u64) > (end as u64)) {
    run.count = 0
    return ERROR_ROW_SHORT
  }
  run.heap = run.first + (body as usize)
  const wanted = index < 0 ? (run.rowsWidth == 0 ? (rawBytes as i32) : -1) : strideOf(run)
  if (wanted < 0 || run.stride != (wanted as usize)) return ERROR_ROW_SHAPE
  run.plain = index < 0 ? -1 : plainForm(run)
  const isWhole = keepsText() ? textOfRunFits(run) : run.heapBytes == 0
  return isWhole ? 0 : ERROR_ROW_TEXT
}

function strideOf(run: Run): i32 {
  return run.rowsWidth == 4 || run.rowsWidth == 8 ? tileBytes(run.params, run.rowsWidth, run.cells) : -1
}

/** The heap holds the texts of the cells in their order, padded to 4, and nothing else. */
function textOfRunFits(run: Run): bool {
  let used: i64 = 0
  let at = run.first
  for (let i = 0; i < run.count; i++, at += run.stride) {
    if (run.level < 0) used = textFollows(at + RAW_NULLS_AT, used, run.heapBytes)
    else {
      for (let j = 0; j < partialCount; j++) {
        const plan = partial(j)
        if (plan.kind != PARTIAL_EDGE || plan.inlined) continue
        const cell = at + cellAt(run.cells, j)
        if (load<u32>(cell) != EDGE_NONE) used = textFollows(cell + 4, used, run.heapBytes)
      }
    }
    if (used < 0) return false
  }
  return ((used + 3) & ~3) == (run.heapBytes as i64)
}
