/** Values that expressions are tried on: the ends of each type, small ones that meet often, and any bits at all. */
import type { Random } from '../support/random.ts'

export const INTS = [
  0n,
  1n,
  -1n,
  2n,
  7n,
  1000n,
  -(2n ** 31n),
  2n ** 53n + 1n,
  2n ** 63n - 1n,
  -(2n ** 63n),
  -(2n ** 62n),
  3037000500n,
]
const FLOATS = [
  0,
  -0,
  1,
  -1.5,
  0.1,
  1e-300,
  5e-324,
  1e300,
  -1.7976931348623157e308,
  2 ** 63,
  -(2 ** 63),
  0.5,
  2.5,
  -2.5,
  1e17,
  NaN,
  Infinity,
  -Infinity,
]
export const TEXTS = [
  '',
  'a',
  'b',
  'ab',
  'JFK',
  'Zürich',
  '𝕏',
  '\u{10ffff}',
  'aaaaaaaa',
  'aaaaaaab',
  'aaaaaaaaa',
  "it's",
]

export function drawInt(random: Random): bigint {
  if (random.chance(0.4)) return random.pick(INTS)
  return random.chance(0.5) ? BigInt(random.between(-20, 20)) : BigInt.asIntN(64, random.bits64())
}

export function drawFloat(random: Random): number {
  if (random.chance(0.4)) return random.pick(FLOATS)
  if (random.chance(0.5)) return random.between(-40, 40) / 4
  const view = new DataView(new ArrayBuffer(8))
  view.setBigUint64(0, random.bits64())
  return view.getFloat64(0)
}

export function drawDecimal(random: Random, digits: number): bigint {
  if (random.chance(0.1)) return 10n ** BigInt(digits) - 1n
  if (random.chance(0.1)) return -(10n ** BigInt(digits) - 1n)
  if (random.chance(0.4)) return BigInt(random.between(-2000, 2000))
  const wide = (random.bits64() << 64n) | random.bits64()
  const value = wide % 10n ** BigInt(random.between(1, digits))
  return random.chance(0.5) ? -value : value
}
