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
export class KeptRows {
  readonly #bytesMax: number
  #young = new Map<number, Uint8Array>()
  #old = new Map<number, Uint8Array>()
  #youngBytes = 0
  #oldBytes = 0

  /** 0: nothing is kept. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  get bytes(): number {
    return this.#youngBytes + this.#oldBytes
  }

  /** The entity's row; undefined where it is not kept, whether there is one or not. */
  get(entity: number): Uint8Array | undefined {
    return this.#young.get(entity) ?? this.#old.get(entity)
  }

  /** A row that is stored as it is given here; its bytes stay as they are. */
  put(entity: number, row: Uint8Array): void {
    if (this.#bytesMax === 0) return
    const was = this.#young.get(entity)
    if (was !== undefined) this.#youngBytes -= costOf(was)
    this.#young.set(entity, row)
    this.#youngBytes += costOf(row)
    if (this.#youngBytes <= this.#bytesMax / 2) return
    this.#old = this.#young
    this.#oldBytes = this.#youngBytes
    this.#young = new Map()
    this.#youngBytes = 0
    if (this.#oldBytes > this.#bytesMax) this.clear()
  }

  clear(): void {
    this.#young.clear()
    this.#old.clear()
    this.#youngBytes = 0
    this.#oldBytes = 0
  }
}

/** Beside its bytes: the array, and its place in the map. */
const ROW_OVERHEAD_BYTES = 200

function costOf(row: Uint8Array): number {
  return row.length + ROW_OVERHEAD_BYTES
}
