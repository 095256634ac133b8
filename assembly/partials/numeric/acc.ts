// Accumulators: what slots, raw events and other accumulators add up to.
import {
  NUMERIC_MAX,
  NUMERIC_MIN,
  NUMERIC_SQUARES,
  NUMERIC_SUM,
  RAW_NULLS_AT,
  TYPE_DEC,
  TYPE_F64,
  TYPE_I64,
} from '../../layout'
import { PartialPlan, rawBytes } from '../../plan'
import { WIDE_BYTES, addShifted, addToWords, addWords, highOfSquare, releaseWide } from '../../exact'
import {
  SLOT_SUM_AT,
  SLOT_WIDE_AT,
  SUM_AT,
  WIDE_AT,
  hasWide,
  maxAt,
  minAt,
  slotMaxAt,
  slotMinAt,
  slotSquaresAt,
  slotSquaresWords,
  slotSumWords,
  squaresAt,
  squaresWords,
  sumWords,
} from './offsets'
import { greater, lesser, lowerMin, raiseMax, storeHighest, storeLowest } from './bounds'
import { addWideSquare, addWideSum, addWides, wideOf } from './wide'
import { addDecimal, addSquareI64 } from './integers'

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

/** After a copy: a wide block of the accumulator's own. */
export function numericOwnWide(plan: PartialPlan, acc: usize): void {
  if (!hasWide(plan)) return
  const wide = load<u32>(acc, WIDE_AT) as usize
  if (wide == 0) return
  store<u32>(acc, 0, WIDE_AT)
  memory.copy(wideOf(acc + WIDE_AT), wide, WIDE_BYTES)
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
  if (type == TYPE_F64 && (plan.flags & NUMERIC_SQUARES) == 0) {
    addEventsF64(plan, acc, first, count)
    return
  }
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

/** Events whose sums of the usual size, at most so many of them, fit 128 bits. */
const SUMMED_MAX: i32 = 1 << 10

/** Doubles without squares: count, sum and bounds stay in registers. */
function addEventsF64(plan: PartialPlan, acc: usize, first: usize, count: i32): void {
  const cellAt = plan.cellAt as usize
  const nullBit = plan.nullBit
  const sums = (plan.flags & NUMERIC_SUM) != 0
  let lowest = Infinity
  let highest = -Infinity
  let n: i64 = 0
  let event = first
  while (count > 0) {
    const end = event + (min(count, SUMMED_MAX) as usize) * rawBytes
    count -= SUMMED_MAX
    let lo: u64 = 0
    let hi: i64 = 0
    for (; event < end; event += rawBytes) {
      if ((load<u32>(event, RAW_NULLS_AT) & nullBit) != 0) continue
      const value = load<f64>(event + cellAt)
      n++
      lowest = lesser(lowest, value)
      highest = greater(highest, value)
      if (!sums) continue
      const bits = reinterpret<u64>(value)
      const exponent = ((bits >> 52) as u32) & 0x7ff
      if (exponent - 1011 > 63) {
        addEventF64(plan, acc, value)
        continue
      }
      const mantissa = (bits & 0xf_ffff_ffff_ffff) | 0x10_0000_0000_0000
      const shift = (exponent - 1011) as u64
      const sign = ((bits as i64) >> 63) as u64
      const low = ((mantissa << shift) ^ sign) - sign
      const high = (((mantissa >> 1) >> (63 - shift)) ^ sign) + ((sign & 1) & ((low == 0) as u64))
      lo += low
      hi += (high as i64) + ((lo < low) as i64)
    }
    if (sums && (lo | (hi as u64)) != 0) addToWords(acc + SUM_AT, 4, lo, hi, 0)
  }
  store<i64>(acc, load<i64>(acc) + n)
  if (plan.flags & NUMERIC_MIN) {
    const at = acc + (minAt(plan) as usize)
    store<f64>(at, lesser(load<f64>(at), lowest))
  }
  if (plan.flags & NUMERIC_MAX) {
    const at = acc + (maxAt(plan) as usize)
    store<f64>(at, greater(load<f64>(at), highest))
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
      const squares = acc + (squaresAt(plan) as usize)
      const low = mantissa * mantissa
      addShifted(squares, squaresWords(TYPE_F64) << 1, low, highOfSquare(mantissa) as i64, (shift << 1) as i32)
    }
    return
  }
  const wide = wideOf(acc + WIDE_AT)
  if (plan.flags & NUMERIC_SUM) addWideSum(wide, bits)
  if (plan.flags & NUMERIC_SQUARES) addWideSquare(wide, bits)
}
