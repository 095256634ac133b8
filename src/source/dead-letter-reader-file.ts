/**
 * A dead-letter file, and beside it `<file>.redriven`: a line for each record that was sent again. A line counts when it is whole,
 * so a crash within one sends that record once more.
 */
import { createReadStream } from 'node:fs'
import { type FileHandle, open, readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { TilefoldError } from '../model/errors.ts'
import { type LetterBatch, type LetterLog, letterOfLine, type ReadLetter, recordIdOf } from './dead-letter-reader.ts'

const BATCH_LETTERS = 500

export function createLetterFile(path: string): LetterLog {
  return new LetterFile(path)
}

class LetterFile implements LetterLog {
  readonly name: string
  readonly #path: string
  readonly #sidePath: string
  readonly #sent = new Set<string>()
  #side: FileHandle | undefined
  /** Whole lines of it. */
  #sideBytes = 0

  constructor(path: string) {
    this.name = `file ${path}`
    this.#path = path
    this.#sidePath = `${path}.redriven`
  }

  async read(take: (batch: LetterBatch) => Promise<void>, signal?: AbortSignal): Promise<readonly string[]> {
    try {
      await this.#readSide()
      await this.#readLetters(take, signal)
      return []
    } catch (cause) {
      if (cause instanceof TilefoldError) throw cause
      throw unavailable('read', this.#path, cause)
    } finally {
      await this.#side?.close()
      this.#side = undefined
    }
  }

  async #readLetters(take: (batch: LetterBatch) => Promise<void>, signal: AbortSignal | undefined): Promise<void> {
    const stream = createReadStream(this.#path, 'utf8')
    const lines = createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })
    let letters: ReadLetter[] = []
    let foreign = 0
    let position = 0
    const give = async () => {
      await take({
        letters,
        foreign,
        isSent: (letter) => this.#sent.has(recordIdOf(letter)),
        send: (chosen, work) => this.#send(chosen, work),
      })
      letters = []
      foreign = 0
    }
    try {
      for await (const line of lines) {
        if (signal?.aborted) return
        position++
        if (line === '') continue
        const letter = letterOfLine(line, position)
        if (letter === undefined) foreign++
        else letters.push(letter)
        if (letters.length === BATCH_LETTERS) await give()
      }
      if (letters.length + foreign > 0 && !signal?.aborted) await give()
    } finally {
      stream.destroy()
    }
  }

  async #send(letters: readonly ReadLetter[], work: () => Promise<void>): Promise<void> {
    try {
      // Opened before anything is sent: where it cannot be written, nothing is.
      if (this.#side === undefined) {
        this.#side = await open(this.#sidePath, 'a')
        await this.#side.truncate(this.#sideBytes)
      }
    } catch (cause) {
      throw unavailable('note what was sent in', this.#sidePath, cause)
    }
    await work()
    try {
      await this.#side.appendFile(letters.map((letter) => `${recordIdOf(letter)}\n`).join(''))
      await this.#side.datasync()
    } catch (cause) {
      throw unavailable('note what was sent in', this.#sidePath, cause)
    }
    for (const letter of letters) this.#sent.add(recordIdOf(letter))
  }

  /** What stands behind the last end of a line is the rest of a crash: the next line would make another record's name of it. */
  async #readSide(): Promise<void> {
    const text = await readFile(this.#sidePath, 'utf8').catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === 'ENOENT') return ''
      throw unavailable('read', this.#sidePath, cause)
    })
    const whole = text.slice(0, text.lastIndexOf('\n') + 1)
    for (const line of whole.split('\n')) if (line !== '') this.#sent.add(line)
    this.#sideBytes = Buffer.byteLength(whole)
  }
}

function unavailable(verb: string, path: string, cause: unknown): TilefoldError {
  const { message } = cause as Error
  return new TilefoldError('DEAD_LETTERS_UNAVAILABLE', `cannot ${verb} ${path}: ${message}`, { path }, { cause })
}
