/**
 * LOAD: an input column, as the source laid it out, becomes a register. Where the two forms are the same (int64, uint64
 * in range, clean float64, decimal128, text) the register points into the input region and nothing is copied.
 *
 * What is no value of the register's type becomes a null cell here, once, so that no later step meets one: NaN and
 * infinities, integers above int64, decimals beyond 38 digits, text longer than TEXT_BYTES_LIMIT, instants out of range.
 */
import { scratch } from '../arena'
import { Register } from '../columns'
import {
  COLUMN_BIT_OFFSET,
  COLUMN_OFFSET_BASE,
  COLUMN_OFFSETS,
  COLUMN_PHYS,
  COLUMN_UNIT,
  COLUMN_VALID,
  COLUMN_VALUES,
  COLUMN_VALUES_BYTES,
  PHYS_BOOL,
  PHYS_DECIMAL128,
  PHYS_FLOAT32,
  PHYS_FLOAT64,
  PHYS_INT8,
  PHYS_INT16,
  PHYS_INT32,
  PHYS_INT64,
  PHYS_UINT8,
  PHYS_UINT16,
  PHYS_UINT32,
  PHYS_UINT64,
  PHYS_UTF8,
  TEXT_BYTES_LIMIT,
  TYPE_BOOL,
  TYPE_DEC,
  TYPE_F64,
  TYPE_I64,
  UNIT_DAY,
  UNIT_MS,
  UNIT_NS,
  UNIT_S,
  UNIT_US,
} from '../layout'
import { isDecimalInRange } from './decimal'
import { expandBits, ownMask } from './mask'

const EXPONENT: u64 = 0x7ff0_0000_0000_0000
const MINUS_ZERO: u64 = 0x8000_0000_0000_0000

/** `unit` 0 loads plain cells; any other loads instants, and the column's own unit, where it has one, wins. */
export function loadColumn(target: Register, column: usize, type: i32, unit: i32, n: i32): void {
  target.type = type
  target.valid = loadValid(column, n)
  target.offsets = 0
  target.step = 8
  if (type == TYPE_F64) loadFloats(target, column, n)
  else if (type == TYPE_I64) {
    loadInts(target, column, n)
    if (unit != 0) {
      const own = load<u32>(column, COLUMN_UNIT) as i32
      toMilliseconds(target, own == 0 ? unit : own, n)
    }
  } else if (type == TYPE_BOOL) loadBools(target, column, n)
  else if (type == TYPE_DEC) loadDecimals(target, column, n)
  else loadTexts(target, column, n)
}

/** The validity bitmap as a byte mask; 0 when there is none or nothing is null. */
function loadValid(column: usize, n: i32): usize {
  const bitmap = load<u32>(column, COLUMN_VALID) as usize
  if (bitmap == 0) return 0
  const mask = scratch(n)
  return expandBits(mask, bitmap, load<u32>(column, COLUMN_BIT_OFFSET), n) ? 0 : mask
}

function loadBools(target: Register, column: usize, n: i32): void {
  assert(load<u32>(column, COLUMN_PHYS) == PHYS_BOOL)
  target.data = scratch(n)
  target.step = 1
  expandBits(target.data, load<u32>(column, COLUMN_VALUES) as usize, load<u32>(column, COLUMN_BIT_OFFSET), n)
}

// ---- floats --------------------------------------------------------------------------------------------------------

function loadFloats(target: Register, column: usize, n: i32): void {
  const phys = load<u32>(column, COLUMN_PHYS)
  const values = load<u32>(column, COLUMN_VALUES) as usize
  if (phys == PHYS_FLOAT64) {
    target.data = values
    if (hasUncleanDouble(values, n)) cleanDoubles(target, values, n)
    return
  }
  target.data = scratch((n as usize) << 3)
  if (phys == PHYS_FLOAT32) {
    widenFloats<f32>(target.data, values, n)
    // A float32's NaN, infinities and -0 stay what they are when widened.
    if (hasUncleanDouble(target.data, n)) cleanDoubles(target, target.data, n)
  } else if (phys == PHYS_INT8) widenFloats<i8>(target.data, values, n)
  else if (phys == PHYS_INT16) widenFloats<i16>(target.data, values, n)
  else if (phys == PHYS_INT32) widenFloats<i32>(target.data, values, n)
  else if (phys == PHYS_UINT8) widenFloats<u8>(target.data, values, n)
  else if (phys == PHYS_UINT16) widenFloats<u16>(target.data, values, n)
  else {
    assert(phys == PHYS_UINT32)
    widenFloats<u32>(target.data, values, n)
  }
}

