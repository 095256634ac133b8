/**
 * edge: the first or last non-null cell of one column, by (event time, event id or else all projected columns).
 *
 *   laws        commutative, associative, idempotent on equal events; not invertible
 *   error       none
 *   source      the order is events.ts's: never arrival, never source position, so `last(lat)` and `last(lon)` of an event
 *               without nulls come from the same event
 *   types       all
 *
 * Two representations. Where the column alone decides ties (one projected column of 8 bytes, no id), the cell is *inline*;
 * else the edge keeps a whole event, because any of its cells may decide.
 *
 *   slot        inline: offset in the tile (u32, see below) … value · else: offset of an event in the delta (0 = none)
 *   accumulator time i64 (none: -1 for last, max for first) · inline: value · else: address of nulls and cells, heap
 *   tile        offset in the tile u32 (EDGE_NONE = none) · inline: value · else: nulls, cells
 */
import {
  EDGE_LAST,
  EDGE_NONE,
  PARTIAL_EDGE,
  RAW_NULLS_AT,
  RAW_TIME_AT,
  STATUS_EMPTY,
  STATUS_OK,
  TILE_INDEX_AT,
  TYPE_DEC,
  TYPE_F64,
  TYPE_I64,
} from '../layout'
import { PartialPlan, columnCount, idType, rawBytes } from '../plan'
import { Register, isPresent } from '../columns'
import { NO_ENTITY, addEvent, compareCells, copyCells, eventsAt, textAt, textBytesOf, writeEvent } from '../events'
import { Run } from './partial'

export const EDGE_ACC_BYTES: usize = 24

const TIME_AT: usize = 0
const VALUE_AT: usize = 8 // inline: the value; else u32 address of the nulls
const HEAP_AT: usize = 12 // u32 address that text offsets count from

export function edgeIsInline(plan: PartialPlan): bool {
  return (
    plan.kind == PARTIAL_EDGE && idType == 0 && columnCount == 1 && (plan.type == TYPE_F64 || plan.type == TYPE_I64)
  )
}

// ---- slots ---------------------------------------------------------------------------------------------------------

// An inline slot keeps offset + 1, so that 0 is "none" for last, and u32.MAX is "none" for first: one comparison each.
export function edgeInitSlot(plan: PartialPlan, slot: usize): void {
  const none: u32 = plan.inlined && !(plan.flags & EDGE_LAST) ? u32.MAX_VALUE : 0
  store<u32>(slot + (plan.slot4At as usize), none)
  if (plan.inlined) store<u64>(slot + (plan.slotAt as usize), 0)
}

/** slots[k] += cells[rows[k]], which lies `offsets[k]` ms into its tile; `times` are the rows' event times. */
export function edgeFold(
  plan: PartialPlan,
  cells: Register,
  rows: usize,
  slots: usize,
  offsets: usize,
  n: i32,
  times: usize,
): void {
  if (!plan.inlined) foldEvents(plan, cells, rows, slots, n, times)
  else if (plan.type == TYPE_F64) {
    if (plan.flags & EDGE_LAST) foldLast<f64>(plan, cells, rows, slots, offsets, n)
    else foldFirst<f64>(plan, cells, rows, slots, offsets, n)
  } else if (plan.flags & EDGE_LAST) foldLast<i64>(plan, cells, rows, slots, offsets, n)
  else foldFirst<i64>(plan, cells, rows, slots, offsets, n)
}

/** HOT. Not one loop with a flag: the optimizer would ask for it event by event, 0.6 of 12 ns. */
function foldLast<T>(plan: PartialPlan, cells: Register, rows: usize, slots: usize, offsets: usize, n: i32): void {
  const data = cells.data
  const valid = cells.valid
  const offsetAt = plan.slot4At as usize
  const valueAt = plan.slotAt as usize
  for (let k: usize = 0, end = (n as usize) << 2; k < end; k += 4) {
    const row = load<u32>(rows + k) as usize
    if (valid != 0 && load<u8>(valid + row) == 0) continue
    const slot = load<u32>(slots + k) as usize
    const offset = load<u32>(offsets + k) + 1
    const newest = load<u32>(slot + offsetAt)
    const value = load<T>(data + (row << 3))
    if (offset > newest || (offset == newest && value > load<T>(slot + valueAt))) {
      store<u32>(slot + offsetAt, offset)
      store<T>(slot + valueAt, value)
    }
  }
}

