/**
 * Rows as their owner wrote them last, so that a flush need not read them again: under load a trip to the store and half of the bytes.
 *
 * Why that is safe: the next write shows the token and the sequence of our last one. Where the store takes it, nobody has
 * written since, no write of ours was lost, and the row is there as we left it; where it was lost or taken over, the write is
 * refused and what is kept here goes with the owner (lane.ts). test/faults plays it: its owners keep what they wrote.
 *
 *   flush ──> kept? ── yes ──> delta added ──> written ──> kept
 *               └──── no ────> read ──────────────┘
 *
 * Two halves: what is asked for moves to the young one; when that is full, the old one goes.
 */
import type { RowPad } from '../engine/flush-rows.ts'

export class KeptRows {
  /** Where a chunk's rows are while they are written. */
  readonly pad: RowPad = { memory: new Uint8Array(0) }
  readonly #bytesMax: number
  #young = new Map<number, Kept>()
  #old = new Map<number, Kept>()
  #youngBytes = 0
  #oldBytes = 0

  /** 0: nothing is kept. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  get bytes(): number {
    return this.#youngBytes + this.#oldBytes
  }

  /** The entity's row, good until the next `put`; undefined where it is not kept, whether there is one or not. */
  get(entity: number): Uint8Array | undefined {
    const kept = this.#young.get(entity) ?? this.#old.get(entity)
    return kept?.memory.subarray(0, kept.length)
  }

  /** Copies a row that is stored as it is given here. */
  put(entity: number, row: Uint8Array): void {
    if (this.#bytesMax === 0) return
    let kept = this.#young.get(entity)
    if (kept !== undefined) this.#youngBytes -= costOf(kept)
    else {
      kept = this.#old.get(entity)
      if (kept !== undefined) this.#oldBytes -= costOf(kept)
      this.#old.delete(entity)
    }
    // A row grows with most flushes: memory that is asked for each time is the garbage collector's work each time.
    if (kept === undefined || kept.memory.length < row.length) {
      kept = { memory: new Uint8Array(Math.ceil((row.length * ROOM) / 64) * 64), length: 0 }
    }
    kept.memory.set(row)
    kept.length = row.length
    this.#young.set(entity, kept)
    this.#youngBytes += costOf(kept)
    if (this.#youngBytes > this.#bytesMax / 2) {
      this.#old = this.#young
      this.#oldBytes = this.#youngBytes
      this.#young = new Map()
      this.#youngBytes = 0
    }
    // Rows may be of any size: the old ones are the first to go.
    if (this.bytes <= this.#bytesMax) return
    this.#old = new Map()
    this.#oldBytes = 0
  }

  clear(): void {
    this.#young.clear()
    this.#old.clear()
    this.#youngBytes = 0
    this.#oldBytes = 0
  }
}

interface Kept {
  readonly memory: Uint8Array
  length: number
}

/** What is taken for a row, in rows. */
const ROOM = 1.25
/** Beside its bytes: the array, and its place in the map. */
const ROW_OVERHEAD_BYTES = 200

function costOf({ memory }: Kept): number {
  return memory.length + ROW_OVERHEAD_BYTES
}
