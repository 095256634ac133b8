/**
 * Exact arithmetic on limbs. A *number* here is `count` little-endian 32-bit limbs in two's complement at an address, and
 * a `base`: limb i weighs 2^(32 * (base + i)). Every finite double, every product of two, and every sum of 2^63 of them
 * is such a number, so sums do not depend on the order of their terms and are rounded once, when read.
 *
 *   words     the usual case: a few u64 (the same bytes as pairs of limbs), wide enough for sane values
 *   wide      the rest: a block of WIDE_BYTES that covers all doubles (SUM part) and all their squares (SQUARES part)
 *
 * Lowest limb of a double: 2^-1074 lies in limb -34; of a square: 2^-2148 in limb -68. Highest: 2^1024 * 2^63 in limb 33,
 * 2^2048 * 2^63 in limb 65; one more limb for the sign.
 */
import { allocate, release } from './arena'

export const WIDE_SUM_BASE: i32 = -34
export const WIDE_SUM_LIMBS: i32 = 69
export const WIDE_SQUARES_BASE: i32 = -68
export const WIDE_SQUARES_LIMBS: i32 = 135
export const WIDE_SQUARES_AT: usize = 69 * 4
export const WIDE_BYTES: usize = (69 + 135) * 4

/** Wide blocks in use: hardly ever any. */
export let wideCount: i32 = 0

export function newWide(): usize {
  wideCount++
  const wide = allocate(WIDE_BYTES)
  memory.fill(wide, 0, WIDE_BYTES)
  return wide
}

export function releaseWide(wide: usize): void {
  wideCount--
  release(wide, WIDE_BYTES)
}

// ---- adding --------------------------------------------------------------------------------------------------------

/** into += value. `into` has room: base >= intoBase, and its sign limb absorbs the carry. */
export function addLimbs(into: usize, intoBase: i32, intoLimbs: i32, value: usize, base: i32, limbs: i32): void {
  if (limbs == 0) return
  const sign = (load<i32>(value + (((limbs - 1) as usize) << 2)) >> 31) as u32
  const offset = base - intoBase
  let carry: u64 = 0
  for (let i = offset; i < intoLimbs; i++) {
    const at = into + ((i as usize) << 2)
    const j = i - offset
    if (j >= limbs && carry == (sign as u64 & 1)) return // nothing changes any more: 0 + 0, or -1 + 1
    const limb = j < limbs ? load<u32>(value + ((j as usize) << 2)) : sign
    carry += (load<u32>(at) as u64) + (limb as u64)
    store<u32>(at, carry as u32)
    carry >>= 32
  }
}

/** into += from, both in 64-bit words from the same bit on, `from` sign extended. */
export function addWords(into: usize, intoWords: i32, from: usize, fromWords: i32): void {
  let carry: u64 = 0
  const end = into + ((fromWords as usize) << 3)
  let value: u64 = 0
  while (into < end) {
    const before = load<u64>(into)
    value = load<u64>(from)
    const sum = before + value
    const after = sum + carry
    store<u64>(into, after)
    carry = ((sum < before) as u64) | ((after < sum) as u64)
    into += 8
    from += 8
  }
  const sign = ((value as i64) >> 63) as u64
  for (let rest = intoWords - fromWords; rest > 0; rest--, into += 8) {
    if (carry == (sign & 1)) return
    const before = load<u64>(into)
    const after = before + sign + carry
    store<u64>(into, after)
    carry = (after < before) as u64
  }
}

const shifted = memory.data(5 * 4 + 4, 8)

/** into += (hi:lo) * 2^bit, signed 128-bit value, `bit` counted from the lowest bit of `into`. */
export function addShifted(into: usize, intoLimbs: i32, lo: u64, hi: i64, bit: i32): void {
  const limb = bit >> 5
  const shift = (bit & 31) as u64
  const up = (64 - shift) & 63
  const mask: u64 = shift == 0 ? 0 : u64.MAX_VALUE
  const low = lo << shift
  const mid = ((hi as u64) << shift) | ((lo >> up) & mask)
  const top = shift == 0 ? hi >> 63 : hi >> (up as i64)
  store<u64>(shifted, low)
  store<u64>(shifted, mid, 8)
  store<u32>(shifted, top as u32, 16)
  addLimbs(into, 0, intoLimbs, shifted, limb, 5)
}

