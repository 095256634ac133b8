/** How the records of a log or a lane ended, from its beginning on. `consumed` is the sum of all but `redelivered`. */
export interface Counters {
  readonly consumed: number
  readonly applied: number
  readonly duplicate: number
  /** Behind the allowed lateness, older than retention (`expired` of them), or of a time that other lanes tell (`elsewhere`). */
  readonly late: number
  readonly expired: number
  /** Where history covers ranges of time: in a live lane events inside them, in a history lane all others. See covers.ts. */
  readonly elsewhere: number
  readonly filtered: number
  readonly rejected: number
  readonly rejectedKey: number
  readonly rejectedTime: number
  readonly rejectedFuture: number
  /** Delivered again at a position already seen: not counted as consumed. */
  readonly redelivered: number
}
