/**
 * What we write to Kafka ourselves: nothing that was acknowledged may be missing.
 *
 * kafkajs loses acknowledged messages when a leader dies and one call of `send` went to several partitions: its retry
 * skips a broker that has answered for another partition of the call. So one call goes to one partition, and its answer
 * must hold that partition alone, without an error. Calls for several partitions run side by side, those for one partition
 * one after the other.
 *
 * After a call that failed nobody knows what the broker took. Another try under the same producer id might be taken for a
 * repeat of it and acknowledged unwritten, so the next call has a producer id of its own. Writing is at least once.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { TilefoldError } from '../model/errors.ts'
import {
  type IHeaders,
  isFinal,
  KafkaClient,
  type KafkaOptions,
  logUnavailable,
  type Producer,
  type RecordMetadata,
} from './kafka.ts'

export interface OutgoingMessage {
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly timestamp?: string
  readonly headers?: IHeaders
}

export interface KafkaProducer {
  /** How many partitions a topic has. Throws LOG_UNAVAILABLE, also where there is no such topic. */
  partitions(topic: string): Promise<number>
  /** Resolves when all replicas in sync have the messages; offset of the first. Throws LOG_UNAVAILABLE. */
  send(topic: string, partition: number, messages: readonly OutgoingMessage[]): Promise<number>
  /** What is under way is finished first. */
  close(): Promise<void>
}

const ALL_REPLICAS = -1
/** A leader's move takes some seconds, more on a busy machine. */
const RETRY = { initialRetryTime: 100, maxRetryTime: 2_000, retries: 15 }

const LOOKUPS = 4
const LOOKUP_DELAY_MS = 250

/** `retry`: how long a call goes on before it fails. */
export function createKafkaProducer(options: KafkaOptions, retry = RETRY): KafkaProducer {
  return new IdempotentProducer(options, retry)
}

class IdempotentProducer implements KafkaProducer {
  readonly #options: KafkaOptions
  readonly #retry: typeof RETRY
  readonly #client: KafkaClient
  /** Ends of the calls under way, by partition. */
  readonly #ends = new Map<string, Promise<unknown>>()
  #current: Promise<Producer> | undefined
  /** Producers that failed; calls to other partitions may still be under way. */
  readonly #retired: Promise<Producer>[] = []

  constructor(options: KafkaOptions, retry: typeof RETRY) {
    this.#options = options
    this.#retry = retry
    this.#client = new KafkaClient(options)
  }

  async partitions(topic: string): Promise<number> {
    const admin = this.#client.admin()
    try {
      await admin.connect()
      for (let attempt = 1; ; attempt++) {
        try {
          const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
          return topics[0]!.partitions.length
        } catch (error) {
          // Of a topic that was just made, not every broker has heard.
          if (attempt === LOOKUPS || isFinal(error)) throw error
          await sleep(LOOKUP_DELAY_MS)
        }
      }
    } catch (error) {
      throw logUnavailable(`look up topic ${JSON.stringify(topic)}`, this.#options, error)
    } finally {
      await admin.disconnect().catch(() => {})
    }
  }

  send(topic: string, partition: number, messages: readonly OutgoingMessage[]): Promise<number> {
    const key = `${topic}/${partition}`
    const before = this.#ends.get(key) ?? Promise.resolve()
    const sent = before.then(() => this.#send(topic, partition, messages))
    const end = sent
      .catch(() => {})
      .then(() => {
        if (this.#ends.get(key) === end) this.#ends.delete(key)
      })
    this.#ends.set(key, end)
    return sent
  }

  async close(): Promise<void> {
    while (this.#ends.size > 0) await Promise.all(this.#ends.values())
    this.#retire(this.#current)
    await Promise.all(this.#retired.map(async (producer) => (await producer).disconnect()).map(leave))
    this.#client.end()
  }

  async #send(topic: string, partition: number, messages: readonly OutgoingMessage[]): Promise<number> {
    const current = this.#connect()
    try {
      const producer = await current
      const own = messages.map((message) => ({ ...message, partition }))
      const answer = await producer.send({ topic, acks: ALL_REPLICAS, messages: own })
      return checkAnswer(topic, partition, answer)
    } catch (error) {
      this.#retire(current)
      throw logUnavailable(`write to ${topic}/${partition}`, this.#options, error)
    }
  }

  #connect(): Promise<Producer> {
    this.#current ??= this.#start()
    return this.#current
  }

  async #start(): Promise<Producer> {
    const producer = this.#client.producer({ idempotent: true, allowAutoTopicCreation: false, retry: this.#retry })
    await producer.connect()
    return producer
  }

  #retire(producer: Promise<Producer> | undefined): void {
    if (producer === undefined || this.#retired.includes(producer)) return
    if (this.#current === producer) this.#current = undefined
    this.#retired.push(producer)
  }
}

/** Exactly one entry, of the partition, without an error: anything else is no acknowledgement. */
export function checkAnswer(topic: string, partition: number, answer: readonly RecordMetadata[]): number {
  const [only] = answer
  if (answer.length === 1 && only?.topicName === topic && only.partition === partition && only.errorCode === 0) {
    return Number(only.baseOffset)
  }
  const got = JSON.stringify(answer.map((each) => [each.topicName, each.partition, each.errorCode]))
  throw new TilefoldError(
    'LOG_UNAVAILABLE',
    `cannot write to ${topic}/${partition}: the broker's answer is not about it; got ${got}, expected one entry without an error`,
    { topic, partition },
  )
}

function leave(closing: Promise<void>): Promise<void> {
  return closing.catch(() => {})
}
