/**
 * Where a replay starts: what was asked for, as a position of each log, and since when the view is then complete.
 *
 *   instant     the first record of each partition whose record time isn't before it, as brokers look it up
 *   earliest    what the log still holds now
 *   positions   as they are told; a partition that isn't named starts at 0
 *
 * Complete since: an event may lie `max_future` ahead of its record and no further, else it is rejected. So every event of an instant
 * that lies `max_future` behind the newest record time that was left out is in. Late events in front of it are in as well, as far as
 * they came behind the start; windows that reach there are `incomplete`.
 *
 * Record times are taken to be in order where the log has forgotten records: the first one left speaks for those before it.
 */
import { TilefoldError } from '../model/errors.ts'
import { formatInstant } from '../model/time.ts'
import { type LogStart, logOfPartition } from '../model/view-layout.ts'
import type { LogEnds, LogTimes } from '../source/log-times.ts'
import type { GenerationStart } from './generations.ts'

export type AskedStart =
  | { readonly at: 'earliest' }
  | { readonly at: 'instant'; readonly timeMs: number }
  | { readonly at: 'positions'; readonly starts: readonly LogStart[] }

export interface StartRequest {
  readonly asked: AskedStart
  readonly topic: string
  readonly maxFutureMs: number
  /** Where times and ends are looked up; positions can do without, where `completeSinceMs` is told. */
  readonly times?: LogTimes
  /** As told, in the place of what follows from record times. */
  readonly completeSinceMs?: number
  readonly nowMs: number
}

/** Throws LOG_GAP where the log does not hold what was asked for, CONFIG_INVALID, and what `times` throws. */
export async function findStart(request: StartRequest): Promise<GenerationStart> {
  const { asked, topic, times, maxFutureMs, completeSinceMs } = request
  if (times === undefined) {
    if (asked.at === 'positions' && completeSinceMs !== undefined)
      return { starts: sorted(asked.starts), completeSinceMs }
    throw invalid(
      topic,
      asked.at === 'positions'
        ? 'offsets do not tell since when the view is complete; got neither --complete-since nor brokers nor a mirror'
        : 'times are looked up where the records are; got neither brokers nor a mirror',
    )
  }
  const ends = await times.ends(topic)
  const positions = await positionsOf(request, times, ends)
  const starts = [...positions].map(([partition, position]) => ({ log: logOfPartition(topic, partition), position }))
  if (completeSinceMs !== undefined) return { starts, completeSinceMs }
  // Nothing is left out.
  if (starts.every(({ position }) => position === 0)) return { starts }
  const newestMs = asked.at === 'instant' ? asked.timeMs - 1 : await newestLeftOut(request, times, ends, positions)
  return { starts, completeSinceMs: newestMs + maxFutureMs + 1 }
}

async function positionsOf(
  { asked, topic }: StartRequest,
  times: LogTimes,
  ends: readonly LogEnds[],
): Promise<ReadonlyMap<number, number>> {
  if (asked.at === 'earliest') return new Map(ends.map(({ partition, first }) => [partition, first]))
  const found = asked.at === 'instant' ? await times.firstAt(topic, asked.timeMs) : named(asked.starts, topic, ends)
  const positions = new Map(ends.map(({ partition }) => [partition, found.get(partition) ?? 0]))
  for (const { partition, first, next } of ends) {
    const position = positions.get(partition)!
    // Who starts with the first record that is left at an instant can't tell whether one before it was wanted.
    const isGap = asked.at === 'instant' ? first > 0 && position <= first : position < first
    if (!isGap && (asked.at === 'instant' || position <= next)) continue
    const log = logOfPartition(topic, partition)
    const wanted = asked.at === 'instant' ? `one before ${formatInstant(asked.timeMs)}` : `${position}`
    throw new TilefoldError(
      'LOG_GAP',
      `cannot start log ${log} where it was asked for: ${times.name} holds offsets ${first} to ${next}, expected ${wanted} among them; "earliest" starts with what is there`,
      { log, first, next },
    )
  }
  return positions
}

function named(starts: readonly LogStart[], topic: string, ends: readonly LogEnds[]): Map<number, number> {
  const partitions = new Map(ends.map(({ partition }) => [logOfPartition(topic, partition), partition]))
  const odd = starts.find(({ log }) => !partitions.has(log))
  if (odd) throw invalid(topic, `it has no log ${odd.log}; expected some of ${[...partitions.keys()].join(', ')}`)
  return new Map(starts.map(({ log, position }) => [partitions.get(log)!, position]))
}

async function newestLeftOut(
  { topic, nowMs }: StartRequest,
  times: LogTimes,
  ends: readonly LogEnds[],
  positions: ReadonlyMap<number, number>,
): Promise<number> {
  const late = ends.filter(({ partition }) => positions.get(partition)! > 0)
  // Of what is gone altogether only so much is known: it is older than now.
  if (late.some(({ first, next }) => first === next)) return nowMs
  const upTo = new Map(late.map(({ partition, next }) => [partition, Math.min(positions.get(partition)!, next - 1)]))
  return (await times.newestUpTo(topic, upTo)) ?? nowMs
}

function sorted(starts: readonly LogStart[]): LogStart[] {
  return [...starts].sort((a, b) => (a.log < b.log ? -1 : 1))
}

function invalid(topic: string, cause: string): TilefoldError {
  return new TilefoldError('CONFIG_INVALID', `cannot start a replay of topic ${topic}: ${cause}`)
}
