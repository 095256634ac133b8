/** Positions of a topic in time, as its brokers know them. */
import { TilefoldError } from '../model/errors.ts'
import { type Admin, KafkaClient, type KafkaOptions, logUnavailable, tryForAWhile } from './kafka.ts'
import type { LogEnds, LogTimes } from './log-times.ts'

/** Connects with the first question. */
export function createKafkaTimes(options: KafkaOptions): LogTimes {
  return new KafkaTimes(options)
}

/** No record is of the year 2109. */
const TIME_BITS = 42

class KafkaTimes implements LogTimes {
  readonly name: string
  readonly #options: KafkaOptions
  readonly #client: KafkaClient
  readonly #admin: Admin
  #connected: Promise<void> | undefined

  constructor(options: KafkaOptions) {
    this.name = `Kafka at ${options.brokers.join(', ')}`
    this.#options = options
    this.#client = new KafkaClient(options)
    this.#admin = this.#client.admin()
  }

  async ends(topic: string): Promise<readonly LogEnds[]> {
    return this.#ask(`ask for the ends of topic ${topic}`, async () => {
      if (!(await this.#admin.listTopics()).includes(topic)) {
        throw new TilefoldError('SOURCE_NOT_FOUND', `cannot find topic ${JSON.stringify(topic)} in ${this.name}`)
      }
      const ends = await tryForAWhile(() => this.#admin.fetchTopicOffsets(topic))
      return ends
        .map(({ partition, low, high }) => ({ partition, first: Number(low), next: Number(high) }))
        .sort((a, b) => a.partition - b.partition)
    })
  }

  async firstAt(topic: string, timeMs: number): Promise<ReadonlyMap<number, number>> {
    return this.#ask(`ask for the times of topic ${topic}`, async () => {
      const found = await tryForAWhile(() => this.#admin.fetchTopicOffsetsByTimestamp(topic, timeMs))
      return new Map(found.map(({ partition, offset }) => [partition, Number(offset)]))
    })
  }

  /**
   * Brokers tell the position of a time and not the time of a position. But the newest time up to a position is the greatest one
   * whose own position isn't behind it: it is searched for bit by bit, in all partitions at once.
   */
  async newestUpTo(topic: string, positions: ReadonlyMap<number, number>): Promise<number | undefined> {
    const isThere = async (timeMs: number) => {
      const at = await this.firstAt(topic, timeMs)
      return [...positions].some(([partition, position]) => (at.get(partition) ?? Infinity) <= position)
    }
    if (!(await isThere(0))) return undefined
    let newestMs = 0
    for (let bit = 2 ** (TIME_BITS - 1); bit >= 1; bit /= 2) if (await isThere(newestMs + bit)) newestMs += bit
    return newestMs
  }

  async close(): Promise<void> {
    await this.#admin.disconnect().catch(() => {})
    this.#client.end()
  }

  async #ask<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      this.#connected ??= this.#admin.connect()
      await this.#connected
      return await work()
    } catch (error) {
      throw logUnavailable(what, this.#options, error)
    }
  }
}