/** HOT. */
function foldFirst<T>(plan: PartialPlan, cells: Register, rows: usize, slots: usize, offsets: usize, n: i32): void {
  const data = cells.data
  const valid = cells.valid
  const offsetAt = plan.slot4At as usize
  const valueAt = plan.slotAt as usize
  for (let k: usize = 0, end = (n as usize) << 2; k < end; k += 4) {
    const row = load<u32>(rows + k) as usize
    if (valid != 0 && load<u8>(valid + row) == 0) continue
    const slot = load<u32>(slots + k) as usize
    const offset = load<u32>(offsets + k) + 1
    const oldest = load<u32>(slot + offsetAt)
    const value = load<T>(data + (row << 3))
    if (offset < oldest || (offset == oldest && value < load<T>(slot + valueAt))) {
      store<u32>(slot + offsetAt, offset)
      store<T>(slot + valueAt, value)
    }
  }
}

function foldEvents(plan: PartialPlan, cells: Register, rows: usize, slots: usize, n: i32, times: usize): void {
  const last = (plan.flags & EDGE_LAST) != 0
  let spare: usize = 0
  for (let k: usize = 0, end = (n as usize) << 2; k < end; k += 4) {
    const row = load<u32>(rows + k)
    if (!isPresent(cells, row as i32)) continue
    const ref = (load<u32>(slots + k) as usize) + (plan.slot4At as usize)
    const held = load<u32>(ref) as usize
    const time = load<i64>(times + ((row as usize) << 3))
    if (held == 0) {
      const offset = addEvent()
      writeEvent(offset, row as i32, time, NO_ENTITY)
      store<u32>(ref, offset as u32)
      continue
    }
    const heldTime = load<i64>(eventsAt + held, RAW_TIME_AT)
    if (time != heldTime) {
      if ((time > heldTime) == last) writeEvent(held, row as i32, time, NO_ENTITY)
      continue
    }
    // A tie: write the event to a spare place, compare, and keep the winner's place.
    if (spare == 0) spare = addEvent()
    writeEvent(spare, row as i32, time, NO_ENTITY)
    const order = compareCells(eventsAt + spare + RAW_NULLS_AT, textAt, eventsAt + held + RAW_NULLS_AT, textAt)
    if (order != 0 && order > 0 == last) {
      store<u32>(ref, spare as u32)
      spare = held
    }
  }
}

// ---- accumulators --------------------------------------------------------------------------------------------------

export function edgeInitAcc(plan: PartialPlan, acc: usize): void {
  store<i64>(acc, plan.flags & EDGE_LAST ? -1 : i64.MAX_VALUE, TIME_AT)
  store<u64>(acc, 0, VALUE_AT)
}

function hasEdge(acc: usize): bool {
  const time = load<i64>(acc, TIME_AT)
  return time != -1 && time != i64.MAX_VALUE
}

/** Takes (time, value bits) into an inline accumulator if it wins. */
function takeInline(plan: PartialPlan, acc: usize, time: i64, bits: u64): void {
  const held = load<i64>(acc, TIME_AT)
  const last = (plan.flags & EDGE_LAST) != 0
  if (time == held) {
    const other = load<u64>(acc, VALUE_AT)
    const above =
      plan.type == TYPE_F64
        ? reinterpret<f64>(bits) > reinterpret<f64>(other)
        : (bits as i64) > (other as i64)
    if (bits == other || above != last) return
  } else if ((time > held) != last) return
  store<i64>(acc, time, TIME_AT)
  store<u64>(acc, bits, VALUE_AT)
}

/** Takes the event (time, nulls and cells, heap) into an accumulator if it wins. */
function takeEvent(plan: PartialPlan, acc: usize, time: i64, nulls: usize, heap: usize): void {
  const held = load<i64>(acc, TIME_AT)
  const last = (plan.flags & EDGE_LAST) != 0
  if (time == held) {
    // A raw event from outside may bear the time that says "none".
    const other = load<u32>(acc, VALUE_AT) as usize
    const order = other == 0 ? 0 : compareCells(nulls, heap, other, load<u32>(acc, HEAP_AT) as usize)
    if (order == 0 || order > 0 != last) return
  } else if ((time > held) != last) return
  store<i64>(acc, time, TIME_AT)
  store<u32>(acc, nulls as u32, VALUE_AT)
  store<u32>(acc, heap as u32, HEAP_AT)
}

export function edgeAddSlot(plan: PartialPlan, acc: usize, slot: usize, tileMs: i64): void {
  const held = load<u32>(slot + (plan.slot4At as usize))
  if (plan.inlined) {
    const none: u32 = plan.flags & EDGE_LAST ? 0 : u32.MAX_VALUE
    if (held != none) takeInline(plan, acc, tileMs + ((held - 1) as i64), load<u64>(slot + (plan.slotAt as usize)))
  } else if (held != 0) {
    const event = eventsAt + (held as usize)
    takeEvent(plan, acc, load<i64>(event, RAW_TIME_AT), event + RAW_NULLS_AT, textAt)
  }
}

