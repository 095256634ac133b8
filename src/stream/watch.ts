/** What the stream job tells whoever watches: metrics in production, nothing in tests. */
export interface StreamWatch {
  taken(topic: string, partition: number, messages: number): void
  dead(topic: string, reason: string): void
  lag(topic: string, partition: number, records: number): void
  /** `recordTimes`: of the first and last records of the batches that have become readable at `nowMs`. */
  flushed(topic: string, partition: number, tookMs: number, recordTimes: readonly number[], nowMs: number): void
  /** A lane was left: FENCED, REGRESSED and so on. */
  failed(topic: string, partition: number, code: string): void
}

export const UNWATCHED: StreamWatch = { taken() {}, dead() {}, lag() {}, flushed() {}, failed() {} }
