// Min and max: their neutral elements, and taking one more value.
import { TYPE_F64, TYPE_I64 } from '../../layout'

export function storeHighest(type: i32, at: usize): void {
  if (type == TYPE_F64) store<f64>(at, Infinity)
  else if (type == TYPE_I64) store<i64>(at, i64.MAX_VALUE)
  else {
    store<u64>(at, u64.MAX_VALUE)
    store<i64>(at, i64.MAX_VALUE, 8)
  }
}

export function storeLowest(type: i32, at: usize): void {
  if (type == TYPE_F64) store<f64>(at, -Infinity)
  else if (type == TYPE_I64) store<i64>(at, i64.MIN_VALUE)
  else {
    store<u64>(at, 0)
    store<i64>(at, i64.MIN_VALUE, 8)
  }
}

/** `value` where it is less than `low`, else `low`. With SIMD one instruction instead of a branch that nobody can guess. */
@inline
export function lesser(low: f64, value: f64): f64 {
  if (ASC_FEATURE_SIMD) return f64x2.extract_lane(f64x2.pmin(f64x2.splat(low), f64x2.splat(value)), 0)
  return value < low ? value : low
}

@inline
export function greater(high: f64, value: f64): f64 {
  if (ASC_FEATURE_SIMD) return f64x2.extract_lane(f64x2.pmax(f64x2.splat(high), f64x2.splat(value)), 0)
  return value > high ? value : high
}

export function lowerMin(type: i32, into: usize, from: usize): void {
  if (type == TYPE_F64) {
    store<f64>(into, lesser(load<f64>(into), load<f64>(from)))
  } else if (type == TYPE_I64) {
    if (load<i64>(from) < load<i64>(into)) store<i64>(into, load<i64>(from))
  } else if (lessDecimal(load<u64>(from), load<i64>(from, 8), load<u64>(into), load<i64>(into, 8))) {
    memory.copy(into, from, 16)
  }
}

export function raiseMax(type: i32, into: usize, from: usize): void {
  if (type == TYPE_F64) {
    store<f64>(into, greater(load<f64>(into), load<f64>(from)))
  } else if (type == TYPE_I64) {
    if (load<i64>(from) > load<i64>(into)) store<i64>(into, load<i64>(from))
  } else if (lessDecimal(load<u64>(into), load<i64>(into, 8), load<u64>(from), load<i64>(from, 8))) {
    memory.copy(into, from, 16)
  }
}

/** Doubles of `count` tiles: a loop that keeps its minimum in a register. */
export function lowestOf(into: usize, at: usize, stride: usize, count: i32): void {
  let low = load<f64>(into)
  for (let i = 0; i < count; i++, at += stride) {
    low = lesser(low, load<f64>(at))
  }
  store<f64>(into, low)
}

export function highestOf(into: usize, at: usize, stride: usize, count: i32): void {
  let high = load<f64>(into)
  for (let i = 0; i < count; i++, at += stride) {
    high = greater(high, load<f64>(at))
  }
  store<f64>(into, high)
}

export function lessDecimal(aLo: u64, aHi: i64, bLo: u64, bHi: i64): bool {
  return aHi < bHi || (aHi == bHi && aLo < bLo)
}
