/**
 * Tells the group how far each partition is stored: the first time at once, then the newest position once in a while. To us it is a
 * hint, and a commit costs the broker a record: flushes come up to a hundred times a second.
 */
interface Waiting {
  /** Undefined: nothing came since the last commit. */
  commit: (() => Promise<void>) | undefined
  readonly timer: NodeJS.Timeout
}

export class Commits {
  readonly #everyMs: number
  readonly #waiting = new Map<string, Waiting>()
  readonly #underWay = new Set<Promise<void>>()

  constructor(everyMs: number) {
    this.#everyMs = everyMs
  }

  /** `commit` replaces one of the same log that still waits. */
  add(log: string, commit: () => Promise<void>): void {
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

  #send(log: string, commit: () => Promise<void>): void {
    const timer = setTimeout(() => {
      const { commit: next } = this.#waiting.get(log)!
      this.#waiting.delete(log)
      if (next) this.#send(log, next)
    }, this.#everyMs)
    timer.unref()
    this.#waiting.set(log, { commit: undefined, timer })
    const sent = commit()
      .catch(() => {})
      .finally(() => this.#underWay.delete(sent))
    this.#underWay.add(sent)
  }
}
