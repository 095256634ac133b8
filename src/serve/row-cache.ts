/**
 * Rows that were read a moment ago, for requests that ask for the same entities again and again: off unless told, because a value
 * may then be older than the store's by as much as a row may be kept. Everything else holds: a row says itself how far its data go, so
 * complete-through, staleness and the oldest as-of are those of the row that was used.
 *
 * Least recently used rows go first when the bytes are short. A row's age counts from when its read was sent.
 */
import type { LaneName, ReadOptions, RowRead, RowSink } from '../store/port.ts'
import type { RowReader } from './read.ts'

export interface RowCacheOptions {
  /** Of rows, with some 200 bytes for each that is kept. */
  readonly bytesMax: number
  readonly maxAgeMs: number
}

export interface RowCacheMetrics {
  /** Rows that were looked for, and how many of them were there. */
  rowsCached(lookups: number, hits: number): void
}

/** Key, map entry and the buffer's own head. */
const ENTRY_BYTES = 200

interface Entry {
  /** Undefined: the store has none. */
  readonly row: Uint8Array | undefined
  readonly readAtMs: number
}

export class RowCache implements RowReader {
  readonly #inner: RowReader
  readonly #bytesMax: number
  readonly #maxAgeMs: number
  readonly #metrics: RowCacheMetrics
  /** Oldest use first. */
  readonly #entries = new Map<string, Entry>()
  /** A layout that is read anew names its lanes anew: rows found through the old one are not found again. */
  readonly #laneNumbers = new WeakMap<LaneName, string>()
  #lanes = 0
  #bytes = 0
  #generation = 0

  constructor(inner: RowReader, { bytesMax, maxAgeMs }: RowCacheOptions, metrics: RowCacheMetrics) {
    this.#inner = inner
    this.#bytesMax = bytesMax
    this.#maxAgeMs = maxAgeMs
    this.#metrics = metrics
  }

  get bytes(): number {
    return this.#bytes
  }

  get maxAgeMs(): number {
    return this.#maxAgeMs
  }

  clear(): void {
    this.#entries.clear()
    this.#bytes = 0
    this.#generation++
  }

  /** As `Store.readRows`. */
  async readRows(reads: readonly RowRead[], sink: RowSink, options: ReadOptions = {}): Promise<void> {
    const nowMs = performance.now()
    const generation = this.#generation
    const missed: RowRead[] = []
    const places: number[] = []
    const keys: string[] = []
    for (let i = 0; i < reads.length; i++) {
      const key = this.#keyOf(reads[i]!)
      const entry = this.#find(key, nowMs)
      if (entry !== undefined) sink(i, entry.row)
      else {
        missed.push(reads[i]!)
        places.push(i)
        keys.push(key)
      }
    }
    this.#metrics.rowsCached(reads.length, reads.length - missed.length)
    if (missed.length === 0) return
    const { deadlineMs, onMissing } = options
    const keep: RowSink = (index, bytes) => {
      if (generation === this.#generation) this.#put(keys[index]!, { row: bytes?.slice(), readAtMs: nowMs })
      sink(places[index]!, bytes)
    }
    await this.#inner.readRows(missed, keep, {
      deadlineMs,
      onMissing: onMissing && ((index, cause) => onMissing(places[index]!, cause)),
    })
  }

  #find(key: string, nowMs: number): Entry | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    this.#remove(key, entry)
    if (nowMs - entry.readAtMs >= this.#maxAgeMs) return undefined
    this.#put(key, entry)
    return entry
  }

  #put(key: string, entry: Entry): void {
    const known = this.#entries.get(key)
    // Two requests may have read it; the later read wins.
    if (known !== undefined && known.readAtMs > entry.readAtMs) return
    if (known !== undefined) this.#remove(key, known)
    if (bytesOf(key, entry) > this.#bytesMax) return
    this.#entries.set(key, entry)
    this.#bytes += bytesOf(key, entry)
    for (const [oldest, each] of this.#entries) {
      if (this.#bytes <= this.#bytesMax) return
      this.#remove(oldest, each)
    }
  }

  #remove(key: string, entry: Entry): void {
    this.#entries.delete(key)
    this.#bytes -= bytesOf(key, entry)
  }

  #keyOf({ lane, key }: RowRead): string {
    let number = this.#laneNumbers.get(lane)
    if (number === undefined) {
      number = `${this.#lanes++}:`
      this.#laneNumbers.set(lane, number)
    }
    return number + Buffer.from(key.buffer, key.byteOffset, key.length).toString('latin1')
  }
}

function bytesOf(key: string, { row }: Entry): number {
  return key.length + (row?.length ?? 0) + ENTRY_BYTES
}
