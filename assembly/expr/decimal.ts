/**
 * Decimals: two's complement integers of 128 bits, at most 38 digits, whose scale is static. Results that need more are
 * null cells, so every function says whether its result fits.
 *
 * Magnitudes go through four 64-bit limbs w0..w3 (least significant first), wide enough for a 38-digit number times a
 * power of ten up to 10^38. Values that fit 64 bits, as money does, take short cuts.
 */

/** 10^38, the first number with too many digits, as two limbs. */
const LIMIT_LO: u64 = 0x098a_2240_0000_0000
const LIMIT_HI: u64 = 0x4b3b_4ca8_5a86_c47a

let w0: u64 = 0
let w1: u64 = 0
let w2: u64 = 0
let w3: u64 = 0
// Quotient and remainder of `divideWide`, a product of `multiply64`, a magnitude: results of more than one value.
let resultLo: u64 = 0
let resultHi: u64 = 0
let restLo: u64 = 0
let restHi: u64 = 0

// 10^0 .. 10^38: low limb, high limb.
// biome-ignore format: a row is a power
const powers = memory.data<u64>([
  0x0000000000000001, 0x0000000000000000,
  0x000000000000000a, 0x0000000000000000,
  0x0000000000000064, 0x0000000000000000,
  0x00000000000003e8, 0x0000000000000000,
  0x0000000000002710, 0x0000000000000000,
  0x00000000000186a0, 0x0000000000000000,
  0x00000000000f4240, 0x0000000000000000,
  0x0000000000989680, 0x0000000000000000,
  0x0000000005f5e100, 0x0000000000000000,
  0x000000003b9aca00, 0x0000000000000000,
  0x00000002540be400, 0x0000000000000000,
  0x000000174876e800, 0x0000000000000000,
  0x000000e8d4a51000, 0x0000000000000000,
  0x000009184e72a000, 0x0000000000000000,
  0x00005af3107a4000, 0x0000000000000000,
  0x00038d7ea4c68000, 0x0000000000000000,
  0x002386f26fc10000, 0x0000000000000000,
  0x016345785d8a0000, 0x0000000000000000,
  0x0de0b6b3a7640000, 0x0000000000000000,
  0x8ac7230489e80000, 0x0000000000000000,
  0x6bc75e2d63100000, 0x0000000000000005,
  0x35c9adc5dea00000, 0x0000000000000036,
  0x19e0c9bab2400000, 0x000000000000021e,
  0x02c7e14af6800000, 0x000000000000152d,
  0x1bcecceda1000000, 0x000000000000d3c2,
  0x161401484a000000, 0x0000000000084595,
  0xdcc80cd2e4000000, 0x000000000052b7d2,
  0x9fd0803ce8000000, 0x00000000033b2e3c,
  0x3e25026110000000, 0x00000000204fce5e,
  0x6d7217caa0000000, 0x00000001431e0fae,
  0x4674edea40000000, 0x0000000c9f2c9cd0,
  0xc0914b2680000000, 0x0000007e37be2022,
  0x85acef8100000000, 0x000004ee2d6d415b,
  0x38c15b0a00000000, 0x0000314dc6448d93,
  0x378d8e6400000000, 0x0001ed09bead87c0,
  0x2b878fe800000000, 0x0013426172c74d82,
  0xb34b9f1000000000, 0x00c097ce7bc90715,
  0x00f436a000000000, 0x0785ee10d5da46d9,
  0x098a224000000000, 0x4b3b4ca85a86c47a,
])

function powerLo(exponent: i32): u64 {
  assert(exponent >= 0 && exponent <= 38)
  return load<u64>(powers + ((exponent as usize) << 4))
}

function powerHi(exponent: i32): u64 {
  return load<u64>(powers + ((exponent as usize) << 4), 8)
}

/** Has the number at most 38 digits? */
export function isDecimalInRange(lo: u64, hi: i64): bool {
  const sign = (hi >> 63) as u64
  const low = (lo ^ sign) - sign
  const high = ((hi as u64) ^ sign) + (sign & 1 & ((low == 0) as u64))
  return high < LIMIT_HI || (high == LIMIT_HI && low < LIMIT_LO)
}

/** Is the magnitude below 10^digits? */
function isBelowPower(lo: u64, hi: u64, digits: i32): bool {
  const limitLo = powerLo(digits)
  const limitHi = powerHi(digits)
  return hi < limitHi || (hi == limitHi && lo < limitLo)
}

/** Magnitude of the cell at `at` in resultLo and resultHi; returns whether it was negative. */
function magnitude(at: usize): bool {
  const lo = load<u64>(at)
  const hi = load<u64>(at, 8)
  if ((hi as i64) >= 0) {
    resultLo = lo
    resultHi = hi
    return false
  }
  resultLo = 0 - lo
  resultHi = ~hi + ((lo == 0) as u64)
  return true
}

