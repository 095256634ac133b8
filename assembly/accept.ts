/**
 * Which events count: decided once, before anything is folded, from nothing but the log's content.
 *
 *   redelivered?   position at or before one already seen: skipped without a trace
 *   reject         no usable key · no time, or one outside [0, TIME_LIMIT) · more than max_future ahead of its record
 *   clock          the late clock advances to min(event time, record time), for every record that isn't rejected
 *   retention      the event's coarsest tile ended more than `retention` behind the clock: expired (side output)
 *   lateness       more than `allowed` behind the clock, and the policy isn't accept: late; it registers no id
 *   elsewhere      history covers its time and this is a live lane, or the other way round (times.ts); it registers no id
 *   dedupe         an id seen within the horizon: duplicate
 *   filter         filtered; so is, behind all this, what was asked to be forgotten (forget.ts)
 *
 * Where a log has no record times, `notAfterMs` stands for them: the log's creation, so that one row dated 2200 can't close
 * the lane.
 */
import {
  POLICY_ACCEPT,
  TIME_LIMIT,
  TYPE_I64,
  VERDICTS,
  VERDICT_APPLIED,
  VERDICT_DUPLICATE,
  VERDICT_ELSEWHERE,
  VERDICT_EXPIRED,
  VERDICT_FILTERED,
  VERDICT_LATE,
  VERDICT_REDELIVERED,
  VERDICT_REJECTED_FUTURE,
  VERDICT_REJECTED_KEY,
  VERDICT_REJECTED_TIME,
} from './layout'
import {
  allowedLatenessMs,
  dedupeWithinMs,
  filterRegister,
  idRegister,
  latePolicy,
  level,
  levelCount,
  maxFutureMs,
  retentionMs,
  timeRegister,
} from './plan'
import { isPresent, register, textLength } from './columns'
import { scratch } from './arena'
import { hasKey } from './keys'
import { admitId } from './dedupe'
import { isTaken, takesAll } from './times'

/** Running maximum of min(event time, record time); -1 before the first event. */
export let lateClockMs: i64 = -1
/** Last position seen in the log. */
export let logPosition: f64 = -1
/** One counter per verdict, u64. */
export const counters = memory.data(10 * 8, 8)

/** One byte per row of the batch. */
export let verdictsAt: usize = 0
/** Accepted rows, ascending, and how many. */
export let acceptedAt: usize = 0
export let acceptedCount: i32 = 0

export function setClock(clockMs: i64, position: f64): void {
  lateClockMs = clockMs
  logPosition = position
}

/** Some were taken back (forget.ts): the first `count` of acceptedAt are left. */
export function setAccepted(count: i32): void {
  acceptedCount = count
}

/** Is the log an internal topic, whose rows a router has judged? */
let isJudged = false

export function takeJudged(): void {
  isJudged = true
}

/** Horizon of the dedupe set. */
export function horizonMs(): i64 {
  return dedupeWithinMs < 0 ? i64.MAX_VALUE : lateClockMs - dedupeWithinMs
}

/**
 * Judges rows 0..n-1, whose positions are `positions[row]` (f64, or first + row where 0) and record times
 * `recordTimes[row]` (f64, or `notAfterMs` where 0).
 */
export function accept(n: i32, first: f64, positions: usize, recordTimes: usize, notAfterMs: i64): void {
  const times = register(timeRegister)
  const coarsest = level(levelCount - 1).stepMs
  verdictsAt = scratch(n as usize)
  acceptedAt = scratch((n as usize) << 2)
  acceptedCount = 0
  if (isJudged) {
    acceptJudged(n, positions)
    return
  }
  const plain = recordTimes == 0 && positions == 0 && first > logPosition ? acceptPlain(n, first, notAfterMs) : 0
  let clock = lateClockMs
  let position = logPosition
  // The end of the coarsest tile changes rarely; so does what the clock makes of it.
  let coarseEnd: i64 = 0
  for (let row = plain; row < n; row++) {
    const at = positions == 0 ? first + (row as f64) : load<f64>(positions + ((row as usize) << 3))
    let verdict = VERDICT_APPLIED
    if (at <= position) verdict = VERDICT_REDELIVERED
    else {
      position = at
      const time = load<i64>(times.data + ((row as usize) << 3))
      if (!hasKey(row)) verdict = VERDICT_REJECTED_KEY
      else if (!isPresent(times, row) || time < 0 || time >= TIME_LIMIT) verdict = VERDICT_REJECTED_TIME
      else {
        const recordTime = recordTimes == 0 ? notAfterMs : (load<f64>(recordTimes + ((row as usize) << 3)) as i64)
        if (time > recordTime && time - recordTime > maxFutureMs) verdict = VERDICT_REJECTED_FUTURE
        else {
          clock = max(clock, min(time, recordTime))
          if (time >= coarseEnd || time < coarseEnd - coarsest) coarseEnd = (time / coarsest + 1) * coarsest
          if (coarseEnd < clock - retentionMs) verdict = VERDICT_EXPIRED
          else if (latePolicy != POLICY_ACCEPT && time < clock - allowedLatenessMs) verdict = VERDICT_LATE
          else if (!isTaken(time)) verdict = VERDICT_ELSEWHERE
          else if (dedupeWithinMs >= 0 && !isFirst(row, time, clock - dedupeWithinMs)) verdict = VERDICT_DUPLICATE
          else if (filterRegister >= 0 && !passes(row)) verdict = VERDICT_FILTERED
          else store<u32>(acceptedAt + ((acceptedCount++ as usize) << 2), row as u32)
        }
      }
    }
    store<u8>(verdictsAt + (row as usize), verdict as u8)
    const counter = counters + ((verdict as usize) << 3)
    store<u64>(counter, load<u64>(counter) + 1)
  }
  lateClockMs = clock
  logPosition = position
}

