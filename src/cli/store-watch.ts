/** A store that was fit when a worker began may be made unfit while it runs: by a setting, or by a failover to a server with another. */
import { TilefoldError } from '../model/errors.ts'
import type { Log } from '../observe/log-port.ts'

const LOOK_EVERY_MS = 30_000

export class StoreWatch {
  readonly #check: () => Promise<unknown>
  readonly #log: Log
  readonly #timer: NodeJS.Timeout
  #unfit: TilefoldError | undefined
  #looking = false

  /** `check` throws where the store is not to be trusted. */
  constructor(check: () => Promise<unknown>, log: Log, everyMs = LOOK_EVERY_MS) {
    this.#check = check
    this.#log = log
    this.#timer = setInterval(() => void this.#look(), everyMs)
    this.#timer.unref()
  }

  /** Rows may vanish: undefined while they may not, as far as is known. */
  get unfit(): TilefoldError | undefined {
    return this.#unfit
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  async #look(): Promise<void> {
    if (this.#looking) return
    this.#looking = true
    const before = this.#unfit
    try {
      await this.#check()
      this.#unfit = undefined
      if (before) this.#log.info('the store is fit again')
    } catch (error) {
      // A store that doesn't answer shows where it is written to.
      if (error instanceof TilefoldError && error.code === 'STORE_UNSAFE') {
        this.#unfit = error
        if (!before) this.#log.error(error.message, { code: error.code })
      }
    } finally {
      this.#looking = false
    }
  }
}
