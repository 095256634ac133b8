/**
 * The source logs that are routed into one lane: how far each is in, and the clock that the lane goes by.
 *
 * A router writes each stretch of its log once, by a transaction. This is the check of it: every record says where the one before it
 * ended, so that a stretch that is missing, or is there twice, stops the lane. The lane's clock is the least of theirs, and none
 * before each was heard of; a log that is idle holds nobody back.
 */
import type { RoutedRange } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import { type RouteNote, readNote, type SourceState } from '../model/route-note.ts'

export class RoutedSources {
  readonly #lane: string
  readonly #sources: Map<string, SourceState>
  #logs: number

  /** `note`: as `note()` left it; '' for a lane that begins. */
  constructor(lane: string, note: string) {
    this.#lane = lane
    const { logs, sources } = readNote(note)
    this.#logs = logs
    this.#sources = new Map(sources)
  }

  /** Throws ROUTE_BROKEN where the record does not follow on the one before. */
  take({ position, log, from, to, clockMs, isIdle, logs }: RoutedRange): void {
    const before = this.#sources.get(log)
    const expected = before?.to ?? -1
    if (from !== expected) {
      const what = from < expected ? 'is there twice' : 'is missing'
      throw new TilefoldError(
        'ROUTE_BROKEN',
        `cannot go on with lane ${this.#lane}: a stretch of log ${log} ${what}; the record at offset ${position} begins at ${from}, expected ${expected}`,
        { log, position, from, expected },
      )
    }
    this.#logs = Math.max(this.#logs, logs)
    this.#sources.set(log, { to, clockMs: Math.max(clockMs, before?.clockMs ?? -1), isIdle })
  }

  /** No event older than this comes, as far as the routers know; -1 while one of them has not been heard of. */
  get clockMs(): number {
    const all = [...this.#sources.values()]
    if (all.length < this.#logs) return -1
    const busy = all.filter(({ isIdle }) => !isIdle)
    // Where all are idle nobody is waited for.
    return busy.length > 0
      ? Math.min(...busy.map(({ clockMs }) => clockMs))
      : Math.max(-1, ...all.map(({ clockMs }) => clockMs))
  }

  /** What a checkpoint carries along. */
  note(): string {
    return JSON.stringify({ logs: this.#logs, sources: [...this.#sources] } satisfies RouteNote)
  }
}
