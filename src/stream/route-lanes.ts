/**
 * Events that wait for the next transaction, by the lane that they go to, and what each lane was told last.
 *
 *   judged batch ── accepted rows ── entity's key ── murmur2 mod lanes ──> pieces of each lane ──> records, each with its range
 *
 * Every record says where the one before it ended in its lane. That vector travels in the metadata of the source's committed offset, in
 * the same transaction: whoever takes over knows what every lane was told, and a lane knows whether it has missed anything.
 */
import type { Core } from '../engine/core.ts'
import type { ColumnBatch } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import { partitionHash } from '../model/key.ts'
import type { RowPiece } from '../source/routed-record.ts'
import { writeRoutedRecord } from '../source/routed-record.ts'
import type { RoutedRecord } from '../source/transactions.ts'

export interface RouteClock {
  readonly clockMs: number
  readonly isIdle: boolean
  /** Logs that the topic is routed from. */
  readonly logs: number
}

/** A record of so many rows is folded in one go; more bytes would come near what brokers take. */
const RECORD_ROWS_MAX = 8192
const RECORD_BYTES_MAX = 384 * 1024

export class RouteLanes {
  readonly #log: string
  readonly #names: readonly string[]
  readonly #pieces: RowPiece[][]
  /** Where the last record of each lane ended; -1: there was none. */
  #told: number[]
  /** By entity number of the core. */
  #laneOf = new Uint16Array(1024)
  #known = 0
  #rows = 0

  /** `inputs`: names of the columns that travel. */
  constructor(log: string, inputs: readonly string[], lanes: number) {
    this.#log = log
    this.#names = inputs
    this.#pieces = Array.from({ length: lanes }, () => [])
    this.#told = new Array<number>(lanes).fill(-1)
  }

  /** Rows that wait. */
  get rows(): number {
    return this.#rows
  }

  /** Takes the rows that the core has just accepted, from position `from` on: those before it are sent already. */
  add(core: Core, batch: ColumnBatch, from: number): void {
    this.#learn(core)
    const { rows, entities } = core.accepted()
    const counts = new Uint32Array(this.#pieces.length)
    let first = 0
    while (first < rows.length && positionOf(batch, rows[first]!) < from) first++
    for (let i = first; i < rows.length; i++) counts[this.#laneOf[entities[i]!]!]!++
    const chosen = Array.from(counts, (count) => (count === 0 ? undefined : new Uint32Array(count)))
    counts.fill(0)
    for (let i = first; i < rows.length; i++) {
      const lane = this.#laneOf[entities[i]!]!
      chosen[lane]![counts[lane]!++] = rows[i]!
    }
    for (const [lane, own] of chosen.entries()) if (own) this.#pieces[lane]!.push({ batch, rows: own })
    this.#rows += rows.length - first
  }

  #learn(core: Core): void {
    const count = core.entityCount
    if (count > this.#laneOf.length) {
      const more = new Uint16Array(count * 2)
      more.set(this.#laneOf)
      this.#laneOf = more
    }
    for (; this.#known < count; this.#known++) {
      this.#laneOf[this.#known] = partitionHash(core.keyOf(this.#known)) % this.#pieces.length
    }
  }

  /** The core has forgotten its entities. */
  forget(): void {
    this.#known = 0
  }

  /** What waits, up to position `to`, as records; and a record without rows for each lane of `also` that has none. */
  records(to: number, clock: RouteClock, also: (lane: number) => boolean): RoutedRecord[] {
    return this.#pieces.flatMap((pieces, partition) => {
      if (pieces.length === 0 && !also(partition)) return []
      const parts = splitPieces(pieces)
      let from = this.#told[partition]!
      return parts.map((part, i) => {
        const end = i + 1 === parts.length ? to : endOf(part)
        const head = { log: this.#log, from, to: end, ...clock }
        from = end
        return { partition, value: writeRoutedRecord(head, this.#names, part) }
      })
    })
  }

  /** What the offset's metadata says once the records are committed. */
  metadataAfter(records: readonly RoutedRecord[], to: number): string {
    const lanes = new Set(records.map(({ partition }) => partition))
    return writeTold(
      this.#told.map((told, lane) => (lanes.has(lane) ? to : told)),
      to,
    )
  }

  /** They are committed: nothing waits any more. */
  committed(records: readonly RoutedRecord[], to: number): void {
    for (const { partition } of records) this.#told[partition] = to
    for (const pieces of this.#pieces) pieces.length = 0
    this.#rows = 0
  }

  /** Goes on from what the group has committed. Throws ROUTE_BROKEN. */
  resume(metadata: string, position: number): void {
    const told = readTold(metadata, position)
    if (told?.length !== this.#told.length) {
      throw new TilefoldError(
        'ROUTE_BROKEN',
        `cannot go on routing log ${this.#log}: the group's offset ${position} does not say what its ${this.#told.length} lanes were sent; got ${JSON.stringify(metadata.slice(0, 80))}. Was it set by hand?`,
        { position },
      )
    }
    this.#told = told
  }
}

/** `1`, then per lane how far behind `position` it was told of, in base 36; `-` where it never was. Brokers take 4,096 bytes. */
function writeTold(told: readonly number[], position: number): string {
  return `1 ${told.map((each) => (each < 0 ? '-' : (position - each).toString(36))).join(',')}`
}

function readTold(text: string, position: number): number[] | undefined {
  const found = /^1 ((?:-|[0-9a-z]+)(?:,(?:-|[0-9a-z]+))*)$/.exec(text)?.[1]
  return found?.split(',').map((each) => (each === '-' ? -1 : position - Number.parseInt(each, 36)))
}

/** Pieces of one record each, which keep the bounds; at least one, be it empty. */
function splitPieces(pieces: readonly RowPiece[]): RowPiece[][] {
  const parts: RowPiece[][] = []
  let [rows, bytes] = [Number.POSITIVE_INFINITY, 0]
  for (const { batch, rows: own } of pieces) {
    const bytesOf = rowBytes(batch)
    let start = 0
    for (let i = 0; i < own.length; i++) {
      const more = bytesOf(own[i]!)
      if (rows >= RECORD_ROWS_MAX || bytes + more > RECORD_BYTES_MAX) {
        if (i > start) parts.at(-1)!.push({ batch, rows: own.subarray(start, i) })
        parts.push([])
        start = i
        rows = 0
        bytes = 0
      }
      rows++
      bytes += more
    }
    if (own.length > start) parts.at(-1)!.push({ batch, rows: own.subarray(start) })
  }
  return parts.length === 0 ? [[]] : parts
}

/** What a row takes in a record, roughly. */
function rowBytes(batch: ColumnBatch): (row: number) => number {
  const texts = batch.columns.flatMap(({ offsets }) => (offsets ? [offsets] : []))
  const fixed = 4 + batch.columns.length * 8
  return (row) => texts.reduce((sum, offsets) => sum + offsets[row + 1]! - offsets[row]!, fixed)
}

function endOf(part: readonly RowPiece[]): number {
  const { batch, rows } = part.at(-1)!
  return positionOf(batch, rows.at(-1)!) + 1
}

function positionOf({ positions }: ColumnBatch, row: number): number {
  return typeof positions === 'number' ? positions + row : positions[row]!
}
