/**
 * numeric: count of non-null cells of one column and, as flagged, exact sum, exact sum of squares, min, max.
 *
 *   laws        commutative, associative, exact; count, sum and squares are invertible, min and max are not
 *   error       none: sums are integers in limbs (exact.ts), rounded once when read
 *   source      Kulisch's long accumulator, trimmed per run
 *   types       F64 (finite, no -0), I64 (also BOOL as 0 / 1), DEC (128-bit integers), UTF8 (count only)
 *
 *   slot        n u32 · wide u32 (F64) · sum · min · max · squares, cut behind the last one that is flagged
 *                 sum      F64 2 words, lowest bit 2^-64 · I64 2 words · DEC 3 words
 *                 squares  F64 4 words, lowest bit 2^-128 · I64 3 words · DEC 5 words
 *               fields lie at constants from the block's start: an add less for each access of the hot loops
 *   accumulator n i64 · wide u32, pad · sum F64 4, I64 2, DEC 3 words · squares F64 6, I64 3, DEC 5 words · min · max
 *   tile        n (0, 4 or 8 bytes) · sum limbs · squares limbs · min · max
 *
 * Doubles with 2^-12 <= |v| < 2^52 go to the words; the others, and what overflows the words, to the wide block.
 */
import {
  EDGE_LAST,
  NUMERIC_MAX,
  NUMERIC_MIN,
  NUMERIC_PARAM_N_WIDTH,
  NUMERIC_PARAM_SQUARES_BASE,
  NUMERIC_PARAM_SQUARES_LIMBS,
  NUMERIC_PARAM_SUM_BASE,
  NUMERIC_PARAM_SUM_LIMBS,
  NUMERIC_SQUARES,
  NUMERIC_SUM,
  OP_COUNT,
  OP_MAX,
  OP_MEAN,
  OP_MIN,
  OP_STDDEV_POP,
  OP_STDDEV_SAMP,
  OP_SUM,
  OP_VAR_POP,
  OP_VAR_SAMP,
  RAW_NULLS_AT,
  STATUS_EMPTY,
  STATUS_OK,
  STATUS_OVERFLOW,
  TILE_ROWS_AT,
  TYPE_DEC,
  TYPE_F64,
  TYPE_I64,
} from '../layout'
import { PartialPlan, column, rawBytes } from '../plan'
import { Register } from '../columns'
import { Run, Shape } from './partial'
import {
  WIDE_BYTES,
  WIDE_SQUARES_AT,
  WIDE_SQUARES_BASE,
  WIDE_SQUARES_LIMBS,
  WIDE_SUM_BASE,
  WIDE_SUM_LIMBS,
  addLimbs,
  addShifted,
  addToWords,
  addWords,
  lowestLimb,
  meanOf,
  newWide,
  releaseWide,
  roundToDouble,
  roundWords,
  signedLimbs,
  storeLimbs,
  varianceOf,
} from '../exact'

// ---- sizes ---------------------------------------------------------------------------------------------------------

function valueBytes(plan: PartialPlan): i32 {
  return plan.type == TYPE_DEC ? 16 : 8
}

function slotSumWords(type: i32): i32 {
  return type == TYPE_DEC ? 3 : 2
}

function slotSquaresWords(type: i32): i32 {
  return type == TYPE_F64 ? 4 : type == TYPE_I64 ? 3 : 5
}

function sumWords(type: i32): i32 {
  return type == TYPE_F64 ? 4 : type == TYPE_I64 ? 2 : 3
}

function squaresWords(type: i32): i32 {
  return type == TYPE_F64 ? 6 : type == TYPE_I64 ? 3 : 5
}

/** Limb index of the lowest limb of an accumulator's words. */
function sumBase(type: i32): i32 {
  return type == TYPE_F64 ? -2 : 0
}

function squaresBase(type: i32): i32 {
  return type == TYPE_F64 ? -4 : 0
}

/** Bytes of the slot's block. */
export function numericSlotBytes(plan: PartialPlan): i32 {
  if (plan.flags & NUMERIC_SQUARES) return slotSquaresAt(plan) + (slotSquaresWords(plan.type) << 3)
  if (plan.flags & (NUMERIC_MIN | NUMERIC_MAX)) return slotSquaresAt(plan)
  return plan.flags & NUMERIC_SUM ? slotMinAt(plan) : (SLOT_SUM_AT as i32)
}

export function numericAccBytes(plan: PartialPlan): usize {
  return (maxAt(plan) + (plan.flags & NUMERIC_MAX ? valueBytes(plan) : 0)) as usize
}

function hasWide(plan: PartialPlan): bool {
  return plan.type == TYPE_F64 && (plan.flags & (NUMERIC_SUM | NUMERIC_SQUARES)) != 0
}

// Offsets in an accumulator, from its own start, where n is.
const WIDE_AT: usize = 8
const SUM_AT: usize = 16

function squaresAt(plan: PartialPlan): i32 {
  return 16 + (plan.flags & NUMERIC_SUM ? sumWords(plan.type) << 3 : 0)
}

function minAt(plan: PartialPlan): i32 {
  return squaresAt(plan) + (plan.flags & NUMERIC_SQUARES ? squaresWords(plan.type) << 3 : 0)
}

function maxAt(plan: PartialPlan): i32 {
  return minAt(plan) + (plan.flags & NUMERIC_MIN ? valueBytes(plan) : 0)
}

// Offsets in a slot, from the block's start (plan.slotAt). The constants are those of the 8-byte types.
const SLOT_WIDE_AT: usize = 4
const SLOT_SUM_AT: usize = 8
const SLOT_MIN_AT: usize = 24
const SLOT_MAX_AT: usize = 32
const SLOT_SQUARES_AT: usize = 40

