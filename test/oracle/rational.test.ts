import { describe, expect, it } from 'vitest'
import { seededRandom } from '../support/random.ts'
import type { Rational } from './rational.ts'
import {
  add,
  bitLength,
  compare,
  decimalText,
  divide,
  exactText,
  fromDecimal,
  fromDouble,
  fromText,
  multiply,
  rational,
  subtract,
  toDouble,
  unitsOfDouble,
} from './rational.ts'

const SEED = 20240607
const cell = new DataView(new ArrayBuffer(8))

function doubleOfBits(bits: bigint): number {
  cell.setBigUint64(0, BigInt.asUintN(64, bits))
  return cell.getFloat64(0)
}

function bitsOfDouble(value: number): bigint {
  cell.setFloat64(0, value)
  return cell.getBigUint64(0)
}

/** A random finite double of any exponent, subnormals included. */
function anyDouble(bits64: () => bigint): number {
  for (;;) {
    const value = doubleOfBits(bits64())
    if (Number.isFinite(value)) return value
  }
}

describe('exact conversion of doubles', () => {
  it('counts units of 2^-1074', () => {
    expect(unitsOfDouble(5e-324)).toBe(1n)
    expect(unitsOfDouble(-5e-324)).toBe(-1n)
    expect(unitsOfDouble(-0)).toBe(0n)
    expect(unitsOfDouble(1)).toBe(2n ** 1074n)
    expect(unitsOfDouble(2 ** -1022)).toBe(2n ** 52n)
    expect(unitsOfDouble(Number.MAX_VALUE)).toBe((2n ** 53n - 1n) * 2n ** (971n + 1074n))
    expect(() => unitsOfDouble(Number.NaN)).toThrow(RangeError)
    expect(() => unitsOfDouble(-Infinity)).toThrow(RangeError)
  })

  it('comes back as the same double for random bit patterns', () => {
    const random = seededRandom(SEED)
    for (let i = 0; i < 5_000; i++) {
      const value = anyDouble(random.bits64)
      expect(toDouble(fromDouble(value)), `seed ${SEED}, draw ${i}`).toBe(value === 0 ? 0 : value)
    }
  })

  it('agrees with Number() of every digit', () => {
    const random = seededRandom(SEED + 1)
    for (let i = 0; i < 500; i++) {
      const value = anyDouble(random.bits64)
      const text = exactText(value)
      expect(Number(text), `seed ${SEED + 1}, ${text}`).toBe(value === 0 ? 0 : value)
      expect(compare(fromText(text), fromDouble(value))).toBe(0)
    }
    expect(exactText(0.1)).toBe('0.1000000000000000055511151231257827021181583404541015625')
    expect(exactText(-100)).toBe('-100')
    expect(exactText(0)).toBe('0')
    expect(exactText(0.5)).toBe('0.5')
  })
})

