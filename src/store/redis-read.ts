/**
 * Rows for requests: one trip for any number of lanes. A single server takes keys of any lanes in one command, a Cluster those of
 * one slot, a lane's; each node gets its commands in one go. Rows are handed on as each command is answered: a node that is late
 * keeps nobody else's.
 */
import type { ReadOptions, RowRead, RowSink } from './port.ts'
import { ReadGate } from './read-gate.ts'
import { ReadTurn } from './read-turn.ts'
import type { RedisCalls } from './redis-call.ts'
import { unavailable } from './redis-error.ts'
import { type RedisLaneKeys, type RedisNames, rowKey } from './redis-key.ts'
import type { TakeRow } from './redis-rows.ts'

/** Rows per command of a read, some 260 KB: other clients get a turn in between. */
export const READ_KEYS_MAX = 128

/** An MGET as it goes over the wire. */
interface ReadBatch {
  readonly bytes: Buffer
  /** Which of the reads it starts with, where it has the next ones. */
  readonly first: number
  readonly count: number
  /** Which reads they are, where they are not the next ones. */
  readonly indexes?: readonly number[]
  /** The lane they are all of. */
  readonly lane?: RedisLaneKeys
}

export class RedisReads {
  readonly #calls: RedisCalls
  readonly #names: RedisNames
  readonly #turn = new ReadTurn((reads, sink, options) => this.#readNow(reads, sink, options))
  /** Of the server; in a Cluster of each lane, as a lane is on one node. */
  readonly #gates = new WeakMap<object, ReadGate>()

  constructor(calls: RedisCalls, names: RedisNames) {
    this.#calls = calls
    this.#names = names
  }

  /** As `Store.readRows`. */
  read(reads: readonly RowRead[], sink: RowSink, options?: ReadOptions): Promise<void> {
    return this.#turn.read(reads, sink, options)
  }

  async #readNow(reads: readonly RowRead[], sink: RowSink, options: ReadOptions): Promise<void> {
    if (!this.#calls.connection.isCluster) {
      return this.#readFrom(this, batchesInOrder(this.#names, reads), reads, sink, options)
    }
    const lanes = batchesByLane(this.#names, reads)
    await Promise.all([...lanes].map(([lane, batches]) => this.#readFrom(lane, batches, reads, sink, options)))
  }

  /** What one server has of it. */
  async #readFrom(
    place: object,
    batches: readonly ReadBatch[],
    reads: readonly RowRead[],
    sink: RowSink,
    options: ReadOptions,
  ): Promise<void> {
    const gate = this.#gates.get(place) ?? new ReadGate()
    this.#gates.set(place, gate)
    if (!gate.enter(performance.now())) {
      const { where } = this.#calls.connection
      const cause = unavailable('read rows', where, 'the server has been silent, and others wait for it already')
      for (const batch of batches) tellMissing(batch, 0, cause, options)
      return
    }
    let answered = 0
    try {
      await Promise.all(
        batches.map(async (batch) => {
          if (await this.#readBatch(reads, batch, sink, options)) answered++
        }),
      )
    } finally {
      gate.leave(answered > 0, performance.now())
    }
  }

  /** False where it failed and that was told. */
  async #readBatch(reads: readonly RowRead[], batch: ReadBatch, sink: RowSink, options: ReadOptions): Promise<boolean> {
    let [handed, hasEnded] = [0, false]
    let failure: unknown
    // Rows come as they are there: an attempt may end within, and the next one goes on behind the last row that was handed on.
    const take = (i: number, row: Uint8Array | undefined): void => {
      if (i !== handed || hasEnded || failure !== undefined) return
      handed++
      try {
        sink(indexIn(batch, i), row)
      } catch (cause) {
        failure = cause
      }
    }
    try {
      await this.#calls.attempt('read rows', () => this.#send(reads, batch, take), options.deadlineMs)
    } catch (cause) {
      hasEnded = true
      tellMissing(batch, handed, cause, options)
      return false
    }
    if (failure !== undefined) throw failure
    return true
  }

  #send(reads: readonly RowRead[], batch: ReadBatch, take: TakeRow): Promise<void> {
    const { rows } = this.#calls.connection
    return rows === undefined ? this.#sendAll(reads, batch, take) : rows.ask(batch.bytes, batch.count, take)
  }

