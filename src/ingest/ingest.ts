/**
 * THE EVENT WALK: one view, one input log, the lanes of one shard.
 *
 *   step                 exit on failure             file
 *   1 source.read()      SOURCE_CORRUPT              source/parquet.ts, ndjson.ts, rows.ts
 *   2 decode columns     COLUMN_MISSING, _TYPE       engine/batch.ts  -> assembly/expr.ts
 *   3 reject         ─✗  rejected, counted           assembly/accept.ts  (no key, no time, the future)
 *   4 clocks             late clock, watermark       assembly/accept.ts, fold.ts
 *   5 retention, late ─✗ side output                 assembly/accept.ts
 *    (what history covers, in a live lane: too; in a history lane all else is counted, assembly/times.ts)
 *   6 dedupe         ─✗  duplicate, counted          assembly/dedupe.ts
 *   7 filter         ─✗  filtered, counted           assembly/accept.ts
 *   8 route              entity -> lane              assembly/keys.ts, entities.ts
 *   9 fold               head, tiles                 assembly/fold.ts -> slots.ts, events.ts -> partials/
 *    (what its entity was asked to be forgotten before: filtered as well, assembly/forget.ts)
 *  10 flush -> store -> commit                       ingest/flush.ts -> assembly/flush.ts -> ingest/lane.ts -> store/
 *
 * Steps 2 to 9 run inside the core on a whole batch. After a crash the log is pushed again from `resumeFrom`: every record
 * runs the whole walk, so clocks and verdicts come out as they were, and only the fold is skipped, entity by entity, up to
 * the position that the entity's stored row already holds.
 */

import { Core } from '../engine/core.ts'
import type { CoreModule } from '../engine/module.ts'
import type { ColumnBatch } from '../model/columns.ts'
import type { Counters } from '../model/counters.ts'
import type { TakenTimes } from '../model/covers.ts'
import { TilefoldError } from '../model/errors.ts'
import { partitionHash } from '../model/key.ts'
import type { StatePlan } from '../model/plan.ts'
import type { LaneName, Store } from '../store/port.ts'
import { Erasures } from './erase.ts'
import { type FlushTally, flushLanes } from './flush.ts'
import { KeptRows } from './kept-rows.ts'
import { LaneOwner } from './lane.ts'
import type { Pace } from './pace.ts'
import { RoutedSources } from './routed-sources.ts'
import { type SideRecord, sideRecords } from './side.ts'

/** Plain data, so that it can be posted to a worker. */
export interface IngestSpec {
  readonly view: string
  readonly state: StatePlan
  readonly stateHash: string
  readonly namespace: string
  readonly generation: number
  readonly log: string
  /** Names of all lanes of the log, by lane number. */
  readonly lanes: readonly string[]
  /** This ingest folds the lanes congruent to `shard` modulo `shards`. */
  readonly shard: number
  readonly shards: number
  /** Bounds the late clock of a log without record times. */
  readonly notAfterMs: number
  readonly completeSinceMs: number
  readonly layoutVersion: number
  /** Bytes that may wait for a flush. */
  readonly deltaBytesMax: number
  /** The lanes start there, with nothing known of what lies before; at 0 unless told. */
  readonly start?: number
  /** History knows its end: its head's frontier isn't held back by the wall clock. */
  readonly isHistory: boolean
  /** Where history covers ranges of event time: those inside, or all others. */
  readonly takes?: TakenTimes | undefined
  /** The late clock before the first record, where the log's beginning was left out. */
  readonly startClockMs?: number
  /** Another ingest of the same log tells what is put aside: every shard sees every record. */
  readonly isEcho?: true
  /** Keep a flush ledger for so long; none unless told. */
  readonly ledgerMs?: number
  /** The log is an internal topic: a router has judged its rows. */
  readonly isRouted?: boolean
  /** Readers look for an entity where these partition counts put it, so no other entity may be in this partition. */
  readonly keyedBy?: { readonly topic: string; readonly partition: number; readonly counts: readonly number[] }
}

export interface IngestOptions {
  readonly store: Store
  readonly core: CoreModule
  readonly clock: () => number
  /** A text that no other taker of the lanes uses. */
  readonly nonce: string
  readonly onSide?: (records: SideRecord[]) => void
  /** Rows are written no faster. */
  readonly pace?: Pace
}