/**
 * Accepts rows 0, 1, … up to the first that asks for a closer look, and returns its number: a history's rows are nearly all
 * like this, and a look at the clock is what is left of their verdict.
 */
function acceptPlain(n: i32, first: f64, notAfterMs: i64): i32 {
  const times = register(timeRegister)
  const latest = min(TIME_LIMIT - 1, notAfterMs + maxFutureMs)
  if (latePolicy != POLICY_ACCEPT || dedupeWithinMs >= 0 || filterRegister >= 0 || times.valid != 0 || latest < 0 || !takesAll()) return 0
  const cells = times.data
  const list = acceptedAt
  const retention = retentionMs
  let clock = lateClockMs
  let row = 0
  for (; row < n; row++) {
    const time = load<i64>(cells + ((row as usize) << 3))
    if (!hasKey(row) || (time as u64) > (latest as u64)) break
    const next = max(clock, min(time, notAfterMs))
    // Its tile ends later, so it isn't expired.
    if (time < next - retention) break
    clock = next
    store<u32>(list + ((row as usize) << 2), row as u32)
  }
  memory.fill(verdictsAt, VERDICT_APPLIED as u8, row as usize)
  store<u64>(counters + (VERDICT_APPLIED << 3), load<u64>(counters + (VERDICT_APPLIED << 3)) + (row as u64))
  acceptedCount = row
  lateClockMs = clock
  if (row > 0) logPosition = first + ((row - 1) as f64)
  return row
}

/**
 * Rows that were judged where they came from. Those of one record share its position, and a batch has whole records, so what was
 * seen before the batch decides; the clock comes from the router (`setClock`).
 */
function acceptJudged(n: i32, positions: usize): void {
  const times = register(timeRegister)
  const seen = logPosition
  for (let row = 0; row < n; row++) {
    const at = load<f64>(positions + ((row as usize) << 3))
    const time = load<i64>(times.data + ((row as usize) << 3))
    let verdict = VERDICT_APPLIED
    if (at <= seen) verdict = VERDICT_REDELIVERED
    else if (!hasKey(row)) verdict = VERDICT_REJECTED_KEY
    else if (!isPresent(times, row) || time < 0 || time >= TIME_LIMIT) verdict = VERDICT_REJECTED_TIME
    else store<u32>(acceptedAt + ((acceptedCount++ as usize) << 2), row as u32)
    store<u8>(verdictsAt + (row as usize), verdict as u8)
    const counter = counters + ((verdict as usize) << 3)
    store<u64>(counter, load<u64>(counter) + 1)
  }
}

function passes(row: i32): bool {
  const filter = register(filterRegister)
  return isPresent(filter, row) && load<u8>(filter.data + (row as usize)) != 0
}

/** An event without an id, or behind the horizon, is never a duplicate. */
function isFirst(row: i32, time: i64, horizon: i64): bool {
  const id = register(idRegister)
  if (time < horizon || !isPresent(id, row)) return true
  if (id.type == TYPE_I64) return admitId(id.data + ((row as usize) << 3), 8, time, horizon)
  const offset = load<u32>(id.offsets + ((row as usize) << 2)) as usize
  return admitId(id.data + offset, textLength(id, row) as usize, time, horizon)
}

export function clearCounters(): void {
  memory.fill(counters, 0, VERDICTS * 8)
}
