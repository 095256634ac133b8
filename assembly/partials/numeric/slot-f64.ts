// HOT: doubles into slots, the loop that most views spend their time in.
import { EDGE_LAST, NUMERIC_MAX, NUMERIC_MIN, NUMERIC_SQUARES, NUMERIC_SUM } from '../../layout'
import { PartialPlan } from '../../plan'
import { Register } from '../../columns'
import {
  WIDE_SQUARES_AT,
  WIDE_SQUARES_BASE,
  WIDE_SQUARES_LIMBS,
  WIDE_SUM_BASE,
  WIDE_SUM_LIMBS,
  addLimbs,
  addShifted,
  highOfSquare,
} from '../../exact'
import { SLOT_MAX_AT, SLOT_MIN_AT, SLOT_SQUARES_AT, SLOT_SUM_AT, SLOT_WIDE_AT } from './offsets'
import { addWideSquare, addWideSum, wideOf } from './wide'

/** HOT. The forms that views mostly have are loops of their own; the others look at their flags event by event. */
export function foldF64(
  plan: PartialPlan,
  edge: PartialPlan,
  cells: Register,
  rows: usize,
  slots: usize,
  offsets: usize,
  n: i32,
): void {
  // Squares without a sum don't occur; if they did, the sum's place would be there.
  const sums = (plan.flags & (NUMERIC_SUM | NUMERIC_SQUARES)) != 0
  const squares = (plan.flags & NUMERIC_SQUARES) != 0
  const bounds = (plan.flags & (NUMERIC_MIN | NUMERIC_MAX)) != 0
  const hasEdge = changetype<usize>(edge) != 0
  const isLast = hasEdge && (edge.flags & EDGE_LAST) != 0
  const edgeAt: usize = hasEdge ? (edge.slot4At as usize) : 0
  const edgeValueAt: usize = hasEdge ? (edge.slotAt as usize) : 0
  const blockAt = plan.slotAt as usize
  if (cells.valid == 0 && sums && bounds && isLast) {
    if (squares) eachF64(cells, rows, slots, offsets, n, blockAt, true, true, true, true, true, edgeAt, edgeValueAt, false)
    else eachF64(cells, rows, slots, offsets, n, blockAt, true, false, true, true, true, edgeAt, edgeValueAt, false)
  } else {
    eachF64(cells, rows, slots, offsets, n, blockAt, sums, squares, bounds, hasEdge, isLast, edgeAt, edgeValueAt, true)
  }
}

/** Sum, squares, min, max and an edge in one pass: the slot's line is touched once. */
@inline
function eachF64(
  cells: Register,
  rows: usize,
  slots: usize,
  offsets: usize,
  n: i32,
  blockAt: usize,
  sums: bool,
  squares: bool,
  bounds: bool,
  hasEdge: bool,
  isLast: bool,
  edgeAt: usize,
  edgeValueAt: usize,
  nulls: bool,
): void {
  const data = cells.data
  const valid = cells.valid
  for (let k: usize = 0, end = (n as usize) << 2; k < end; k += 4) {
    const row = load<u32>(rows + k) as usize
    if (nulls && valid != 0 && load<u8>(valid + row) == 0) continue
    const slot = load<u32>(slots + k) as usize
    const block = slot + blockAt
    const bits = load<u64>(data + (row << 3))
    const value = reinterpret<f64>(bits)
    store<u32>(block, load<u32>(block) + 1)
    if (sums) {
      // The double is an integer, its mantissa, times 2^(exponent - 1075); in the window it is a 128-bit integer / 2^64.
      const exponent = ((bits >> 52) as u32) & 0x7ff
      if (exponent - 1011 <= 63) {
        const size = (bits & 0xf_ffff_ffff_ffff) | 0x10_0000_0000_0000
        const shift = (exponent - 1011) as i64
        const sign = (bits as i64) >> 63
        const mantissa = ((size as i64) ^ sign) - sign
        const low = (mantissa << shift) as u64
        const newLow = load<u64>(block, SLOT_SUM_AT) + low
        const newHigh = load<i64>(block, SLOT_SUM_AT + 8) + ((mantissa >> (63 - shift)) >> 1) + ((newLow < low) as i64)
        store<u64>(block, newLow, SLOT_SUM_AT)
        store<i64>(block, newHigh, SLOT_SUM_AT + 8)
        // Far before it could overflow (a term is below 2^53) the sum moves to the wide block.
        if ((newHigh as u64) + 0x4000_0000_0000_0000 > 0x7fff_ffff_ffff_ffff) spillSum(block)
        if (squares) addSquareWords(block, size, shift as u64)
      } else if (value != 0) {
        const wide = wideOf(block + SLOT_WIDE_AT)
        addWideSum(wide, bits)
        if (squares) addWideSquare(wide, bits)
      }
    }
    if (bounds) {
      if (ASC_FEATURE_SIMD) {
        const each = f64x2.splat(value)
        const held = v128.load(block, SLOT_MIN_AT)
        v128.store(block, v128.shuffle<f64>(f64x2.pmin(held, each), f64x2.pmax(held, each), 0, 3), SLOT_MIN_AT)
      } else {
        if (value < load<f64>(block, SLOT_MIN_AT)) store<f64>(block, value, SLOT_MIN_AT)
        if (value > load<f64>(block, SLOT_MAX_AT)) store<f64>(block, value, SLOT_MAX_AT)
      }
    }
    if (hasEdge) {
      // edge.ts has the same comparison for edges on their own. No branch: with disorder, nobody could guess it.
      const offset = load<u32>(offsets + k) + 1
      const held = load<u32>(slot + edgeAt)
      const heldBits = load<u64>(slot + edgeValueAt)
      const heldValue = reinterpret<f64>(heldBits)
      const newer = (offset > held) as i32
      const above = (offset == held) as i32
      const wins = isLast
        ? newer | (above & ((value > heldValue) as i32))
        : (newer ^ 1) & ((above ^ 1) | ((value < heldValue) as i32))
      store<u32>(slot + edgeAt, wins ? offset : held)
      store<u64>(slot + edgeValueAt, wins ? bits : heldBits)
    }
  }
}

