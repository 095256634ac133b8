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

  /** Adds the time since the last lap to a step. */
  lap(step: keyof Timings): void {
    const now = performance.now()
    this.timings[step] += now - this.#lapAt
    this.#lapAt = now
  }
}
