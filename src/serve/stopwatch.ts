/** Durations of the walk's steps, by the monotonic clock: they say nothing about when, only how long. */

/** Milliseconds of each step; a step that ran twice counts twice. */
export interface Timings {
  parseMs: number
  planMs: number
  readMs: number
  mergeMs: number
  respondMs: number
}

export class Stopwatch {
  readonly timings: Timings = { parseMs: 0, planMs: 0, readMs: 0, mergeMs: 0, respondMs: 0 }
  #lapAt = performance.now()

  /** Adds the time since the last lap to a step, and returns it. */
  lap(step: keyof Timings): number {
    const now = performance.now()
    const tookMs = now - this.#lapAt
    this.timings[step] += tookMs
    this.#lapAt = now
    return tookMs
  }
}