/** The slot's squares (4 words, lowest bit 2^-128) += (size * 2^(shift - 64))^2. */
@inline
function addSquareWords(block: usize, size: u64, shift: u64): void {
  const low = size * size
  const high = highOfSquare(size)
  // low:high (106 bits) << 2 * shift, 0..126: three words at most, from word `2 * shift / 64` on.
  const by = shift << 1
  const inner = by & 63
  const w0 = low << inner
  const w1 = (high << inner) | ((low >> 1) >> (63 - inner))
  const w2 = (high >> 1) >> (63 - inner)
  const target = block + (((by >> 6) << 3) as usize)
  const s0 = load<u64>(target, SLOT_SQUARES_AT) + w0
  store<u64>(target, s0, SLOT_SQUARES_AT)
  const c0 = (s0 < w0) as u64
  const t1 = load<u64>(target, SLOT_SQUARES_AT + 8) + w1
  const s1 = t1 + c0
  store<u64>(target, s1, SLOT_SQUARES_AT + 8)
  const c1 = ((t1 < w1) as u64) + ((s1 < t1) as u64)
  const s2 = load<u64>(target, SLOT_SQUARES_AT + 16) + w2 + c1
  store<u64>(target, s2, SLOT_SQUARES_AT + 16)
  // From the lower words a carry may go one word further; it ends there: the top bit moves everything to the wide block.
  if (by < 64 && (s2 < w2 || (s2 == w2 && c1 != 0))) {
    store<u64>(block, load<u64>(block, SLOT_SQUARES_AT + 24) + 1, SLOT_SQUARES_AT + 24)
  }
  if (load<i64>(block, SLOT_SQUARES_AT + 24) < 0) spillSquares(block)
}

/** Moves the slot's sum to its wide block. */
function spillSum(block: usize): void {
  addLimbs(wideOf(block + SLOT_WIDE_AT), WIDE_SUM_BASE, WIDE_SUM_LIMBS, block + SLOT_SUM_AT, -2, 4)
  memory.fill(block + SLOT_SUM_AT, 0, 16)
}

/** Moves the slot's squares to its wide block: their top bit is set, and it is no sign. */
function spillSquares(block: usize): void {
  const wide = wideOf(block + SLOT_WIDE_AT)
  addLimbs(wide + WIDE_SQUARES_AT, WIDE_SQUARES_BASE, WIDE_SQUARES_LIMBS, block + SLOT_SQUARES_AT, -4, 8)
  // Read as signed they were 2^256 / 2^128 too low: limb 4.
  addShifted(wide + WIDE_SQUARES_AT, WIDE_SQUARES_LIMBS, 1, 0, 32 * (4 - WIDE_SQUARES_BASE))
  memory.fill(block + SLOT_SQUARES_AT, 0, 32)
}
