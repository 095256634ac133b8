/**
 * A dead-letter topic, read from its start to its end of now. What was sent again is noted in a consumer group of its own:
 * dead-letter-marks.ts. Who sends reads as a member of that group, so that of two redrives at a time each has its own partitions;
 * who only looks is in a group of the moment, and disturbs nobody.
 *
 * Brokers forget the offsets of a group without members after `offsets.retention.minutes`, 7 days unless told: from then on
 * letters that are still there count as not sent.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { TilefoldError } from '../model/errors.ts'
import { SentMarks } from './dead-letter-marks.ts'
import { type LetterBatch, type LetterLog, letterOf, type ReadLetter } from './dead-letter-reader.ts'
import { type Admin, isFinal, KafkaClient, type KafkaOptions, logUnavailable } from './kafka.ts'
import { createKafkaConsumer } from './kafka-consumer.ts'
import type { StreamConsumer, StreamMessage } from './stream.ts'

export interface LetterTopicOptions {
  readonly kafka: KafkaOptions
  readonly topic: string
  /** Where it is noted what was sent again. */
  readonly groupId: string
  /** Read to send, or only to look? */
  readonly isRedrive: boolean
  /** Nothing new for so long: what is missing is told and left; 10,000 ms unless told. */
  readonly quietMs?: number
}

const QUIET_MS = 10_000
/** After a redrive was killed, the next one waits so long for its partitions. */
const SESSION_TIMEOUT_MS = 10_000
const LOOK_MS = 50

interface Part {
  /** Behind the last record that is read now. */
  readonly end: number
  next: number
  marks: SentMarks
  hasSent: boolean
}

export function createLetterTopic(options: LetterTopicOptions): LetterLog {
  return new LetterTopic(options)
}

class LetterTopic implements LetterLog {
  readonly name: string
  readonly #options: LetterTopicOptions
  readonly #parts = new Map<number, Part>()
  #consumer: StreamConsumer | undefined
  #failed: { readonly error: unknown } | undefined
  #heardMs = 0

  constructor(options: LetterTopicOptions) {
    this.#options = options
    this.name = `topic ${options.topic}`
  }

