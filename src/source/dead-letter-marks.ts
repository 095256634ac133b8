/**
 * Which letters of a partition were sent again: everything before an offset, and single ones behind it. Small enough to travel with a
 * group's committed offset, whatever was chosen: as the metadata of the commit, where brokers take 4,096 bytes.
 *
 *   committed offset   everything before it is sent, or was no letter to send
 *   metadata           `r1.` and a bit for each offset from there on, deflated, base64
 */
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { TilefoldError } from '../model/errors.ts'

/** Of `offset.metadata.max.bytes`, 4,096 unless a broker was told otherwise. */
const TEXT_MAX = 4_000
const VERSION = 'r1.'
/** Offsets behind the first letter not sent that can be told apart: more would not deflate to the limit anyway. */
const SPAN_MAX = 8 << 20

export class SentMarks {
  /** Everything before it is sent. */
  readonly first: number
  readonly #later: ReadonlySet<number>

  private constructor(first: number, later: ReadonlySet<number>) {
    this.first = first
    this.#later = later
  }

  /** What a commit says; nothing is sent where it says nothing. Throws DEAD_LETTERS_UNAVAILABLE for a commit of others. */
  static of(commit: { readonly position: number; readonly metadata: string } | undefined): SentMarks {
    if (commit === undefined) return new SentMarks(0, new Set())
    const { position, metadata } = commit
    if (!metadata.startsWith(VERSION)) throw strange(metadata)
    const later = new Set<number>()
    let bits: Buffer
    try {
      bits = inflateRawSync(Buffer.from(metadata.slice(VERSION.length), 'base64'), { maxOutputLength: SPAN_MAX / 8 })
    } catch {
      throw strange(metadata)
    }
    for (const [i, byte] of bits.entries()) {
      for (let bit = 0; bit < 8; bit++) if ((byte >> bit) & 1) later.add(position + i * 8 + bit)
    }
    return new SentMarks(position, later)
  }

  has(position: number): boolean {
    return position < this.first || this.#later.has(position)
  }

  /** With these, too. */
  with(positions: readonly number[]): SentMarks {
    const later = new Set(this.#later)
    for (const position of positions) if (position >= this.first) later.add(position)
    let { first } = this
    while (later.delete(first)) first++
    return new SentMarks(first, later)
  }

  /** A log that starts at `first` holds nothing older. */
  from(first: number): SentMarks {
    if (first <= this.first) return this
    const later = new Set([...this.#later].filter((position) => position >= first))
    return new SentMarks(first, later).with([])
  }

  /** The commit's metadata; undefined where it would be too long. */
  get metadata(): string | undefined {
    const span = Math.max(this.first - 1, ...chunksMax(this.#later)) - this.first + 1
    if (span > SPAN_MAX) return undefined
    const bits = Buffer.alloc(Math.ceil(span / 8))
    for (const position of this.#later) bits[(position - this.first) >> 3]! |= 1 << ((position - this.first) & 7)
    const text = `${VERSION}${deflateRawSync(bits).toString('base64')}`
    return text.length <= TEXT_MAX ? text : undefined
  }
}

/** The greatest number, without handing thousands to `Math.max` at once. */
function chunksMax(numbers: ReadonlySet<number>): [] | [number] {
  let most: number | undefined
  for (const each of numbers) if (most === undefined || each > most) most = each
  return most === undefined ? [] : [most]
}

function strange(metadata: string): TilefoldError {
  return new TilefoldError(
    'DEAD_LETTERS_UNAVAILABLE',
    `cannot tell which letters were sent again: the group's commit is not of a redrive; got ${JSON.stringify(metadata.slice(0, 40))}, expected ${JSON.stringify(VERSION)} and base64. Is it another program's group? --kafka-group names another one`,
  )
}
