/**
 * The port behind which every store stands: named lanes of rows, one record per lane, and the layout of each view.
 *
 * The rules (who may write, what regresses together) are in the header of `lane.ts`; a store only has to make each method
 * atomic as it says.
 */
import type { KeyedRow, PackedRows } from '../model/packed-rows.ts'

/** A lane of one generation of one state. Everything stored is named by it; the parts are free of `/` and NUL. */
export interface LaneName {
  readonly namespace: string
  readonly stateHash: string
  readonly generation: number
  /** `h3` = history lane 3; `clicks.0` = input log `clicks`, shard 0. */
  readonly lane: string
}

/** Who owns a lane: a stored counter that only grows, and a nonce that tells two takers of one counter apart. */
export interface LaneToken {
  readonly counter: number
  readonly nonce: string
}

export interface LaneRecord {
  readonly token: LaneToken
  /** Bumped by every write. */
  readonly sequence: number
  /** Every event at or before it is in the rows; -1 = none yet. Positions are the log's. */
  readonly marker: number
  /** Hash of the record at the marker, as the source gives it; empty where it has none. */
  readonly markerHash: string
  /** No row holds an event beyond it. Never decreases. */
  readonly flushingTo: number
  readonly layoutVersion: number
  /** Number of the last request to forget that is done in this lane (registry/erase.ts); absent: none was. Never decreases. */
  readonly erased?: number
}

/** Everything in one write lands together. Positions and versions only grow: the store keeps the higher of stored and given. */
export interface LaneWrite {
  /** Absolute rows. The applied position in a row's header is kept at the higher of stored and given; the rest is replaced. */
  readonly rows?: readonly StoredRow[] | PackedRows
  readonly flushingTo?: number
  readonly marker?: { readonly position: number; readonly hash: string }
  readonly layoutVersion?: number
  /** Pieces of the checkpoint that a later write (or this one) names by hash. */
  readonly segments?: readonly Uint8Array[]
  readonly checkpoint?: CheckpointManifest
  readonly erased?: number
  readonly ledger?: LedgerWrite
}

/** A piece of the flush ledger (ingest/ledger.ts), whole: written again it changes nothing. */
export interface LedgerSegment {
  /** Segments count on from one to the next. */
  readonly number: number
  readonly bytes: Uint8Array
}

export interface LedgerWrite extends LedgerSegment {
  /** Older segments that go. */
  readonly dropped: readonly number[]
}

/** `bytes`: at least ROW_APPLIED_BYTE + 8; the core owns the format, the store knows its applied position alone. */
export type StoredRow = KeyedRow

/** Where the applied position lies in a row: a little-endian int64. */
export const ROW_APPLIED_BYTE = 8

/** Late clock, dedupe, counters at a position that the marker has reached. Bytes are the engine's own and opaque here. */
export interface Checkpoint {
  readonly position: number
  /** Immutable pieces of at most SEGMENT_BYTES_MAX bytes; the last two checkpoints are kept. */
  readonly segments: readonly Uint8Array[]
}

/** Names segments that are already stored, by `segmentHash`; it is what makes them a checkpoint. */
export interface CheckpointManifest {
  readonly position: number
  readonly segments: readonly string[]
}

/** A segment travels in one write, and a shared store must not be held longer than about a millisecond by one. */
export const SEGMENT_BYTES_MAX = 1 << 20

/**
 * - `ok`: written, sequence is one higher
 * - `fenced`: a higher counter, or an equal one with another nonce, is stored: leave the lane
 * - `regressed`: a lower counter, or another sequence under our token: the store lost writes; drop all memory of the lane
 */
export type WriteOutcome = 'ok' | 'fenced' | 'regressed'

export interface RowRead {
  readonly lane: LaneName
  readonly key: Uint8Array
}

/** How a read goes that shall not wait for the last of its parts. */
export interface ReadOptions {
  /** Nobody wants the answer later than this; the store's own patience unless told. */
  readonly deadlineMs?: number
  /**
   * Called once, instead of `sink`, for each read that failed: the others are answered. Without it one that fails, fails all.
   * Where the store is one whole it may fail as a whole all the same.
   */
  readonly onMissing?: (index: number, cause: unknown) => void
}

