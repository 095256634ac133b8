/**
 * One cell of a declared type from a JavaScript value, exactly: integers never pass through a double that cannot hold
 * them, decimals are read by their text, instants become whole milliseconds (floored, as the core floors).
 *
 * A reader returns the cell, or undefined where the value does not fit; `describeInput` says what would have.
 */
import type { TimeUnit } from '../model/columns.ts'

const INT64_MIN = -(2n ** 63n)
const INT64_MAX = 2n ** 63n - 1n
/** A decimal128 holds 38 digits. */
const DECIMAL_LIMIT = 10n ** 38n
/** Beyond it no scale brings a number back into 38 digits, and 10^exponent would cost memory. */
const EXPONENT_MAX = 400

/** A whole number within int64, from a number, a bigint, or text of digits. */
export function readInt64(value: unknown): bigint | undefined {
  if (typeof value === 'number') return Number.isSafeInteger(value) ? BigInt(value) : undefined
  if (typeof value === 'bigint') return value >= INT64_MIN && value <= INT64_MAX ? value : undefined
  if (typeof value === 'string') {
    if (!/^-?\d{1,40}$/.test(value)) return undefined
    return readInt64(BigInt(value))
  }
  return undefined
}

/** The unscaled integer of a decimal with `scale` digits behind the point; digits that would be lost do not fit. */
export function readDecimal(value: unknown, scale: number): bigint | undefined {
  if (typeof value === 'bigint') return withinDecimal(value * 10n ** BigInt(scale))
  // A double's shortest text is the decimal that the caller wrote, up to 15 digits.
  if (typeof value === 'number') return Number.isFinite(value) ? readDecimal(String(value), scale) : undefined
  if (typeof value !== 'string' || value.length > 512) return undefined
  const match = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,4}))?$/.exec(value)
  if (match === null) return undefined
  const [, sign, whole = '', fraction = '', exponentText = '0'] = match
  if (whole.length + fraction.length === 0) return undefined
  const digits = BigInt(whole + fraction)
  if (digits === 0n) return 0n
  const shift = Number(exponentText) - fraction.length + scale
  if (Math.abs(shift) > EXPONENT_MAX) return undefined
  let unscaled = digits
  if (shift >= 0) unscaled *= 10n ** BigInt(shift)
  else {
    const divisor = 10n ** BigInt(-shift)
    if (unscaled % divisor !== 0n) return undefined
    unscaled /= divisor
  }
  return withinDecimal(sign === '-' ? -unscaled : unscaled)
}

function withinDecimal(unscaled: bigint): bigint | undefined {
  return unscaled > -DECIMAL_LIMIT && unscaled < DECIMAL_LIMIT ? unscaled : undefined
}

const NUMERATOR_MS: Record<TimeUnit, bigint> = { ms: 1n, s: 1000n, day: 86_400_000n, us: 1n, ns: 1n }
const DENOMINATOR_MS: Record<TimeUnit, bigint> = { ms: 1n, s: 1n, day: 1n, us: 1000n, ns: 1_000_000n }

/** Milliseconds since the epoch, from whole units, their digits as text, a Date, or RFC 3339 with a zone. */
export function readTimestamp(value: unknown, unit: TimeUnit): bigint | undefined {
  if (value instanceof Date) {
    const ms = value.getTime()
    return Number.isNaN(ms) ? undefined : BigInt(ms)
  }
  if (typeof value === 'string' && !/^-?\d+$/.test(value)) {
    const ms = readRfc3339(value)
    return ms === undefined ? undefined : BigInt(ms)
  }
  const whole = readInt64(value)
  if (whole === undefined) return undefined
  const scaled = whole * NUMERATOR_MS[unit]
  if (scaled < INT64_MIN || scaled > INT64_MAX) return undefined
  const divisor = DENOMINATOR_MS[unit]
  // Division of bigints cuts towards zero.
  return scaled < 0n && scaled % divisor !== 0n ? scaled / divisor - 1n : scaled / divisor
}

const RFC_3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))$/
const MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

/** Milliseconds of an RFC 3339 instant; digits beyond the third behind the second are cut off. */
export function readRfc3339(text: string): number | undefined {
  const match = RFC_3339.exec(text)
  if (match === null) return undefined
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  const leap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0
  const days = month === 2 && leap ? 29 : (MONTH_DAYS[month - 1] ?? 0)
  if (day < 1 || day > days || hour > 23 || minute > 59 || second > 59) return undefined
  const zoneHours = Number(match[9] ?? 0)
  const zoneMinutes = Number(match[10] ?? 0)
  if (zoneHours > 23 || zoneMinutes > 59) return undefined
  const zoneMs = (zoneHours * 60 + zoneMinutes) * 60_000 * (match[8] === '-' ? -1 : 1)
  const milliseconds = Number((match[7] ?? '').padEnd(3, '0').slice(0, 3))
  // Date.UTC reads the years 0..99 as 1900..1999.
  const base = new Date(0)
  base.setUTCFullYear(year, month - 1, day)
  base.setUTCHours(hour, minute, second, milliseconds)
  return base.getTime() - zoneMs
}

/** What a value looks like in a message, short. */
export function describeValue(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'an invalid Date' : value.toISOString()
  if (typeof value === 'number' || value === undefined) return String(value)
  if (typeof value === 'function' || typeof value === 'symbol') return `a ${typeof value}`
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (typeof value === 'object' && value !== null) return 'an object'
  const text = JSON.stringify(value)
  return text.length > 64 ? `${text.slice(0, 60)}…" (${(value as string).length} characters)` : text
}