function storeSigned(at: usize, lo: u64, hi: u64, negative: bool): void {
  store<u64>(at, negative ? 0 - lo : lo)
  store<u64>(at, negative ? ~hi + ((lo == 0) as u64) : hi, 8)
}

// ---- arithmetic on cells: `target` may be any 16 bytes, also an operand ----------------------------------------------

export function addDecimals(target: usize, left: usize, right: usize): bool {
  const leftHi = load<i64>(left, 8)
  const rightHi = load<i64>(right, 8)
  const lo = load<u64>(left) + load<u64>(right)
  const hi = leftHi + rightHi + ((lo < load<u64>(right)) as i64)
  store<u64>(target, lo)
  store<i64>(target, hi, 8)
  // Equal signs that turn are an overflow of 128 bits; the rest is judged by its digits.
  return ((leftHi ^ hi) & (rightHi ^ hi)) >= 0 && isDecimalInRange(lo, hi)
}

export function subtractDecimals(target: usize, left: usize, right: usize): bool {
  const leftHi = load<i64>(left, 8)
  const rightHi = load<i64>(right, 8)
  const leftLo = load<u64>(left)
  const rightLo = load<u64>(right)
  const lo = leftLo - rightLo
  const hi = leftHi - rightHi - ((leftLo < rightLo) as i64)
  store<u64>(target, lo)
  store<i64>(target, hi, 8)
  return ((leftHi ^ rightHi) & (leftHi ^ hi)) >= 0 && isDecimalInRange(lo, hi)
}

export function multiplyDecimals(target: usize, left: usize, right: usize): bool {
  const negativeLeft = magnitude(left)
  const leftLo = resultLo
  const leftHi = resultHi
  const negative = magnitude(right) != negativeLeft
  multiplyWide(leftLo, leftHi, resultLo, resultHi)
  if ((w2 | w3) != 0 || !isBelowPower(w0, w1, 38)) return false
  storeSigned(target, w0, w1, negative)
  return true
}

/** left * 10^shift / right, rounded half away from zero. */
export function divideDecimals(target: usize, left: usize, right: usize, shift: i32): bool {
  const negativeLeft = magnitude(left)
  const leftLo = resultLo
  const leftHi = resultHi
  const negative = magnitude(right) != negativeLeft
  const rightLo = resultLo
  const rightHi = resultHi
  if ((rightLo | rightHi) == 0) return false
  multiplyWide(leftLo, leftHi, powerLo(shift), powerHi(shift))
  if (!divideWide(rightLo, rightHi)) return false
  // Half of the divisor or more is left: restHi and rightHi are below 2^127, so doubling is safe.
  const twiceHi = (restHi << 1) | (restLo >> 63)
  const twiceLo = restLo << 1
  if (twiceHi > rightHi || (twiceHi == rightHi && twiceLo >= rightLo)) increment()
  if (!isBelowPower(resultLo, resultHi, 38)) return false
  storeSigned(target, resultLo, resultHi, negative)
  return true
}

/** The rest of the truncating division: the sign is the left side's. */
export function remainderDecimals(target: usize, left: usize, right: usize): bool {
  const negative = magnitude(left)
  const leftLo = resultLo
  const leftHi = resultHi
  magnitude(right)
  const rightLo = resultLo
  const rightHi = resultHi
  if ((rightLo | rightHi) == 0) return false
  w0 = leftLo
  w1 = leftHi
  w2 = 0
  w3 = 0
  divideWide(rightLo, rightHi)
  storeSigned(target, restLo, restHi, negative)
  return true
}

export function compareDecimals(left: usize, right: usize): i32 {
  const leftHi = load<i64>(left, 8)
  const rightHi = load<i64>(right, 8)
  if (leftHi != rightHi) return leftHi < rightHi ? -1 : 1
  const leftLo = load<u64>(left)
  const rightLo = load<u64>(right)
  return ((leftLo > rightLo) as i32) - ((leftLo < rightLo) as i32)
}

/**
 * source * 10^shift, a negative shift rounding half away from zero. `digits` > 0: fails beyond that many digits.
 * `digits` 0: saturates at +-10^38 instead, which compares rightly with every decimal.
 */