  async #sendAll(reads: readonly RowRead[], batch: ReadBatch, take: TakeRow): Promise<void> {
    const rows = await this.#command(reads, batch)
    for (let i = 0; i < batch.count; i++) take(i, rows[i] ?? undefined)
  }

  /** Rows of one slot in a Cluster. While that slot moves, some are here and some are there: then one by one. */
  async #command(reads: readonly RowRead[], { bytes, lane, indexes }: ReadBatch): Promise<(Buffer | null)[]> {
    const { connection } = this.#calls
    try {
      return (await connection.sendWritten('mget', lane === undefined ? [] : [lane.record], bytes)) as (Buffer | null)[]
    } catch (error) {
      if (indexes === undefined || !/TRYAGAIN/.test((error as Error).message)) throw error
      const keys = indexes.map((i) => rowKey(this.#names.of(reads[i]!.lane), reads[i]!.key))
      return Promise.all(keys.map((key) => connection.send('GET', [key]) as Promise<Buffer | null>))
    }
  }
}

/** Which of the reads row `i` of the batch is. */
function indexIn({ first, indexes }: ReadBatch, i: number): number {
  return indexes === undefined ? first + i : indexes[i]!
}

/** Of rows from `from` on. */
function tellMissing(batch: ReadBatch, from: number, cause: unknown, { onMissing }: ReadOptions): void {
  if (onMissing === undefined) throw cause
  for (let i = from; i < batch.count; i++) onMissing(indexIn(batch, i), cause)
}

function batchesInOrder(names: RedisNames, reads: readonly RowRead[]): ReadBatch[] {
  const batches: ReadBatch[] = []
  for (let first = 0; first < reads.length; first += READ_KEYS_MAX) {
    const count = Math.min(reads.length - first, READ_KEYS_MAX)
    const writer = new KeyWriter(count)
    for (let i = first; i < first + count; i++) writer.append(names.of(reads[i]!.lane), reads[i]!.key)
    batches.push({ bytes: writer.bytes, first, count })
  }
  return batches
}

function batchesByLane(names: RedisNames, reads: readonly RowRead[]): Map<RedisLaneKeys, ReadBatch[]> {
  const indexesOf = new Map<RedisLaneKeys, number[]>()
  for (let i = 0; i < reads.length; i++) {
    const lane = names.of(reads[i]!.lane)
    const indexes = indexesOf.get(lane)
    if (indexes === undefined) indexesOf.set(lane, [i])
    else indexes.push(i)
  }
  const batchesOf = new Map<RedisLaneKeys, ReadBatch[]>()
  for (const [lane, all] of indexesOf) {
    const batches: ReadBatch[] = []
    for (let first = 0; first < all.length; first += READ_KEYS_MAX) {
      const indexes = all.slice(first, first + READ_KEYS_MAX)
      const writer = new KeyWriter(indexes.length)
      for (const i of indexes) writer.append(lane, reads[i]!.key)
      batches.push({ bytes: writer.bytes, first: 0, count: indexes.length, indexes, lane })
    }
    batchesOf.set(lane, batches)
  }
  return batchesOf
}

/** `MGET` of so many keys; the keys follow by `append`. */
class KeyWriter {
  #bytes: Buffer
  #length: number

  constructor(keys: number) {
    this.#bytes = Buffer.allocUnsafe(64 + 128 * keys)
    this.#length = this.#bytes.write(`*${keys + 1}\r\n$4\r\nMGET\r\n`, 'latin1')
  }

  append(lane: RedisLaneKeys, entity: Uint8Array): void {
    const head = headOf(lane, entity.length)
    const end = this.#length + head.length + entity.length + 2
    if (end > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(2 * end)
      larger.set(this.#bytes.subarray(0, this.#length))
      this.#bytes = larger
    }
    this.#bytes.set(head, this.#length)
    this.#bytes.set(entity, this.#length + head.length)
    this.#bytes[end - 2] = 13
    this.#bytes[end - 1] = 10
    this.#length = end
  }

  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length)
  }
}

/** What stands before an entity's bytes in a request: the key's length and its beginning. */
function headOf(lane: RedisLaneKeys, entityBytes: number): Buffer {
  let head = lane.heads[entityBytes]
  if (head === undefined) {
    head = Buffer.concat([Buffer.from(`$${lane.rows.length + entityBytes}\r\n`), lane.rows])
    lane.heads[entityBytes] = head
  }
  return head
}
