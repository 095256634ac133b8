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
import { saltKey } from '../model/view-layout.ts'
import type { RowPiece } from '../source/routed-record.ts'
import { writeRoutedRecord } from '../source/routed-record.ts'
import type { RoutedRecord } from '../source/transactions.ts'
import { HeavyHitters } from './heavy-hitters.ts'

export interface RouteClock {
  readonly clockMs: number
  readonly isIdle: boolean
  /** Logs that the topic is routed from. */
  readonly logs: number
  readonly layoutVersion: number
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
  /** By entity number of the core: its own lane, and how many it is spread over. */
  #laneOf = new Uint16Array(1024)
  #widthOf = new Uint16Array(1024)
  #known = 0
  #rows = 0
  readonly #heavy: HeavyHitters
  /** How widely entities are spread, by `saltKey`. */
  #salts: ReadonlyMap<string, number> = new Map()
  readonly #wishes = new Map<string, number>()

  /** `inputs`: names of the columns that travel. */
  constructor(log: string, inputs: readonly string[], lanes: number) {
    this.#log = log
    this.#names = inputs
    this.#pieces = Array.from({ length: lanes }, () => [])
    this.#told = new Array<number>(lanes).fill(-1)
    this.#heavy = new HeavyHitters(lanes)
  }

  /** Entities that should be spread over so many lanes from now on, by `saltKey`, since the last call. */
  takeWishes(): ReadonlyMap<string, number> {
    const wishes = new Map(this.#wishes)
    this.#wishes.clear()
    return wishes
  }

  /** From now on entities are spread so: every reader knows it. */
  spread(salts: ReadonlyMap<string, number>): void {
    this.#salts = salts
    this.#known = 0
  }

  /** Rows that wait. */
  get rows(): number {
    return this.#rows
  }

  /** Takes the rows that the core has just accepted, from position `from` on: those before it are sent already. */
  add(core: Core, batch: ColumnBatch, from: number): void {
    this.#learn(core)
    const { rows, entities } = core.accepted()
    const lanes = new Uint16Array(rows.length)
    const counts = new Uint32Array(this.#pieces.length)
    let first = 0
    while (first < rows.length && positionOf(batch, rows[first]!) < from) first++
    for (let i = first; i < rows.length; i++) {
      const entity = entities[i]!
      const lane = this.#laneFor(entity, batch, rows[i]!)
      lanes[i] = lane
      counts[lane]!++
      if (this.#heavy.add(entity)) this.#weigh(core)
    }
    const chosen = Array.from(counts, (count) => (count === 0 ? undefined : new Uint32Array(count)))
    counts.fill(0)
    for (let i = first; i < rows.length; i++) chosen[lanes[i]!]![counts[lanes[i]!]!++] = rows[i]!
    for (const [lane, own] of chosen.entries()) if (own) this.#pieces[lane]!.push({ batch, rows: own })
    this.#rows += rows.length - first
  }

  /** The entity's own lane, or by a hash of where the event stands one of those that it is spread over. */
  #laneFor(entity: number, batch: ColumnBatch, row: number): number {
    const lane = this.#laneOf[entity]!
    const width = this.#widthOf[entity]!
    if (width === 1) return lane
    const salt = (Math.imul(positionOf(batch, row), 0x9e3779b1) >>> 16) % width
    return (lane + salt) % this.#pieces.length
  }

  #weigh(core: Core): void {
    for (const [entity, active] of this.#heavy.endEpoch((each) => this.#widthOf[each]!)) {
      this.#wishes.set(saltKey(core.keyOf(entity)), active)
    }
  }

  #learn(core: Core): void {
    const count = core.entityCount
    if (count > this.#laneOf.length) {
      this.#laneOf = grown(this.#laneOf, count * 2)
      this.#widthOf = grown(this.#widthOf, count * 2)
    }
    for (; this.#known < count; this.#known++) {
      const key = core.keyOf(this.#known)
      this.#laneOf[this.#known] = partitionHash(key) % this.#pieces.length
      this.#widthOf[this.#known] = this.#salts.size === 0 ? 1 : (this.#salts.get(saltKey(key)) ?? 1)
    }
  }

  /** The core has forgotten its entities. */
  forget(): void {
    this.#known = 0
    this.#heavy.clear()
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

/** Of each lane, up to where it was told of the log before an offset was committed with this; undefined: it says something else. */
export function readTold(text: string, position: number): number[] | undefined {
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

function grown(cells: Uint16Array<ArrayBuffer>, length: number): Uint16Array<ArrayBuffer> {
  const more = new Uint16Array(length)
  more.set(cells)
  return more
}

function positionOf({ positions }: ColumnBatch, row: number): number {
  return typeof positions === 'number' ? positions + row : positions[row]!
}