/** The upper 64 of the 128 bits of size * size; the lower ones are `size * size` itself. */
@inline
export function highOfSquare(size: u64): u64 {
  const low = size & 0xffff_ffff
  const high = size >> 32
  const cross = low * high
  const middle = ((low * low) >> 32) + ((cross & 0xffff_ffff) << 1)
  return high * high + ((cross >> 32) << 1) + (middle >> 32)
}

/** words += (hi:lo) * 2^(32 * limb), signed. Words above the last are dropped: the sum fits. */
export function addToWords(words: usize, wordCount: i32, lo: u64, hi: i64, limb: i32): void {
  let high = hi as u64
  let sign = (hi >> 63) as u64
  let top = sign
  if ((limb & 1) != 0) {
    // Half a word up: three words instead of two.
    top = (hi >> 32) as u64
    high = (high << 32) | (lo >> 32)
    lo <<= 32
  }
  let at = words + (((limb >> 1) as usize) << 3)
  const end = words + ((wordCount as usize) << 3)
  const sum = load<u64>(at) + lo
  store<u64>(at, sum)
  let carry = (sum < lo) as u64
  at += 8
  let value = high
  while (at < end) {
    const before = load<u64>(at)
    const partial = before + value
    const after = partial + carry
    store<u64>(at, after)
    carry = ((partial < before) as u64) | ((after < partial) as u64)
    at += 8
    value = top
    top = sign
    if (value == sign && carry == (sign & 1)) return
  }
}

/** Sets `target` to the number, sign extended over `limbs` limbs at `base`. The number fits. */
export function storeLimbs(target: usize, targetBase: i32, targetLimbs: i32, value: usize, base: i32, limbs: i32): void {
  const sign = limbs == 0 ? 0 : load<i32>(value + (((limbs - 1) as usize) << 2)) >> 31
  for (let i = 0; i < targetLimbs; i++) {
    const j = targetBase + i - base
    const limb = j < 0 ? 0 : j < limbs ? load<i32>(value + ((j as usize) << 2)) : sign
    store<i32>(target + ((i as usize) << 2), limb)
  }
}

// ---- trimming ------------------------------------------------------------------------------------------------------

/** Index of the lowest limb that isn't zero; `limbs` when the number is zero. */
export function lowestLimb(value: usize, limbs: i32): i32 {
  let i = 0
  while (i < limbs && load<u32>(value + ((i as usize) << 2)) == 0) i++
  return i
}

/** Limbs that remain when repeated sign limbs are cut off; 0 when the number is zero. */
export function signedLimbs(value: usize, limbs: i32): i32 {
  while (limbs > 0) {
    const top = load<i32>(value + (((limbs - 1) as usize) << 2))
    const below = limbs > 1 ? load<i32>(value + (((limbs - 2) as usize) << 2)) >> 31 : 0
    if (top != below || (top != 0 && top != -1)) break
    limbs--
  }
  return limbs
}

// ---- rounding ------------------------------------------------------------------------------------------------------

/** Set by `roundToDouble`: the result isn't the number itself. */
export let inexact: bool = false

const BIG_LIMBS: i32 = 320
const bigA = memory.data(320 * 4, 8)
const bigB = memory.data(320 * 4, 8)

/** |number| into bigA; returns its limbs, and its sign in `negative`. */
let negative: bool = false

