/**
 * The plan as the core knows it: levels, columns, partials, acceptance. Written once by `configure`, read everywhere.
 *
 * Configuration is a sequence of i64 cells (src/engine/program.ts writes it):
 *
 *   abi · levels · head kind · head ms · retention ms · allowed lateness ms · policy · max future ms · disorder ms ·
 *   dedupe within ms (-1 none) · time register · filter register (-1 none) · id register (-1 none) · id type (0 none) ·
 *   lanes · shard · shards · complete since ms · layout version
 *   per level: step ms · keep ms
 *   key parts, then per part: register · type
 *   columns, then per column: register · type · scale
 *   partials, then per partial: kind · column · flags
 *   program bytes, then the column program padded to 8
 */
import {
  ABI_VERSION,
  COLUMNS_MAX,
  KEY_PARTS_MAX,
  LEVELS_MAX,
  NUMERIC_PARAM_BYTES,
  PARTIALS_MAX,
  PARTIAL_BITS,
  PARTIAL_EDGE,
  PARTIAL_NUMERIC,
  RAW_CELLS_AT,
  TYPE_DEC,
} from './layout'
import { allocate } from './arena'
import { BITS_ACC_BYTES, BITS_SLOT_BYTES } from './partials/bits'
import { numericAccBytes, numericSlotBytes } from './partials/numeric'
import { EDGE_ACC_BYTES, edgeIsInline } from './partials/edge'

@unmanaged
export class Level {
  stepMs: i64
  keepMs: i64
}

@unmanaged
export class KeyPart {
  register: i32
  type: i32
}

@unmanaged
export class Column {
  register: i32
  type: i32
  scale: i32
  /** Offset of its cell in a raw event. */
  cellAt: i32
}

/** One partial aggregate and where its fields lie. */
@unmanaged
export class PartialPlan {
  kind: i32
  column: i32
  flags: i32
  /** Register type of its column. */
  type: i32
  /** Byte offset of its cell in a raw event. */
  cellAt: i32
  /** Bit of its column in a raw event's nulls. */
  nullBit: u32
  /** Edges only: can it live in the slot, or does it need a record (several order columns, an id, or text)? */
  inlined: i32
  /** Offset of its block in a slot; of the u32 of an edge or of bits, which fills the gap behind the header. */
  slotAt: i32
  slot4At: i32
  /** Offset in an accumulator. */
  accAt: i32
  /** Offset of its parameters behind a run's header. */
  paramAt: i32
}

const LEVEL_BYTES: usize = 16
const KEY_PART_BYTES: usize = 8
const COLUMN_PLAN_BYTES: usize = 16
const PARTIAL_PLAN_BYTES: usize = 44

const levels = memory.data(8 * 16)
const keyParts = memory.data(16 * 8)
const columns = memory.data(32 * 16)
const partials = memory.data(128 * 44)

export let levelCount: i32 = 0
export let headKind: i32 = 0
export let headMs: i64 = 0
export let retentionMs: i64 = 0
export let allowedLatenessMs: i64 = 0
export let latePolicy: i32 = 0
export let maxFutureMs: i64 = 0
export let disorderMs: i64 = 0
export let dedupeWithinMs: i64 = -1
export let timeRegister: i32 = 0
export let filterRegister: i32 = -1
export let idRegister: i32 = -1
export let idType: i32 = 0
/** Entities are spread over `laneCount` lanes; this instance folds lanes `l` with `l % shardCount == shard`. */
export let laneCount: i32 = 1
export let shard: i32 = 0
export let shardCount: i32 = 1
export let completeSinceMs: i64 = 0
export let layoutVersion: u32 = 0

export function raiseLayoutVersion(version: u32): void {
  layoutVersion = max(layoutVersion, version)
}

export let keyPartCount: i32 = 0
export let columnCount: i32 = 0
export let partialCount: i32 = 0
export let programAt: usize = 0
export let programBytes: usize = 0

/** Bytes of a slot, of an accumulator, of a raw event, of a run's parameters. */
export let slotBytes: usize = 64
export let accBytes: usize = 8
export let rawBytes: usize = 16
export let runParamBytes: usize = 0

export function level(index: i32): Level {
  return changetype<Level>(levels + (index as usize) * LEVEL_BYTES)
}

export function keyPart(index: i32): KeyPart {
  return changetype<KeyPart>(keyParts + (index as usize) * KEY_PART_BYTES)
}

