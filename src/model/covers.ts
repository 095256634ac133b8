/**
 * Ranges of event time for which a generation's history is authoritative: within them its history lanes count, elsewhere its
 * live ones, and each puts aside what the other counts. An event that files and a log both hold then counts once, and a
 * range that was wrong is corrected by files that are right.
 *
 *   covers      ........[ 24 Nov )........      a corrected day
 *   covers      [0 ............ T)........      history until T, the stream from there on
 *
 * Which lanes count an event follows from its time alone, so the same events still give the same bytes. Ranges need not lie on
 * the edges of tiles: a tile that an edge cuts has a part in each kind of lane, and they are merged as any two lanes are.
 */
import { TilefoldError } from './errors.ts'
import { formatInstant, parseInstant, TIME_LIMIT_MS } from './time.ts'

/** `[fromMs, toMs)`. */
export interface TimeRange {
  readonly fromMs: number
  readonly toMs: number
}

/** Events that lanes take: those inside the ranges, or all others. */
export interface TakenTimes {
  readonly ranges: readonly TimeRange[]
  readonly inside: boolean
}

/** Undefined: events of all times. */
export function takenTimes(covers: readonly TimeRange[] | undefined, isHistory: boolean): TakenTimes | undefined {
  return covers && { ranges: covers, inside: isHistory }
}

/** Ascending and apart: ranges that touch or overlap become one. */
export function joinRanges(ranges: readonly TimeRange[]): TimeRange[] {
  const joined: TimeRange[] = []
  for (const range of [...ranges].sort((a, b) => a.fromMs - b.fromMs)) {
    const last = joined.at(-1)
    if (last === undefined || range.fromMs > last.toMs) joined.push(range)
    else joined[joined.length - 1] = { fromMs: last.fromMs, toMs: Math.max(last.toMs, range.toMs) }
  }
  return joined
}

/** Both are joined. */
export function coverAll(outer: readonly TimeRange[], inner: readonly TimeRange[]): boolean {
  return inner.every(({ fromMs, toMs }) => outer.some((each) => each.fromMs <= fromMs && toMs <= each.toMs))
}

export function areSameRanges(a: readonly TimeRange[], b: readonly TimeRange[]): boolean {
  return coverAll(a, b) && coverAll(b, a)
}

/** `2026-11-24T00:00:00Z..2026-11-25T00:00:00Z`, or milliseconds. Throws REQUEST_INVALID. */
export function parseRange(text: string): TimeRange {
  const ends = text.split('..')
  if (ends.length === 2) {
    const [fromMs, toMs] = ends.map(parseInstant) as [number, number]
    if (fromMs < toMs && toMs <= TIME_LIMIT_MS) return { fromMs, toMs }
  }
  throw new TilefoldError(
    'REQUEST_INVALID',
    `cannot read a range of time: got ${JSON.stringify(text)}, expected <from>..<to>, two instants of which the first is earlier and the second is not counted`,
  )
}

/** `parseRange` reads each of them back. */
export function formatRanges(ranges: readonly TimeRange[]): string {
  return ranges.map(({ fromMs, toMs }) => `${formatInstant(fromMs)}..${formatInstant(toMs)}`).join(', ')
}