function magnitude(value: usize, limbs: i32, into: usize): i32 {
  negative = limbs > 0 && load<i32>(value + (((limbs - 1) as usize) << 2)) < 0
  let carry: u64 = negative ? 1 : 0
  const flip: u32 = negative ? 0xffff_ffff : 0
  for (let i: usize = 0; i < (limbs as usize); i++) {
    carry += (load<u32>(value + (i << 2)) ^ flip) as u64
    store<u32>(into + (i << 2), carry as u32)
    carry >>= 32
  }
  if (carry != 0) store<u32>(into + ((limbs++ as usize) << 2), carry as u32)
  while (limbs > 0 && load<u32>(into + (((limbs - 1) as usize) << 2)) == 0) limbs--
  return limbs
}

/** The unsigned number (magnitude limbs, base), a bit more than it where `sticky`, to the nearest double, ties to even. */
function roundMagnitude(value: usize, limbs: i32, base: i32, sticky: bool): f64 {
  inexact = sticky
  if (limbs == 0) return 0
  const top = load<u32>(value + (((limbs - 1) as usize) << 2))
  const lead = clz<u32>(top) as i32
  const exponent = 32 * (base + limbs) - 1 - lead

  // The 64 bits from the leading one on, and whether anything lies below them.
  let bits: u64 = (top as u64) << 32
  if (limbs > 1) bits |= load<u32>(value + (((limbs - 2) as usize) << 2)) as u64
  if (lead > 0) {
    bits <<= lead as u64
    if (limbs > 2) bits |= (load<u32>(value + (((limbs - 3) as usize) << 2)) as u64) >> ((32 - lead) as u64)
  }
  if (!sticky && limbs > 2) {
    const third = load<u32>(value + (((limbs - 3) as usize) << 2))
    sticky = lead == 0 ? third != 0 : third << lead != 0
    for (let i = limbs - 4; i >= 0 && !sticky; i--) sticky = load<u32>(value + ((i as usize) << 2)) != 0
  }

  if (exponent > 1023) {
    inexact = true
    return Infinity
  }
  const keep = exponent >= -1022 ? 53 : exponent + 1075
  if (keep < 0) {
    inexact = true
    return 0
  }
  const drop = (64 - keep) as u64
  const rest = keep == 0 ? bits : bits & ((1 << drop) - 1)
  const half: u64 = 1 << (drop - 1)
  let mantissa: u64 = keep == 0 ? 0 : bits >> drop
  inexact = sticky || rest != 0
  if (rest > half || (rest == half && (sticky || (mantissa & 1) != 0))) mantissa++
  // A mantissa that rounded up to 2^53 carries into the exponent by itself.
  const packed = exponent >= -1022 ? (((exponent + 1022) as u64) << 52) + mantissa : mantissa
  return reinterpret<f64>(packed)
}

/** The number to the nearest double; ±Infinity when it is out of range. Sets `inexact`. */
export function roundToDouble(value: usize, base: i32, limbs: i32): f64 {
  const count = magnitude(value, limbs, bigA)
  const sign = negative
  const rounded = roundMagnitude(bigA, count, base, false)
  return sign ? -rounded : rounded
}

/** As `roundToDouble` for four words whose lowest bit is 2^-64; fast where two of them hold the number. */
export function roundWords(words: usize): f64 {
  let low = load<u64>(words)
  let high = load<i64>(words, 8)
  const sign = high >> 63
  if (load<i64>(words, 16) != sign || load<i64>(words, 24) != sign) return roundToDouble(words, -2, 8)
  if (high == i64.MIN_VALUE) return roundToDouble(words, -2, 8)
  if (sign != 0) {
    low = 0 - low
    high = ~high + ((low == 0) as i64)
  }
  if (high == 0 && low == 0) return 0
  // The 64 bits from the leading one on; what lies below them only matters as "something".
  const lead = high != 0 ? clz<u64>(high as u64) : 64 + clz<u64>(low)
  let bits: u64
  let rest: u64 = 0
  if (lead >= 64) bits = low << (lead - 64)
  else if (lead == 0) {
    bits = high as u64
    rest = low
  } else {
    bits = ((high as u64) << lead) | (low >> (64 - lead))
    rest = low << lead
  }
  let mantissa = bits >> 11
  const cut = bits & 0x7ff
  mantissa += (cut > 0x400 || (cut == 0x400 && (rest != 0 || (mantissa & 1) != 0))) as u64
  // The leading bit weighs 2^(63 - lead); a mantissa that rounded up to 2^53 carries into the exponent by itself.
  const packed = ((1023 + 62 - lead) << 52) + mantissa
  return reinterpret<f64>(packed | ((sign as u64) & 0x8000_0000_0000_0000))
}

