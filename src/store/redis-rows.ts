/**
 * A connection for rows alone: replies to MGET are handed on row by row as their bytes come in, where they lie.
 *
 *   MGET, written ──> stream        chunk ──┬── `*100`  how many
 *   who waits, in order             chunk   ├── `$2041` row ──> sink, out of the chunk itself
 *                                   chunk ──┴── `$-1`   none    (a row over the edge of two chunks is put together first)
 *
 * The client library makes the connection, and is then silent on it. It would make a buffer of each row, an array of each reply and
 * a copy of each row over an edge: of a read of 100 rows that is more than half of the process's time. This connection is never
 * needed: while it isn't there, rows are read over the other one.
 */
import type { Duplex } from 'node:stream'

/** Gets the row's bytes, good until it returns; undefined: there is none. Must not throw. */
export type TakeRow = (index: number, bytes: Uint8Array | undefined) => void

/** What a socket has and a plain stream has not. */
export type RowStream = Duplex & { setTimeout(ms: number, callback: () => void): unknown }

interface Waiting {
  readonly count: number
  readonly take: TakeRow
  readonly resolve: () => void
  readonly reject: (cause: Error) => void
}

const [CR, LF, MINUS, ZERO] = [13, 10, 45, 48]
const [ARRAY, ROW, FAULT] = [42, 36, 45]
const LINE_END_BYTES = 2
/** Of an error; what a server says is shorter. */
const TEXT_MAX = 1_000

export class RowChannel {
  readonly #silenceMs: number
  #stream: RowStream | undefined
  #waiting: Waiting[] = []
  #isHolding = false
  /** The next row of the reply under way; -1 where its first line has not come. */
  #index = -1
  // The line under way: its first byte (0: none yet), and what follows as a number or a text.
  #kind = 0
  #number = 0
  #isNegative = false
  #text = ''
  // The row under way: bytes of it still to come, its length, and what is there of it if a chunk ended within.
  #left = 0
  #length = 0
  #part = new Uint8Array(4096)
  /** Bytes of a line end to pass over. */
  #skip = 0

  /** A connection that is silent for so long while an answer is due is given up. */
  constructor(silenceMs: number) {
    this.#silenceMs = silenceMs
  }

  get isOpen(): boolean {
    return this.#stream?.writable === true
  }

  /** Everything that comes over `stream` from now on is an answer to what is asked here. */
  open(stream: RowStream): void {
    this.#end()
    this.#stream = stream
    stream.removeAllListeners('data')
    stream.on('data', (chunk: Buffer) => {
      if (stream === this.#stream) this.#takeChunk(chunk)
    })
    stream.once('close', () => {
      if (stream === this.#stream) this.#end()
    })
    stream.setTimeout(this.#silenceMs, () => {
      if (this.#waiting.length > 0) stream.destroy()
    })
    stream.resume()
  }

  /** Ends the connection; whoever waits is told that it is closed. */
  drop(): void {
    const stream = this.#stream
    this.#end()
    stream?.destroy()
  }

  /** Sends an MGET of `count` keys as it goes over the wire. Rejects as the client library does: what the server says, or that it is gone. */
  ask(bytes: Buffer, count: number, take: TakeRow): Promise<void> {
    return new Promise((resolve, reject) => {
      if (!this.isOpen) return reject(closed())
      this.#waiting.push({ count, take, resolve, reject })
      this.#hold(this.#stream!)
      this.#stream!.write(bytes)
    })
  }

  /** What is asked until the current step of the event loop is done leaves in one packet. */
  #hold(stream: RowStream): void {
    if (this.#isHolding) return
    this.#isHolding = true
    stream.cork()
    process.nextTick(() => {
      this.#isHolding = false
      stream.uncork()
    })
  }

  #end(): void {
    this.#stream = undefined
    const waiting = this.#waiting
    this.#waiting = []
    this.#index = -1
    this.#kind = 0
    this.#left = 0
    this.#skip = 0
    for (const { reject } of waiting) reject(closed())
  }

  #takeChunk(chunk: Buffer): void {
    const stream = this.#stream
    let at = 0
    while (at < chunk.length && this.#stream === stream) {
      if (this.#skip > 0) {
        const bytes = Math.min(this.#skip, chunk.length - at)
        this.#skip -= bytes
        at += bytes
      } else if (this.#left > 0) at = this.#takeRow(chunk, at)
      else this.#takeByte(chunk[at++]!)
    }
  }

  /** Of a line that says what follows. */
  #takeByte(byte: number): void {
    if (this.#kind === 0) {
      this.#kind = byte
      this.#number = 0
      this.#isNegative = false
      this.#text = ''
    } else if (byte === LF) this.#takeLine()
    else if (byte === CR) return
    else if (this.#kind === FAULT) {
      if (this.#text.length < TEXT_MAX) this.#text += String.fromCharCode(byte)
    } else if (byte === MINUS) this.#isNegative = true
    else this.#number = this.#number * 10 + byte - ZERO
  }

  #takeLine(): void {
    const kind = this.#kind
    this.#kind = 0
    const first = this.#waiting[0]
    if (first !== undefined && this.#index < 0) {
      if (kind === ARRAY && !this.#isNegative && this.#number === first.count) this.#index = 0
      else if (kind === FAULT) {
        this.#waiting.shift()
        first.reject(Object.assign(new Error(this.#text), { name: 'ReplyError' }))
      } else this.drop()
    } else if (first !== undefined && kind === ROW) {
      this.#length = this.#number
      this.#left = this.#number
      if (this.#isNegative) {
        this.#left = 0
        this.#hand(undefined)
      } else if (this.#length === 0) this.#endRow(NO_BYTES)
    }
    // Nobody asked for it: whatever it is, what follows can't be understood either.
    else this.drop()
  }

  /** What the chunk has of the row from `at` on; returns how far that is. */
  #takeRow(chunk: Buffer, at: number): number {
    const bytes = Math.min(this.#left, chunk.length - at)
    if (bytes === this.#length) {
      this.#left = 0
      this.#endRow(new Uint8Array(chunk.buffer, chunk.byteOffset + at, bytes))
      return at + bytes
    }
    if (this.#part.length < this.#length) this.#part = new Uint8Array(2 * this.#length)
    this.#part.set(chunk.subarray(at, at + bytes), this.#length - this.#left)
    this.#left -= bytes
    if (this.#left === 0) this.#endRow(this.#part.subarray(0, this.#length))
    return at + bytes
  }

  #endRow(bytes: Uint8Array): void {
    this.#skip = LINE_END_BYTES
    this.#hand(bytes)
  }

  #hand(bytes: Uint8Array | undefined): void {
    const first = this.#waiting[0]!
    first.take(this.#index++, bytes)
    if (this.#index < first.count) return
    this.#index = -1
    this.#waiting.shift()
    first.resolve()
  }
}

const NO_BYTES = new Uint8Array(0)

function closed(): Error {
  return new Error('Connection is closed.')
}