export function column(index: i32): Column {
  return changetype<Column>(columns + (index as usize) * COLUMN_PLAN_BYTES)
}

export function partial(index: i32): PartialPlan {
  return changetype<PartialPlan>(partials + (index as usize) * PARTIAL_PLAN_BYTES)
}

/** Bytes of a cell in a raw event: text is a (heap offset, length) pair of u32. */
export function cellBytes(type: i32): i32 {
  return type == TYPE_DEC ? 16 : 8
}

let cursor: usize = 0

function next(): i64 {
  const value = load<i64>(cursor)
  cursor += 8
  return value
}

export function readPlan(at: usize): void {
  cursor = at
  assert((next() as i32) == ABI_VERSION)
  levelCount = next() as i32
  headKind = next() as i32
  headMs = next()
  retentionMs = next()
  allowedLatenessMs = next()
  latePolicy = next() as i32
  maxFutureMs = next()
  disorderMs = next()
  dedupeWithinMs = next()
  timeRegister = next() as i32
  filterRegister = next() as i32
  idRegister = next() as i32
  idType = next() as i32
  laneCount = next() as i32
  shard = next() as i32
  shardCount = next() as i32
  completeSinceMs = next()
  layoutVersion = next() as u32

  assert(levelCount > 0 && levelCount <= LEVELS_MAX)
  for (let i = 0; i < levelCount; i++) {
    const each = level(i)
    each.stepMs = next()
    each.keepMs = next()
    assert(each.stepMs >= 1000 && (i == 0 || each.stepMs % level(i - 1).stepMs == 0))
  }
  keyPartCount = next() as i32
  assert(keyPartCount > 0 && keyPartCount <= KEY_PARTS_MAX)
  for (let i = 0; i < keyPartCount; i++) {
    keyPart(i).register = next() as i32
    keyPart(i).type = next() as i32
  }
  readColumns()
  readPartials()

  // The program stays where its own block is: the input region is written over by the next batch.
  programBytes = next() as usize
  programAt = allocate(programBytes + 8)
  memory.copy(programAt, cursor, programBytes)
}

function readColumns(): void {
  columnCount = next() as i32
  assert(columnCount <= COLUMNS_MAX)
  let cellAt = RAW_CELLS_AT
  if (idType != 0) cellAt += cellBytes(idType)
  for (let i = 0; i < columnCount; i++) {
    const each = column(i)
    each.register = next() as i32
    each.type = next() as i32
    each.scale = next() as i32
    each.cellAt = cellAt
    cellAt += cellBytes(each.type)
  }
  rawBytes = cellAt
}

function readPartials(): void {
  partialCount = next() as i32
  assert(partialCount <= PARTIALS_MAX)

  // Slot: tag u64, rows u32, every u32 of edges and bits, then (aligned) the blocks. Accumulator: rows i64, then partials.
  let slot4 = 12
  accBytes = 8
  runParamBytes = 0
  for (let i = 0; i < partialCount; i++) {
    const each = partial(i)
    each.kind = next() as i32
    each.column = next() as i32
    each.flags = next() as i32
    each.type = column(each.column).type
    each.cellAt = column(each.column).cellAt
    each.nullBit = 1 << (each.column + 1)
    each.accAt = accBytes as i32
    each.paramAt = runParamBytes as i32
    each.slot4At = slot4
    each.inlined = edgeIsInline(each) as i32
    if (each.kind == PARTIAL_NUMERIC) {
      accBytes += numericAccBytes(each)
      runParamBytes += NUMERIC_PARAM_BYTES
    } else {
      assert(each.kind == PARTIAL_EDGE || each.kind == PARTIAL_BITS)
      slot4 += 4
      accBytes += each.kind == PARTIAL_EDGE ? EDGE_ACC_BYTES : BITS_ACC_BYTES
    }
  }
  // Whole blocks for dispatch.ts copyBlock.
  accBytes = (accBytes + 31) & ~31
  let slot8 = (slot4 + 7) & ~7
  for (let i = 0; i < partialCount; i++) {
    const each = partial(i)
    each.slotAt = slot8
    if (each.kind == PARTIAL_NUMERIC) slot8 += numericSlotBytes(each)
    else if (each.kind == PARTIAL_BITS) slot8 += BITS_SLOT_BYTES
    else if (each.inlined) slot8 += 8
  }
  // One cache line where it fits; else the next multiple of 32.
  slotBytes = slot8 <= 64 ? 64 : (slot8 + 31) & ~31
}