// ---- division ------------------------------------------------------------------------------------------------------

const divisors = memory.data(12 * 8, 8)
let divisorCount: i32 = 0
let divisorBits: i32 = 0

function clearDivisors(): void {
  divisorCount = 0
  divisorBits = 0
}

function pushDivisor(divisor: u64): void {
  if (divisor <= 1) return
  store<u64>(divisors + ((divisorCount++ as usize) << 3), divisor)
  divisorBits += 64 - (clz<u64>(divisor) as i32)
}

function pushPowerOfTen(digits: i32): void {
  for (; digits > 0; digits -= 9) pushDivisor(digits >= 9 ? 1_000_000_000 : powerOfTen(digits))
}

function powerOfTen(digits: i32): u64 {
  let power: u64 = 1
  for (let i = 0; i < digits; i++) power *= 10
  return power
}

/** value / divisor in place, high limb first; true when something was left over. */
function divideInPlace(value: usize, limbs: i32, divisor: u64): bool {
  let rest: u64 = 0
  if (divisor <= 0xffff_ffff) {
    for (let i = limbs - 1; i >= 0; i--) {
      const at = value + ((i as usize) << 2)
      const part = (rest << 32) | (load<u32>(at) as u64)
      const quotient = part / divisor
      store<u32>(at, quotient as u32)
      rest = part - quotient * divisor
    }
    return rest != 0
  }
  // Divisors above 2^32 (counts of four billion events) are rare: one bit at a time; divisor < 2^63.
  for (let i = limbs - 1; i >= 0; i--) {
    const at = value + ((i as usize) << 2)
    const limb = load<u32>(at)
    let quotient: u32 = 0
    for (let bit = 31; bit >= 0; bit--) {
      rest = (rest << 1) | (((limb >> bit) & 1) as u64)
      quotient <<= 1
      if (rest >= divisor) {
        rest -= divisor
        quotient |= 1
      }
    }
    store<u32>(at, quotient)
  }
  return rest != 0
}

/** magnitude (in bigA, `limbs` at `base`) / all divisors, rounded once. floor(floor(x / a) / b) = floor(x / ab). */
function divideAndRound(limbs: i32, base: i32): f64 {
  if (limbs == 0) return 0
  const bits = limbs * 32 - (clz<u32>(load<u32>(bigA + (((limbs - 1) as usize) << 2))) as i32)
  // 66 bits of quotient are a mantissa, a rounding bit and more; the rest of the division is the sticky bit.
  const missing = 66 + divisorBits - bits
  if (missing > 0) {
    const low = (missing + 31) >> 5
    memory.copy(bigA + ((low as usize) << 2), bigA, (limbs as usize) << 2)
    memory.fill(bigA, 0, (low as usize) << 2)
    limbs += low
    base -= low
  }
  let sticky = false
  for (let i = 0; i < divisorCount; i++) {
    if (divideInPlace(bigA, limbs, load<u64>(divisors + ((i as usize) << 3)))) sticky = true
    while (limbs > 0 && load<u32>(bigA + (((limbs - 1) as usize) << 2)) == 0) limbs--
  }
  return roundMagnitude(bigA, limbs, base, sticky)
}

/** sum / (count * 10^scale), rounded once. count > 0. */
export function meanOf(sum: usize, base: i32, limbs: i32, count: i64, scale: i32): f64 {
  const length = magnitude(sum, limbs, bigA)
  const sign = negative
  if (scale == 0 && count <= 9_007_199_254_740_992) {
    // A quotient of two doubles is rounded once by the machine, if both are exact.
    const whole = roundMagnitude(bigA, length, base, false)
    // Adding zero makes the -0 that a tiny negative mean rounds to a +0.
    if (!inexact) return (sign ? -whole : whole) / (count as f64) + 0
  }
  clearDivisors()
  pushDivisor(count as u64)
  pushPowerOfTen(scale)
  const mean = divideAndRound(length, base)
  return (sign ? -mean : mean) + 0
}