export function edgeAddAcc(plan: PartialPlan, into: usize, from: usize): void {
  if (!hasEdge(from)) return
  const time = load<i64>(from, TIME_AT)
  if (plan.inlined) takeInline(plan, into, time, load<u64>(from, VALUE_AT))
  else takeEvent(plan, into, time, load<u32>(from, VALUE_AT) as usize, load<u32>(from, HEAP_AT) as usize)
}

export function edgeAddEvents(plan: PartialPlan, acc: usize, first: usize, count: i32, heap: usize): void {
  for (let i = 0, event = first; i < count; i++, event += rawBytes) {
    if ((load<u32>(event, RAW_NULLS_AT) & plan.nullBit) != 0) continue
    const time = load<i64>(event, RAW_TIME_AT)
    if (plan.inlined) takeInline(plan, acc, time, load<u64>(event + (plan.cellAt as usize)))
    else takeEvent(plan, acc, time, event + RAW_NULLS_AT, heap)
  }
}

// ---- tiles ---------------------------------------------------------------------------------------------------------

export function edgeCellBytes(plan: PartialPlan): i32 {
  return plan.inlined ? 12 : 4 + (rawBytes as i32) - RAW_NULLS_AT
}

/** HOT. The tiles lie in time order, so the first that has an edge from the wanted end is the only one that can win. */
export function edgeAddTiles(plan: PartialPlan, acc: usize, run: Run, first: usize, cellAt: usize, count: i32): void {
  const last = (plan.flags & EDGE_LAST) != 0
  const stride = run.stride
  let tile = last ? first + ((count - 1) as usize) * stride : first
  for (let i = 0; i < count; i++) {
    const offset = load<u32>(tile + cellAt)
    if (offset != EDGE_NONE) {
      const time = (load<u32>(tile, TILE_INDEX_AT) as i64) * run.stepMs + (offset as i64)
      if (plan.inlined) takeInline(plan, acc, time, load<u64>(tile + cellAt, 4))
      else takeEvent(plan, acc, time, tile + cellAt + 4, run.heap)
      return
    }
    tile = last ? tile - stride : tile + stride
  }
}

export function edgeTextOfAcc(plan: PartialPlan, acc: usize): u32 {
  return plan.inlined || !hasEdge(acc) ? 0 : textBytesOf(load<u32>(acc, VALUE_AT) as usize)
}

export function edgeTextOfTile(plan: PartialPlan, cell: usize): u32 {
  return plan.inlined || load<u32>(cell) == EDGE_NONE ? 0 : textBytesOf(cell + 4)
}

/** Writes the cell; returns the heap bytes in use then. */
export function edgeWriteAcc(plan: PartialPlan, cell: usize, acc: usize, tileMs: i64, heap: usize, used: u32): u32 {
  if (!hasEdge(acc)) {
    memory.fill(cell, 0, edgeCellBytes(plan) as usize)
    store<u32>(cell, EDGE_NONE)
    return used
  }
  store<u32>(cell, (load<i64>(acc, TIME_AT) - tileMs) as u32)
  if (plan.inlined) {
    store<u64>(cell, load<u64>(acc, VALUE_AT), 4)
    return used
  }
  return copyCells(cell + 4, load<u32>(acc, VALUE_AT) as usize, load<u32>(acc, HEAP_AT) as usize, heap, used)
}

export function edgeCopyTile(plan: PartialPlan, cell: usize, run: Run, from: usize, heap: usize, used: u32): u32 {
  store<u32>(cell, load<u32>(from))
  if (load<u32>(from) == EDGE_NONE) {
    // Nobody has checked what stands behind it.
    memory.fill(cell + 4, 0, (edgeCellBytes(plan) - 4) as usize)
    return used
  }
  if (plan.inlined) {
    store<u64>(cell, load<u64>(from, 4), 4)
    return used
  }
  return copyCells(cell + 4, from + 4, run.heap, heap, used)
}

// ---- values --------------------------------------------------------------------------------------------------------

/** Writes 16 bytes at `out`: f64, int64 or decimal in place; text as (address u32, bytes u32), good until the next call. */
export function edgeLower(plan: PartialPlan, acc: usize, out: usize): i32 {
  if (!hasEdge(acc)) return STATUS_EMPTY
  if (plan.inlined) {
    store<u64>(out, load<u64>(acc, VALUE_AT))
    return STATUS_OK
  }
  const cell = (load<u32>(acc, VALUE_AT) as usize) + ((plan.cellAt - RAW_NULLS_AT) as usize)
  if (plan.type == TYPE_DEC) memory.copy(out, cell, 16)
  else if (plan.type == TYPE_F64 || plan.type == TYPE_I64) store<u64>(out, load<u64>(cell))
  else {
    store<u32>(out, load<u32>(acc, HEAP_AT) + load<u32>(cell))
    store<u32>(out, load<u32>(cell, 4), 4)
  }
  return STATUS_OK
}