export function rescaleDecimal(target: usize, source: usize, shift: i32, digits: i32): bool {
  const negative = magnitude(source)
  if (shift >= 0) {
    multiplyWide(resultLo, resultHi, powerLo(shift), powerHi(shift))
  } else {
    const divisorLo = powerLo(-shift)
    const divisorHi = powerHi(-shift)
    w0 = resultLo
    w1 = resultHi
    w2 = 0
    w3 = 0
    divideWide(divisorLo, divisorHi)
    const twiceHi = (restHi << 1) | (restLo >> 63)
    const twiceLo = restLo << 1
    if (twiceHi > divisorHi || (twiceHi == divisorHi && twiceLo >= divisorLo)) increment()
    w0 = resultLo
    w1 = resultHi
  }
  const fits = (w2 | w3) == 0 && isBelowPower(w0, w1, digits == 0 ? 38 : digits)
  if (fits) storeSigned(target, w0, w1, negative)
  else if (digits == 0) storeSigned(target, powerLo(38), powerHi(38), negative)
  return fits || digits == 0
}

// ---- conversions ---------------------------------------------------------------------------------------------------

export function decimalOfInt(target: usize, value: i64): void {
  store<i64>(target, value)
  store<i64>(target, value >> 63, 8)
}

/** Rounded half away from zero; false when int64 can't hold it. */
export function intOfDecimal(target: usize, source: usize, scale: i32): bool {
  const negative = magnitude(source)
  if (scale > 0) {
    const scaled = memoryCell
    rescaleDecimal(scaled, source, -scale, 38)
    magnitude(scaled)
  }
  if (resultHi != 0 || resultLo > (0x7fff_ffff_ffff_ffff as u64) + (negative as u64)) return false
  store<u64>(target, negative ? 0 - resultLo : resultLo)
  return true
}

const memoryCell = memory.data(16)

/** 10^scale where that is an exact double (up to 10^22), else 0. */
export function exactPower(scale: i32): f64 {
  return scale <= 22 ? (powerLo(scale) as f64) + (powerHi(scale) as f64) * 18446744073709551616.0 : 0
}

/** The double nearest to source / 10^scale, ties to even; `power` is `exactPower(scale)`. */
export function doubleOfDecimal(source: usize, scale: i32, power: f64): f64 {
  // Both sides are exact doubles: one division, one rounding.
  const small = load<i64>(source)
  if (small >> 63 == load<i64>(source, 8) && power != 0 && ((small + (1 << 53)) as u64) <= 1 << 54) {
    return (small as f64) / power + 0.0
  }

  const negative = magnitude(source)
  let lo = resultLo
  let hi = resultHi
  if ((lo | hi) == 0) return 0
  // A quotient of at least 56 bits and whether anything is left decide the rounding.
  const divisorLo = powerLo(scale)
  const divisorHi = powerHi(scale)
  const shift = max(0, 56 + bitLength(divisorLo, divisorHi) - bitLength(lo, hi))
  w0 = lo
  w1 = hi
  w2 = 0
  w3 = 0
  shiftLeft(shift)
  divideWide(divisorLo, divisorHi)
  lo = resultLo
  hi = resultHi
  let sticky = (restLo | restHi) != 0
  const drop = bitLength(lo, hi) - 53
  const half = drop - 1
  let halfSet: u64
  if (half < 64) {
    halfSet = (lo >> (half as u64)) & 1
    sticky = sticky || (lo & (((1 as u64) << (half as u64)) - 1)) != 0
  } else {
    halfSet = (hi >> ((half - 64) as u64)) & 1
    sticky = sticky || lo != 0 || (hi & (((1 as u64) << ((half - 64) as u64)) - 1)) != 0
  }
  let top = drop >= 64 ? hi >> ((drop - 64) as u64) : (lo >> (drop as u64)) | (hi << ((64 - drop) as u64))
  if (halfSet != 0 && (sticky || (top & 1) != 0)) top++
  const value = (top as f64) * reinterpret<f64>(((1023 + drop - shift) as u64) << 52)
  return negative ? -value : value
}

/** value * 10^scale rounded half away from zero; false beyond `digits` digits. */
export function decimalOfDouble(target: usize, value: f64, scale: i32, digits: i32): bool {
  const bits = reinterpret<u64>(value)
  const biased = ((bits >> 52) & 0x7ff) as i32
  let mantissa = bits & 0x000f_ffff_ffff_ffff
  if (biased != 0) mantissa |= 0x0010_0000_0000_0000
  const exponent = max(biased, 1) - 1075
  multiplyWide(mantissa, 0, powerLo(scale), powerHi(scale))
  if (exponent > 0) {
    if ((w2 | w3) != 0 || bitLength(w0, w1) + exponent > 128) return false
    shiftLeft(exponent)
  } else if (exponent < 0) {
    // A product has at most 180 bits, so a longer shift leaves less than a half.
    if (exponent < -250) {
      w0 = 0
      w1 = 0
      w2 = 0
      w3 = 0
    } else shiftRightRounded(-exponent)
  }
  if ((w2 | w3) != 0 || !isBelowPower(w0, w1, digits)) return false
  storeSigned(target, w0, w1, value < 0)
  return true
}

// ---- magnitudes ----------------------------------------------------------------------------------------------------