  async read(take: (batch: LetterBatch) => Promise<void>, signal?: AbortSignal): Promise<readonly string[]> {
    const { kafka, topic, groupId, isRedrive } = this.#options
    const client = new KafkaClient(kafka)
    const admin = client.admin()
    try {
      await admin.connect()
      const partitions = await this.#partitions(admin)
      const commits = isRedrive ? new Map<number, SentMarks>() : await this.#commits(admin)
      const readers = isRedrive ? groupId : `${groupId}-look-${randomBytes(4).toString('hex')}`
      const consumer = createKafkaConsumer({
        ...kafka,
        groupId: readers,
        topics: [topic],
        sessionTimeoutMs: SESSION_TIMEOUT_MS,
      })
      this.#consumer = consumer
      consumer.ended.catch((error) => this.#fail(error))
      try {
        await consumer.start({
          assigned: async (_topic, partition, { first, next, committed }) => {
            try {
              const marks = commits.get(partition) ?? SentMarks.of(isRedrive ? committed : undefined)
              this.#parts.set(partition, { end: next, next: first, marks: marks.from(first), hasSent: false })
            } catch (error) {
              this.#fail(error)
            }
            this.#heardMs = performance.now()
            return first
          },
          messages: (_topic, partition, messages) => this.#take(partition, messages, take, signal),
          revoked: async (lost) => {
            for (const { partition } of lost) this.#parts.delete(partition)
          },
        })
        this.#heardMs = performance.now()
        await this.#untilRead(partitions, signal)
      } finally {
        await consumer.stop()
      }
      if (this.#failed) throw this.#failed.error
      if (isRedrive) await this.#checkCommits(admin)
      return this.#missing(partitions, signal)
    } catch (error) {
      throw logUnavailable(`read dead letters of topic ${JSON.stringify(topic)}`, kafka, error)
    } finally {
      await admin.disconnect().catch(() => {})
      client.end()
    }
  }

  async #partitions(admin: Admin): Promise<number[]> {
    const offsets = await admin.fetchTopicOffsets(this.#options.topic)
    return offsets.map(({ partition }) => partition).sort((a, b) => a - b)
  }

  async #commits(admin: Admin): Promise<Map<number, SentMarks>> {
    const { groupId, topic } = this.#options
    const [committed] = await patiently(() => admin.fetchOffsets({ groupId, topics: [topic] }))
    const known = committed?.partitions.filter(({ offset }) => Number(offset) >= 0) ?? []
    return new Map(
      known.map(({ partition, offset, metadata }) => [
        partition,
        SentMarks.of({ position: Number(offset), metadata: metadata ?? '' }),
      ]),
    )
  }

  async #take(
    partition: number,
    messages: readonly StreamMessage[],
    take: (batch: LetterBatch) => Promise<void>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const part = this.#parts.get(partition)
    if (part === undefined || this.#failed || signal?.aborted) return
    const own = messages.filter(({ offset }) => Number(offset) >= part.next && Number(offset) < part.end)
    const letters = own.map((message) => letterOf(partition, message)).filter((each) => each !== undefined)
    try {
      await take({
        letters,
        foreign: own.length - letters.length,
        isSent: ({ home }) => part.marks.has(home.position),
        send: (chosen, work) => this.#send(partition, part, chosen, work),
      })
      if (!signal?.aborted) part.next = Number(messages.at(-1)!.offset) + 1
    } catch (error) {
      this.#fail(error)
    }
    this.#heardMs = performance.now()
  }

  async #send(partition: number, part: Part, letters: readonly ReadLetter[], work: () => Promise<void>): Promise<void> {
    const { topic } = this.#options
    const marks = part.marks.with(letters.map(({ home }) => home.position))
    const { metadata } = marks
    if (metadata === undefined) {
      throw new TilefoldError(
        'DEAD_LETTERS_UNAVAILABLE',
        `cannot note which letters of ${topic}/${partition} were sent: too many of them lie between others that were not; choose everything before offset ${letters[0]!.home.position} first (--until), or another group (--kafka-group)`,
        { topic, partition },
      )
    }
    await work()
    part.marks = marks
    part.hasSent = true
    await this.#consumer!.commit(topic, partition, marks.first, metadata)
  }

  /** Until every partition is read, or nothing more comes: another redrive holds the rest, or markers alone are left. */
  async #untilRead(partitions: readonly number[], signal: AbortSignal | undefined): Promise<void> {
    const quietMs = this.#options.quietMs ?? QUIET_MS
    while (!this.#failed && !signal?.aborted && performance.now() - this.#heardMs < quietMs) {
      if (partitions.every((partition) => this.#isRead(partition))) return
      await sleep(LOOK_MS)
    }
  }

  #isRead(partition: number): boolean {
    const part = this.#parts.get(partition)
    return part !== undefined && part.next >= part.end
  }

  #missing(partitions: readonly number[], signal: AbortSignal | undefined): string[] {
    if (signal?.aborted) return []
    return partitions
      .filter((partition) => !this.#isRead(partition))
      .map((partition) => {
        const part = this.#parts.get(partition)
        const what = `partition ${partition} of ${this.#options.topic}`
        if (part === undefined) return `${what} was not read: another redrive has it`
        return `${what} was read up to offset ${part.next} of ${part.end}: nothing came from there`
      })
  }

  /** A commit that did not land would send letters a second time: its client logs that and goes on. */
  async #checkCommits(admin: Admin): Promise<void> {
    const found = await this.#commits(admin)
    for (const [partition, { marks, hasSent }] of this.#parts) {
      const stored = found.get(partition)
      if (!hasSent || (stored?.first === marks.first && stored.metadata === marks.metadata)) continue
      throw new TilefoldError(
        'DEAD_LETTERS_UNAVAILABLE',
        `cannot note what was sent of ${this.#options.topic}/${partition}: the group's commit did not land; another redrive would send it again`,
        { partition },
      )
    }
  }

  #fail(error: unknown): void {
    this.#failed ??= { error }
  }
}

const ATTEMPTS = 8

/** A coordinator that has just come up sends everybody away for a moment, and kafkajs takes its word for final. */
async function patiently<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (attempt === ATTEMPTS || isFinal(error)) throw error
      await sleep(100 * attempt)
    }
  }
}