/** product = a * b (unsigned); returns its limbs. */
function multiply(product: usize, a: usize, aLimbs: i32, b: usize, bLimbs: i32): i32 {
  const limbs = aLimbs + bLimbs
  assert(limbs <= BIG_LIMBS)
  memory.fill(product, 0, (limbs as usize) << 2)
  for (let i = 0; i < aLimbs; i++) {
    const x = load<u32>(a + ((i as usize) << 2)) as u64
    if (x == 0) continue
    let carry: u64 = 0
    let at = product + ((i as usize) << 2)
    for (let j = 0; j < bLimbs; j++) {
      carry += (load<u32>(at) as u64) + x * (load<u32>(b + ((j as usize) << 2)) as u64)
      store<u32>(at, carry as u32)
      carry >>= 32
      at += 4
    }
    store<u32>(at, carry as u32)
  }
  return limbs
}

const countLimbs = memory.data(8, 8)
const squaredSum = memory.data(320 * 4, 8)

/**
 * (count * squares - sum^2) / (count * divisor * 10^(2 * scale)), rounded once: divisor = count for the population's
 * variance, count - 1 for the sample's. Needs count > 0 and divisor > 0.
 */
export function varianceOf(
  sum: usize,
  sumBase: i32,
  sumLimbs: i32,
  squares: usize,
  squaresBase: i32,
  squaresLimbs: i32,
  count: i64,
  divisor: i64,
  scale: i32,
): f64 {
  // Trim both, so that sane values cost a few limbs and not the width they are kept in.
  const sumLow = lowestLimb(sum, sumLimbs)
  const squaresLow = lowestLimb(squares, squaresLimbs)
  const sumLength = magnitude(sum + ((sumLow as usize) << 2), sumLimbs - sumLow, bigB)
  const squareLimbs = multiply(squaredSum, bigB, sumLength, bigB, sumLength)
  const squareBase = (sumBase + sumLow) << 1
  const squaresLength = magnitude(squares + ((squaresLow as usize) << 2), squaresLimbs - squaresLow, bigB)
  const scaledBase = squaresBase + squaresLow
  store<u64>(countLimbs, count as u64)
  const countLength = (count as u64) > 0xffff_ffff ? 2 : 1

  // numerator = count * squares at `base`, minus the squared sum.
  const base = sumLength == 0 ? scaledBase : squaresLength == 0 ? squareBase : min(scaledBase, squareBase)
  const offset = squaresLength == 0 ? 0 : scaledBase - base
  let limbs = multiply(bigA + ((offset as usize) << 2), bigB, squaresLength, countLimbs, countLength) + offset
  memory.fill(bigA, 0, (offset as usize) << 2)
  const squareOffset = squareBase - base
  const end = squareOffset + squareLimbs
  if (sumLength > 0) {
    while (limbs < end) store<u32>(bigA + ((limbs++ as usize) << 2), 0)
    let borrow: u64 = 0
    for (let i = squareOffset; i < limbs; i++) {
      const j = i - squareOffset
      if (j >= squareLimbs && borrow == 0) break
      const taken = (j < squareLimbs ? (load<u32>(squaredSum + ((j as usize) << 2)) as u64) : 0) + borrow
      const at = bigA + ((i as usize) << 2)
      const have = load<u32>(at) as u64
      store<u32>(at, (have - taken) as u32)
      borrow = (have < taken) as u64
    }
  }
  while (limbs > 0 && load<u32>(bigA + (((limbs - 1) as usize) << 2)) == 0) limbs--
  clearDivisors()
  pushDivisor(count as u64)
  pushDivisor(divisor as u64)
  pushPowerOfTen(scale << 1)
  return divideAndRound(limbs, base)
}
