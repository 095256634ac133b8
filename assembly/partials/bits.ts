/**
 * bits: all non-null cells of one int64 column, OR-ed or AND-ed bit by bit.
 *
 *   laws        commutative, associative, idempotent: an event that counts twice changes nothing; not invertible
 *   error       none
 *   source      bit_or and bit_and as DuckDB and PostgreSQL have them: nulls are skipped, null of nothing
 *   types       I64
 *
 * The neutral element (0 for or, all ones for and) is an honest answer, too, so that there was a cell stands on its own.
 *
 *   slot        seen u32 (in the gap behind the header, as an edge's offset) … bits u64
 *   accumulator seen i64 · bits u64
 *   tile        seen u32 (0 or 1) · bits u64 (neutral where nothing was seen)
 *   value       int64
 */
import { BITS_AND, RAW_NULLS_AT, STATUS_EMPTY, STATUS_OK, TYPE_I64 } from '../layout'
import { PartialPlan, rawBytes } from '../plan'
import { Register } from '../columns'
import { Run } from './partial'

export const BITS_SLOT_BYTES: i32 = 8
export const BITS_ACC_BYTES: usize = 16
const BITS_CELL_BYTES: i32 = 12

// In an accumulator; in a tile's cell.
const BITS_AT: usize = 8
const CELL_BITS_AT: usize = 4

@inline
function neutral(plan: PartialPlan): u64 {
  return plan.flags & BITS_AND ? u64.MAX_VALUE : 0
}

// ---- slots ---------------------------------------------------------------------------------------------------------

export function bitsInitSlot(plan: PartialPlan, slot: usize): void {
  store<u32>(slot + (plan.slot4At as usize), 0)
  store<u64>(slot + (plan.slotAt as usize), neutral(plan))
}

/** slots[k] += cells[rows[k]] for k < n. */
export function bitsFold(plan: PartialPlan, cells: Register, rows: usize, slots: usize, n: i32): void {
  assert(plan.type == TYPE_I64)
  if (plan.flags & BITS_AND) foldEach(plan, cells, rows, slots, n, true)
  else foldEach(plan, cells, rows, slots, n, false)
}

/** HOT. */
@inline
function foldEach(plan: PartialPlan, cells: Register, rows: usize, slots: usize, n: i32, all: bool): void {
  const data = cells.data
  const valid = cells.valid
  const seenAt = plan.slot4At as usize
  const bitsAt = plan.slotAt as usize
  for (let k: usize = 0, end = (n as usize) << 2; k < end; k += 4) {
    const row = load<u32>(rows + k) as usize
    if (valid != 0 && load<u8>(valid + row) == 0) continue
    const slot = load<u32>(slots + k) as usize
    const bits = load<u64>(data + (row << 3))
    const held = load<u64>(slot + bitsAt)
    store<u32>(slot + seenAt, 1)
    store<u64>(slot + bitsAt, all ? held & bits : held | bits)
  }
}

// ---- accumulators --------------------------------------------------------------------------------------------------

export function bitsInitAcc(plan: PartialPlan, acc: usize): void {
  store<i64>(acc, 0)
  store<u64>(acc, neutral(plan), BITS_AT)
}

/** What was not seen is neutral, so it is added without being asked for. */
@inline
function take(plan: PartialPlan, acc: usize, seen: i64, bits: u64): void {
  const held = load<u64>(acc, BITS_AT)
  store<i64>(acc, load<i64>(acc) | seen)
  store<u64>(acc, plan.flags & BITS_AND ? held & bits : held | bits, BITS_AT)
}

export function bitsAddSlot(plan: PartialPlan, acc: usize, slot: usize): void {
  take(plan, acc, load<u32>(slot + (plan.slot4At as usize)) as i64, load<u64>(slot + (plan.slotAt as usize)))
}

export function bitsAddAcc(plan: PartialPlan, into: usize, from: usize): void {
  take(plan, into, load<i64>(from), load<u64>(from, BITS_AT))
}

export function bitsAddEvents(plan: PartialPlan, acc: usize, first: usize, count: i32): void {
  for (let i = 0, event = first; i < count; i++, event += rawBytes) {
    if ((load<u32>(event, RAW_NULLS_AT) & plan.nullBit) != 0) continue
    take(plan, acc, 1, load<u64>(event + (plan.cellAt as usize)))
  }
}

// ---- tiles ---------------------------------------------------------------------------------------------------------

export function bitsCellBytes(): i32 {
  return BITS_CELL_BYTES
}

/** HOT. A row from outside may say that nothing was seen, and have bits all the same: they count for nothing. */
export function bitsAddTiles(plan: PartialPlan, acc: usize, run: Run, first: usize, cellAt: usize, count: i32): void {
  const stride = run.stride
  for (let i = 0, cell = first + cellAt; i < count; i++, cell += stride) {
    if (load<u32>(cell) != 0) take(plan, acc, 1, load<u64>(cell, CELL_BITS_AT))
  }
}

export function bitsWriteAcc(cell: usize, acc: usize): void {
  store<u32>(cell, load<i64>(acc) as u32)
  store<u64>(cell, load<u64>(acc, BITS_AT), CELL_BITS_AT)
}

export function bitsCopyTile(cell: usize, from: usize): void {
  store<u32>(cell, load<u32>(from))
  store<u64>(cell, load<u64>(from, CELL_BITS_AT), CELL_BITS_AT)
}

// ---- values --------------------------------------------------------------------------------------------------------

/** Writes an int64 at `out`. */
export function bitsLower(acc: usize, out: usize): i32 {
  if (load<i64>(acc) == 0) return STATUS_EMPTY
  store<u64>(out, load<u64>(acc, BITS_AT))
  return STATUS_OK
}