function bitLength(lo: u64, hi: u64): i32 {
  return hi != 0 ? 128 - (clz(hi) as i32) : 64 - (clz(lo) as i32)
}

/** Full product of two 64-bit numbers in resultLo and resultHi. */
function multiply64(a: u64, b: u64): void {
  const aLo = a & 0xffff_ffff
  const aHi = a >> 32
  const bLo = b & 0xffff_ffff
  const bHi = b >> 32
  const low = aLo * bLo
  const middle = aHi * bLo + (low >> 32)
  const cross = aLo * bHi + (middle & 0xffff_ffff)
  resultLo = (cross << 32) | (low & 0xffff_ffff)
  resultHi = aHi * bHi + (middle >> 32) + (cross >> 32)
}

/** w = a * b. */
function multiplyWide(aLo: u64, aHi: u64, bLo: u64, bHi: u64): void {
  multiply64(aLo, bLo)
  w0 = resultLo
  w1 = resultHi
  w2 = 0
  w3 = 0
  if ((aHi | bHi) == 0) return
  multiply64(aHi, bLo)
  addAt1(resultLo, resultHi)
  multiply64(aLo, bHi)
  addAt1(resultLo, resultHi)
  multiply64(aHi, bHi)
  w2 += resultLo
  w3 += resultHi + ((w2 < resultLo) as u64)
}

function addAt1(lo: u64, hi: u64): void {
  w1 += lo
  const carry = (w1 < lo) as u64
  w2 += hi
  const over = (w2 < hi) as u64
  w2 += carry
  w3 += over + ((w2 < carry) as u64)
}

/**
 * w / divisor: quotient in resultLo, resultHi, rest in restLo, restHi. False when the quotient needs more than 128 bits.
 * The divisor is below 2^127. One native division where both fit 64 bits; else a bit at a time (some 0.3 us).
 */
function divideWide(divisorLo: u64, divisorHi: u64): bool {
  if ((w1 | w2 | w3 | divisorHi) == 0) {
    resultLo = w0 / divisorLo
    resultHi = 0
    restLo = w0 - resultLo * divisorLo
    restHi = 0
    return true
  }
  let quotientLo: u64 = 0
  let quotientHi: u64 = 0
  let lo: u64 = 0
  let hi: u64 = 0
  let over: u64 = 0
  const limbs = w3 != 0 ? 4 : w2 != 0 ? 3 : w1 != 0 ? 2 : 1
  for (let limb = limbs - 1; limb >= 0; limb--) {
    const word = limb == 3 ? w3 : limb == 2 ? w2 : limb == 1 ? w1 : w0
    for (let bit: u64 = 64; bit > 0; bit--) {
      hi = (hi << 1) | (lo >> 63)
      lo = (lo << 1) | ((word >> (bit - 1)) & 1)
      over |= quotientHi >> 63
      quotientHi = (quotientHi << 1) | (quotientLo >> 63)
      quotientLo <<= 1
      if (hi > divisorHi || (hi == divisorHi && lo >= divisorLo)) {
        hi = hi - divisorHi - ((lo < divisorLo) as u64)
        lo -= divisorLo
        quotientLo |= 1
      }
    }
  }
  resultLo = quotientLo
  resultHi = quotientHi
  restLo = lo
  restHi = hi
  return over == 0
}

function increment(): void {
  resultLo++
  if (resultLo == 0) resultHi++
}

/** w <<= bits, 0..255. */
function shiftLeft(bits: i32): void {
  while (bits >= 64) {
    w3 = w2
    w2 = w1
    w1 = w0
    w0 = 0
    bits -= 64
  }
  if (bits == 0) return
  const up = bits as u64
  const down = (64 - bits) as u64
  w3 = (w3 << up) | (w2 >> down)
  w2 = (w2 << up) | (w1 >> down)
  w1 = (w1 << up) | (w0 >> down)
  w0 <<= up
}

/** w >>= bits (1..250), half and more upwards. */
function shiftRightRounded(bits: i32): void {
  const half = bits - 1
  const limb = half >> 6
  const word = limb == 0 ? w0 : limb == 1 ? w1 : limb == 2 ? w2 : w3
  const up = (word >> ((half & 63) as u64)) & 1
  while (bits >= 64) {
    w0 = w1
    w1 = w2
    w2 = w3
    w3 = 0
    bits -= 64
  }
  if (bits > 0) {
    const down = bits as u64
    const left = (64 - bits) as u64
    w0 = (w0 >> down) | (w1 << left)
    w1 = (w1 >> down) | (w2 << left)
    w2 = (w2 >> down) | (w3 << left)
    w3 >>= down
  }
  w0 += up
  if (up != 0 && w0 == 0) {
    w1++
    if (w1 == 0) w2++
  }
}
