// Tiles of the usual form into accumulators: one loop instead of one for each field.
import { NUMERIC_MAX, NUMERIC_MIN, NUMERIC_PARAM_N_WIDTH, NUMERIC_SUM, TILE_ROWS_AT, TYPE_F64 } from '../../layout'
import { PartialPlan } from '../../plan'
import { addToWords } from '../../exact'
import { SUM_AT, paramOf, paramSumBase, paramSumLimbs, sumBase } from './offsets'

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
