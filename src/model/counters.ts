/** How the records of a log or a lane ended, from its beginning on. `consumed` is the sum of all but `redelivered`. */
export interface Counters {
  readonly consumed: number
  readonly applied: number
  readonly duplicate: number
  /** Behind the allowed lateness, or older than retention (`expired` of them). */
  readonly late: number
  readonly expired: number
  readonly filtered: number
  readonly rejected: number
  readonly rejectedKey: number
  readonly rejectedTime: number
  readonly rejectedFuture: number
  /** Delivered again at a position already seen: not counted as consumed. */
  readonly redelivered: number
}
