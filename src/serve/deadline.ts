/** How long a request may take. Waiting ends at the deadline; what was waited for goes on and is ignored. */
import { TilefoldError } from '../model/errors.ts'

export class Deadline {
  readonly #afterMs: number | undefined
  #passed: Promise<never> | undefined
  #timer: NodeJS.Timeout | undefined

  /** Without a length it never passes, and costs no timer. */
  constructor(afterMs?: number) {
    this.#afterMs = afterMs
    if (afterMs === undefined) return
    this.#passed = new Promise((_, reject) => {
      this.#timer = setTimeout(
        () =>
          reject(
            new TilefoldError('DEADLINE', `cannot answer in time: not done within ${afterMs} ms`, {
              deadlineMs: afterMs,
            }),
          ),
        afterMs,
      )
    })
    // It may pass when nobody is waiting.
    this.#passed.catch(() => {})
  }

  get afterMs(): number | undefined {
    return this.#afterMs
  }

  /** The promise's outcome, or DEADLINE. */
  race<T>(promise: Promise<T>): Promise<T> {
    return this.#passed === undefined ? promise : Promise.race([promise, this.#passed])
  }

  clear(): void {
    clearTimeout(this.#timer)
  }
}
