/**
 * Dead letters read back: from the topic or the file that dead-letters.ts and kafka-dead-letters.ts write, as they came.
 *
 * A letter is about a record of a source topic. Letters are at least once, so several may be about one record; the record
 * has one identity, and what is sent again is the record, not the letter.
 */
import type { StreamMessage } from './stream.ts'

export interface ReadLetter {
  /** Where the letter lies: a partition and offset of the dead-letter topic; a file has one partition, of lines from 1. */
  readonly home: { readonly partition: number; readonly position: number }
  /** Where its record lies, or lay. */
  readonly topic: string
  readonly partition: number
  readonly offset: string
  readonly reason: string
  readonly text: string
  /** The view that put the record aside; absent where no view could read it. */
  readonly view?: string
  /** As it was produced. */
  readonly record: LetterRecord
  /** Bytes of a value that was over the dead-letter topic's limit and is not here. */
  readonly leftOutBytes?: number
}

export interface LetterRecord {
  readonly key: Buffer | null
  readonly value: Buffer | null
  /** Record time, ms since the epoch. */
  readonly timestamp: string
  readonly headers: LetterHeaders
}

export type LetterHeaders = Readonly<Record<string, Buffer | string | (Buffer | string)[] | undefined>>

/** Some letters of one partition, in their order. */
export interface LetterBatch {
  readonly letters: readonly ReadLetter[]
  /** Records between them that are no letters. */
  readonly foreign: number
  /** Is it noted that the letter was sent again? */
  isSent(letter: ReadLetter): boolean
  /**
   * Sends letters of the batch and notes it. A crash between the two sends them again: at least once. Throws
   * DEAD_LETTERS_UNAVAILABLE before anything is sent where there is no room for the note.
   */
  send(letters: readonly ReadLetter[], work: () => Promise<void>): Promise<void>
}

export interface LetterLog {
  /** For people: `topic dead-letters`. */
  readonly name: string
  /**
   * Gives every letter that is there at the call. Resolves to what could not be looked at, in sentences. Throws
   * DEAD_LETTERS_UNAVAILABLE, LOG_UNAVAILABLE, and what `take` throws.
   */
  read(take: (batch: LetterBatch) => Promise<void>, signal?: AbortSignal): Promise<readonly string[]>
}

/** Names the record: a topic that was made anew has other times under its old offsets. */
export function recordIdOf({ topic, partition, offset, record }: ReadLetter): string {
  return `${topic}/${partition}/${offset}/${record.timestamp}`
}

const ERRORS = '__connect.errors.'
const CONNECTOR = 'tilefold'
/** What the letters of a topic carry beside Kafka Connect's headers. */
export const LEFT_OUT_HEADER = 'tilefold.value.left.out.bytes'
export const TIMESTAMP_HEADER = 'tilefold.record.timestamp'

/** A record of a dead-letter topic as the letter it is; undefined where it is none. Kafka Connect's own letters are read, too. */
export function letterOf(partition: number, message: StreamMessage): ReadLetter | undefined {
  const headers = (message.headers ?? {}) as LetterHeaders
  const told = (name: string) => textOf(headers[`${ERRORS}${name}`])
  const [topic, from, offset] = [told('topic'), told('partition'), told('offset')]
  if (topic === undefined || !isWhole(from) || !isWhole(offset)) return undefined
  const connector = told('connector.name') ?? ''
  const leftOut = textOf(headers[LEFT_OUT_HEADER])
  return {
    home: { partition, position: Number(message.offset) },
    topic,
    partition: Number(from),
    offset,
    reason: told('exception.class.name') ?? 'unknown',
    text: told('exception.message') ?? '',
    ...(connector.startsWith(`${CONNECTOR}:`) ? { view: connector.slice(CONNECTOR.length + 1) } : {}),
    record: {
      key: message.key,
      value: message.value,
      // A topic whose brokers stamp the records has lost the time; the header has it.
      timestamp: textOf(headers[TIMESTAMP_HEADER]) ?? message.timestamp,
      headers: Object.fromEntries(
        Object.entries(headers).filter(
          ([name]) => !name.startsWith(ERRORS) && name !== LEFT_OUT_HEADER && name !== TIMESTAMP_HEADER,
        ),
      ),
    },
    ...(leftOut === undefined ? {} : { leftOutBytes: Number(leftOut) }),
  }
}

/** A line of a dead-letter file; undefined where it is none. */
export function letterOfLine(line: string, position: number): ReadLetter | undefined {
  let told: Readonly<Record<string, unknown>>
  try {
    told = JSON.parse(line) as typeof told
  } catch {
    return undefined
  }
  const { topic, partition, offset, timestamp, reason, message, view, key, value, headers } = told ?? {}
  if (typeof topic !== 'string' || !Number.isInteger(partition) || !isWhole(offset) || !isWhole(timestamp)) {
    return undefined
  }
  return {
    home: { partition: 0, position },
    topic,
    partition: partition as number,
    offset,
    reason: typeof reason === 'string' ? reason : 'unknown',
    text: typeof message === 'string' ? message : '',
    ...(typeof view === 'string' ? { view } : {}),
    record: { key: bytesOf(key), value: bytesOf(value), timestamp, headers: headersOf(headers) },
  }
}

function textOf(value: LetterHeaders[string]): string | undefined {
  const one = Array.isArray(value) ? value.at(-1) : value
  return one === undefined ? undefined : one.toString()
}

function isWhole(text: unknown): text is string {
  return typeof text === 'string' && /^\d{1,19}$/.test(text)
}

function bytesOf(text: unknown): Buffer | null {
  return typeof text === 'string' ? Buffer.from(text, 'base64') : null
}

/** `{ name: base64 }`, or a list of them where a name came several times. */
function headersOf(told: unknown): LetterHeaders {
  if (typeof told !== 'object' || told === null) return {}
  const one = (value: unknown) => bytesOf(value) ?? Buffer.alloc(0)
  return Object.fromEntries(
    Object.entries(told).map(([name, value]) => [name, Array.isArray(value) ? value.map(one) : one(value)]),
  )
}
