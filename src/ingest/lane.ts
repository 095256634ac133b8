/**
 * The owner's side of the lane protocol: how one process at a time applies a log to rows so that every event counts exactly
 * once, whatever crashes, pauses, is retried or is lost in a failover.
 *
 * A store write is atomic and carries the owner's token and the sequence it expects. A flush at position F is
 *
 *   freeze the dirty rows at F
 *      |
 *   write 1..n     rows in bounded chunks, each absolute and marked `applied = F`; the first sets flushing_to = F
 *      |
 *   last write     marker = F, and the checkpoint at F when one is due
 *      |
 *   the log may be told (a commit is a hint; the marker decides)
 *
 * so that rows may be ahead of the marker, never behind it, and never beyond flushing_to. A new owner takes the token,
 * restores the newest whole checkpoint at or before the marker, and replays the log from there. Each replayed record runs
 * the whole walk (clocks and dedupe need it); only the fold is skipped, row by row, where the header is at or past it.
 *
 * The rules, each with the share of random crash histories that end wrong when it alone is left out
 * (test/faults/protocol-model.ts tells the same of its own histories):
 *
 * - Token and sequence on every write (68 %). A paused owner that wakes up holds an old token: FENCED. A store that fell
 *   back to an earlier prefix of its writes shows a lower counter, or another sequence under our token: REGRESSED; what we
 *   hold in memory is then ahead of what is stored, and has to go. A retry after a lost reply uses the same sequence, so
 *   finding it one ahead under our own token means that the write had landed.
 * - Read before the first fold up to flushing_to (95 %). In (replay start, flushing_to] a stored row may hold the record
 *   already. Beyond it no row does, and an entity that is not resident may collect a delta without a read (`replayUntil`).
 * - flushing_to never decreases (57 %), a row's applied position neither (8 %). A replaying owner flushes at positions that
 *   its predecessor had passed; rows of the predecessor are still that far ahead.
 * - The token before the record (3 %). Read the other way round, the predecessor may write between the two.
 * - Reads under token and sequence, in one step with the rows (5 in 10,000 where zombies and failovers are common). A zombie
 *   may otherwise read a row of its successor, a failover may then lose the successor, and the zombie's token is good
 *   again: what it left out because that row had it is in no row any more.
 * - What an owner wrote it may keep, and add to without a look at the store: a write that finds its token and sequence finds the
 *   row as it was left. What is kept goes with the owner; passed on to the next one it ends wrong in 66 %.
 * - A lane that nobody had written to when we took it (its sequence is 0) has no row but those that we have written since: an
 *   entity without one needs no read, by the same token.
 * - The foreign row: one that is further than our flushing_to, or at or past the first event of the delta it is combined
 *   with, cannot be ours. REGRESSED. The second line behind the rule before, which it cannot replace: a replaying zombie
 *   may read a foreign row that is within its flushing_to.
 * - A checkpoint only at a position that the marker has reached, and none at all is not an empty one: a lane that has begun
 *   and has no whole checkpoint stops, because empty clocks and an empty dedupe set would quietly change what is counted.
 *   So that a crash in the very first flush can be survived, that flush first records an empty checkpoint at -1.
 */
import { TilefoldError } from '../model/errors.ts'
import {
  type Checkpoint,
  type LaneName,
  type LaneRecord,
  type LaneWrite,
  SEGMENT_BYTES_MAX,
  type Store,
  type StoredRow,
  type WriteOutcome,
} from '../store/port.ts'
import { appliedOf, describeLane, judgeRead, segmentHash, writtenRecord } from '../store/rules.ts'
import { bytesOf, chunksOfPacked, type LaneRows } from './lane-rows.ts'
import { FlushLedger, type LedgerOptions } from './ledger.ts'

export interface LaneOwnerOptions {
  readonly store: Store
  readonly lane: LaneName
  /** Never used before: tells this taking of the lane from every other one. */
  readonly nonce: string
  /** The highest layout version known; recorded with the next write, only upwards. */
  readonly layoutVersion: number
  /** Waits before a write whose fate is unknown is tried again; then the owner gives up. */
  readonly retryDelaysMs?: readonly number[]
  /** Keep a record of when positions became readable. */
  readonly ledger?: LedgerOptions
}

const RETRY_DELAYS_MS = [20, 100, 500]

export type RowSink = (index: number, bytes: Uint8Array | undefined) => void

/** Keys of rows, what takes them, and per key the position of the first event of the delta that the row will be added to. */
export interface RowsToRead {
  readonly keys: readonly Uint8Array[]
  /** Called once per key, in order, and again from the first where a read had to be repeated; the bytes are good until it returns. */
  readonly sink: RowSink
  /** Infinity: none. */
  readonly deltaStarts?: ArrayLike<number> | undefined
}