export type RowSink = (index: number, bytes: Uint8Array | undefined) => void

export interface Store {
  /** Rows and segments in one write should not exceed this by more than one row: how long the store may be busy with it. */
  readonly writeBytesMax: number
  /** Takes the lane (counter + 1, new nonce) and returns its record as it now stands, in one atomic step. */
  takeLane(lane: LaneName, nonce: string): Promise<LaneRecord>
  readLane(lane: LaneName): Promise<LaneRecord | undefined>
  /**
   * All or nothing, durable when it resolves. A retry of a write that landed (own token, sequence one ahead) answers `ok`.
   * Throws STORE_UNAVAILABLE where it is unknown whether the write landed: repeat the same change, or drop the lane.
   */
  write(lane: LaneName, token: LaneToken, sequence: number, change: LaneWrite): Promise<WriteOutcome>
  /** The newest checkpoint at or before `position` that is whole. */
  readCheckpoint(lane: LaneName, position: number): Promise<Checkpoint | undefined>
  /**
   * One round trip to each server that holds some of the rows. `sink` is called once per read as answers come, in any order, with
   * the stored bytes or undefined; the bytes are good only until `sink` returns.
   */
  readRows(reads: readonly RowRead[], sink: RowSink, options?: ReadOptions): Promise<void>
  /**
   * As `readRows`, by the owner of a lane: rows and record are looked at in one atomic step, and `sink` is called only where
   * token and sequence are as expected.
   */
  readOwnRows(
    lane: LaneName,
    token: LaneToken,
    sequence: number,
    keys: readonly Uint8Array[],
    sink: (index: number, bytes: Uint8Array | undefined) => void,
  ): Promise<WriteOutcome>
  /** The lane's flush ledger, in the order of its segments. */
  readLedger(lane: LaneName): Promise<readonly LedgerSegment[]>
  /** Every row of a lane, in key order: for inspection, parity and tests. */
  scanRows(lane: LaneName): AsyncIterable<{ key: Uint8Array; bytes: Uint8Array }>
  /**
   * Some rows of the lanes, at most `count`: a taste of what is there, at a price that does not grow with what else the store holds.
   * It may find fewer than there are, or none.
   */
  sampleRows(lanes: readonly LaneName[], count: number): Promise<readonly StoredRow[]>
  /** The view's layout, a small versioned JSON value; undefined before first use. */
  readLayout(namespace: string, view: string): Promise<string | undefined>
  /** Replaces the layout if the stored one still equals `expected` (undefined = none yet); false when it does not. */
  writeLayout(namespace: string, view: string, expected: string | undefined, layout: string): Promise<boolean>
  /**
   * Resolves when what was written before, by whomever, is where a failover would find it; absent where a write is that by itself.
   * Throws STORE_UNAVAILABLE.
   */
  settle?(): Promise<void>
  close(): Promise<void>
}

// ---- the store as a whole: for gc, not for the walks -----------------------------------------------------------------------

export interface LaneSize {
  readonly lane: LaneName
  readonly rows: number
  /** Of rows alone: checkpoints and keys not counted. */
  readonly bytes: number
}

export interface TakenLane {
  readonly lane: LaneName
  readonly token: LaneToken
}

/** - `gone`: nothing of the lane is left. `taken`: somebody else took it; what is left stays. */
export interface DropStep {
  readonly lane: LaneName
  readonly keys: number
  readonly end?: 'gone' | 'taken'
}

/** What a store that lasts can do beside the walks. May look at everything that it holds. */
export interface SweptStore extends Store {
  /** Views of a namespace that have a layout. */
  listViews(namespace: string): Promise<string[]>
  /** Every lane of a namespace of which anything is stored. */
  listLanes(namespace: string): Promise<LaneSize[]>
  /**
   * Drops everything of lanes that the caller has taken, in steps that are short, each under the lane's token. Checkpoints go first, so
   * that nobody goes on with half a lane, and the record goes last.
   * Who stops in between leaves lanes that can be taken and dropped again.
   */
  dropLanes(lanes: readonly TakenLane[]): AsyncIterable<DropStep>
}