/**
 * How much log a restart may have to replay, at least. With dedupe a checkpoint holds every id within the horizon; without, it is a
 * hundred bytes, but a flush of few rows takes half as much of the store again with one.
 */
export const CHECKPOINT_INTERVAL_MS = { dedupe: 10_000, live: 1_000, history: 0 }

/** Of rows that a live ingest keeps, so that it need not read what it wrote; history writes most rows once. */
const KEPT_BYTES_MAX = 16 << 20

/** Entity keys that one instance keeps; above it they are forgotten after a flush (they are only a cache). */
const ENTITIES_MAX = 4_000_000

export class Ingest {
  readonly spec: IngestSpec
  readonly #options: IngestOptions
  readonly #core: Core
  readonly #owners: ReadonlyMap<number, LaneOwner>
  /** Positions up to here may be in rows already. */
  readonly #replayUntil: number
  #checkpointMs = Number.NEGATIVE_INFINITY
  /** Hash of the last record pushed, as its source gives it. */
  #lastHash = ''
  readonly #written: FlushTally = { rows: 0, bytes: 0 }
  readonly #erasures: Erasures
  readonly #kept: KeptRows
  readonly #sources: RoutedSources | undefined
  #failed: TilefoldError | undefined
  #last: Promise<unknown> = Promise.resolve()

  private constructor(spec: IngestSpec, options: IngestOptions, owners: ReadonlyMap<number, LaneOwner>) {
    this.spec = spec
    this.#options = options
    this.#owners = owners
    const { lanes, shard, shards, completeSinceMs, layoutVersion, takes, isRouted } = spec
    // A history is flushed when its delta is full; a stream long before.
    const deltaBytes = spec.isHistory ? spec.deltaBytesMax : undefined
    const share = { lanes: lanes.length, shard, shards, completeSinceMs, layoutVersion }
    const shares = { ...share, takes, isJudged: isRouted, deltaBytes }
    this.#core = new Core(options.core, spec.state, shares, spec.notAfterMs)
    this.#kept = new KeptRows(spec.isHistory ? 0 : KEPT_BYTES_MAX)
    const all = [...owners.values()]
    this.#replayUntil = Math.max(...all.map((owner) => owner.replayUntil))

    // Clocks resume where the least advanced lane was: the others skip what they hold, row by row.
    const oldest = all.reduce((a, b) => (checkpointPosition(a) <= checkpointPosition(b) ? a : b))
    if (oldest.checkpoint) this.#core.readCheckpoint(join(oldest.checkpoint.segments))
    else this.#core.startAt(spec.start ?? 0, spec.startClockMs)
    if (isRouted) this.#sources = new RoutedSources(spec.log, this.#core.note)
    this.#erasures = new Erasures(spec, options.store, this.#core, owners, (from) => this.#readApplied(from))
  }

  /** Takes the lanes and restores the clocks. Throws CHECKPOINT_MISSING, STORE_UNAVAILABLE. */
  static async open(spec: IngestSpec, options: IngestOptions): Promise<Ingest> {
    const owners = new Map<number, LaneOwner>()
    for (const [index, name] of spec.lanes.entries()) {
      if (index % spec.shards !== spec.shard) continue
      const { namespace, stateHash, generation, layoutVersion } = spec
      const lane: LaneName = { namespace, stateHash, generation, lane: name }
      const { store, nonce, clock } = options
      const ledger = spec.ledgerMs === undefined ? undefined : { keepMs: spec.ledgerMs, clock }
      owners.set(index, await LaneOwner.acquire({ store, lane, nonce, layoutVersion, ledger }))
    }
    if (owners.size === 0) {
      throw new TilefoldError(
        'CONFIG_INVALID',
        `cannot ingest log ${spec.log}: shard ${spec.shard} of ${spec.shards} has none of its ${spec.lanes.length} lanes`,
      )
    }
    const ingest = new Ingest(spec, options, owners)
    await ingest.#inTurn(() => ingest.#forget())
    return ingest
  }

  /** First position that the log must deliver (again). */
  get resumeFrom(): number {
    return this.#core.position + 1
  }