function widenFloats<T>(target: usize, values: usize, n: i32): void {
  for (let end = target + ((n as usize) << 3); target < end; target += 8, values += sizeof<T>()) {
    store<f64>(target, load<T>(values) as f64)
  }
}

/**
 * Is there a NaN, an infinity or a -0 among the cells? Every cell is looked at, so this is written for few operations: a
 * number minus one has its sign bit set where the number was 0, and both tests are made to end in 0.
 */
function hasUncleanDouble(values: usize, n: i32): bool {
  let found: u64 = 0
  for (let end = values + ((n as usize) << 3); values < end; values += 8) {
    const bits = load<u64>(values)
    const other = bits ^ MINUS_ZERO
    found |= (EXPONENT - 1 - (bits & EXPONENT)) | ((other - 1) & ~other)
  }
  return (found as i64) < 0
}

function cleanDoubles(target: Register, values: usize, n: i32): void {
  const valid = ownMask(target.valid, n)
  const data = scratch((n as usize) << 3)
  for (let i: usize = 0; i < (n as usize); i++) {
    const bits = load<u64>(values + (i << 3))
    if ((bits & EXPONENT) == EXPONENT) {
      store<u8>(valid + i, 0)
      store<u64>(data + (i << 3), 0)
    } else store<u64>(data + (i << 3), bits == MINUS_ZERO ? 0 : bits)
  }
  target.data = data
  target.valid = valid
}

// ---- integers and instants -----------------------------------------------------------------------------------------

function loadInts(target: Register, column: usize, n: i32): void {
  const phys = load<u32>(column, COLUMN_PHYS)
  const values = load<u32>(column, COLUMN_VALUES) as usize
  if (phys == PHYS_INT64) {
    target.data = values
    return
  }
  if (phys == PHYS_UINT64) {
    target.data = values
    let signs: u64 = 0
    for (let i: usize = 0; i < (n as usize); i++) signs |= load<u64>(values + (i << 3))
    if ((signs as i64) < 0) {
      const valid = ownMask(target.valid, n)
      for (let i: usize = 0; i < (n as usize); i++) if (load<i64>(values + (i << 3)) < 0) store<u8>(valid + i, 0)
      target.valid = valid
    }
    return
  }
  target.data = scratch((n as usize) << 3)
  if (phys == PHYS_INT8) widenInts<i8>(target.data, values, n)
  else if (phys == PHYS_INT16) widenInts<i16>(target.data, values, n)
  else if (phys == PHYS_INT32) widenInts<i32>(target.data, values, n)
  else if (phys == PHYS_UINT8) widenInts<u8>(target.data, values, n)
  else if (phys == PHYS_UINT16) widenInts<u16>(target.data, values, n)
  else {
    assert(phys == PHYS_UINT32)
    widenInts<u32>(target.data, values, n)
  }
}

function widenInts<T>(target: usize, values: usize, n: i32): void {
  for (let end = target + ((n as usize) << 3); target < end; target += 8, values += sizeof<T>()) {
    store<i64>(target, load<T>(values) as i64)
  }
}

function toMilliseconds(target: Register, unit: i32, n: i32): void {
  if (unit == UNIT_MS) return
  if (unit == UNIT_US) divideFloor(target, 1000, n)
  else if (unit == UNIT_NS) divideFloor(target, 1_000_000, n)
  else if (unit == UNIT_S) multiplyChecked(target, 1000, n)
  else {
    assert(unit == UNIT_DAY)
    multiplyChecked(target, 86_400_000, n)
  }
}

/** 1.5 * 2^52: a double below 2^51 that it is added to is rounded to an integer, in the low bits of the sum. */
const ROUNDING: f64 = 6755399441055744.0

/**
 * Floor division by a constant. Up to 2^52 the quotient in doubles, rounded to the nearest integer, is the floor or one more:
 * the remainder's sign tells. This is a third of what a 64-bit division costs.
 */