describe('rounding to the nearest double', () => {
  const half = rational(1n, 2n)
  const cases: readonly (readonly [string, Rational, number])[] = [
    ['zero', rational(0n, 7n), 0],
    ['one third', rational(1n, 3n), 1 / 3],
    ['-2/3', rational(2n, -3n), -2 / 3],
    ['a tie goes to the even mantissa, down', rational(2n ** 53n + 1n), 2 ** 53],
    ['a tie goes to the even mantissa, up', rational(2n ** 53n + 3n), 2 ** 53 + 4],
    ['just above a tie goes up', rational((2n ** 53n + 1n) * 10n ** 30n + 1n, 10n ** 30n), 2 ** 53 + 2],
    ['just below a tie goes down', rational((2n ** 53n + 3n) * 10n ** 30n - 1n, 10n ** 30n), 2 ** 53 + 2],
    ['rounding up may carry into the next power of two', rational(2n ** 54n - 1n), 2 ** 54],
    ['half the smallest subnormal is a tie to 0', multiply(half, fromDouble(5e-324)), 0],
    ['minus half the smallest subnormal is +0', rational(-1n, 2n ** 1075n), 0],
    ['anything above half of it is the smallest subnormal', rational(2n ** 40n + 1n, 2n ** 1115n), 5e-324],
    ['1.5 subnormals tie to the even 2', rational(3n, 2n ** 1075n), 1e-323],
    ['2.5 subnormals tie to the even 2', rational(5n, 2n ** 1075n), 1e-323],
    ['the largest subnormal and a half carries into the normals', rational(2n ** 53n - 1n, 2n ** 1075n), 2 ** -1022],
    ['the largest finite double', fromDouble(Number.MAX_VALUE), Number.MAX_VALUE],
    ['the tie above the largest is an overflow', rational(2n ** 1024n - 2n ** 970n), Infinity],
    ['just below that tie is the largest', rational(2n ** 1024n - 2n ** 970n - 1n), Number.MAX_VALUE],
    ['minus overflow', rational(-(2n ** 1024n)), -Infinity],
    ['far beyond', rational(2n ** 4096n), Infinity],
    ['far below', rational(1n, 2n ** 4096n), 0],
    // Inputs that are ties, or so near to one that decimal readers are known to have got them wrong or to have looped.
    ['2.2250738585072011e-308', fromText('2.2250738585072011e-308'), 2.225073858507201e-308],
    ['2.2250738585072012e-308', fromText('2.2250738585072012e-308'), 2 ** -1022],
    ['9007199254740993', fromText('9007199254740993'), 9007199254740992],
    [
      '0.500000000000000166533453693773481063544750213623046875',
      fromText('0.500000000000000166533453693773481063544750213623046875'),
      0.5000000000000002,
    ],
    ['6929495644600919.5', fromText('6929495644600919.5'), 6929495644600920],
    ['2^45 + 1.5 ulps', fromText('35184372088832.01171875'), 2 ** 45 + 2 * 2 ** -7],
    ['1.7976931348623158e308', fromText('1.7976931348623158e308'), Number.MAX_VALUE],
    ['1.7976931348623159e308', fromText('1.7976931348623159e308'), Infinity],
    ['4.9406564584124654e-324', fromText('4.9406564584124654e-324'), 5e-324],
    ['2.4703282292062327e-324', fromText('2.4703282292062327e-324'), 0],
    ['2.4703282292062328e-324', fromText('2.4703282292062328e-324'), 5e-324],
  ]
  it.each(cases)('%s', (_name, exact, expected) => {
    expect(toDouble(exact)).toBe(expected)
  })

  it('agrees with Number() of long decimal texts', () => {
    const random = seededRandom(SEED + 2)
    for (let i = 0; i < 5_000; i++) {
      const digits = Array.from({ length: random.between(1, 60) }, () => random.below(10)).join('')
      const text = `${random.chance(0.5) ? '-' : ''}${digits}e${random.between(-390, 310)}`
      const expected = Number(text)
      expect(toDouble(fromText(text)), `seed ${SEED + 2}, ${text}`).toBe(expected === 0 ? 0 : expected)
    }
  })

  it('is never farther than half an ulp, by the neighbours and not by the algorithm', () => {
    const random = seededRandom(SEED + 3)
    for (let i = 0; i < 5_000; i++) {
      // Quotients of random sizes, and exact midpoints moved by a hair, over the whole range of exponents.
      let exact: Rational
      if (random.chance(0.5)) {
        exact = divide(rational(random.bits64() + 1n), rational(random.bits64() + 1n))
        exact = multiply(exact, rational(2n ** BigInt(random.below(1100)), 2n ** BigInt(random.below(1200))))
      } else {
        const low = Math.abs(anyDouble(random.bits64))
        const high = doubleOfBits(bitsOfDouble(low) + 1n)
        if (!Number.isFinite(high)) continue
        exact = divide(add(fromDouble(low), fromDouble(high)), rational(2n))
        const hair = rational(BigInt(random.between(-1, 1)), 2n ** 1200n)
        exact = add(exact, hair)
      }
      if (random.chance(0.5)) exact = subtract(rational(0n), exact)
      const rounded = toDouble(exact)
      const at = `seed ${SEED + 3}, draw ${i}`
      if (!Number.isFinite(rounded)) {
        const limit = rational(2n ** 1024n - 2n ** 970n)
        expect(compare(magnitude(exact), limit), at).toBeGreaterThanOrEqual(0)
        continue
      }
      const error = magnitude(subtract(exact, fromDouble(rounded)))
      for (const neighbour of [-1n, 1n]) {
        const bits = bitsOfDouble(Math.abs(rounded)) + neighbour
        const other = bits < 0n ? 5e-324 : doubleOfBits(bits)
        if (!Number.isFinite(other)) continue
        const otherError = magnitude(subtract(magnitude(exact), fromDouble(other)))
        const order = compare(error, otherError)
        expect(order, `${at}: a neighbour is nearer`).toBeLessThanOrEqual(0)
        if (order === 0) expect(bitsOfDouble(rounded) & 1n, `${at}: a tie must be even`).toBe(0n)
      }
    }
  })

  it('divides like the processor, which rounds the same quotient once', () => {
    const random = seededRandom(SEED + 4)
    for (let i = 0; i < 5_000; i++) {
      const a = anyDouble(random.bits64)
      const b = anyDouble(random.bits64)
      if (b === 0) continue
      const at = `seed ${SEED + 4}, ${a} and ${b}`
      const plusZero = (value: number): number => (value === 0 ? 0 : value)
      expect(toDouble(divide(fromDouble(a), fromDouble(b))), at).toBe(plusZero(a / b))
      expect(toDouble(multiply(fromDouble(a), fromDouble(b))), at).toBe(plusZero(a * b))
      expect(toDouble(add(fromDouble(a), fromDouble(b))), at).toBe(plusZero(a + b))
      expect(toDouble(subtract(fromDouble(a), fromDouble(b))), at).toBe(plusZero(a - b))
    }
  })
})

describe('decimals', () => {
  it('prints exactly the digits of the scale', () => {
    expect(decimalText(150n, 2)).toBe('1.50')
    expect(decimalText(-5n, 2)).toBe('-0.05')
    expect(decimalText(0n, 3)).toBe('0.000')
    expect(decimalText(-7n, 0)).toBe('-7')
    expect(decimalText(10n ** 38n - 1n, 38)).toBe(`0.${'9'.repeat(38)}`)
  })

  it('reads what it prints', () => {
    const random = seededRandom(SEED + 5)
    for (let i = 0; i < 500; i++) {
      const unscaled = BigInt.asIntN(120, (random.bits64() << 64n) | random.bits64())
      const scale = random.below(39)
      expect(compare(fromText(decimalText(unscaled, scale)), fromDecimal(unscaled, scale))).toBe(0)
    }
    expect(() => fromText('1,5')).toThrow(SyntaxError)
  })

  it('measures integers in bits', () => {
    for (const [value, bits] of [
      [1n, 1],
      [2n, 2],
      [3n, 2],
      [15n, 4],
      [16n, 5],
      [2n ** 64n - 1n, 64],
      [2n ** 64n, 65],
    ] as const) {
      expect(bitLength(value)).toBe(bits)
    }
  })
})

function magnitude(value: Rational): Rational {
  return value.numerator < 0n ? rational(-value.numerator, value.denominator) : value
}
