/**
 * How fast rows may be written: a token bucket over all threads of a process, so that a backfill leaves a shared store to its readers.
 *
 *   free    the instant at which everything written so far is paid for
 *   take    waits until then, and moves it on by what is to be written
 *
 * It is one number in shared memory, so that threads need not ask each other. Nothing is saved up: a pause is not followed by a burst. What is
 * counted is rows of entities, each a read and a write of the store; markers and checkpoints are not.
 */
import { setTimeout as wait } from 'node:timers/promises'

export interface RateLimit {
  readonly unit: 'rows' | 'bytes'
  readonly perSecond: number
}

/** Plain data, so that it can be handed to a thread. */
export interface PaceState {
  readonly limit: RateLimit
  /** Microseconds of the system's steady clock. */
  readonly free: BigInt64Array<SharedArrayBuffer>
}

export interface PaceOptions {
  /** Microseconds; the system's steady clock unless told. */
  readonly clock?: () => number
  readonly sleep?: (ms: number) => Promise<unknown>
}

export function createPace(limit: RateLimit): PaceState {
  return { limit, free: new BigInt64Array(new SharedArrayBuffer(8)) }
}

export class Pace {
  readonly #state: PaceState
  readonly #clock: () => number
  readonly #sleep: (ms: number) => Promise<unknown>

  constructor(state: PaceState, { clock = steadyMicros, sleep = wait }: PaceOptions = {}) {
    this.#state = state
    this.#clock = clock
    this.#sleep = sleep
  }

  /** Resolves when so much may be written. */
  async take(rows: number, bytes: number): Promise<void> {
    const { limit, free } = this.#state
    const cost = BigInt(Math.ceil(((limit.unit === 'rows' ? rows : bytes) * 1e6) / limit.perSecond))
    for (;;) {
      const now = BigInt(Math.floor(this.#clock()))
      const before = Atomics.load(free, 0)
      const start = before > now ? before : now
      if (Atomics.compareExchange(free, 0, before, start + cost) !== before) continue
      if (start > now) await this.#sleep(Number(start - now) / 1000)
      return
    }
  }
}

/** The same in every thread. */
function steadyMicros(): number {
  return Number(process.hrtime.bigint() / 1000n)
}
