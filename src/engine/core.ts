/**
 * One core instance that folds: one view, one input log, the lanes of one shard. Synchronous; whoever owns it calls one
 * method at a time. After an error with code CORE_TRAP or CORE_MEMORY it is dead: drop it and restart its lanes.
 */
import {
  VERDICT_APPLIED,
  VERDICT_DUPLICATE,
  VERDICT_ELSEWHERE,
  VERDICT_EXPIRED,
  VERDICT_FILTERED,
  VERDICT_LATE,
  VERDICT_REDELIVERED,
  VERDICT_REJECTED_FUTURE,
  VERDICT_REJECTED_KEY,
  VERDICT_REJECTED_TIME,
  VERDICTS,
} from '../../assembly/layout.ts'
import type { ColumnBatch } from '../model/columns.ts'
import type { Counters } from '../model/counters.ts'
import type { TakenTimes } from '../model/covers.ts'
import { TilefoldError } from '../model/errors.ts'
import type { PackedRows } from '../model/packed-rows.ts'
import type { StatePlan } from '../model/plan.ts'
import { columnsFor, writeBatch } from './batch.ts'
import { splitNote, withNote } from './checkpoint-note.ts'
import { copyNewRows, copyRows, type DirtyChunk, type RowPad } from './flush-rows.ts'
import { type CoreExports, type CoreModule, trapError } from './module.ts'
import { rangeCells, type Shares, stateProgram } from './program.ts'

/** Where a checkpoint has the late clock (assembly/index.ts, `writeCheckpoint`). */
const CHECKPOINT_LATE_CLOCK_AT = 8

/** So much is asked for at once, and no more. */
const EXPECTED_BYTES_MAX = 512 << 20

export class Core {
  readonly state: StatePlan
  readonly #module: CoreModule
  readonly #program: Uint8Array
  readonly #takes: Shares['takes']
  readonly #isJudged: boolean
  #layoutVersion = 0
  /** Of an internal topic: what its checkpoints carry along for the host. */
  note = ''
  readonly #deltaBytes: number
  #exports: CoreExports
  readonly #notAfterMs: number
  #accepted = 0
  #isClean = true
  /** Were there entities that this core knows no more? Then it cannot tell what was written. */
  #hasForgotten = false
  #freshBytes: number

  constructor(module: CoreModule, state: StatePlan, shares: Shares, notAfterMs: number) {
    this.state = state
    this.#module = module
    this.#program = stateProgram(state, shares)
    this.#takes = shares.takes
    this.#isJudged = shares.isJudged ?? false
    this.#deltaBytes = Math.min(shares.deltaBytes ?? 0, EXPECTED_BYTES_MAX)
    this.#notAfterMs = notAfterMs
    this.#exports = module.instantiate()
    this.#configure()
    this.#freshBytes = this.memoryBytes
  }

  #configure(): void {
    this.#run('configure the core', (core) => {
      const at = core.reserveInput(this.#program.length, 0) >>> 0
      new Uint8Array(core.memory.buffer).set(this.#program, at)
      core.configure(at)
      if (this.#takes) this.#takeTimes(core, this.#takes)
      if (this.#isJudged) core.takeJudgedRows()
      core.raiseLayout(this.#layoutVersion)
      core.expectDelta(this.#deltaBytes)
    })
  }

  #takeTimes(core: CoreExports, takes: TakenTimes): void {
    const cells = rangeCells(takes)
    const at = core.reserveInput(cells.length, 0) >>> 0
    new Uint8Array(core.memory.buffer).set(cells, at)
    core.takeTimes(at, takes.ranges.length, takes.inside ? 1 : 0)
  }

  #run<T>(doing: string, body: (core: CoreExports) => T): T {
    try {
      return body(this.#exports)
    } catch (cause) {
      throw trapError(this.#exports, doing, cause)
    }
  }

  // ---- events ------------------------------------------------------------------------------------------------------

  /** Judges a batch and interns its entities; returns how many rows were accepted. `fold` comes next. */
  prepare(batch: ColumnBatch): number {
    const columns = columnsFor(this.state.inputs, batch)
    return this.#run('read a batch', (core) => {
      const written = writeBatch(core, columns, batch)
      const first = typeof batch.positions === 'number' ? batch.positions : 0
      this.#accepted = core.prepareBatch(
        written.columns,
        batch.length,
        first,
        written.positions,
        written.recordTimes,
        this.#notAfterMs,
      )
      return this.#accepted
    })
  }

