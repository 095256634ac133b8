/** Ranges of event time, for scripts. */
import type { TimeRange } from '../model/covers.ts'
import { formatInstant } from '../model/time.ts'

export function coversData(ranges: readonly TimeRange[]): object[] {
  return ranges.map(({ fromMs, toMs }) => ({ from: formatInstant(fromMs), to: formatInstant(toMs) }))
}
