/**
 * Which event times this instance takes, where a generation's history covers ranges of them: a history lane those inside, a live
 * lane all the others. So an event that both could tell of counts once, and which of the two tells it is a function of its
 * time alone.
 *
 *   covered     ....[#########)......[###)....
 *   history     ....[ taken   )......[ t )....
 *   live        taken         taken       taken
 */
import { allocate } from './arena'

let rangesAt: usize = 0
let rangeCount: i32 = 0
let takesInside: bool = false
// The last span looked up: times in [spanFrom, spanTo) are all taken, or all not. Times of a batch lie close together.
let spanFrom: i64 = 0
let spanTo: i64 = 0
let spanIsTaken: bool = false

/** `count` ranges at `at`, a pair of i64 each: from, and the first time behind it; ascending and apart. Once per instance. */
export function takeTimes(at: usize, count: i32, inside: bool): void {
  rangesAt = allocate((count as usize) << 4)
  memory.copy(rangesAt, at, (count as usize) << 4)
  rangeCount = count
  takesInside = inside
}

/** No event is turned away for its time. */
@inline
export function takesAll(): bool {
  return rangeCount == 0
}

@inline
export function isTaken(time: i64): bool {
  if (rangeCount == 0) return true
  if (time < spanFrom || time >= spanTo) findSpan(time)
  return spanIsTaken
}

/** The range that holds the time, or the gap that does. */
function findSpan(time: i64): void {
  let low = 0
  let high = rangeCount
  while (low < high) {
    const middle = (low + high) >> 1
    if (rangeEnd(middle) <= time) low = middle + 1
    else high = middle
  }
  const isInside = low < rangeCount && rangeStart(low) <= time
  if (isInside) {
    spanFrom = rangeStart(low)
    spanTo = rangeEnd(low)
  } else {
    spanFrom = low == 0 ? i64.MIN_VALUE : rangeEnd(low - 1)
    spanTo = low == rangeCount ? i64.MAX_VALUE : rangeStart(low)
  }
  spanIsTaken = isInside == takesInside
}

@inline
function rangeStart(index: i32): i64 {
  return load<i64>(rangesAt + ((index as usize) << 4))
}

@inline
function rangeEnd(index: i32): i64 {
  return load<i64>(rangesAt + ((index as usize) << 4), 8)
}
