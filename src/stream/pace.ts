/**
 * When to flush: at once when nothing was flushed lately, so that a single event is readable within milliseconds; and the
 * less often the longer a flush takes, so that flushing never takes more than four fifths of the time. Far behind the log's end,
 * nothing is fresh anyway: then as rarely as may be, because an entity's row costs the same for one event and for a hundred.
 * Never later than the freshness that was asked for.
 */
export class Pace {
  readonly #minMs: number
  readonly #maxMs: number
  #flushedMs = Number.NEGATIVE_INFINITY
  #tookMs = 0

  /** `minMs`: events that come within it are flushed together. */
  constructor(minMs: number, maxMs: number) {
    this.#minMs = Math.min(minMs, maxMs)
    this.#maxMs = maxMs
  }

  /** Milliseconds from now until the next flush, for an event that came now. `isBehind`: more waits than can be taken in soon. */
  delayMs(nowMs: number, isBehind: boolean): number {
    if (isBehind) return this.#maxMs
    const gapMs = Math.min(Math.max(this.#minMs, this.#tookMs * REST), this.#maxMs)
    return Math.min(Math.max(this.#flushedMs + gapMs - nowMs, this.#minMs), this.#maxMs)
  }

  flushed(nowMs: number, tookMs: number): void {
    this.#flushedMs = nowMs
    // A single slow flush shouldn't hold back the next ones for long.
    this.#tookMs = Math.max(tookMs, this.#tookMs / 2)
  }
}

/** Time between flushes, in flushes. */
const REST = 0.25