  /** Behind `prepare`: the clock of a log that is judged elsewhere, and the position of its last record, be it without rows. */
  judged(clockMs: number, position: number): void {
    this.#exports.judged(clockMs, position)
  }

  /** Rows written from now on are not found whole with an older layout. */
  raiseLayout(version: number): void {
    this.#layoutVersion = Math.max(this.#layoutVersion, version)
    this.#exports.raiseLayout(this.#layoutVersion)
  }

  /** The prepared batch's accepted rows, and their entities; good until the next call. */
  accepted(): { readonly rows: Uint32Array; readonly entities: Uint32Array } {
    const { buffer } = this.#exports.memory
    const rows = new Uint32Array(buffer, this.#exports.acceptedRows() >>> 0, this.#accepted)
    return { rows, entities: new Uint32Array(buffer, this.#exports.acceptedEntities() >>> 0, this.#accepted) }
  }

  /** Folds the prepared batch. `wallMs` holds back the head's frontier; Infinity for history. */
  fold(wallMs: number, replaying: boolean): void {
    const wall = Number.isFinite(wallMs) ? wallMs : Number.MAX_SAFE_INTEGER
    this.#isClean = false
    this.#run('fold a batch', (core) => core.foldBatch(wall, replaying ? 1 : 0))
  }

  /** Verdict of each row of the last prepared batch (layout.ts VERDICT_); a copy. */
  verdicts(length: number): Uint8Array {
    const at = this.#exports.verdicts() >>> 0
    return new Uint8Array(this.#exports.memory.buffer).slice(at, at + length)
  }

  counters(): Counters {
    const at = this.#exports.counterTable()
    const cells = new BigUint64Array(this.#exports.memory.buffer.slice(at, at + VERDICTS * 8))
    const of = (verdict: number) => Number(cells[verdict])
    const expired = of(VERDICT_EXPIRED)
    const rejectedKey = of(VERDICT_REJECTED_KEY)
    const rejectedTime = of(VERDICT_REJECTED_TIME)
    const rejectedFuture = of(VERDICT_REJECTED_FUTURE)
    const rejected = rejectedKey + rejectedTime + rejectedFuture
    const elsewhere = of(VERDICT_ELSEWHERE)
    const late = of(VERDICT_LATE) + expired + elsewhere
    const applied = of(VERDICT_APPLIED)
    const duplicate = of(VERDICT_DUPLICATE)
    const filtered = of(VERDICT_FILTERED)
    return {
      // Every row has one verdict, and `accept` counts each; the sum is what was consumed.
      consumed: applied + duplicate + late + filtered + rejected,
      applied,
      duplicate,
      late,
      expired,
      elsewhere,
      filtered,
      rejected,
      rejectedKey,
      rejectedTime,
      rejectedFuture,
      redelivered: of(VERDICT_REDELIVERED),
    }
  }

  // ---- clocks ------------------------------------------------------------------------------------------------------

  /** Last position of the log that was judged; -1 before the first. */
  get position(): number {
    return this.#exports.position()
  }

  get watermarkMs(): number {
    return this.#exports.watermark()
  }

  get headFrontierMs(): number {
    return this.#exports.headFrontier()
  }

  get lateClockMs(): number {
    return this.#exports.lateClock()
  }

  /** Moves the watermark up by hand: an idle log, or the end of history. */
  advance(ms: number, wallMs: number): void {
    this.#exports.advance(ms, Number.isFinite(wallMs) ? wallMs : Number.MAX_SAFE_INTEGER)
  }

  /** A log whose first record is at `position`. `lateClockMs`: as what lies before it, and is not read, has left it. */
  startAt(position: number, lateClockMs = -1): void {
    this.#exports.startAt(position)
    if (lateClockMs < 0) return
    const checkpoint = this.writeCheckpoint()
    new DataView(checkpoint.buffer).setBigInt64(CHECKPOINT_LATE_CLOCK_AT, BigInt(lateClockMs), true)
    this.readCheckpoint(checkpoint)
  }

  // ---- entities ----------------------------------------------------------------------------------------------------

  get entityCount(): number {
    return this.#exports.entityCount()
  }

  /** The entity's lane; undefined when another shard folds it. */
  laneOf(entity: number): number | undefined {
    const lane = this.#exports.entityLane(entity) >>> 0
    return lane === 0xffff_ffff ? undefined : lane
  }

  /** The entity's canonical key; a copy. */
  keyOf(entity: number): Uint8Array {
    const record = this.#exports.entityKey(entity) >>> 0
    const length = new DataView(this.#exports.memory.buffer).getUint32(record, true)
    return new Uint8Array(this.#exports.memory.buffer).slice(record + 8, record + 8 + length)
  }

  /** The position that the entity's stored row holds: a replay skips its events up to there. */
  setApplied(entity: number, position: number): void {
    this.#exports.setEntityApplied(entity, position)
  }

  /** Events of the entity from before `ms` are filtered from now on; returns its number. See assembly/forget.ts. */
  forgetBefore(key: Uint8Array, ms: number): number {
    return this.#run('forget an entity', (core) => {
      const at = core.reserveInput(key.length, 0) >>> 0
      new Uint8Array(core.memory.buffer).set(key, at)
      const entity = core.internKey(at, key.length) >>> 0
      core.forgetBefore(entity, ms)
      return entity
    })
  }

  /** Drops the entity's delta and lets its next row go out empty. False where there is neither a delta nor a stored row. */
  erase(entity: number, hasRow: boolean): boolean {
    this.#isClean = false
    return this.#run('erase an entity', (core) => core.eraseEntity(entity, hasRow ? 1 : 0) !== 0)
  }

  /** Drops all interned keys, and with them what was forgotten; only between flushes. */
  forgetEntities(): void {
    this.#hasForgotten = true
    this.#run('forget entities', (core) => core.forgetEntities())
  }

  // ---- flush -------------------------------------------------------------------------------------------------------

  /** Bytes that wait for a flush. */
  get deltaBytes(): number {
    return this.#exports.deltaBytes() >>> 0
  }

  /** All memory the instance has handed out: it grows with the entities met, and `renew` alone gives it back. */
  get memoryBytes(): number {
    return this.#exports.memoryBytes() >>> 0
  }

  /** Orders what waits; chunks of at most `chunkEntities` entities of one lane each. */
  beginFlush(chunkEntities: number): DirtyChunk[] {
    return this.#run('order the delta', (core) => {
      const count = core.beginFlush()
      const chunks: DirtyChunk[] = []
      for (let start = 0; start < count; start = chunks.at(-1)!.end) {
        chunks.push({ lane: core.dirtyLane(start), start, end: core.chunkEnd(start, chunkEntities) })
      }
      return chunks
    })
  }

  /** Numbers of a chunk's entities, in its order. */
  entitiesOf(chunk: DirtyChunk): number[] {
    const entities: number[] = []
    for (let place = chunk.start; place < chunk.end; place++) entities.push(this.#exports.dirtyEntity(place) >>> 0)
    return entities
  }

  /** Their keys. */
  keysOf(chunk: DirtyChunk): Uint8Array[] {
    const memory = new Uint8Array(this.#exports.memory.buffer)
    const lengths = new DataView(this.#exports.memory.buffer)
    const records = new Uint32Array(chunk.end - chunk.start)
    let bytes = 0
    for (let i = 0; i < records.length; i++) {
      records[i] = this.#exports.entityKey(this.#exports.dirtyEntity(chunk.start + i))
      bytes += lengths.getUint32(records[i]!, true)
    }
    // One buffer for all of them: a buffer each costs more than the keys.
    const all = new Uint8Array(bytes)
    const keys: Uint8Array[] = new Array(records.length)
    for (let i = 0, at = 0; i < records.length; i++) {
      const from = records[i]! + 8
      const length = lengths.getUint32(records[i]!, true)
      const key = all.subarray(at, at + length)
      for (let j = 0; j < length; j++) key[j] = memory[from + j]!
      keys[i] = key
      at += length
    }
    return keys
  }

  /** Has no row of the entity been written, or read in a replay, by this core? */
  isUnwritten(entity: number): boolean {
    return !this.#hasForgotten && this.#exports.entityApplied(entity) < 0
  }

  /** The same for all entities of a chunk. */
  areUnwritten(chunk: DirtyChunk): boolean {
    return !this.#hasForgotten && this.#exports.chunkIsNew(chunk.start, chunk.end) !== 0
  }

  /** Position of the first event of each entity's delta, in the chunk's order. */
  firstPositionsOf(chunk: DirtyChunk): Float64Array {
    const positions = new Float64Array(chunk.end - chunk.start)
    for (let place = chunk.start; place < chunk.end; place++) {
      positions[place - chunk.start] = this.#exports.dirtyFirstPosition(place)
    }
    return positions
  }

  /**
   * The chunk's new rows at `position`; `stored` holds the rows that the store has, in the chunk's order. Rows are copies, in memory of
   * their own or in `pad`, where they are good until it is used again. Throws ROW_CORRUPT, REGRESSED.
   */
  writeRows(
    chunk: DirtyChunk,
    stored: readonly (Uint8Array | undefined)[],
    position: number,
    pad: RowPad = { memory: new Uint8Array(0) },
  ): Uint8Array[] {
    return this.#run('write rows', (core) =>
      copyRows(core, chunk, stored, position, pad, (entity) => this.keyOf(entity)),
    )
  }

  /** Those of a chunk whose entities have none in the store; their bytes are in `pad`, where they are good until it is used again. */
  writeNewRows(chunk: DirtyChunk, position: number, pad: RowPad): PackedRows {
    return this.#run('write rows', (core) => copyNewRows(core, chunk, position, pad))
  }

  /** Everything flushed is stored: empties the delta. */
  endFlush(): void {
    this.#exports.endFlush()
    this.#isClean = true
  }

  /** How much of it `renew` would give back, as far as is known: what came since the last time. */
  get spareBytes(): number {
    return this.memoryBytes - this.#freshBytes
  }

  /**
   * Gives memory back: a new instance goes on from the clocks, counters and dedupe ids of this one. Every entity is unknown to
   * it. False with a delta, which is only emptied by a flush.
   */
  renew(): boolean {
    if (!this.#isClean) return false
    const checkpoint = this.writeCheckpoint()
    this.#hasForgotten = true
    this.#exports = this.#module.instantiate()
    this.#configure()
    this.readCheckpoint(checkpoint)
    this.#freshBytes = this.memoryBytes
    return true
  }

  // ---- checkpoints -------------------------------------------------------------------------------------------------

  /** Clocks, counters and dedupe ids as of the last judged position. */
  writeCheckpoint(): Uint8Array {
    return this.#run('write a checkpoint', (core) => {
      const bytes = core.writeCheckpoint()
      const at = core.outputAddress() >>> 0
      const checkpoint = new Uint8Array(core.memory.buffer).slice(at, at + bytes)
      return this.#isJudged ? withNote(checkpoint, this.note) : checkpoint
    })
  }

  /** Takes up a checkpoint. Throws CHECKPOINT_MISSING when its bytes do not hold together. */
  readCheckpoint(checkpoint: Uint8Array): void {
    let bytes = checkpoint
    if (this.#isJudged) {
      const split = splitNote(checkpoint)
      bytes = split.bytes
      this.note = split.note
    }
    const error = this.#run('read a checkpoint', (core) => {
      const at = core.reserveInput(bytes.length, 0) >>> 0
      new Uint8Array(core.memory.buffer).set(bytes, at)
      return core.readCheckpoint(at, bytes.length)
    })
    if (error !== 0) {
      throw new TilefoldError('CHECKPOINT_MISSING', `cannot resume: the checkpoint of ${bytes.length} bytes is damaged`)
    }
  }
}
