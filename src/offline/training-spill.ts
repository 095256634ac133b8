/** Temporary files of a training set that is larger than its memory: blocks of bytes, written and read in one order. */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { TilefoldError } from '../model/errors.ts'

/** A folder of files that nobody else sees; all of it is gone after `close`. */
export class SpillFolder {
  readonly #folder: string
  readonly #files = new Map<string, BlockFile>()

  constructor(parent: string) {
    this.#folder = attempt(`make a temporary folder in ${parent}`, () =>
      mkdtempSync(join(parent, 'tilefold-training-')),
    )
  }

  /** Bytes in all files. */
  get bytes(): number {
    return [...this.#files.values()].reduce((sum, file) => sum + file.bytes, 0)
  }

  file(name: string): BlockFile {
    let file = this.#files.get(name)
    if (file === undefined) {
      file = new BlockFile(join(this.#folder, name))
      this.#files.set(name, file)
    }
    return file
  }

  /** Gives the room of a file back that is read. */
  drop(name: string): void {
    this.#files.get(name)?.close()
    this.#files.delete(name)
    rmSync(join(this.#folder, name), { force: true })
  }

  close(): void {
    for (const file of this.#files.values()) file.close()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

const LENGTH_BYTES = 8

export class BlockFile {
  readonly #name: string
  readonly #handle: number
  bytes = 0
  #readAt = 0

  constructor(name: string) {
    this.#name = name
    this.#handle = attempt(`open ${name}`, () => openSync(name, 'w+'))
  }

  append(...parts: readonly Uint8Array[]): void {
    for (const part of parts) {
      const length = new Float64Array([part.length])
      attempt(`write ${this.#name}`, () => {
        this.#write(new Uint8Array(length.buffer))
        this.#write(part)
      })
    }
  }

  #write(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const written = writeSync(this.#handle, bytes, done, bytes.length - done, this.bytes)
      done += written
      this.bytes += written
    }
  }

  /** The block behind the one that was read last; undefined at the end. */
  next(): Uint8Array | undefined {
    if (this.#readAt === this.bytes) return undefined
    const length = new Float64Array(this.#read(LENGTH_BYTES).buffer)[0]!
    return this.#read(length)
  }

  #read(length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    attempt(`read ${this.#name}`, () => {
      for (let done = 0; done < length; ) {
        const read = readSync(this.#handle, bytes, done, length - done, this.#readAt)
        if (read === 0) throw new Error(`it ends at byte ${this.#readAt}`)
        done += read
        this.#readAt += read
      }
    })
    return bytes
  }

  close(): void {
    closeSync(this.#handle)
  }
}

function attempt<T>(doing: string, work: () => T): T {
  try {
    return work()
  } catch (cause) {
    const { message } = cause as Error
    throw new TilefoldError('OUTPUT_FAILED', `cannot ${doing}: ${message}`, {}, { cause })
  }
}
