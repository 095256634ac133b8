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

export function lowerMin(type: i32, into: usize, from: usize): void {
  if (type == TYPE_F64) {
    if (load<f64>(from) < load<f64>(into)) store<f64>(into, load<f64>(from))
  } else if (type == TYPE_I64) {
    if (load<i64>(from) < load<i64>(into)) store<i64>(into, load<i64>(from))
  } else if (lessDecimal(load<u64>(from), load<i64>(from, 8), load<u64>(into), load<i64>(into, 8))) {
    memory.copy(into, from, 16)
  }
}

export function raiseMax(type: i32, into: usize, from: usize): void {
  if (type == TYPE_F64) {
    if (load<f64>(from) > load<f64>(into)) store<f64>(into, load<f64>(from))
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
    const value = load<f64>(at)
    low = value < low ? value : low
  }
  store<f64>(into, low)
}

export function highestOf(into: usize, at: usize, stride: usize, count: i32): void {
  let high = load<f64>(into)
  for (let i = 0; i < count; i++, at += stride) {
    const value = load<f64>(at)
    high = value > high ? value : high
  }
  store<f64>(into, high)
}

export function lessDecimal(aLo: u64, aHi: i64, bLo: u64, bHi: i64): bool {
  return aHi < bHi || (aHi == bHi && aLo < bLo)
}
