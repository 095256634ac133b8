/**
 * When the rows of a file are of, by the names of its directories.
 *
 *   ds=2026-11-20/hour=03/part-0.parquet           [03:00, 04:00) of that day
 *   date=2026-11-20, dt=2026-11-20                 that day
 *   year=2026/month=11/day=20/hour=3               the same in parts, down to the last that is there
 */
const DAY_MS = 86_400_000
const HOUR_MS = 3_600_000

/** `[fromMs, toMs)`, UTC. */
export interface Interval {
  readonly fromMs: number
  readonly toMs: number
}

/** Undefined where no directory tells, or what they tell is no time. */
export function hiveInterval(path: string): Interval | undefined {
  const parts = new Map<string, string>()
  for (const folder of path.split(/[\\/]/).slice(0, -1)) {
    const [, name, value] = /^([a-z]+)=(.+)$/i.exec(folder) ?? []
    if (name !== undefined) parts.set(name.toLowerCase(), decodeURIComponent(value!))
  }
  const date = parts.get('ds') ?? parts.get('date') ?? parts.get('dt')
  const hour = wholeOf(parts.get('hour'), 0, 23)
  if (parts.has('hour') && hour === undefined) return undefined
  if (date !== undefined) {
    const fromMs = /^\d{4}-\d{2}-\d{2}$/.test(date) ? Date.parse(`${date}T00:00:00Z`) : Number.NaN
    if (!Number.isFinite(fromMs) || new Date(fromMs).toISOString().slice(0, 10) !== date) return undefined
    return hourOf({ fromMs, toMs: fromMs + DAY_MS }, hour)
  }
  const year = wholeOf(parts.get('year'), 1970, 2105)
  if (year === undefined) return undefined
  if (!parts.has('month')) return { fromMs: Date.UTC(year, 0), toMs: Date.UTC(year + 1, 0) }
  const month = wholeOf(parts.get('month'), 1, 12)
  if (month === undefined) return undefined
  if (!parts.has('day')) return { fromMs: Date.UTC(year, month - 1), toMs: Date.UTC(year, month) }
  const day = wholeOf(parts.get('day'), 1, new Date(Date.UTC(year, month, 0)).getUTCDate())
  if (day === undefined) return undefined
  const fromMs = Date.UTC(year, month - 1, day)
  return hourOf({ fromMs, toMs: fromMs + DAY_MS }, hour)
}

function hourOf({ fromMs, toMs }: Interval, hour: number | undefined): Interval {
  if (hour === undefined) return { fromMs, toMs }
  return { fromMs: fromMs + hour * HOUR_MS, toMs: fromMs + (hour + 1) * HOUR_MS }
}

function wholeOf(text: string | undefined, min: number, max: number): number | undefined {
  const value = text !== undefined && /^\d{1,4}$/.test(text) ? Number(text) : Number.NaN
  return value >= min && value <= max ? value : undefined
}