function divideFloor(target: Register, divisor: i64, n: i32): void {
  const data = scratch((n as usize) << 3)
  const factor = 1.0 / (divisor as f64)
  let from = target.data
  for (let at = data, end = data + ((n as usize) << 3); at < end; at += 8, from += 8) {
    const value = load<i64>(from)
    let quotient: i64
    if (((value + (1 << 52)) as u64) <= 1 << 53) {
      quotient = reinterpret<i64>((value as f64) * factor + ROUNDING) - reinterpret<i64>(ROUNDING)
      quotient += (value - quotient * divisor) >> 63
    } else {
      quotient = value / divisor
      if (quotient * divisor > value) quotient--
    }
    store<i64>(at, quotient)
  }
  target.data = data
}

function multiplyChecked(target: Register, factor: i64, n: i32): void {
  const data = scratch((n as usize) << 3)
  const limit = i64.MAX_VALUE / factor
  let beyond: i32 = 0
  for (let i: usize = 0; i < (n as usize); i++) {
    const value = load<i64>(target.data + (i << 3))
    beyond |= i32(value > limit) | i32(value < -limit)
    store<i64>(data + (i << 3), value * factor)
  }
  if (beyond != 0) {
    const valid = ownMask(target.valid, n)
    for (let i: usize = 0; i < (n as usize); i++) {
      const value = load<i64>(target.data + (i << 3))
      if (value > limit || value < -limit) store<u8>(valid + i, 0)
    }
    target.valid = valid
  }
  target.data = data
}

// ---- decimals and text ---------------------------------------------------------------------------------------------

function loadDecimals(target: Register, column: usize, n: i32): void {
  assert(load<u32>(column, COLUMN_PHYS) == PHYS_DECIMAL128)
  const values = load<u32>(column, COLUMN_VALUES) as usize
  target.data = values
  target.step = 16
  // What fits 64 bits has few enough digits; as a rule all of it does.
  let wide: i64 = 0
  for (let at = values, end = values + ((n as usize) << 4); at < end; at += 16)
    wide |= load<i64>(at, 8) ^ (load<i64>(at) >> 63)
  if (wide == 0) return
  const valid = ownMask(target.valid, n)
  for (let i: usize = 0; i < (n as usize); i++) {
    if (!isDecimalInRange(load<u64>(values + (i << 4)), load<i64>(values + (i << 4), 8))) store<u8>(valid + i, 0)
  }
  target.valid = valid
}

/**
 * Offsets must ascend and stay inside the text bytes: a source that says otherwise is a broken batch and traps here,
 * before anything reads through it.
 */
function loadTexts(target: Register, column: usize, n: i32): void {
  assert(load<u32>(column, COLUMN_PHYS) == PHYS_UTF8)
  const offsets = load<u32>(column, COLUMN_OFFSETS) as usize
  const base = load<u32>(column, COLUMN_OFFSET_BASE)
  // May lie before the text, even wrap below 0: only ever used with an offset of at least `base` added.
  target.data = (load<u32>(column, COLUMN_VALUES) - base) as usize
  target.offsets = offsets
  target.step = 4
  if (n == 0) {
    target.offsets = scratch(4)
    store<u32>(target.offsets, 0)
    return
  }

  let longest: u32 = 0
  let from = load<u32>(offsets)
  const first = from
  for (let i: usize = 0; i < (n as usize); i++) {
    const to = load<u32>(offsets + (i << 2), 4)
    // A descending pair wraps to a length beyond any batch's text.
    longest = max(longest, to - from)
    from = to
  }
  const bytes = load<u32>(column, COLUMN_VALUES_BYTES)
  assert(first >= base && from >= first && from - base <= bytes && longest <= bytes)

  if (longest > (TEXT_BYTES_LIMIT as u32)) {
    const valid = ownMask(target.valid, n)
    for (let i: usize = 0; i < (n as usize); i++) {
      if (load<u32>(offsets + (i << 2), 4) - load<u32>(offsets + (i << 2)) > (TEXT_BYTES_LIMIT as u32))
        store<u8>(valid + i, 0)
    }
    target.valid = valid
  }
}
