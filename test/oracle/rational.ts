/**
 * Exact arithmetic for the oracle: rationals of two BigInts, and the one rounding that turns one into a double.
 * Nothing is reduced and nothing is fast; every function is the textbook definition.
 */

/** `numerator / denominator`; the denominator is positive, the fraction need not be in lowest terms. */
export interface Rational {
  readonly numerator: bigint
  readonly denominator: bigint
}

/** Every finite double is a whole multiple of 2^-1074, the smallest subnormal. */
const SMALLEST_EXPONENT = 1074

const MANTISSA_BITS = 52n
const MANTISSA_MASK = (1n << MANTISSA_BITS) - 1n

const cell = new DataView(new ArrayBuffer(8))

/** The finite double as a whole number of 2^-1074. Throws RangeError on NaN and infinities. */
export function unitsOfDouble(value: number): bigint {
  if (!Number.isFinite(value)) throw new RangeError(`cannot take ${value} exactly: expected a finite number`)
  cell.setFloat64(0, value)
  const bits = cell.getBigUint64(0)
  const exponent = (bits >> MANTISSA_BITS) & 0x7ffn
  const mantissa = bits & MANTISSA_MASK
  const magnitude = exponent === 0n ? mantissa : (mantissa | (1n << MANTISSA_BITS)) << (exponent - 1n)
  return value < 0 ? -magnitude : magnitude
}

/** What `unitsOfDouble` counts: 2^1074 of them make one. */
export const UNITS_PER_ONE = 1n << BigInt(SMALLEST_EXPONENT)

export function rational(numerator: bigint, denominator = 1n): Rational {
  if (denominator === 0n) throw new RangeError('cannot build a rational: the denominator is 0')
  return denominator < 0n ? { numerator: -numerator, denominator: -denominator } : { numerator, denominator }
}

export function fromDouble(value: number): Rational {
  return rational(unitsOfDouble(value), UNITS_PER_ONE)
}

/** The decimal whose digits are `unscaled` and that has `scale` of them behind the point. */
export function fromDecimal(unscaled: bigint, scale: number): Rational {
  return rational(unscaled, 10n ** BigInt(scale))
}

export function add(a: Rational, b: Rational): Rational {
  return rational(a.numerator * b.denominator + b.numerator * a.denominator, a.denominator * b.denominator)
}

export function subtract(a: Rational, b: Rational): Rational {
  return add(a, rational(-b.numerator, b.denominator))
}

export function multiply(a: Rational, b: Rational): Rational {
  return rational(a.numerator * b.numerator, a.denominator * b.denominator)
}

export function divide(a: Rational, b: Rational): Rational {
  return rational(a.numerator * b.denominator, a.denominator * b.numerator)
}

/** Negative, 0 or positive, as a is below, equal to or above b. */
export function compare(a: Rational, b: Rational): number {
  const left = a.numerator * b.denominator
  const right = b.numerator * a.denominator
  return left < right ? -1 : left > right ? 1 : 0
}

/**
 * The double nearest to the exact value, ties to the even mantissa: IEEE 754's roundTiesToEven, subnormals included.
 * A magnitude of 2^1024 - 2^970 or more becomes an infinity. Zero is +0, whatever the sign of a tiny numerator.
 */
export function toDouble(value: Rational): number {
  if (value.numerator === 0n) return 0
  const negative = value.numerator < 0n
  const numerator = negative ? -value.numerator : value.numerator
  const denominator = value.denominator

  // The largest power of two that is not above the value: off by at most one from the difference of the bit lengths.
  let exponent = bitLength(numerator) - bitLength(denominator)
  if (isBelowPowerOfTwo(numerator, denominator, exponent)) exponent--

  // The unit in the last place, and how many of them the value is.
  const ulpExponent = Math.max(exponent - 52, -SMALLEST_EXPONENT)
  const scaledNumerator = ulpExponent < 0 ? numerator << BigInt(-ulpExponent) : numerator
  const scaledDenominator = ulpExponent > 0 ? denominator << BigInt(ulpExponent) : denominator
  let ulps = scaledNumerator / scaledDenominator
  const twiceRest = 2n * (scaledNumerator % scaledDenominator)
  if (twiceRest > scaledDenominator || (twiceRest === scaledDenominator && (ulps & 1n) === 1n)) ulps++

  const magnitude = timesPowerOfTwo(ulps, ulpExponent)
  return magnitude === 0 ? 0 : negative ? -magnitude : magnitude
}

/** Is `numerator / denominator` below 2^exponent? */
function isBelowPowerOfTwo(numerator: bigint, denominator: bigint, exponent: number): boolean {
  return exponent >= 0 ? numerator < denominator << BigInt(exponent) : numerator << BigInt(-exponent) < denominator
}

/** `ulps * 2^exponent` for 0 <= ulps <= 2^53 that fits a double, or Infinity. */
function timesPowerOfTwo(ulps: bigint, exponent: number): number {
  let result = Number(ulps)
  // Halving and doubling in steps of one bit is exact: the result is a multiple of 2^-1074 with at most 53 bits.
  for (let i = 0; i < exponent; i++) result *= 2
  for (let i = 0; i > exponent; i--) result /= 2
  return result
}

/** Bits of a positive integer: 2^(n-1) <= value < 2^n. */
export function bitLength(value: bigint): number {
  const hex = value.toString(16)
  return (hex.length - 1) * 4 + (32 - Math.clz32(Number.parseInt(hex[0]!, 16)))
}

/** The decimal as text with exactly `scale` digits behind the point: 150 with scale 2 is `1.50`, -5 is `-0.05`. */
export function decimalText(unscaled: bigint, scale: number): string {
  if (scale === 0) return `${unscaled}`
  const digits = `${unscaled < 0n ? -unscaled : unscaled}`.padStart(scale + 1, '0')
  return `${unscaled < 0n ? '-' : ''}${digits.slice(0, -scale)}.${digits.slice(-scale)}`
}

/** Reads `-12.50`, `3`, `1e-7` exactly. Throws SyntaxError on anything else. */
export function fromText(text: string): Rational {
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text)
  if (!match) throw new SyntaxError(`cannot read a decimal: got ${JSON.stringify(text)}, expected digits`)
  const [, sign, whole, fraction = '', power = '0'] = match
  const unscaled = BigInt(`${whole}${fraction}`) * (sign === '-' ? -1n : 1n)
  const exponent = Number(power) - fraction.length
  return exponent >= 0 ? rational(unscaled * 10n ** BigInt(exponent)) : rational(unscaled, 10n ** BigInt(-exponent))
}

/** Every digit of a finite double: 0.1 is `0.1000000000000000055511151231257827021181583404541015625`. */
export function exactText(value: number): string {
  const units = unitsOfDouble(value)
  // units / 2^1074 = units * 5^1074 / 10^1074
  const text = decimalText(units * 5n ** BigInt(SMALLEST_EXPONENT), SMALLEST_EXPONENT)
  return text.replace(/\.?0+$/, '')
}