function slotMinAt(plan: PartialPlan): i32 {
  return (SLOT_SUM_AT as i32) + (slotSumWords(plan.type) << 3)
}

function slotMaxAt(plan: PartialPlan): i32 {
  return slotMinAt(plan) + valueBytes(plan)
}

function slotSquaresAt(plan: PartialPlan): i32 {
  return slotMaxAt(plan) + valueBytes(plan)
}

// ---- slots ---------------------------------------------------------------------------------------------------------

export function numericInitSlot(plan: PartialPlan, slot: usize): void {
  const block = slot + (plan.slotAt as usize)
  memory.fill(block, 0, numericSlotBytes(plan) as usize)
  if (plan.flags & (NUMERIC_MIN | NUMERIC_MAX)) {
    storeHighest(plan.type, block + (slotMinAt(plan) as usize))
    storeLowest(plan.type, block + (slotMaxAt(plan) as usize))
  }
}

function storeHighest(type: i32, at: usize): void {
  if (type == TYPE_F64) store<f64>(at, Infinity)
  else if (type == TYPE_I64) store<i64>(at, i64.MAX_VALUE)
  else {
    store<u64>(at, u64.MAX_VALUE)
    store<i64>(at, i64.MAX_VALUE, 8)
  }
}

function storeLowest(type: i32, at: usize): void {
  if (type == TYPE_F64) store<f64>(at, -Infinity)
  else if (type == TYPE_I64) store<i64>(at, i64.MIN_VALUE)
  else {
    store<u64>(at, 0)
    store<i64>(at, i64.MIN_VALUE, 8)
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

/** HOT. The forms that views mostly have are loops of their own; the others look at their flags event by event. */
function foldF64(
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
  const a0 = size & 0xffff_ffff
  const a1 = size >> 32
  const cross = a0 * a1
  const low0 = a0 * a0
  const mid = (low0 >> 32) + ((cross & 0xffff_ffff) << 1)
  const low = (mid << 32) | (low0 & 0xffff_ffff)
  const high = a1 * a1 + ((cross >> 32) << 1) + (mid >> 32)
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

/** After a copy: a wide block of the accumulator's own. */
export function numericOwnWide(plan: PartialPlan, acc: usize): void {
  if (!hasWide(plan)) return
  const wide = load<u32>(acc, WIDE_AT) as usize
  if (wide == 0) return
  store<u32>(acc, 0, WIDE_AT)
  memory.copy(wideOf(acc + WIDE_AT), wide, WIDE_BYTES)
}

/** The wide block of the 4-byte field at `at`, made when there is none. */
function wideOf(at: usize): usize {
  let wide = load<u32>(at) as usize
  if (wide == 0) {
    wide = newWide()
    store<u32>(at, wide as u32)
  }
  return wide
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

/** wide sum += the finite double. */
function addWideSum(wide: usize, bits: u64): void {
  const biased = ((bits >> 52) as i32) & 0x7ff
  const fraction = bits & 0xf_ffff_ffff_ffff
  const mantissa = biased == 0 ? fraction : fraction | 0x10_0000_0000_0000
  // Lowest bit 2^(exponent - 1075), counted from 2^(32 * WIDE_SUM_BASE).
  const bit = max(biased, 1) - 1075 - 32 * WIDE_SUM_BASE
  const signed = (bits as i64) < 0
  addShifted(wide, WIDE_SUM_LIMBS, signed ? (0 - mantissa) : mantissa, signed && mantissa != 0 ? -1 : 0, bit)
}

/** wide squares += the finite double's square. */
function addWideSquare(wide: usize, bits: u64): void {
  const biased = ((bits >> 52) as i32) & 0x7ff
  const fraction = bits & 0xf_ffff_ffff_ffff
  const mantissa = biased == 0 ? fraction : fraction | 0x10_0000_0000_0000
  const a0 = mantissa & 0xffff_ffff
  const a1 = mantissa >> 32
  const cross = a0 * a1
  const low0 = a0 * a0
  const mid = (low0 >> 32) + (cross & 0xffff_ffff) * 2
  const low = (mid << 32) | (low0 & 0xffff_ffff)
  const high = a1 * a1 + ((cross >> 32) << 1) + (mid >> 32)
  const bit = 2 * (max(biased, 1) - 1075) - 32 * WIDE_SQUARES_BASE
  addShifted(wide + WIDE_SQUARES_AT, WIDE_SQUARES_LIMBS, low, high as i64, bit)
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

/** words (3) += value^2. */
@inline
function addSquareI64(at: usize, value: i64): void {
  const size = (value < 0 ? 0 - value : value) as u64
  let low = size * size
  let high: u64 = 0
  if (size > 0xffff_ffff) {
    const a0 = size & 0xffff_ffff
    const a1 = size >> 32
    const cross = a0 * a1
    const low0 = a0 * a0
    const mid = (low0 >> 32) + (cross & 0xffff_ffff) * 2
    high = a1 * a1 + ((cross >> 32) << 1) + (mid >> 32)
  }
  const s0 = load<u64>(at) + low
  store<u64>(at, s0)
  high += (s0 < low) as u64
  const s1 = load<u64>(at, 8) + high
  store<u64>(at, s1, 8)
  if (s1 < high) store<u64>(at, load<u64>(at, 16) + 1, 16)
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

const product = memory.data(40, 8)

/** Adds one decimal to 3 words of sum, 5 of squares, min and max, as flagged. */
function addDecimal(plan: PartialPlan, cell: usize, sum: usize, squares: usize, low: usize, high: usize): void {
  const lo = load<u64>(cell)
  const hi = load<i64>(cell, 8)
  if (plan.flags & NUMERIC_SUM) addToWords(sum, 3, lo, hi, 0)
  if (plan.flags & NUMERIC_SQUARES) {
    squareDecimal(lo, hi)
    addLimbs(squares, 0, 10, product, 0, 9)
  }
  if (plan.flags & NUMERIC_MIN && lessDecimal(lo, hi, load<u64>(low), load<i64>(low, 8))) {
    store<u64>(low, lo)
    store<i64>(low, hi, 8)
  }
  if (plan.flags & NUMERIC_MAX && lessDecimal(load<u64>(high), load<i64>(high, 8), lo, hi)) {
    store<u64>(high, lo)
    store<i64>(high, hi, 8)
  }
}

function lessDecimal(aLo: u64, aHi: i64, bLo: u64, bHi: i64): bool {
  return aHi < bHi || (aHi == bHi && aLo < bLo)
}

/** product (8 limbs and a zero) = (hi:lo)^2. */
function squareDecimal(lo: u64, hi: i64): void {
  if (hi < 0) {
    lo = 0 - lo
    hi = ~hi + (lo == 0 ? 1 : 0)
  }
  memory.fill(product, 0, 40)
  for (let i = 0; i < 4; i++) {
    const x = decimalLimb(lo, hi as u64, i)
    let carry: u64 = 0
    for (let j = 0; j < 4; j++) {
      const at = product + (((i + j) as usize) << 2)
      carry += (load<u32>(at) as u64) + x * decimalLimb(lo, hi as u64, j)
      store<u32>(at, carry as u32)
      carry >>= 32
    }
    store<u32>(product + (((i + 4) as usize) << 2), carry as u32)
  }
}

@inline
function decimalLimb(lo: u64, hi: u64, i: i32): u64 {
  const word = i < 2 ? lo : hi
  return (i & 1) == 0 ? word & 0xffff_ffff : word >> 32
}

/** Gives back what the slot holds outside itself. */
export function numericDropSlot(plan: PartialPlan, slot: usize): void {
  if (hasWide(plan)) {
    const wide = load<u32>(slot + (plan.slotAt as usize), SLOT_WIDE_AT) as usize
    if (wide != 0) releaseWide(wide)
  }
}

// ---- accumulators --------------------------------------------------------------------------------------------------

export function numericInitAcc(plan: PartialPlan, acc: usize): void {
  const low = minAt(plan)
  for (let at: i32 = 0; at < low; at += 8) store<u64>(acc + (at as usize), 0)
  if (plan.flags & NUMERIC_MIN) storeHighest(plan.type, acc + (low as usize))
  if (plan.flags & NUMERIC_MAX) storeLowest(plan.type, acc + (maxAt(plan) as usize))
}

export function numericDropAcc(plan: PartialPlan, acc: usize): void {
  if (!hasWide(plan)) return
  const wide = load<u32>(acc, WIDE_AT) as usize
  if (wide != 0) releaseWide(wide)
}

function addWides(into: usize, from: usize): void {
  addLimbs(into, WIDE_SUM_BASE, WIDE_SUM_LIMBS, from, WIDE_SUM_BASE, WIDE_SUM_LIMBS)
  addLimbs(
    into + WIDE_SQUARES_AT,
    WIDE_SQUARES_BASE,
    WIDE_SQUARES_LIMBS,
    from + WIDE_SQUARES_AT,
    WIDE_SQUARES_BASE,
    WIDE_SQUARES_LIMBS,
  )
}

function lowerMin(type: i32, into: usize, from: usize): void {
  if (type == TYPE_F64) {
    if (load<f64>(from) < load<f64>(into)) store<f64>(into, load<f64>(from))
  } else if (type == TYPE_I64) {
    if (load<i64>(from) < load<i64>(into)) store<i64>(into, load<i64>(from))
  } else if (lessDecimal(load<u64>(from), load<i64>(from, 8), load<u64>(into), load<i64>(into, 8))) {
    memory.copy(into, from, 16)
  }
}

function raiseMax(type: i32, into: usize, from: usize): void {
  if (type == TYPE_F64) {
    if (load<f64>(from) > load<f64>(into)) store<f64>(into, load<f64>(from))
  } else if (type == TYPE_I64) {
    if (load<i64>(from) > load<i64>(into)) store<i64>(into, load<i64>(from))
  } else if (lessDecimal(load<u64>(into), load<i64>(into, 8), load<u64>(from), load<i64>(from, 8))) {
    memory.copy(into, from, 16)
  }
}

export function numericAddSlot(plan: PartialPlan, acc: usize, slot: usize): void {
  const type = plan.type
  const block = slot + (plan.slotAt as usize)
  store<i64>(acc, load<i64>(acc) + (load<u32>(block) as i64))
  if (hasWide(plan)) {
    const wide = load<u32>(block, SLOT_WIDE_AT) as usize
    if (wide != 0) addWides(wideOf(acc + WIDE_AT), wide)
  }
  if (plan.flags & NUMERIC_SUM) addWords(acc + SUM_AT, sumWords(type), block + SLOT_SUM_AT, slotSumWords(type))
  if (plan.flags & NUMERIC_SQUARES) {
    const at = block + (slotSquaresAt(plan) as usize)
    addWords(acc + (squaresAt(plan) as usize), squaresWords(type), at, slotSquaresWords(type))
  }
  if (plan.flags & NUMERIC_MIN) lowerMin(type, acc + (minAt(plan) as usize), block + (slotMinAt(plan) as usize))
  if (plan.flags & NUMERIC_MAX) raiseMax(type, acc + (maxAt(plan) as usize), block + (slotMaxAt(plan) as usize))
}

export function numericAddAcc(plan: PartialPlan, into: usize, from: usize): void {
  const type = plan.type
  store<i64>(into, load<i64>(into) + load<i64>(from))
  if (hasWide(plan)) {
    const wide = load<u32>(from, WIDE_AT) as usize
    if (wide != 0) addWides(wideOf(into + WIDE_AT), wide)
  }
  if (plan.flags & NUMERIC_SUM) {
    addWords(into + SUM_AT, sumWords(type), from + SUM_AT, sumWords(type))
  }
  if (plan.flags & NUMERIC_SQUARES) {
    const at = squaresAt(plan) as usize
    addWords(into + at, squaresWords(type), from + at, squaresWords(type))
  }
  if (plan.flags & NUMERIC_MIN) lowerMin(type, into + (minAt(plan) as usize), from + (minAt(plan) as usize))
  if (plan.flags & NUMERIC_MAX) raiseMax(type, into + (maxAt(plan) as usize), from + (maxAt(plan) as usize))
}

export function numericAddEvents(plan: PartialPlan, acc: usize, first: usize, count: i32): void {
  const type = plan.type
  for (let i = 0, event = first; i < count; i++, event += rawBytes) {
    if ((load<u32>(event, RAW_NULLS_AT) & plan.nullBit) != 0) continue
    store<i64>(acc, load<i64>(acc) + 1)
    const cell = event + (plan.cellAt as usize)
    if (type == TYPE_DEC) {
      addDecimal(
        plan,
        cell,
        acc + SUM_AT,
        acc + (squaresAt(plan) as usize),
        acc + (minAt(plan) as usize),
        acc + (maxAt(plan) as usize),
      )
      continue
    }
    if (type == TYPE_I64) {
      const value = load<i64>(cell)
      if (plan.flags & NUMERIC_SUM) addToWords(acc + SUM_AT, 2, value as u64, value >> 63, 0)
      if (plan.flags & NUMERIC_SQUARES) addSquareI64(acc + (squaresAt(plan) as usize), value)
    } else if (type == TYPE_F64) addEventF64(plan, acc, load<f64>(cell))
    if (plan.flags & NUMERIC_MIN) lowerMin(type, acc + (minAt(plan) as usize), cell)
    if (plan.flags & NUMERIC_MAX) raiseMax(type, acc + (maxAt(plan) as usize), cell)
  }
}

function addEventF64(plan: PartialPlan, acc: usize, value: f64): void {
  if (value == 0) return
  const bits = reinterpret<u64>(value)
  const exponent = ((bits >> 52) as u32) & 0x7ff
  if (exponent - 1011 <= 63) {
    const mantissa = (bits & 0xf_ffff_ffff_ffff) | 0x10_0000_0000_0000
    const shift = (exponent - 1011) as u64
    if (plan.flags & NUMERIC_SUM) {
      const sign = ((bits as i64) >> 63) as u64
      const low = ((mantissa << shift) ^ sign) - sign
      const high = (((mantissa >> 1) >> (63 - shift)) ^ sign) + ((sign & 1) & ((low == 0) as u64))
      addToWords(acc + SUM_AT, 4, low, high as i64, 0)
    }
    if (plan.flags & NUMERIC_SQUARES) {
      const a0 = mantissa & 0xffff_ffff
      const a1 = mantissa >> 32
      const cross = a0 * a1
      const low0 = a0 * a0
      const mid = (low0 >> 32) + (cross & 0xffff_ffff) * 2
      const low = (mid << 32) | (low0 & 0xffff_ffff)
      const high = a1 * a1 + ((cross >> 32) << 1) + (mid >> 32)
      addShifted(acc + (squaresAt(plan) as usize), squaresWords(TYPE_F64) << 1, low, high as i64, (shift << 1) as i32)
    }
    return
  }
  const wide = wideOf(acc + WIDE_AT)
  if (plan.flags & NUMERIC_SUM) addWideSum(wide, bits)
  if (plan.flags & NUMERIC_SQUARES) addWideSquare(wide, bits)
}

// ---- tiles ---------------------------------------------------------------------------------------------------------

function paramOf(plan: PartialPlan, params: usize): usize {
  return params + (plan.paramAt as usize)
}

function paramSumBase(param: usize): i32 {
  return load<i8>(param, NUMERIC_PARAM_SUM_BASE) as i32
}

function paramSumLimbs(param: usize): i32 {
  return load<u8>(param, NUMERIC_PARAM_SUM_LIMBS) as i32
}

function paramSquaresBase(param: usize): i32 {
  return load<i8>(param, NUMERIC_PARAM_SQUARES_BASE) as i32
}

function paramSquaresLimbs(param: usize): i32 {
  return load<u8>(param, NUMERIC_PARAM_SQUARES_LIMBS) as i32
}

/** Bytes of a cell under these parameters, or -1 when they can't be: a double's limbs, an integer's words, zero padding. */
export function numericCellBytes(plan: PartialPlan, params: usize): i32 {
  const param = paramOf(plan, params)
  const width = load<u8>(param, NUMERIC_PARAM_N_WIDTH)
  if (width != 0 && width != 4 && width != 8) return -1
  if (load<u16>(param, 5) != 0 || load<u8>(param, 7) != 0) return -1
  const sumFits = plan.flags & NUMERIC_SUM
    ? limbsFit(plan.type, paramSumBase(param), paramSumLimbs(param), WIDE_SUM_BASE, WIDE_SUM_LIMBS, sumWords(plan.type))
    : load<u16>(param, NUMERIC_PARAM_SUM_BASE) == 0
  const squaresFit = plan.flags & NUMERIC_SQUARES
    ? limbsFit(
        plan.type,
        paramSquaresBase(param),
        paramSquaresLimbs(param),
        WIDE_SQUARES_BASE,
        WIDE_SQUARES_LIMBS,
        squaresWords(plan.type),
      )
    : load<u16>(param, NUMERIC_PARAM_SQUARES_BASE) == 0
  if (!sumFits || !squaresFit) return -1
  let bytes = (width as i32) + ((paramSumLimbs(param) + paramSquaresLimbs(param)) << 2)
  if (plan.flags & NUMERIC_MIN) bytes += valueBytes(plan)
  if (plan.flags & NUMERIC_MAX) bytes += valueBytes(plan)
  return bytes
}

function limbsFit(type: i32, base: i32, limbs: i32, wideBase: i32, wideLimbs: i32, words: i32): bool {
  if (type == TYPE_F64) return base >= wideBase && base + limbs <= wideBase + wideLimbs
  return base >= 0 && base + limbs <= words << 1
}

/**
 * HOT. acc += `count` tiles of a run from `first` on, whose cells of this partial lie at `cellAt`; `rows` is the sum of the
 * tiles' rows.
 */
export function numericAddTiles(
  plan: PartialPlan,
  acc: usize,
  run: Run,
  first: usize,
  cellAt: usize,
  count: i32,
  rows: i64,
): void {
  const param = paramOf(plan, run.params)
  const stride = run.stride
  const flags = plan.flags
  const type = plan.type
  const width = load<u8>(param, NUMERIC_PARAM_N_WIDTH) as usize
  let at = first + cellAt

  // Counts of their own, where some cell is null.
  let total = rows
  if (width != 0) {
    total = 0
    for (let i = 0, cell = at; i < count; i++, cell += stride) {
      total += width == 8 ? load<i64>(cell) : (load<i32>(cell) as i64)
    }
  }
  store<i64>(acc, load<i64>(acc) + total)
  at += width

  const sumLimbs = paramSumLimbs(param)
  const squaresLimbs = paramSquaresLimbs(param)
  if (sumLimbs != 0) {
    sumTiles(acc, acc + SUM_AT, sumBase(type), sumWords(type), 0, at, paramSumBase(param), sumLimbs, stride, count)
    at += (sumLimbs as usize) << 2
  }
  if (squaresLimbs != 0) {
    const words = acc + (squaresAt(plan) as usize)
    const base = paramSquaresBase(param)
    sumTiles(acc, words, squaresBase(type), squaresWords(type), 1, at, base, squaresLimbs, stride, count)
    at += (squaresLimbs as usize) << 2
  }
  if (flags & NUMERIC_MIN) {
    const low = acc + (minAt(plan) as usize)
    if (type == TYPE_F64) lowestOf(low, at, stride, count)
    else for (let i = 0, cell = at; i < count; i++, cell += stride) lowerMin(type, low, cell)
    at += valueBytes(plan) as usize
  }
  if (flags & NUMERIC_MAX) {
    const high = acc + (maxAt(plan) as usize)
    if (type == TYPE_F64) highestOf(high, at, stride, count)
    else for (let i = 0, cell = at; i < count; i++, cell += stride) raiseMax(type, high, cell)
  }
}

function lowestOf(into: usize, at: usize, stride: usize, count: i32): void {
  let low = load<f64>(into)
  for (let i = 0; i < count; i++, at += stride) {
    const value = load<f64>(at)
    low = value < low ? value : low
  }
  store<f64>(into, low)
}

function highestOf(into: usize, at: usize, stride: usize, count: i32): void {
  let high = load<f64>(into)
  for (let i = 0; i < count; i++, at += stride) {
    const value = load<f64>(at)
    high = value > high ? value : high
  }
  store<f64>(into, high)
}

// Where min and max of a double lie in an accumulator that has a sum and no squares; they are neighbours in a cell, too.
const PLAIN_BOUNDS_AT: usize = 48

/**
 * The usual cell, [sum of 0 to 3 limbs within the words][min][max], as (limb of the words << 2 | limbs); else -1. Only for
 * the first partial of a run whose rows are u32, so that everything lies at constants.
 */
export function numericPlainForm(plan: PartialPlan, params: usize): i32 {
  const param = paramOf(plan, params)
  if (plan.type != TYPE_F64 || plan.flags != (NUMERIC_SUM | NUMERIC_MIN | NUMERIC_MAX)) return -1
  const limb = paramSumBase(param) - sumBase(TYPE_F64)
  const limbs = paramSumLimbs(param)
  if (load<u8>(param, NUMERIC_PARAM_N_WIDTH) != 0 || limbs > 3 || limb < 0 || limb > 3) return -1
  return (limb << 2) | limbs
}

/** HOT. acc += `count` tiles from `first` on, in one pass; returns their rows. */
export function numericAddPlainTiles(acc: usize, form: i32, first: usize, stride: usize, count: i32): i64 {
  const limbs = form & 3
  const end = first + (count as usize) * stride
  const rows =
    limbs == 3
      ? addPlain(acc, first, end, stride, 3, form >> 2)
      : limbs == 2
        ? addPlain(acc, first, end, stride, 2, form >> 2)
        : limbs == 1
          ? addPlain(acc, first, end, stride, 1, form >> 2)
          : addPlain(acc, first, end, stride, 0, 0)
  store<i64>(acc, load<i64>(acc) + rows)
  return rows
}

const PLAIN_CELL_AT: usize = TILE_ROWS_AT + 4

/** Limbs are added up each on its own, and carry once at the end: no sum of 2^31 tiles leaves an i64. */
@inline
function addPlain(acc: usize, at: usize, end: usize, stride: usize, limbs: i32, limb: i32): i64 {
  let rows: i64 = 0
  let sum0: i64 = 0
  let sum1: i64 = 0
  let sum2: i64 = 0
  if (ASC_FEATURE_SIMD) {
    // Lanes 0 of the lows and 1 of the highs count; the others are the price of one load.
    let lows = v128.load(acc, PLAIN_BOUNDS_AT)
    let highs = lows
    for (; at < end; at += stride) {
      rows += load<i32>(at, TILE_ROWS_AT) as i64
      if (limbs == 1) sum0 += load<i32>(at, PLAIN_CELL_AT) as i64
      if (limbs >= 2) sum0 += load<u32>(at, PLAIN_CELL_AT) as i64
      if (limbs == 2) sum1 += load<i32>(at, PLAIN_CELL_AT + 4) as i64
      if (limbs == 3) {
        sum1 += load<u32>(at, PLAIN_CELL_AT + 4) as i64
        sum2 += load<i32>(at, PLAIN_CELL_AT + 8) as i64
      }
      const bounds = v128.load(at + ((limbs as usize) << 2), PLAIN_CELL_AT)
      lows = f64x2.pmin(lows, bounds)
      highs = f64x2.pmax(highs, bounds)
    }
    store<f64>(acc, f64x2.extract_lane(lows, 0), PLAIN_BOUNDS_AT)
    store<f64>(acc, f64x2.extract_lane(highs, 1), PLAIN_BOUNDS_AT + 8)
  } else {
    let low = load<f64>(acc, PLAIN_BOUNDS_AT)
    let high = load<f64>(acc, PLAIN_BOUNDS_AT + 8)
    for (; at < end; at += stride) {
      rows += load<i32>(at, TILE_ROWS_AT) as i64
      if (limbs == 1) sum0 += load<i32>(at, PLAIN_CELL_AT) as i64
      if (limbs >= 2) sum0 += load<u32>(at, PLAIN_CELL_AT) as i64
      if (limbs == 2) sum1 += load<i32>(at, PLAIN_CELL_AT + 4) as i64
      if (limbs == 3) {
        sum1 += load<u32>(at, PLAIN_CELL_AT + 4) as i64
        sum2 += load<i32>(at, PLAIN_CELL_AT + 8) as i64
      }
      const least = load<f64>(at + ((limbs as usize) << 2), PLAIN_CELL_AT)
      const most = load<f64>(at + ((limbs as usize) << 2), PLAIN_CELL_AT + 8)
      low = least < low ? least : low
      high = most > high ? most : high
    }
    store<f64>(acc, low, PLAIN_BOUNDS_AT)
    store<f64>(acc, high, PLAIN_BOUNDS_AT + 8)
  }
  if (limbs != 0) {
    const low = (sum0 as u64) + ((sum1 as u64) << 32)
    const carry = (low < (sum1 as u64) << 32) as i64
    addToWords(acc + SUM_AT, 4, low, (sum0 >> 63) + (sum1 >> 32) + sum2 + carry, limb)
  }
  return rows
}

/** Adds a column of limb numbers: in the run's own units while they are short, then once to the accumulator. */
function sumTiles(
  acc: usize,
  words: usize,
  wordsBase: i32,
  wordCount: i32,
  squares: i32,
  at: usize,
  base: i32,
  limbs: i32,
  stride: usize,
  count: i32,
): void {
  const inWords = base >= wordsBase && base + limbs <= wordsBase + (wordCount << 1) - (wordsBase == 0 ? 0 : 2)
  if (!inWords) {
    const wide = wideOf(acc + WIDE_AT)
    for (let i = 0; i < count; i++, at += stride) {
      if (squares) addLimbs(wide + WIDE_SQUARES_AT, WIDE_SQUARES_BASE, WIDE_SQUARES_LIMBS, at, base, limbs)
      else addLimbs(wide, WIDE_SUM_BASE, WIDE_SUM_LIMBS, at, base, limbs)
    }
    return
  }
  const limb = base - wordsBase
  if (limbs == 1) {
    let sum: i64 = 0
    for (let i = 0; i < count; i++, at += stride) sum += load<i32>(at) as i64
    addToWords(words, wordCount, sum as u64, sum >> 63, limb)
  } else if (limbs == 2) {
    let low: u64 = 0
    let high: i64 = 0
    for (let i = 0; i < count; i++, at += stride) {
      const value = load<i64>(at)
      low += value as u64
      high += (value >> 63) + ((low < (value as u64)) as i64)
    }
    addToWords(words, wordCount, low, high, limb)
  } else if (limbs == 3) {
    let low: u64 = 0
    let high: i64 = 0
    for (let i = 0; i < count; i++, at += stride) {
      const value = load<u64>(at)
      low += value
      high += (load<i32>(at, 8) as i64) + ((low < value) as i64)
    }
    addToWords(words, wordCount, low, high, limb)
  } else {
    for (let i = 0; i < count; i++, at += stride) addLimbs(words, 0, wordCount << 1, at, limb, limbs)
  }
}

// ---- measuring and writing -----------------------------------------------------------------------------------------

/** Moves what the words hold into the wide block where there is one, so that one number is left to read. */
function settle(plan: PartialPlan, acc: usize): void {
  if (!hasWide(plan)) return
  const wide = load<u32>(acc, WIDE_AT) as usize
  if (wide == 0) return
  if (plan.flags & NUMERIC_SUM) {
    addLimbs(wide, WIDE_SUM_BASE, WIDE_SUM_LIMBS, acc + SUM_AT, -2, 8)
    memory.fill(acc + SUM_AT, 0, 32)
  }
  if (plan.flags & NUMERIC_SQUARES) {
    const at = acc + (squaresAt(plan) as usize)
    addLimbs(wide + WIDE_SQUARES_AT, WIDE_SQUARES_BASE, WIDE_SQUARES_LIMBS, at, -4, 12)
    memory.fill(at, 0, 48)
  }
}

// A settled accumulator's sum and squares: address, base, limbs.
let numberAt: usize = 0
let numberBase: i32 = 0
let numberLimbs: i32 = 0

function readSum(plan: PartialPlan, acc: usize): void {
  const wide = hasWide(plan) ? (load<u32>(acc, WIDE_AT) as usize) : 0
  numberAt = wide != 0 ? wide : acc + SUM_AT
  numberBase = wide != 0 ? WIDE_SUM_BASE : sumBase(plan.type)
  numberLimbs = wide != 0 ? WIDE_SUM_LIMBS : sumWords(plan.type) << 1
}

function readSquares(plan: PartialPlan, acc: usize): void {
  const wide = hasWide(plan) ? (load<u32>(acc, WIDE_AT) as usize) : 0
  numberAt = wide != 0 ? wide + WIDE_SQUARES_AT : acc + (squaresAt(plan) as usize)
  numberBase = wide != 0 ? WIDE_SQUARES_BASE : squaresBase(plan.type)
  numberLimbs = wide != 0 ? WIDE_SQUARES_LIMBS : squaresWords(plan.type) << 1
}

export function numericInitShape(shape: Shape): void {
  shape.countsDiffer = 0
  shape.sumLow = i32.MAX_VALUE
  shape.sumHigh = i32.MIN_VALUE
  shape.squaresLow = i32.MAX_VALUE
  shape.squaresHigh = i32.MIN_VALUE
}

/** A run whose counts all equal their tiles' rows keeps none of them. */
function measureCount(shape: Shape, n: i64, rows: i64): void {
  if (n != rows) shape.countsDiffer = 1
}

function measureSum(shape: Shape, value: usize, base: i32, limbs: i32): void {
  const high = signedLimbs(value, limbs)
  if (high == 0) return
  shape.sumLow = min(shape.sumLow, base + lowestLimb(value, limbs))
  shape.sumHigh = max(shape.sumHigh, base + high)
}

function measureSquares(shape: Shape, value: usize, base: i32, limbs: i32): void {
  const high = signedLimbs(value, limbs)
  if (high == 0) return
  shape.squaresLow = min(shape.squaresLow, base + lowestLimb(value, limbs))
  shape.squaresHigh = max(shape.squaresHigh, base + high)
}

export function numericMeasureAcc(plan: PartialPlan, shape: Shape, acc: usize, rows: i64): void {
  settle(plan, acc)
  measureCount(shape, load<i64>(acc), rows)
  if (plan.flags & NUMERIC_SUM) {
    readSum(plan, acc)
    measureSum(shape, numberAt, numberBase, numberLimbs)
  }
  if (plan.flags & NUMERIC_SQUARES) {
    readSquares(plan, acc)
    measureSquares(shape, numberAt, numberBase, numberLimbs)
  }
}

/** The union of what was measured so far and of a run's parameters. */
export function numericBoundShape(plan: PartialPlan, shape: Shape, bound: Shape, params: usize): void {
  const param = paramOf(plan, params)
  bound.countsDiffer = shape.countsDiffer | ((load<u8>(param, NUMERIC_PARAM_N_WIDTH) != 0) as i32)
  bound.sumLow = shape.sumLow
  bound.sumHigh = shape.sumHigh
  bound.squaresLow = shape.squaresLow
  bound.squaresHigh = shape.squaresHigh
  if (paramSumLimbs(param) != 0) {
    bound.sumLow = min(shape.sumLow, paramSumBase(param))
    bound.sumHigh = max(shape.sumHigh, paramSumBase(param) + paramSumLimbs(param))
  }
  if (paramSquaresLimbs(param) != 0) {
    bound.squaresLow = min(shape.squaresLow, paramSquaresBase(param))
    bound.squaresHigh = max(shape.squaresHigh, paramSquaresBase(param) + paramSquaresLimbs(param))
  }
}

export function numericMeasureTile(plan: PartialPlan, shape: Shape, run: Run, cell: usize, rows: i64): void {
  const param = paramOf(plan, run.params)
  measureCount(shape, cellCount(param, cell, rows), rows)
  let at = cell + (load<u8>(param, NUMERIC_PARAM_N_WIDTH) as usize)
  measureSum(shape, at, paramSumBase(param), paramSumLimbs(param))
  at += (paramSumLimbs(param) as usize) << 2
  measureSquares(shape, at, paramSquaresBase(param), paramSquaresLimbs(param))
}

function cellCount(param: usize, cell: usize, rows: i64): i64 {
  const width = load<u8>(param, NUMERIC_PARAM_N_WIDTH)
  return width == 0 ? rows : width == 4 ? (load<i32>(cell) as i64) : load<i64>(cell)
}

/** Writes the run's parameters. `rowsWidth`: a count can be no wider than a tile's rows. */
export function numericWriteParams(plan: PartialPlan, shape: Shape, params: usize, rowsWidth: i32): void {
  const param = paramOf(plan, params)
  store<u64>(param, 0)
  store<u8>(param, (shape.countsDiffer ? rowsWidth : 0) as u8, NUMERIC_PARAM_N_WIDTH)
  if (shape.sumHigh > shape.sumLow) {
    store<i8>(param, shape.sumLow as i8, NUMERIC_PARAM_SUM_BASE)
    store<u8>(param, (shape.sumHigh - shape.sumLow) as u8, NUMERIC_PARAM_SUM_LIMBS)
  }
  if (shape.squaresHigh > shape.squaresLow) {
    store<i8>(param, shape.squaresLow as i8, NUMERIC_PARAM_SQUARES_BASE)
    store<u8>(param, (shape.squaresHigh - shape.squaresLow) as u8, NUMERIC_PARAM_SQUARES_LIMBS)
  }
}

function writeCount(param: usize, cell: usize, n: i64): usize {
  const width = load<u8>(param, NUMERIC_PARAM_N_WIDTH)
  if (width == 4) store<i32>(cell, n as i32)
  else if (width == 8) store<i64>(cell, n)
  return cell + (width as usize)
}

export function numericWriteAcc(plan: PartialPlan, params: usize, cell: usize, acc: usize): void {
  const param = paramOf(plan, params)
  let at = writeCount(param, cell, load<i64>(acc))
  if (paramSumLimbs(param) != 0) {
    readSum(plan, acc)
    storeLimbs(at, paramSumBase(param), paramSumLimbs(param), numberAt, numberBase, numberLimbs)
    at += (paramSumLimbs(param) as usize) << 2
  }
  if (paramSquaresLimbs(param) != 0) {
    readSquares(plan, acc)
    storeLimbs(at, paramSquaresBase(param), paramSquaresLimbs(param), numberAt, numberBase, numberLimbs)
    at += (paramSquaresLimbs(param) as usize) << 2
  }
  const bytes = valueBytes(plan) as usize
  if (plan.flags & NUMERIC_MIN) {
    memory.copy(at, acc + (minAt(plan) as usize), bytes)
    at += bytes
  }
  if (plan.flags & NUMERIC_MAX) memory.copy(at, acc + (maxAt(plan) as usize), bytes)
}

/** A cell of another run, in this run's widths. */
export function numericCopyTile(plan: PartialPlan, params: usize, cell: usize, run: Run, from: usize, rows: i64): void {
  const param = paramOf(plan, params)
  const old = paramOf(plan, run.params)
  let at = writeCount(param, cell, cellCount(old, from, rows))
  from += load<u8>(old, NUMERIC_PARAM_N_WIDTH) as usize
  storeLimbs(at, paramSumBase(param), paramSumLimbs(param), from, paramSumBase(old), paramSumLimbs(old))
  at += (paramSumLimbs(param) as usize) << 2
  from += (paramSumLimbs(old) as usize) << 2
  storeLimbs(at, paramSquaresBase(param), paramSquaresLimbs(param), from, paramSquaresBase(old), paramSquaresLimbs(old))
  at += (paramSquaresLimbs(param) as usize) << 2
  from += (paramSquaresLimbs(old) as usize) << 2
  let bytes = 0
  if (plan.flags & NUMERIC_MIN) bytes += valueBytes(plan)
  if (plan.flags & NUMERIC_MAX) bytes += valueBytes(plan)
  memory.copy(at, from, bytes as usize)
}

// ---- values --------------------------------------------------------------------------------------------------------

/** Writes 16 bytes at `out` and returns a STATUS_: f64 in the first 8; int64 in the first 8; decimal in all 16. */
export function numericLower(plan: PartialPlan, acc: usize, op: i32, out: usize): i32 {
  const n = load<i64>(acc)
  if (op == OP_COUNT) {
    store<f64>(out, n as f64)
    return STATUS_OK
  }
  if (n == 0) return STATUS_EMPTY
  if (op == OP_MIN || op == OP_MAX) {
    memory.copy(out, acc + ((op == OP_MIN ? minAt(plan) : maxAt(plan)) as usize), valueBytes(plan) as usize)
    return STATUS_OK
  }
  settle(plan, acc)
  readSum(plan, acc)
  if (op == OP_SUM) return lowerSum(plan, out)
  const scale = plan.type == TYPE_DEC ? column(plan.column).scale : 0
  if (op == OP_MEAN) return finish(out, meanOf(numberAt, numberBase, numberLimbs, n, scale))

  const sample = op == OP_VAR_SAMP || op == OP_STDDEV_SAMP
  if (sample && n < 2) return STATUS_EMPTY
  const sum = numberAt
  const base = numberBase
  const limbs = numberLimbs
  readSquares(plan, acc)
  const divisor = sample ? n - 1 : n
  const variance = varianceOf(sum, base, limbs, numberAt, numberBase, numberLimbs, n, divisor, scale)
  if (op == OP_VAR_POP || op == OP_VAR_SAMP) return finish(out, variance)
  assert(op == OP_STDDEV_POP || op == OP_STDDEV_SAMP)
  return finish(out, Math.sqrt(variance))
}

function finish(out: usize, value: f64): i32 {
  store<f64>(out, value)
  return value == Infinity || value == -Infinity ? STATUS_OVERFLOW : STATUS_OK
}

// 10^38 = 0x4B3B4CA8_5A86C47A_098A2240_00000000
const DECIMAL_LIMIT_HIGH: i64 = 0x4b3b_4ca8_5a86_c47a
const DECIMAL_LIMIT_LOW: u64 = 0x098a_2240_0000_0000

function lowerSum(plan: PartialPlan, out: usize): i32 {
  if (plan.type == TYPE_F64) {
    if (numberBase == -2 && numberLimbs == 8) return finish(out, roundWords(numberAt))
    return finish(out, roundToDouble(numberAt, numberBase, numberLimbs))
  }
  const lo = load<u64>(numberAt)
  const hi = load<i64>(numberAt, 8)
  store<u64>(out, lo)
  if (plan.type == TYPE_I64) return hi == (lo as i64) >> 63 ? STATUS_OK : STATUS_OVERFLOW
  store<i64>(out, hi, 8)
  if (load<i64>(numberAt, 16) != hi >> 63) return STATUS_OVERFLOW
  let sizeLo = lo
  let sizeHi = hi
  if (hi < 0) {
    sizeLo = 0 - lo
    sizeHi = ~hi + (sizeLo == 0 ? 1 : 0)
  }
  const fits = sizeHi >= 0 && (sizeHi < DECIMAL_LIMIT_HIGH || (sizeHi == DECIMAL_LIMIT_HIGH && sizeLo < DECIMAL_LIMIT_LOW))
  return fits ? STATUS_OK : STATUS_OVERFLOW
}
