/**
 * Byte masks: what `valid` and bool cells are made of, one byte per row, 0 or 1. Masks live in scratch, whose blocks are
 * rounded up to 16 bytes, so loops may run over whole words past row n.
 */
import { scratch } from '../arena'

const ONES: u64 = 0x0101_0101_0101_0101

/** Rows present in both; 0 when nothing is null in either. May be one of its arguments: masks are never written twice. */
export function bothValid(left: usize, right: usize, n: i32): usize {
  if (left == 0 || left == right) return right
  if (right == 0) return left
  const mask = scratch(n)
  for (let i: usize = 0; i < (n as usize); i += 8) store<u64>(mask + i, load<u64>(left + i) & load<u64>(right + i))
  return mask
}

/** A mask with `value` for every row. */
export function filledMask(value: u8, n: i32): usize {
  const mask = scratch(n)
  memory.fill(mask, value, n)
  return mask
}

/** A copy of `valid` that may be written to; all ones where `valid` is 0. */
export function ownMask(valid: usize, n: i32): usize {
  if (valid == 0) return filledMask(1, n)
  const mask = scratch(n)
  memory.copy(mask, valid, n)
  return mask
}

/**
 * A bitmap's bits `bit .. bit + n - 1` as bytes. Reads no byte behind the one that holds the last bit. Returns whether
 * all of them are set.
 */
export function expandBits(target: usize, bitmap: usize, bit: u32, n: i32): bool {
  const bytes = ((bit + (n as u32) + 7) >> 3) as usize
  const shift = bit & 7
  let all: u64 = ONES
  let source: usize = (bit >> 3) as usize
  let at: usize = 0
  const last = (n as usize) & ~7
  for (; at < last; at += 8, source++) {
    let word = load<u8>(bitmap + source) as u32
    if (shift != 0) word = (word | ((load<u8>(bitmap + source + 1) as u32) << 8)) >> shift
    const spread = spreadBits(word & 0xff)
    all &= spread
    store<u64>(target + at, spread)
  }
  let whole = all == ONES
  for (; at < (n as usize); at++) {
    const index = bit + (at as u32)
    assert(((index >> 3) as usize) < bytes)
    const set = (load<u8>(bitmap + ((index >> 3) as usize)) >> ((index & 7) as u8)) & 1
    whole = whole && set != 0
    store<u8>(target + at, set)
  }
  return whole
}

/** Bit i of a byte to byte i of a word. */
function spreadBits(byte: u32): u64 {
  const picked = ((byte as u64) * ONES) & 0x8040_2010_0804_0201
  return ((picked + 0x7f7f_7f7f_7f7f_7f7f) >> 7) & ONES
}

// Three-valued logic over words of eight rows. A null bool's cell is undefined, so each side is first split into rows
// known to be true and rows known to be false.

/** Writes the cells of `a AND b`, or of `a OR b`; returns their mask, 0 when nothing is null. */
export function combineBools(or: bool, data: usize, a: usize, validA: usize, b: usize, validB: usize, n: i32): usize {
  if (validA == 0 && validB == 0) {
    for (let i: usize = 0; i < (n as usize); i += 8) {
      const x = load<u64>(a + i)
      const y = load<u64>(b + i)
      store<u64>(data + i, or ? x | y : x & y)
    }
    return 0
  }
  const valid = scratch(n)
  for (let i: usize = 0; i < (n as usize); i += 8) {
    const knownA = validA == 0 ? ONES : load<u64>(validA + i)
    const knownB = validB == 0 ? ONES : load<u64>(validB + i)
    const trueA = load<u64>(a + i) & knownA
    const trueB = load<u64>(b + i) & knownB
    const falseA = trueA ^ knownA
    const falseB = trueB ^ knownB
    const isTrue = or ? trueA | trueB : trueA & trueB
    const isFalse = or ? falseA & falseB : falseA | falseB
    store<u64>(data + i, isTrue)
    store<u64>(valid + i, isTrue | isFalse)
  }
  return valid
}

/** `NOT`, also used to turn a mask of present rows into one of null rows. */
export function invertMask(target: usize, source: usize, n: i32): void {
  for (let i: usize = 0; i < (n as usize); i += 8) store<u64>(target + i, load<u64>(source + i) ^ ONES)
}

export function andMasks(target: usize, left: usize, right: usize, n: i32): void {
  for (let i: usize = 0; i < (n as usize); i += 8) store<u64>(target + i, load<u64>(left + i) & load<u64>(right + i))
}