  /** Every event up to here is in the store, in all lanes. -1 before the first flush. */
  get applied(): number {
    return Math.min(...[...this.#owners.values()].map((owner) => owner.record.marker))
  }

  /** Where the least advanced lane stands, and the hash of the record there; '' where nobody gave one. */
  get marker(): { readonly position: number; readonly hash: string } {
    const records = [...this.#owners.values()].map((owner) => owner.record)
    const { marker, markerHash } = records.reduce((a, b) => (a.marker <= b.marker ? a : b))
    return { position: marker, hash: markerHash }
  }

  /** Rows and bytes of all flushes since it was opened. */
  get written(): Readonly<FlushTally> {
    return { ...this.#written }
  }

  /** When the last checkpoint was written; -Infinity before the first. */
  get checkpointMs(): number {
    return this.#checkpointMs
  }

  get counters(): Counters {
    return this.#core.counters()
  }

  get watermarkMs(): number {
    return this.#core.watermarkMs
  }

  get deltaBytes(): number {
    return this.#core.deltaBytes
  }

  /**
   * One batch through steps 2 to 9; flushes by itself when the delta is over its budget. Calls run one after the other.
   * After an error the ingest is dead: drop it, open it again and push from its `resumeFrom`. `hash`: of the batch's last
   * record, where the log has one; a flush leaves it at the marker.
   */
  push(batch: ColumnBatch, hash = ''): Promise<void> {
    return this.#inTurn(async () => {
      const known = this.#core.entityCount
      const before = this.#core.position
      const { routed } = batch
      if (this.#sources && routed) {
        if (routed.position <= before) return
        this.#sources.take(routed)
        this.#core.raiseLayout(routed.layoutVersion)
        for (const owner of this.#owners.values()) owner.raiseLayout(routed.layoutVersion)
      }
      // A record without rows only tells the clock.
      if (batch.length > 0 || !routed) this.#core.prepare(batch)
      if (this.#sources && routed) this.#core.judged(this.#sources.clockMs, routed.position)
      if (this.#core.position > before) this.#lastHash = hash
      if (batch.length === 0 && routed) {
        this.#core.advance(this.#core.lateClockMs - this.spec.state.disorderMs, this.#wallMs())
        return
      }
      this.#checkPartition(known)
      this.#reportSide(batch)
      const replaying = batch.length > 0 && firstPositionOf(batch) <= this.#replayUntil
      if (replaying) await this.#readApplied(known)
      this.#core.fold(this.#wallMs(), replaying)
      if (this.#core.deltaBytes > this.spec.deltaBytesMax) await this.#flush()
    })
  }

  /**
   * Writes everything folded so far; resolves to the applied position. `isLast`: with a checkpoint there in any case, so that another
   * process can go on without a look at anything before.
   */
  flush(isLast = false): Promise<number> {
    return this.#inTurn(() => this.#flush(undefined, isLast))
  }

  /** Moves the watermark to `ms`: an idle log, or the end of history. What it closes is written with each row's next flush. */
  advance(ms: number): Promise<void> {
    return this.#inTurn(async () => this.#core.advance(ms, this.#wallMs()))
  }

  get memoryBytes(): number {
    return this.#core.memoryBytes + this.#kept.bytes
  }

  get spareBytes(): number {
    return this.#core.spareBytes + this.#kept.bytes
  }

  /** Forgets every entity that is resident, to give memory back; does nothing while there is something to flush. */
  renew(): Promise<void> {
    return this.#inTurn(async () => {
      if (!this.#core.renew()) return
      this.#kept.clear()
      await this.#erasures.drawAgain()
    })
  }

  /** The idle check of every lane; then what was asked to be forgotten since the last one is. Throws FENCED, REGRESSED. */
  check(): Promise<void> {
    return this.#inTurn(async () => {
      for (const owner of this.#owners.values()) await owner.check()
      await this.#forget()
    })
  }

  /** Sequences of this shard's lanes, by lane number. */
  get sequences(): ReadonlyMap<number, number> {
    return new Map([...this.#owners].map(([lane, owner]) => [lane, owner.record.sequence]))
  }

  get #writes(): number {
    return [...this.#owners.values()].reduce((sum, owner) => sum + owner.record.sequence, 0)
  }

  /** Erases what was asked to be forgotten since the last look, and says so in the lanes' records. */
  async #forget(): Promise<void> {
    const lanes = await this.#erasures.look()
    if (lanes.size > 0) await this.#flush(lanes)
  }

  async #flush(forced?: ReadonlySet<number>, isLast = false): Promise<number> {
    const nowMs = this.#options.clock()
    const kind = this.spec.state.dedupe ? 'dedupe' : this.spec.isHistory ? 'history' : 'live'
    const isDue = isLast || Math.abs(nowMs - this.#checkpointMs) >= CHECKPOINT_INTERVAL_MS[kind]
    const lanes = isLast && this.#core.position >= 0 ? new Set(this.#owners.keys()) : forced
    const how = { pace: this.#options.pace, isHistory: this.spec.isHistory }
    const before = this.#writes
    if (this.#sources) this.#core.note = this.#sources.note()
    const { rows, bytes } = await flushLanes(this.#core, this.#owners, this.#kept, isDue, this.#lastHash, lanes, how)
    this.#written.rows += rows
    this.#written.bytes += bytes
    // A flush of nothing takes none along.
    if (isDue && this.#writes > before) this.#checkpointMs = nowMs
    if (this.#core.entityCount > ENTITIES_MAX) {
      this.#core.forgetEntities()
      this.#kept.clear()
      await this.#erasures.drawAgain()
    }
    return this.applied
  }

  /** In a replay, an entity's row is read before its first event is folded. */
  async #readApplied(from: number): Promise<void> {
    const byLane = new Map<LaneOwner, number[]>()
    for (let entity = from; entity < this.#core.entityCount; entity++) {
      const lane = this.#core.laneOf(entity)
      const owner = lane === undefined ? undefined : this.#owners.get(lane)
      if (!owner) continue
      const entities = byLane.get(owner) ?? []
      if (entities.length === 0) byLane.set(owner, entities)
      entities.push(entity)
    }
    for (const [owner, entities] of byLane) {
      const keys = entities.map((entity) => this.#core.keyOf(entity))
      await owner.readRows(keys, (i, bytes) => {
        if (bytes) this.#core.setApplied(entities[i]!, appliedOf(bytes))
      })
    }
  }

  /** Every entity that is met anew must be one that the producer's partitioner puts here. */
  #checkPartition(from: number): void {
    const { keyedBy, log, view, isRouted } = this.spec
    // A router has chosen the lane, and may have spread the entity over several.
    if (keyedBy === undefined || isRouted) return
    for (let entity = from; entity < this.#core.entityCount; entity++) {
      const key = this.#core.keyOf(entity)
      const hash = partitionHash(key)
      if (keyedBy.counts.some((count) => hash % count === keyedBy.partition)) continue
      throw new TilefoldError(
        'PARTITIONER_MISMATCH',
        `cannot fold log ${log} into view ${view}: topic ${keyedBy.topic} is declared to be keyed by the view's entity with murmur2; got an entity of partition ${hash % keyedBy.counts.at(-1)!} in partition ${keyedBy.partition}`,
        { key: Buffer.from(key).toString('hex') },
      )
    }
  }

  #reportSide(batch: ColumnBatch): void {
    if (!this.#options.onSide || this.spec.isEcho) return
    const records = sideRecords(this.spec, batch, this.#core.verdicts(batch.length))
    if (records.length > 0) this.#options.onSide(records)
  }

  #wallMs(): number {
    return this.spec.isHistory ? Number.POSITIVE_INFINITY : this.#options.clock()
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(async () => {
      if (this.#failed) throw this.#failed
      try {
        return await work()
      } catch (error) {
        // A refused batch changed nothing; anything else leaves memory that may not match the store.
        if (!isRefusal(error)) this.#failed = asError(error)
        throw error
      }
    })
    this.#last = turn.catch(() => {})
    return turn
  }
}

const REFUSALS: readonly string[] = ['COLUMN_MISSING', 'COLUMN_TYPE', 'BATCH_INVALID', 'POSITION_INVALID']

function isRefusal(error: unknown): boolean {
  return error instanceof TilefoldError && REFUSALS.includes(error.code)
}

function asError(error: unknown): TilefoldError {
  if (error instanceof TilefoldError) return error
  return new TilefoldError('CORE_TRAP', `cannot go on: ${(error as Error).message}`, {}, { cause: error })
}

function checkpointPosition(owner: LaneOwner): number {
  return owner.checkpoint?.position ?? -1
}

function firstPositionOf(batch: ColumnBatch): number {
  if (typeof batch.positions === 'number') return batch.positions
  return batch.length === 0 ? Number.POSITIVE_INFINITY : batch.positions[0]!
}

function appliedOf(row: Uint8Array): number {
  return Number(new DataView(row.buffer, row.byteOffset, row.byteLength).getBigInt64(8, true))
}

function join(segments: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(segments)
}
