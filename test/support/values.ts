/** Cells by type and shape, from everyday amounts to the ends of each type. */
import type { ValueType } from '../../src/model/plan.ts'
import type { Cell } from '../oracle/event.ts'
import type { Random } from './random.ts'

/**
 * - `dyadic`: sixteenths, so that plain sums are exact too
 * - `cents`: amounts with two digits
 * - `ints`: small whole numbers, negative ones too
 * - `digits`: 0 to 9, which every numeric type holds
 * - `wide`: any finite double of a moderate exponent
 * - `extremes`: the ends of the type, mixed with everyday values
 * - `words`: short texts and the odd ones; only this shape for text
 * - `flags`: only this shape for bool
 */
export type ValueShape = 'dyadic' | 'cents' | 'ints' | 'digits' | 'wide' | 'extremes' | 'words' | 'flags'

export function shapesOf(type: ValueType): readonly ValueShape[] {
  switch (type) {
    case 'float64':
      return ['dyadic', 'cents', 'ints', 'digits', 'wide', 'extremes']
    case 'int64':
    case 'decimal':
      return ['cents', 'ints', 'digits', 'extremes']
    case 'utf8':
      return ['words']
    case 'bool':
      return ['flags']
  }
}

export function drawCell(random: Random, type: ValueType, shape: ValueShape): Cell {
  switch (type) {
    case 'float64':
      return drawFloat(random, shape)
    case 'int64':
      return drawInteger(random, shape, 2n ** 63n)
    case 'decimal':
      return { dec: drawInteger(random, shape, 10n ** 38n) }
    case 'utf8':
      return drawText(random)
    case 'bool':
      return random.chance(0.5)
  }
}

const FLOAT_EXTREMES = [
  0,
  -0,
  Number.NaN,
  Infinity,
  -Infinity,
  5e-324,
  -5e-324,
  2 ** -1022,
  2 ** -1022 - 5e-324,
  Number.MAX_VALUE,
  -Number.MAX_VALUE,
  1e308,
  -1e308,
  2 ** 53 + 2,
  2 ** -12,
  2 ** -13,
  -(2 ** 52),
  2 ** 52 - 0.5,
  2 ** 63,
  -(2 ** 64),
  1 + 2 ** -52,
]

function drawFloat(random: Random, shape: ValueShape): number {
  switch (shape) {
    case 'dyadic':
      return random.between(-100_000, 100_000) / 16
    case 'cents':
      return random.between(-1_000, 1_000_000) / 100
    case 'ints':
      return random.between(-60, 600)
    case 'digits':
      return random.below(10)
    case 'wide':
      return (random.fraction() - 0.5) * 2 ** random.between(-60, 60)
    default:
      return random.chance(0.7) ? random.pick(FLOAT_EXTREMES) : drawFloat(random, 'cents')
  }
}

/** Whole numbers in [-limit, limit); a decimal's limit is never reached, -10^38 has 39 digits. */
function drawInteger(random: Random, shape: ValueShape, limit: bigint): bigint {
  if (shape === 'ints') return BigInt(random.between(-60, 600))
  if (shape === 'digits') return BigInt(random.below(10))
  if (shape === 'cents') return BigInt(random.between(-1_000, 1_000_000))
  if (random.chance(0.3)) return BigInt(random.between(-1_000, 1_000))
  const lowest = limit === 2n ** 63n ? -limit : -limit + 1n
  const ends = [
    limit - 1n,
    lowest,
    limit - 2n,
    lowest + 1n,
    limit / 2n,
    -limit / 2n,
    2n ** 53n + 1n,
    2n ** 32n,
    -(2n ** 31n),
  ]
  return random.pick(ends)
}

const WORDS = [
  '',
  'a',
  'b',
  'ab',
  'a\0',
  '\0',
  'zürich',
  'Zürich',
  '😀',
  '😀😁',
  '\u{FFFF}',
  '\u{10000}',
  'x'.repeat(300),
]

function drawText(random: Random): string {
  return random.chance(0.6) ? random.pick(WORDS) : `w${random.below(20)}`
}
