/**
 * What waits to be written: one write at a time, in the order of `add`. What a failed write leaves waits for the next one,
 * before what came meanwhile.
 */
export class FlushQueue<T> {
  readonly #write: (items: readonly T[]) => Promise<void>
  #waiting: T[] = []
  #last: Promise<void> = Promise.resolve()

  constructor(write: (items: readonly T[]) => Promise<void>) {
    this.#write = write
  }

  add(item: T): void {
    this.#waiting.push(item)
  }

  /** Everything added so far is written. Throws what the write throws. */
  flush(): Promise<void> {
    const turn = this.#last.then(() => this.#writeWaiting())
    this.#last = turn.catch(() => {})
    return turn
  }

  async #writeWaiting(): Promise<void> {
    if (this.#waiting.length === 0) return
    const items = this.#waiting
    this.#waiting = []
    try {
      await this.#write(items)
    } catch (cause) {
      this.#waiting = [...items, ...this.#waiting]
      throw cause
    }
  }
}
