/**
 * Time is milliseconds since the epoch, UTC, as a plain number. Windows are half-open, `[asOf - length, asOf)`.
 */
import { TilefoldError } from './errors.ts'

const UNIT_MS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 }

/** Event times outside `[0, TIME_LIMIT_MS)` are rejected: tile numbers are unsigned 32-bit and steps at least 1 s. */
export const TIME_LIMIT_MS = 2 ** 32 * 1000

/** Parses `90s`, `5m`, `1h`, `1h30m`, `7d` into milliseconds. Throws DEFINITION_INVALID. */
export function parseDuration(text: string): number {
  if (!/^(\d+(ms|[smhdw]))+$/.test(text)) {
    throw new TilefoldError(
      'DEFINITION_INVALID',
      `cannot read duration: got ${JSON.stringify(text)}, expected a number and a unit (ms, s, m, h, d, w) like "5m" or "1h30m"`,
    )
  }
  let total = 0
  for (const [, amount, unit] of text.matchAll(/(\d+)(ms|[smhdw])/g)) total += Number(amount) * UNIT_MS[unit!]!
  if (!Number.isSafeInteger(total)) {
    throw new TilefoldError('DEFINITION_INVALID', `cannot read duration: ${JSON.stringify(text)} is too long`)
  }
  return total
}

/** The shortest text that `parseDuration` reads back: 86400000 is `1d` (and 172800000 `2d`, never `48h`). */
export function formatDuration(ms: number): string {
  if (ms === 0) return '0s'
  let rest = ms
  let text = ''
  for (const unit of ['d', 'h', 'm', 's', 'ms']) {
    const amount = Math.floor(rest / UNIT_MS[unit]!)
    if (amount > 0) text += `${amount}${unit}`
    rest -= amount * UNIT_MS[unit]!
  }
  return text
}

/** RFC 3339 with a zone, or whole milliseconds, to milliseconds. Throws REQUEST_INVALID. */
export function parseInstant(value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value
  if (typeof value === 'string') {
    if (/^\d{1,16}$/.test(value)) return Number(value)
    if (/^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?([Zz]|[+-]\d{2}:\d{2})$/.test(value)) {
      const ms = Date.parse(value.replace(' ', 'T').toUpperCase())
      if (!Number.isNaN(ms)) return ms
    }
  }
  throw new TilefoldError(
    'REQUEST_INVALID',
    `cannot read an instant: got ${JSON.stringify(value)}, expected RFC 3339 with a zone (2001-06-24T12:00:00Z) or milliseconds since the epoch`,
  )
}

/** RFC 3339 with milliseconds and `Z`, which `parseInstant` reads back. */
export function formatInstant(ms: number): string {
  return new Date(ms).toISOString()
}

/** The start of the step that `ms` lies in. */
export function floorTo(ms: number, stepMs: number): number {
  return Math.floor(ms / stepMs) * stepMs
}