/**
 * One taking of one lane. Any error of a write ends it (`lost`): its memory can no longer be trusted to match the store, and
 * every later call throws the same. Drop the lane's rows and acquire it again.
 */
export class LaneOwner {
  readonly lane: LaneName
  /** Where the replay starts: undefined = at the log's beginning, with nothing restored. */
  readonly checkpoint: Checkpoint | undefined
  /** flushing_to as found: up to and including it, read a row before its first fold. */
  readonly replayUntil: number
  /** Nobody had written to the lane before: what we have not written is not there. */
  readonly beganEmpty: boolean
  readonly #store: Store
  #layoutVersion: number
  readonly #retryDelaysMs: readonly number[]
  #record: LaneRecord
  #hasCheckpoint: boolean
  #flushing: number | undefined
  #ledger: FlushLedger | undefined
  /** Requests to forget that the flush under way, or the next one, carries out. */
  #erased = 0
  #lost: TilefoldError | undefined
  #last: Promise<unknown> = Promise.resolve()

  /**
   * Takes the lane from whoever holds it. Throws CHECKPOINT_MISSING for a lane that has begun and has no whole checkpoint at or
   * before its marker.
   */
  static async acquire(options: LaneOwnerOptions): Promise<LaneOwner> {
    const record = await options.store.takeLane(options.lane, options.nonce)
    const found = await options.store.readCheckpoint(options.lane, record.marker)
    const owner = new LaneOwner(options, record, found)
    if (found === undefined && (record.marker >= 0 || record.flushingTo >= 0)) {
      // Whoever took the lane from us since may have dropped the checkpoints that we could start from.
      await owner.check()
      throw new TilefoldError(
        'CHECKPOINT_MISSING',
        `cannot start lane ${describeLane(options.lane)}: no whole checkpoint at or before its marker ${record.marker}; rebuild it from its log`,
        { marker: record.marker, flushingTo: record.flushingTo },
      )
    }
    if (options.ledger) {
      const stored = await options.store.readLedger(options.lane)
      owner.#ledger = new FlushLedger(options.ledger, stored, record.flushingTo)
      owner.#ledger.visible(record.marker)
    }
    return owner
  }

  private constructor(options: LaneOwnerOptions, record: LaneRecord, found: Checkpoint | undefined) {
    this.lane = options.lane
    this.#store = options.store
    this.#layoutVersion = options.layoutVersion
    this.#retryDelaysMs = options.retryDelaysMs ?? RETRY_DELAYS_MS
    this.#record = record
    this.#hasCheckpoint = found !== undefined
    const isEmpty = found !== undefined && found.position < 0 && found.segments.length === 0
    this.checkpoint = isEmpty ? undefined : found
    this.replayUntil = record.flushingTo
    this.beganEmpty = record.sequence === 0
  }

  /** The lane record as our last write left it. */
  get record(): LaneRecord {
    return this.#record
  }

  /** Why the lane is no longer ours. */
  get lost(): TilefoldError | undefined {
    return this.#lost
  }

  /** Begins a flush of everything up to `position`. The new flushing_to travels with the flush's first write. */
  beginFlush(position: number): void {
    this.#checkHeld()
    this.#check(this.#flushing === undefined, `a flush at ${this.#flushing} is under way`)
    this.#check(position >= -1, `got position ${position}, expected -1 or more`)
    this.#flushing = position
  }

