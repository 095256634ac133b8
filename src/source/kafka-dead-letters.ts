/**
 * Dead letters as a topic: key, value and headers as they came, and headers of our own that tell what was wrong. They are
 * named as Kafka Connect's, which the tools for dead letters know. At least once: a restart writes some of them again, and
 * topic, partition and offset say which are the same.
 */
import { TilefoldError } from '../model/errors.ts'
import { LEFT_OUT_HEADER, TIMESTAMP_HEADER } from './dead-letter-reader.ts'
import type { DeadLetter, DeadLetters } from './dead-letters.ts'
import { FlushQueue } from './flush-queue.ts'
import { type IHeaders, rootOf } from './kafka.ts'
import type { KafkaProducer, OutgoingMessage } from './kafka-producer.ts'

/** A call of `send` stays below a broker's usual limit of a request, 100 MB, and a topic's of a batch, 1 MB. */
const CALL_BYTES_MAX = 512 * 1024

/** Writes with `producer`, which is closed with it. Throws DEAD_LETTERS_UNAVAILABLE where there is no such topic. */
export async function createKafkaDeadLetters(producer: KafkaProducer, topic: string): Promise<DeadLetters> {
  try {
    return new DeadLetterTopic(producer, topic, await producer.partitions(topic))
  } catch (cause) {
    await producer.close()
    throw unavailable(topic, cause)
  }
}

class DeadLetterTopic implements DeadLetters {
  readonly #producer: KafkaProducer
  readonly #topic: string
  readonly #partitions: number
  readonly #letters = new FlushQueue<DeadLetter>((letters) => this.#send(letters))

  constructor(producer: KafkaProducer, topic: string, partitions: number) {
    this.#producer = producer
    this.#topic = topic
    this.#partitions = partitions
  }

  add(letter: DeadLetter): void {
    this.#letters.add(letter)
  }

  flush(): Promise<void> {
    return this.#letters.flush()
  }

  async close(): Promise<void> {
    try {
      await this.flush()
    } finally {
      await this.#producer.close()
    }
  }

  /** Letters of one partition stay together and in order. */
  async #send(letters: readonly DeadLetter[]): Promise<void> {
    const byPartition = new Map<number, OutgoingMessage[]>()
    for (const letter of letters) {
      const partition = letter.partition % this.#partitions
      const messages = byPartition.get(partition) ?? []
      messages.push(messageOf(letter))
      byPartition.set(partition, messages)
    }
    const results = await Promise.allSettled([...byPartition].map((each) => this.#sendTo(...each)))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw unavailable(this.#topic, failed.reason)
  }

  async #sendTo(partition: number, messages: readonly OutgoingMessage[]): Promise<void> {
    let call: OutgoingMessage[] = []
    let bytes = 0
    for (const message of messages) {
      const size = sizeOf(message)
      if (call.length > 0 && bytes + size > CALL_BYTES_MAX) {
        await this.#call(partition, call)
        call = []
        bytes = 0
      }
      call.push(message)
      bytes += size
    }
    if (call.length > 0) await this.#call(partition, call)
  }

  /** What is over the topic's limit goes without its value: it must not hold up the lane, and stands in its own log. */
  async #call(partition: number, messages: readonly OutgoingMessage[]): Promise<void> {
    try {
      await this.#producer.send(this.#topic, partition, messages)
    } catch (error) {
      if ((rootOf((error as Error).cause) as { readonly type?: string } | undefined)?.type !== 'MESSAGE_TOO_LARGE')
        throw error
      if (messages.length > 1) {
        for (const message of messages) await this.#call(partition, [message])
        return
      }
      const [{ headers, value }] = messages as readonly [OutgoingMessage]
      if (value === null) throw error
      const leftOut = { ...headers, [LEFT_OUT_HEADER]: String(value.length) }
      await this.#producer.send(this.#topic, partition, [{ ...messages[0]!, value: null, headers: leftOut }])
    }
  }
}

function messageOf({ topic, partition, message, reason, text, view }: DeadLetter): OutgoingMessage {
  const { key, value, timestamp, offset, headers } = message
  // The letter's own time is now: with its record's, the topic's retention deletes the letters of an old log at once.
  return {
    key,
    value,
    headers: {
      ...(headers as IHeaders | undefined),
      '__connect.errors.topic': topic,
      '__connect.errors.partition': String(partition),
      '__connect.errors.offset': offset,
      '__connect.errors.connector.name': view === undefined ? 'tilefold' : `tilefold:${view}`,
      '__connect.errors.stage': view === undefined ? 'VALUE_CONVERTER' : 'TASK_PUT',
      '__connect.errors.exception.class.name': reason,
      '__connect.errors.exception.message': text,
      [TIMESTAMP_HEADER]: timestamp,
    },
  }
}

/** About; a record's own fields and short headers come on top. */
function sizeOf({ key, value }: OutgoingMessage): number {
  return (key?.length ?? 0) + (value?.length ?? 0) + 512
}

function unavailable(topic: string, cause: unknown): TilefoldError {
  const { message } = cause as Error
  return new TilefoldError(
    'DEAD_LETTERS_UNAVAILABLE',
    `cannot write dead letters to topic ${JSON.stringify(topic)}: ${message}`,
    { topic },
    { cause },
  )
}
