/**
 * The flush ledger of a lane: which position of its log was readable from when on. It is what tells, without a log of the
 * answers, what a request at some instant could have seen (training sets `as_served`).
 *
 *   segment   crc32 u32 · version u8 · first position · its time · then per entry: position and time, as steps from the last
 *             all numbers as varints; some 4 bytes an entry, SEGMENT_BYTES a segment, whole segments are dropped
 *
 * An entry is stamped when the flush's last write was answered, and lands with the lane's *next* write, or with the idle
 * check: no entry says that a position was readable before it was. What is lost thereby is only precision, see
 * `positionVisibleAt`. A new owner records nothing before it has come as far as its predecessor was (`flushing_to`): until
 * then rows may be further than any flush of its own. Entries of a lane stand at least GAP_MS apart.
 *
 * Like everything under the lane's tag the ledger regresses with the rows in a failover that loses writes; what was readable
 * for a while and was then lost is not in it.
 */
import { crc32 } from 'node:zlib'
import type { LedgerSegment, LedgerWrite } from '../store/port.ts'

export interface LedgerEntry {
  readonly position: number
  /** Milliseconds since the epoch, by the owner's clock; from then on every row held at least `position`. */
  readonly visibleAtMs: number
}

export interface LedgerOptions {
  /** Segments whose last entry is older are dropped. */
  readonly keepMs: number
  readonly clock: () => number
  /** Of a lane, whatever `keepMs` says; 8 MiB unless told, some two million entries. */
  readonly bytesMax?: number
}

const VERSION = 1
const HEADER_BYTES = 5
const GAP_MS = 100
/** Written anew with every entry, so small; 500 entries. */
const SEGMENT_BYTES = 2_000
const LEDGER_BYTES = 8 << 20
/** A write stays short, however much has grown old. */
const DROPS_MAX = 64

/** What a lane's owner keeps of the ledger: where it stands, and what the next write has to carry. */
export class FlushLedger {
  readonly #options: LedgerOptions
  /** Whole segments, oldest first. */
  readonly #closed: { readonly number: number; readonly bytes: number; readonly lastMs: number }[]
  #number: number
  #body: number[] = []
  #recorded: LedgerEntry
  /** Readable, and not recorded yet. */
  #news: LedgerEntry | undefined

  /** `from`: no position before it is recorded. */
  constructor(
    options: LedgerOptions,
    stored: readonly LedgerSegment[],
    readonly from: number,
  ) {
    this.#options = options
    this.#closed = stored.map(({ number, bytes }) => {
      const lastMs = readSegment(bytes).at(-1)?.visibleAtMs ?? Number.NEGATIVE_INFINITY
      return { number, bytes: bytes.length, lastMs }
    })
    this.#number = (stored.at(-1)?.number ?? 0) + 1
    this.#recorded = readLedger(stored).at(-1) ?? { position: -1, visibleAtMs: 0 }
  }

  /** Everything up to `position` is readable now. */
  visible(position: number): void {
    if (position < this.from || position <= this.#recorded.position) return
    if (this.#news?.position === position) return
    // The millisecond that has begun may have begun before. Clocks may go back, time does not.
    const visibleAtMs = Math.max(Math.floor(this.#options.clock()) + 1, this.#recorded.visibleAtMs)
    this.#news = { position, visibleAtMs }
  }

  get hasNews(): boolean {
    return this.#news !== undefined
  }

  /** What the next write carries; `now`: even if the last entry is young. It counts as written. */
  take(now = false): LedgerWrite | undefined {
    const entry = this.#news
    if (entry === undefined) return undefined
    if (!now && entry.visibleAtMs - this.#recorded.visibleAtMs < GAP_MS) return undefined
    this.#news = undefined
    if (HEADER_BYTES + this.#body.length > SEGMENT_BYTES) this.#close()
    const isFirst = this.#body.length === 0
    pushVarint(this.#body, entry.position - (isFirst ? 0 : this.#recorded.position))
    pushVarint(this.#body, entry.visibleAtMs - (isFirst ? 0 : this.#recorded.visibleAtMs))
    this.#recorded = entry
    return { number: this.#number, bytes: sealSegment(this.#body), dropped: this.#drop(entry.visibleAtMs) }
  }

  #close(): void {
    const bytes = HEADER_BYTES + this.#body.length
    this.#closed.push({ number: this.#number, bytes, lastMs: this.#recorded.visibleAtMs })
    this.#number++
    this.#body = []
  }

  #drop(nowMs: number): number[] {
    const { keepMs, bytesMax = LEDGER_BYTES } = this.#options
    const dropped: number[] = []
    let bytes = this.#closed.reduce((sum, segment) => sum + segment.bytes, SEGMENT_BYTES)
    while (dropped.length < DROPS_MAX && this.#closed.length > 0) {
      const [oldest] = this.#closed
      if (oldest!.lastMs >= nowMs - keepMs && bytes <= bytesMax) break
      this.#closed.shift()
      bytes -= oldest!.bytes
      dropped.push(oldest!.number)
    }
    return dropped
  }
}

/** Entries of a ledger, oldest first. A damaged segment is left out: nothing is claimed for its time. */
export function readLedger(segments: readonly LedgerSegment[]): LedgerEntry[] {
  return segments.flatMap(({ bytes }) => readSegment(bytes))
}

/**
 * What a reader could see of a lane at `ms`: every row held at least the events up to `atLeast` (-1: nothing is known), and
 * none held events behind `atMost` (absent: no later flush is recorded).
 *
 * The error is the difference of the two: mostly the one flush that was under way, or those of the GAP_MS before; after a crash
 * what lies between the last recorded flush and the first one that came as far as the dead owner. Clocks of owner
 * and readers that are apart come on top.
 */
export function positionVisibleAt(
  entries: readonly LedgerEntry[],
  ms: number,
): { readonly atLeast: number; readonly atMost?: number } {
  let [low, high] = [0, entries.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (entries[middle]!.visibleAtMs <= ms) low = middle + 1
    else high = middle
  }
  const next = entries[low]
  return { atLeast: entries[low - 1]?.position ?? -1, ...(next === undefined ? {} : { atMost: next.position }) }
}

// ---- bytes ---------------------------------------------------------------------------------------------------------

function sealSegment(body: readonly number[]): Uint8Array {
  const bytes = Buffer.alloc(HEADER_BYTES + body.length)
  bytes[4] = VERSION
  bytes.set(body, HEADER_BYTES)
  bytes.writeUInt32LE(crc32(bytes.subarray(4)))
  return bytes
}

function readSegment(bytes: Uint8Array): LedgerEntry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const isWhole = bytes.length > HEADER_BYTES && view.getUint32(0, true) === crc32(bytes.subarray(4))
  if (!isWhole || bytes[4] !== VERSION) return []
  const entries: LedgerEntry[] = []
  let [position, visibleAtMs] = [0, 0]
  for (let at = HEADER_BYTES; at < bytes.length; ) {
    const numbers = [0, 0]
    for (let i = 0; i < 2; i++) {
      for (let scale = 1; ; scale *= 128) {
        const byte = bytes[at++] ?? 0
        numbers[i]! += (byte & 127) * scale
        if (byte < 128) break
      }
    }
    position += numbers[0]!
    visibleAtMs += numbers[1]!
    entries.push({ position, visibleAtMs })
  }
  return entries
}

/** Seven bits a byte, lowest first; exact up to 2^53. */
function pushVarint(bytes: number[], value: number): void {
  while (value >= 128) {
    bytes.push((value % 128) | 128)
    value = Math.floor(value / 128)
  }
  bytes.push(value)
}
