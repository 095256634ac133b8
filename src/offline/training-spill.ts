/** Temporary files of a training set that is larger than its memory: blocks of bytes, written and read in one order. */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { Answers, AsOf } from '../engine/asof.ts'
import { TilefoldError } from '../model/errors.ts'
import type { PlacedAnswers } from './training-columns.ts'

const PARTS_MAX = 256

/** A view as far as it is put aside: its core holds the events. */
interface HeldView {
  readonly core: AsOf
}

/** So many that one part's share of all events fits with room to spare; entities differ in size. */
export function partsFor(held: number, heldMax: number, rowsDone: number, rowsTotal: number | undefined): number {
  const expected = rowsTotal === undefined ? held * 32 : (held / rowsDone) * rowsTotal
  return Math.min(PARTS_MAX, Math.max(4, Math.ceil((2 * expected) / heldMax)))
}

/** Events and answers in temporary files, by view and part. */
export class Spill {
  /** 0: nothing had to be put aside. */
  parts = 0
  readonly #parent: string
  readonly #views: readonly HeldView[]
  #folder: SpillFolder | undefined

  constructor(parent: string, views: readonly HeldView[]) {
    this.#parent = parent
    this.#views = views
  }

  get bytes(): number {
    return this.#folder?.bytes ?? 0
  }

  /** Puts aside what the views hold. The number of parts is that of the first call. */
  add(views: readonly HeldView[], parts: number): void {
    this.#folder ??= new SpillFolder(this.#parent)
    if (this.parts === 0) this.parts = parts
    for (const asked of views) {
      for (let part = 0; part < this.parts; part++) {
        this.#file('events', asked, part).append(asked.core.spill(part, this.parts))
      }
      asked.core.clear()
    }
  }

  load(asked: HeldView, part: number): void {
    asked.core.clear()
    const file = this.#file('events', asked, part)
    for (let block = file.next(); block !== undefined; block = file.next()) asked.core.load(block)
    asked.core.order()
    this.#folder!.drop(this.#name('events', asked, part))
  }

  addAnswers(asked: HeldView, part: number, { rows, answers }: PlacedAnswers): void {
    const bytes = new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength)
    this.#file('answers', asked, part).append(bytes, answers.statuses, answers.values, answers.text)
  }

  /** The next batch's answers, of every part. */
  readAnswers(asked: HeldView): PlacedAnswers[] {
    return Array.from({ length: this.parts }, (_, part) => {
      const file = this.#file('answers', asked, part)
      const [rows, statuses, values, text] = [file.next()!, file.next()!, file.next()!, file.next()!]
      const placed = new Uint32Array(rows.buffer, 0, rows.length >> 2)
      return { rows: placed, answers: { count: placed.length, statuses, values, text } satisfies Answers }
    })
  }

  #file(kind: string, asked: HeldView, part: number): BlockFile {
    return this.#folder!.file(this.#name(kind, asked, part))
  }

  #name(kind: string, asked: HeldView, part: number): string {
    return `${kind}-${this.#views.indexOf(asked)}-${part}`
  }

  close(): void {
    this.#folder?.close()
  }
}

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