  /**
   * Writes rows of the flush under way, in chunks of the store's size; their bytes must stay as they are until the promise
   * resolves. `next`: rows to be read on the way, before the first write, so that a trip is saved; not rows of this call.
   * Throws FENCED, REGRESSED, STORE_UNAVAILABLE.
   */
  writeRows(rows: LaneRows, next?: RowsToRead): Promise<void> {
    return this.#inTurn(async () => {
      const ahead = next && this.#tryRead(next).catch(asError)
      for (const chunk of this.#chunksOf(rows)) await this.#write({ rows: chunk })
      const outcome = await ahead
      if (outcome instanceof Error && !isUncertain(outcome)) throw outcome
      // Tried again by the store, the read may have come behind the writes and found another sequence.
      if (next && outcome !== 'ok') await this.#read(next)
    })
  }

  /**
   * Ends the flush under way: with `rows`, every event up to `position` is in the store. `hash` is the source's hash of the
   * record there. With `segments`, the checkpoint at `position` lands in the same write. Throws as `writeRows` does.
   */
  endFlush(position: number, hash: string, segments?: readonly Uint8Array[], rows: LaneRows = []): Promise<void> {
    return this.#inTurn(async () => {
      this.#check(position === this.#flushingAt(), `the flush under way is at ${this.#flushing}, got ${position}`)
      const chunks = this.#chunksOf(rows)
      // What is small enough travels with the marker: a flush of few rows is one write.
      const last = chunks.pop()
      for (const chunk of chunks) await this.#write({ rows: chunk })
      const checkpoint = segments === undefined ? {} : await this.#writeSegments(position, segments)
      const bytes = bytesOf(last ?? []) + lengthOf(checkpoint.segments ?? [])
      // The lane's very first write is not its last: the empty checkpoint stays behind the one of this flush.
      const fits = bytes <= this.#store.writeBytesMax && this.#hasCheckpoint
      if (last && !fits) await this.#write({ rows: last })
      const erased = this.#erased > (this.#record.erased ?? 0) ? { erased: this.#erased } : {}
      await this.#write({
        ...(last && fits ? { rows: last } : {}),
        marker: { position, hash },
        ...checkpoint,
        ...erased,
      })
      this.#flushing = undefined
      this.#ledger?.visible(position)
    })
  }

  /** A higher layout is known: recorded with the next write. */
  raiseLayout(version: number): void {
    this.#layoutVersion = Math.max(this.#layoutVersion, version)
  }

  /** The next flush to end carries out the requests to forget up to number `last`. */
  noteErased(last: number): void {
    this.#erased = last
  }

  /** Writes a checkpoint at a position that the marker has reached, outside of a flush. Throws as `writeRows` does. */
  writeCheckpoint(position: number, segments: readonly Uint8Array[]): Promise<void> {
    return this.#inTurn(async () => {
      this.#check(
        position <= this.#record.marker,
        `a checkpoint at ${position} is past the marker ${this.#record.marker}`,
      )
      await this.#write(await this.#writeSegments(position, segments))
    })
  }

  /**
   * Reads rows of the lane: `sink` is called once per key, in order; the bytes are good until it returns. `deltaStarts` gives,
   * per key, the position of the first event of the delta that the row will be combined with (Infinity: none). Throws
   * FENCED, REGRESSED; the sink may then have been called for the keys before.
   */
  readRows(keys: readonly Uint8Array[], sink: RowSink, deltaStarts?: ArrayLike<number>): Promise<void> {
    return this.#inTurn(() => this.#read({ keys, sink, deltaStarts }))
  }

  /** The idle check: is the lane still ours, and as we left it? Brings the ledger up to date. Throws FENCED, REGRESSED. */
  check(): Promise<void> {
    return this.#inTurn(async () => {
      const { token, sequence } = this.#record
      const outcome = judgeRead(await this.#store.readLane(this.lane), token, sequence)
      if (outcome !== 'ok') throw outcome === 'fenced' ? this.#fenced() : this.#regressed()
      // No flush has come since to take it along.
      const ledger = this.#ledger?.take(true)
      if (ledger) await this.#write({ ledger })
    })
  }

  async #read(rows: RowsToRead): Promise<void> {
    const outcome = await this.#tryRead(rows)
    if (outcome !== 'ok') throw outcome === 'fenced' ? this.#fenced() : this.#regressed()
  }

  #tryRead({ keys, sink, deltaStarts }: RowsToRead): Promise<WriteOutcome> {
    const { token, sequence, flushingTo } = this.#record
    return this.#store.readOwnRows(this.lane, token, sequence, keys, (index, bytes) => {
      const limit = Math.min(flushingTo + 1, deltaStarts?.[index] ?? Number.POSITIVE_INFINITY)
      const applied = bytes === undefined ? -1 : appliedOf(bytes)
      if (applied >= limit) throw this.#foreign(applied, limit)
      sink(index, bytes)
    })
  }

  /** In pieces of the store's size. */
  #chunksOf(rows: LaneRows): LaneRows[] {
    // Replaying, a row may rightly be further than the flush: its owner before us had come as far as flushing_to.
    const limit = Math.max(this.#flushingAt(), this.#record.flushingTo)
    const check = (applied: number) =>
      this.#check(applied <= limit, `a row has applied ${applied}, expected at most ${limit}`)
    const { writeBytesMax } = this.#store
    if ('bounds' in rows) return chunksOfPacked(rows, writeBytesMax, check)
    const chunks: StoredRow[][] = []
    let bytes = Number.POSITIVE_INFINITY
    for (const row of rows) {
      check(appliedOf(row.bytes))
      if (bytes >= writeBytesMax) {
        chunks.push([])
        bytes = 0
      }
      chunks.at(-1)!.push(row)
      bytes += bytesOf([row])
    }
    return chunks
  }

  /** Sends the segments in writes of the store's size; returns what makes them the checkpoint, for the write that ends it. */
  async #writeSegments(position: number, segments: readonly Uint8Array[]): Promise<LaneWrite> {
    let waiting: Uint8Array[] = []
    let waitingBytes = 0
    for (const [i, segment] of segments.entries()) {
      this.#check(
        segment.length <= SEGMENT_BYTES_MAX,
        `segment ${i} has ${segment.length} bytes, expected at most ${SEGMENT_BYTES_MAX}`,
      )
      if (waitingBytes + segment.length > this.#store.writeBytesMax && waiting.length > 0) {
        await this.#write({ segments: waiting })
        waiting = []
        waitingBytes = 0
      }
      waiting.push(segment)
      waitingBytes += segment.length
    }
    return { segments: waiting, checkpoint: { position, segments: segments.map(segmentHash) } }
  }

  /** One atomic write under token and sequence, with what travels along; tried again, the same, while its fate is unknown. */
  async #write(change: LaneWrite): Promise<void> {
    this.#checkHeld()
    const flushingTo = Math.max(this.#flushing ?? -1, this.#record.flushingTo)
    // The empty checkpoint a lane starts from: without it a crash in the first flush would leave a lane that can't start.
    const first = this.#hasCheckpoint ? {} : { checkpoint: { position: -1, segments: [] } }
    const ledger = change.ledger ?? this.#ledger?.take()
    const whole: LaneWrite = {
      ...first,
      ...change,
      flushingTo,
      layoutVersion: this.#layoutVersion,
      ...(ledger && { ledger }),
    }
    const outcome = await this.#tryWrite(whole)
    if (outcome === 'fenced') throw this.#fenced()
    if (outcome === 'regressed') throw this.#regressed()
    this.#hasCheckpoint = true
    this.#record = writtenRecord(this.#record, whole)
  }

  async #tryWrite(change: LaneWrite) {
    const { token, sequence } = this.#record
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#store.write(this.lane, token, sequence, change)
      } catch (error) {
        const delayMs = this.#retryDelaysMs[attempt]
        if (!isUncertain(error) || delayMs === undefined) {
          this.#lost = error instanceof TilefoldError ? error : undefined
          this.#lost ??= new TilefoldError(
            'STORE_UNAVAILABLE',
            `cannot write lane ${describeLane(this.lane)}: ${error}`,
          )
          throw this.#lost
        }
        if (delayMs > 0) await new Promise((wake) => setTimeout(wake, delayMs))
      }
    }
  }

  /** Calls run one after the other: two writes with one sequence would each take the other for a retry of itself. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(() => {
      this.#checkHeld()
      return work()
    })
    this.#last = turn.catch(() => {})
    return turn
  }

  #flushingAt(): number {
    this.#check(this.#flushing !== undefined, 'no flush is under way')
    return this.#flushing!
  }

  #checkHeld(): void {
    if (this.#lost !== undefined) throw this.#lost
  }

  /** A broken promise of the caller: going on would write a row or a checkpoint that the rules forbid. */
  #check(holds: boolean, what: string): void {
    if (!holds) throw new TilefoldError('CORE_TRAP', `cannot write lane ${describeLane(this.lane)}: ${what}`)
  }

  #fenced(): TilefoldError {
    return this.#lose('FENCED', `cannot use lane ${describeLane(this.lane)}: another owner has taken it`)
  }

  #regressed(): TilefoldError {
    const { token, sequence } = this.#record
    return this.#lose(
      'REGRESSED',
      `cannot use lane ${describeLane(this.lane)}: the store went back in time; expected token ${token.counter} and sequence ${sequence}`,
    )
  }

  #foreign(applied: number, limit: number): TilefoldError {
    return this.#lose(
      'REGRESSED',
      `cannot use a row of lane ${describeLane(this.lane)}: an owner that is gone wrote it; got applied ${applied}, expected less than ${limit}`,
    )
  }

  #lose(code: 'FENCED' | 'REGRESSED', message: string): TilefoldError {
    this.#lost = new TilefoldError(code, message)
    return this.#lost
  }
}

/** Nobody knows whether it happened. */
function isUncertain(error: unknown): boolean {
  return error instanceof TilefoldError && error.code === 'STORE_UNAVAILABLE'
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}

function lengthOf(segments: readonly Uint8Array[]): number {
  return segments.reduce((sum, { length }) => sum + length, 0)
}
