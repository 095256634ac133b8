/**
 * What of a partition no view can take: it goes to the dead letters as it came, with the reason. Too large a share of it ends the run,
 * because then it is the definition that is wrong, or the topic.
 */
import type { SideRecord } from '../ingest/side.ts'
import { TilefoldError } from '../model/errors.ts'
import { logOfPartition } from '../model/view-layout.ts'
import type { WorkerMetrics } from '../observe/port.ts'
import type { DeadLetters } from '../source/dead-letters.ts'
import type { RejectedRecord } from '../source/port.ts'
import type { StreamMessage } from '../source/stream.ts'

export interface AsidesOptions {
  readonly topic: string
  readonly partition: number
  readonly deadLetters: DeadLetters | undefined
  /** Share of a thousand records that may be unreadable. */
  readonly maxDeadRatio: number
  readonly metrics: Pick<WorkerMetrics, 'deadLetters'>
}

/** Records over which the share of dead ones is judged. */
const DEAD_WINDOW = 1000

export class Asides {
  readonly #options: AsidesOptions
  /** Messages under way, for what has to be looked up by position. */
  #current: readonly StreamMessage[] = []
  #judged = 0
  #dead = 0

  constructor(options: AsidesOptions) {
    this.#options = options
  }

  /** These are decoded and judged now. */
  begin(messages: readonly StreamMessage[]): void {
    this.#current = messages
  }

  /** Cannot be read. */
  bury({ position, reason, message: text }: RejectedRecord): void {
    const { topic, partition, deadLetters, metrics } = this.#options
    this.#dead++
    metrics.deadLetters(topic, reason, 1)
    deadLetters?.add({ topic, partition, message: messageAt(this.#current, position)!, reason, text })
  }

  /** What a view put aside. */
  put(records: readonly SideRecord[]): void {
    const { topic, partition, deadLetters } = this.#options
    for (const { view, position, reason } of records) {
      const message = messageAt(this.#current, position)
      const text = `view ${view} put it aside: ${reason}`
      if (message) deadLetters?.add({ topic, partition, message, reason, text, view })
    }
  }

  /** So many messages were decoded. Throws DEAD_LETTERS. */
  judge(messages: number): void {
    this.#judged += messages
    if (this.#judged < DEAD_WINDOW) return
    const { topic, partition, maxDeadRatio } = this.#options
    if (this.#dead / this.#judged > maxDeadRatio) {
      throw new TilefoldError(
        'DEAD_LETTERS',
        `cannot go on with log ${logOfPartition(topic, partition)}: too many records cannot be read; got ${this.#dead} of ${this.#judged}, expected at most ${maxDeadRatio * 100} %`,
        { dead: this.#dead, judged: this.#judged },
      )
    }
    this.#judged = 0
    this.#dead = 0
  }

  /** Everything put aside is safe: only then may the log be passed. Throws DEAD_LETTERS_UNAVAILABLE. */
  async flush(): Promise<void> {
    await this.#options.deadLetters?.flush()
  }
}

/** The message at a position, where there is one; messages are in log order. */
export function messageAt(messages: readonly StreamMessage[], position: number): StreamMessage | undefined {
  let [low, high] = [0, messages.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (Number(messages[middle]!.offset) < position) low = middle + 1
    else high = middle
  }
  const found = messages[low]
  return found !== undefined && Number(found.offset) === position ? found : undefined
}
