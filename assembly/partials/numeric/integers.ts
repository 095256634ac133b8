// Squares of 64-bit integers, and decimals: one cell into words.
import { NUMERIC_MAX, NUMERIC_MIN, NUMERIC_SQUARES, NUMERIC_SUM } from '../../layout'
import { PartialPlan } from '../../plan'
import { addLimbs, addToWords, highOfSquare } from '../../exact'
import { lessDecimal } from './bounds'

/** words (3) += value^2. */
@inline
export function addSquareI64(at: usize, value: i64): void {
  const size = (value < 0 ? 0 - value : value) as u64
  const low = size * size
  let high: u64 = size > 0xffff_ffff ? highOfSquare(size) : 0
  const s0 = load<u64>(at) + low
  store<u64>(at, s0)
  high += (s0 < low) as u64
  const s1 = load<u64>(at, 8) + high
  store<u64>(at, s1, 8)
  if (s1 < high) store<u64>(at, load<u64>(at, 16) + 1, 16)
}

const product = memory.data(40, 8)

/** Adds one decimal to 3 words of sum, 5 of squares, min and max, as flagged. */
export function addDecimal(plan: PartialPlan, cell: usize, sum: usize, squares: usize, low: usize, high: usize): void {
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
