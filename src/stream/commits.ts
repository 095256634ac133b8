/**
 * Tells the group how far each partition is stored: the first time at once, then the newest position once in a while. To us it is a
 * hint, and a commit costs the broker a record: flushes come up to a hundred times a second.
 */
interface Waiting {
  /** Undefined: nothing came since the last commit, and that did not fail. */
  commit: Commit | undefined
  isUnderWay: boolean
  /** The while is over. */
  isDue: boolean
  readonly timer: NodeJS.Timeout
}

/** False: it failed, and is worth another try. */
type Commit = () => Promise<boolean>

export class Commits {
  readonly #everyMs: number
  readonly #waiting = new Map<string, Waiting>()
  readonly #underWay = new Set<Promise<void>>()

  constructor(everyMs: number) {
    this.#everyMs = everyMs
  }

  /** `commit` replaces one of the same log that still waits. */
  add(log: string, commit: Commit): void {
    const waiting = this.#waiting.get(log)
    if (waiting) waiting.commit = commit
    else this.#send(log, commit)
  }

  /** The log is not ours any more: what waits is for its next owner to say. */
  drop(log: string): void {
    clearTimeout(this.#waiting.get(log)?.timer)
    this.#waiting.delete(log)
  }

  /** Sends what waits; resolves when all is answered. */
  async settle(): Promise<void> {
    for (const [log, { commit }] of [...this.#waiting]) {
      this.drop(log)
      if (commit) this.#send(log, commit)
    }
    await Promise.allSettled(this.#underWay)
    for (const log of [...this.#waiting.keys()]) this.drop(log)
  }

  #send(log: string, commit: Commit): void {
    const timer = setTimeout(() => {
      waiting.isDue = true
      this.#next(log, waiting)
    }, this.#everyMs)
    timer.unref()
    const waiting: Waiting = { commit: undefined, isUnderWay: true, isDue: false, timer }
    this.#waiting.set(log, waiting)
    const sent = commit()
      .catch(() => false)
      .then((isDone) => {
        this.#underWay.delete(sent)
        waiting.isUnderWay = false
        // A group in the middle of a rebalance takes none, and a quiet log has no other.
        if (!isDone) waiting.commit ??= commit
        this.#next(log, waiting)
      })
    this.#underWay.add(sent)
  }

  #next(log: string, waiting: Waiting): void {
    if (this.#waiting.get(log) !== waiting || !waiting.isDue || waiting.isUnderWay) return
    this.#waiting.delete(log)
    if (waiting.commit) this.#send(log, waiting.commit)
  }
}
