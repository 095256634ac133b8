/** How long a request may take. Waiting ends at the deadline; what was waited for goes on and is ignored. */
import { TilefoldError } from '../model/errors.ts'

export class Deadline {
  readonly #afterMs: number | undefined
  readonly #startMs: number
  #passed: Promise<never> | undefined
  #timer: NodeJS.Timeout | undefined
  #isPassed = false

  /** Without a length it never passes, and costs no timer. */
  constructor(afterMs?: number) {
    this.#afterMs = afterMs
    this.#startMs = afterMs === undefined ? 0 : performance.now()
    if (afterMs === undefined) return
    this.#passed = new Promise((_, reject) => {
      this.#timer = setTimeout(() => {
        this.#isPassed = true
        reject(
          new TilefoldError('DEADLINE', `cannot answer in time: not done within ${afterMs} ms`, {
            deadlineMs: afterMs,
          }),
        )
      }, afterMs)
    })
    // It may pass when nobody is waiting.
    this.#passed.catch(() => {})
  }

  get isPassed(): boolean {
    return this.#isPassed
  }

  /** What is left of it; undefined where it never passes. */
  get leftMs(): number | undefined {
    return this.#afterMs === undefined ? undefined : Math.max(0, this.#startMs + this.#afterMs - performance.now())
  }

  /** The promise's outcome, or DEADLINE. */
  race<T>(promise: Promise<T>): Promise<T> {
    return this.#passed === undefined ? promise : Promise.race([promise, this.#passed])
  }

  clear(): void {
    clearTimeout(this.#timer)
  }
}
