/**
 * Which events of one input log are accepted: decided in log order and from the log's content alone.
 *
 *   decode -> reject -> advance the late clock -> retention, lateness -> elsewhere -> dedupe -> filter
 */
import { KEY_BYTES_MAX } from '../../src/model/key.ts'
import type { StatePlan } from '../../src/model/plan.ts'
import { TIME_LIMIT_MS } from '../../src/model/time.ts'
import type { NaiveEvent } from './event.ts'
import { idOf, timeOf } from './event.ts'

export type Verdict =
  | 'rejected:key'
  | 'rejected:time'
  | 'rejected:future'
  | 'retention'
  | 'late'
  | 'elsewhere'
  | 'duplicate'
  | 'filtered'
  | 'applied'

export interface AcceptOptions {
  /** Stands for the record time in logs that have none: the log's creation instant, ms. */
  readonly notAfterMs?: number
  /** Times that history covers, and whether this log is history: it counts those, any other log all but those. */
  readonly covers?: readonly { readonly fromMs: number; readonly toMs: number }[]
  readonly isHistory?: boolean
}

export interface Acceptance {
  /** One per position, in log order. A position that comes again is a redelivery and is not judged again. */
  readonly verdicts: readonly { readonly event: NaiveEvent; readonly verdict: Verdict }[]
  /** The events that count, in log order. */
  readonly applied: readonly NaiveEvent[]
  /** Running maximum of min(event time, record time) after the last event; -Infinity before the first. */
  readonly lateClockMs: number
}

export function naiveAccept(events: readonly NaiveEvent[], state: StatePlan, options: AcceptOptions = {}): Acceptance {
  const verdicts: { event: NaiveEvent; verdict: Verdict }[] = []
  const registered: NaiveEvent[] = []
  let lateClockMs = Number.NEGATIVE_INFINITY

  for (const event of inLogOrder(events)) {
    const rejection = judgeInput(event, state, options)
    if (rejection === undefined) lateClockMs = Math.max(lateClockMs, Math.min(timeOf(event), boundOf(event, options)))
    verdicts.push({ event, verdict: rejection ?? judge(event, state, lateClockMs, registered, options) })
  }

  const applied = verdicts.filter((each) => each.verdict === 'applied').map((each) => each.event)
  return { verdicts, applied, lateClockMs }
}

/** By position, the first delivery of each. */
function inLogOrder(events: readonly NaiveEvent[]): NaiveEvent[] {
  const seen = new Set<number>()
  const once = events.filter((event) => !seen.has(event.position) && seen.add(event.position))
  return once.sort((a, b) => a.position - b.position)
}

/** Only a bad key or a bad time rejects an event. */
function judgeInput(event: NaiveEvent, state: StatePlan, options: AcceptOptions): Verdict | undefined {
  if (!isKey(event, state)) return 'rejected:key'
  if (event.time === null || event.time < 0 || event.time >= TIME_LIMIT_MS) return 'rejected:time'
  if (timeOf(event) > boundOf(event, options) + state.maxFutureMs) return 'rejected:future'
  return undefined
}

/** Everything behind the clock. `registered` grows by the events whose id is taken. */
function judge(
  event: NaiveEvent,
  state: StatePlan,
  lateClockMs: number,
  registered: NaiveEvent[],
  { covers, isHistory = false }: AcceptOptions,
): Verdict {
  const time = timeOf(event)

  const coarsestMs = state.ladder[state.ladder.length - 1]!.stepMs
  const tileEnd = Math.floor(time / coarsestMs) * coarsestMs + coarsestMs
  if (tileEnd < lateClockMs - state.retentionMs) return 'retention'

  if (state.lateness.policy !== 'accept' && time < lateClockMs - state.lateness.allowedMs) return 'late'

  if (covers && covers.some(({ fromMs, toMs }) => time >= fromMs && time < toMs) !== isHistory) return 'elsewhere'

  // An event behind the horizon is neither looked up nor remembered, and an id is forgotten once the event that took it
  // is behind the horizon: it can't matter when an implementation trims its set.
  if (state.dedupe !== undefined && idOf(event) !== null) {
    const horizon = lateClockMs - state.dedupe.withinMs
    if (time >= horizon) {
      if (registered.some((first) => idOf(first) === idOf(event) && timeOf(first) >= horizon)) return 'duplicate'
      registered.push(event)
    }
  }

  if (state.registers.filter >= 0 && event.keep !== true) return 'filtered'
  return 'applied'
}

function boundOf(event: NaiveEvent, options: AcceptOptions): number {
  const bound = event.recordTime ?? options.notAfterMs
  if (bound === undefined) throw new Error('cannot judge an event: it has no record time and the log no notAfterMs')
  return bound
}

const utf8 = new TextEncoder()

/** Every part there, text not empty and well-formed, all of it within the limit. */
function isKey(event: NaiveEvent, state: StatePlan): boolean {
  let keyBytes = 0
  for (const [i, part] of state.entity.entries()) {
    const value = event.key[i] ?? null
    if (value === null) return false
    if (part.type === 'utf8') {
      const text = value as string
      if (text.length === 0 || !text.isWellFormed()) return false
      keyBytes += utf8.encode(text).length + (state.entity.length === 1 ? 0 : 4)
    } else {
      keyBytes += part.type === 'int64' ? 8 : 1
    }
  }
  return keyBytes <= KEY_BYTES_MAX
}

/** Outcomes by verdict; they sum to the records consumed. */
export function countVerdicts(acceptance: Acceptance): Record<Verdict, number> {
  const counts: Record<Verdict, number> = {
    'rejected:key': 0,
    'rejected:time': 0,
    'rejected:future': 0,
    retention: 0,
    late: 0,
    elsewhere: 0,
    duplicate: 0,
    filtered: 0,
    applied: 0,
  }
  for (const { verdict } of acceptance.verdicts) counts[verdict]++
  return counts
}
