/**
 * Where records go that no view can take: as they came, with what was wrong. At least once, and before the lane's marker
 * passes them: `flush` comes before the flush of the rows.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { TilefoldError } from '../model/errors.ts'
import { FlushQueue } from './flush-queue.ts'
import type { StreamMessage } from './stream.ts'

export interface DeadLetter {
  readonly topic: string
  readonly partition: number
  readonly message: StreamMessage
  /** A RejectReason of the decoder, or a verdict of a view: late, expired, history, key, time, future. */
  readonly reason: string
  readonly text: string
  /** The view that refused it; absent where none could read it. */
  readonly view?: string
}

export interface DeadLetters {
  add(letter: DeadLetter): void
  /** Everything added so far is safe. Throws DEAD_LETTERS_UNAVAILABLE. */
  flush(): Promise<void>
  close(): Promise<void>
}

/** One JSON line per record: key, value and headers' values as base64. */
export async function createDeadLetterFile(path: string, clock: () => number): Promise<DeadLetters> {
  let file: FileHandle
  try {
    file = await open(path, 'a')
  } catch (cause) {
    throw unavailable(path, cause)
  }
  return new DeadLetterFile(path, file, clock)
}

class DeadLetterFile implements DeadLetters {
  readonly #path: string
  readonly #file: FileHandle
  readonly #clock: () => number
  readonly #lines = new FlushQueue<string>((lines) => this.#append(lines))

  constructor(path: string, file: FileHandle, clock: () => number) {
    this.#path = path
    this.#file = file
    this.#clock = clock
  }

  add({ topic, partition, message, reason, text, view }: DeadLetter): void {
    const line = {
      topic,
      partition,
      offset: message.offset,
      timestamp: message.timestamp,
      reason,
      message: text,
      ...(view === undefined ? {} : { view }),
      failed_at_ms: this.#clock(),
      key: message.key?.toString('base64') ?? null,
      value: message.value?.toString('base64') ?? null,
      ...(message.headers === undefined ? {} : { headers: headersOf(message.headers) }),
    }
    this.#lines.add(`${JSON.stringify(line)}\n`)
  }

  flush(): Promise<void> {
    return this.#lines.flush()
  }

  async close(): Promise<void> {
    try {
      await this.flush()
    } finally {
      await this.#file.close()
    }
  }

  async #append(lines: readonly string[]): Promise<void> {
    try {
      await this.#file.appendFile(lines.join(''))
      await this.#file.datasync()
    } catch (cause) {
      throw unavailable(this.#path, cause)
    }
  }
}

/** A name that came several times has a list. */
function headersOf(headers: Readonly<Record<string, unknown>>): object {
  const one = (value: unknown) => Buffer.from((value ?? '') as Buffer | string).toString('base64')
  const entries = Object.entries(headers)
  return Object.fromEntries(entries.map(([name, value]) => [name, Array.isArray(value) ? value.map(one) : one(value)]))
}

function unavailable(path: string, cause: unknown): TilefoldError {
  return new TilefoldError(
    'DEAD_LETTERS_UNAVAILABLE',
    `cannot write dead letters to ${path}: ${(cause as Error).message}`,
    { path },
    { cause },
  )
}
