/**
 * Keeps reads from piling up behind a server that does not answer. While it is silent a few of them wait as long as they may, to
 * see whether it comes back; the others are told at once, so that whoever has an answer without them can give it.
 */

/** A server that works answers within milliseconds, a failover takes seconds. */
const SILENCE_MS = 500
const WAITING_MAX = 4

export class ReadGate {
  #waiting = 0
  /** Since when somebody asks and nobody is answered; undefined while all are. */
  #silentSince: number | undefined

  /** False for one of too many. Who enters says how it ended. */
  enter(nowMs: number): boolean {
    const isSilent = this.#silentSince !== undefined && nowMs - this.#silentSince > SILENCE_MS
    if (isSilent && this.#waiting >= WAITING_MAX) return false
    this.#silentSince ??= nowMs
    this.#waiting++
    return true
  }

  leave(isAnswered: boolean, nowMs: number): void {
    this.#waiting--
    if (isAnswered) this.#silentSince = this.#waiting > 0 ? nowMs : undefined
  }
}
