// Slots: what the hot loop folds into.
import { NUMERIC_MAX, NUMERIC_MIN, NUMERIC_SQUARES, NUMERIC_SUM, TYPE_DEC, TYPE_F64, TYPE_I64 } from '../../layout'
import { PartialPlan } from '../../plan'
import { Register } from '../../columns'
import { releaseWide } from '../../exact'
import {
  SLOT_MAX_AT,
  SLOT_MIN_AT,
  SLOT_SQUARES_AT,
  SLOT_SUM_AT,
  SLOT_WIDE_AT,
  hasWide,
  numericSlotBytes,
  slotMaxAt,
  slotMinAt,
  slotSquaresAt,
} from './offsets'
import { storeHighest, storeLowest } from './bounds'
import { addDecimal, addSquareI64 } from './integers'
import { foldF64 } from './slot-f64'

export function numericInitSlot(plan: PartialPlan, slot: usize): void {
  const block = slot + (plan.slotAt as usize)
  memory.fill(block, 0, numericSlotBytes(plan) as usize)
  if (plan.flags & (NUMERIC_MIN | NUMERIC_MAX)) {
    storeHighest(plan.type, block + (slotMinAt(plan) as usize))
    storeLowest(plan.type, block + (slotMaxAt(plan) as usize))
  }
}

/** Gives back what the slot holds outside itself. */
export function numericDropSlot(plan: PartialPlan, slot: usize): void {
  if (hasWide(plan)) {
    const wide = load<u32>(slot + (plan.slotAt as usize), SLOT_WIDE_AT) as usize
    if (wide != 0) releaseWide(wide)
  }
}

/**
 * slots[k] += cells[rows[k]] for k < n. `edge`: an inline edge of the same column that is folded along, or null; one pass
 * less over the slots is worth 2 to 3 ns an event.
 */
export function numericFold(
  plan: PartialPlan,
  edge: PartialPlan,
  cells: Register,
  rows: usize,
  slots: usize,
  offsets: usize,
  n: i32,
): void {
  const type = plan.type
  if (type == TYPE_F64) foldF64(plan, edge, cells, rows, slots, offsets, n)
  else if (type == TYPE_I64) foldI64(plan, cells, rows, slots, n)
  else if (type == TYPE_DEC) foldDecimal(plan, cells, rows, slots, n)
  else foldCount(plan, cells, rows, slots, n)
}

function foldCount(plan: PartialPlan, cells: Register, rows: usize, slots: usize, n: i32): void {
  const valid = cells.valid
  const blockAt = plan.slotAt as usize
  for (let k: usize = 0, end = (n as usize) << 2; k < end; k += 4) {
    const row = load<u32>(rows + k) as usize
    if (valid != 0 && load<u8>(valid + row) == 0) continue
    const block = (load<u32>(slots + k) as usize) + blockAt
    store<u32>(block, load<u32>(block) + 1)
  }
}

/** Is an edge folded along with this partial? */
export function numericTakesEdge(plan: PartialPlan): bool {
  return plan.type == TYPE_F64
}

/** HOT. */
function foldI64(plan: PartialPlan, cells: Register, rows: usize, slots: usize, n: i32): void {
  const data = cells.data
  const valid = cells.valid
  const blockAt = plan.slotAt as usize
  const sums = (plan.flags & NUMERIC_SUM) != 0
  const squares = (plan.flags & NUMERIC_SQUARES) != 0
  const bounds = (plan.flags & (NUMERIC_MIN | NUMERIC_MAX)) != 0
  for (let k: usize = 0, end = (n as usize) << 2; k < end; k += 4) {
    const row = load<u32>(rows + k) as usize
    if (valid != 0 && load<u8>(valid + row) == 0) continue
    const block = (load<u32>(slots + k) as usize) + blockAt
    const value = load<i64>(data + (row << 3))
    store<u32>(block, load<u32>(block) + 1)
    if (sums) {
      const low = load<u64>(block, SLOT_SUM_AT) + (value as u64)
      const high = load<i64>(block, SLOT_SUM_AT + 8) + (value >> 63) + ((low < (value as u64)) as i64)
      store<u64>(block, low, SLOT_SUM_AT)
      store<i64>(block, high, SLOT_SUM_AT + 8)
    }
    if (squares) addSquareI64(block + SLOT_SQUARES_AT, value)
    if (bounds) {
      if (value < load<i64>(block, SLOT_MIN_AT)) store<i64>(block, value, SLOT_MIN_AT)
      if (value > load<i64>(block, SLOT_MAX_AT)) store<i64>(block, value, SLOT_MAX_AT)
    }
  }
}

function foldDecimal(plan: PartialPlan, cells: Register, rows: usize, slots: usize, n: i32): void {
  const valid = cells.valid
  const blockAt = plan.slotAt as usize
  const lowAt = slotMinAt(plan) as usize
  const highAt = slotMaxAt(plan) as usize
  const squaresFrom = slotSquaresAt(plan) as usize
  for (let k: usize = 0, end = (n as usize) << 2; k < end; k += 4) {
    const row = load<u32>(rows + k) as usize
    if (valid != 0 && load<u8>(valid + row) == 0) continue
    const block = (load<u32>(slots + k) as usize) + blockAt
    store<u32>(block, load<u32>(block) + 1)
    const cell = cells.data + (row << 4)
    addDecimal(plan, cell, block + SLOT_SUM_AT, block + squaresFrom, block + lowAt, block + highAt)
  }
}
