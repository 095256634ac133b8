/**
 * A store in this process's memory, for tests and for throwaway runs: the same promises as the durable ones, and faults on
 * demand. A fault is planned for the Nth call from now; `regress` takes the last writes of a lane back, as a failover to a
 * lagging replica does.
 */
import { TilefoldError } from '../model/errors.ts'
import { unpackRows } from '../model/packed-rows.ts'
import type {
  Checkpoint,
  CheckpointManifest,
  DropStep,
  LaneName,
  LaneRecord,
  LaneSize,
  LaneToken,
  LaneWrite,
  LedgerSegment,
  LedgerWrite,
  RowRead,
  StoredRow,
  SweptStore,
  TakenLane,
  WriteOutcome,
} from './port.ts'
import {
  appliedOf,
  describeLane,
  isOwn,
  judgeRead,
  judgeWrite,
  segmentHash,
  takenRecord,
  withApplied,
  writtenRecord,
} from './rules.ts'
import { firstRows } from './sample.ts'

/**
 * - `refuse`: the call fails and does nothing
 * - `lose_reply`: the call does its work and fails
 * - `crash_before`, `crash_after`: the same two, and every later call is refused until `heal()`
 */
export type StoreFault = 'refuse' | 'lose_reply' | 'crash_before' | 'crash_after'

export interface MemoryStoreOptions {
  /** 64 KiB unless told, so that flushes of tests have several chunks. */
  readonly writeBytesMax?: number
  /** Keep what `regress` needs: every write's undo. Off unless told. */
  readonly history?: boolean
}

interface LaneState {
  readonly lane: LaneName
  record: LaneRecord | undefined
  readonly rows: Map<string, Uint8Array>
  readonly segments: Map<string, Uint8Array>
  /** In the order written. */
  manifests: CheckpointManifest[]
  readonly ledger: Map<number, Uint8Array>
  /** How to take back each write since the lane began, oldest first. */
  readonly undo: (() => void)[]
}

export function createMemoryStore(options: MemoryStoreOptions = {}): MemoryStore {
  return new MemoryStore(options)
}

export class MemoryStore implements SweptStore {
  readonly writeBytesMax: number
  /** Calls made since the store began or was last healed. */
  calls = 0
  readonly #history: boolean
  readonly #lanes = new Map<string, LaneState>()
  readonly #layouts = new Map<string, string>()
  readonly #faults = new Map<number, StoreFault>()
  #down = false

  constructor(options: MemoryStoreOptions) {
    this.writeBytesMax = options.writeBytesMax ?? 65_536
    this.#history = options.history ?? false
  }

  /** Plans a fault for the call that will be number `call` (from 1, as `calls` counts). */
  inject(call: number, fault: StoreFault): void {
    this.#faults.set(call, fault)
  }

  /** Forgets planned faults, counts calls from 0 again and answers. */
  heal(): void {
    this.#faults.clear()
    this.calls = 0
    this.#down = false
  }

  /** Writes and takings of a lane so far, as far as `regress` can go back. Needs `history`. */
  writesOf(lane: LaneName): number {
    return this.#lane(lane).undo.length
  }

  /** The lane as it was before its last `writes` writes and takings. Needs `history`. */
  regress(lane: LaneName, writes: number): void {
    const { undo } = this.#lane(lane)
    if (writes > undo.length)
      throw new RangeError(`cannot regress lane: got ${writes}, expected at most ${undo.length}`)
    for (let i = 0; i < writes; i++) undo.pop()!()
  }

  /** Damages the newest checkpoint of a lane, as a bad disk would: its first segment is changed, or lost. */
  damageCheckpoint(lane: LaneName, damage: 'garble' | 'lose'): void {
    const state = this.#lane(lane)
    const hash = state.manifests.at(-1)!.segments[0]!
    if (damage === 'lose') state.segments.delete(hash)
    else
      state.segments.set(
        hash,
        Uint8Array.from(state.segments.get(hash)!, (byte, i) => (i === 0 ? byte ^ 1 : byte)),
      )
  }

  async takeLane(lane: LaneName, nonce: string): Promise<LaneRecord> {
    return this.#call(() => {
      const state = this.#lane(lane)
      const was = state.record
      state.record = takenRecord(was, nonce)
      if (this.#history) {
        state.undo.push(() => {
          state.record = was
        })
      }
      return state.record
    })
  }

  async readLane(lane: LaneName): Promise<LaneRecord | undefined> {
    return this.#call(() => this.#lane(lane).record)
  }

  async write(lane: LaneName, token: LaneToken, sequence: number, change: LaneWrite): Promise<WriteOutcome> {
    return this.#call(() => {
      const state = this.#lane(lane)
      const verdict = judgeWrite(state.record, token, sequence)
      if (verdict !== 'write') return verdict === 'landed' ? 'ok' : verdict

      // Look before the first change, so that a refused write leaves nothing behind.
      const fresh = new Map(change.segments?.map((segment) => [segmentHash(segment), new Uint8Array(segment)]))
      const missing = change.checkpoint?.segments.find((hash) => !state.segments.has(hash) && !fresh.has(hash))
      if (missing !== undefined) {
        throw new TilefoldError(
          'STORE_FORMAT',
          `cannot write checkpoint of lane ${describeLane(lane)}: it names segment ${missing}, which is not stored`,
        )
      }
      const rows = unpackRows(change.rows ?? [])
      for (const row of rows) appliedOf(row.bytes)
      const undo = this.#history ? undoOf(state, rows) : undefined

      for (const row of rows) putRow(state.rows, row)
      for (const [hash, segment] of fresh) state.segments.set(hash, segment)
      if (change.checkpoint !== undefined) addManifest(state, change.checkpoint, fresh)
      if (change.ledger !== undefined) putLedger(state.ledger, change.ledger)
      state.record = writtenRecord(state.record!, change)
      if (undo !== undefined) state.undo.push(undo)
      return 'ok'
    })
  }

  async readCheckpoint(lane: LaneName, position: number): Promise<Checkpoint | undefined> {
    return this.#call(() => {
      const state = this.#lane(lane)
      const candidates = state.manifests.filter((manifest) => manifest.position <= position)
      // Newest position first; of two at one position the later written.
      for (const manifest of candidates.reverse().sort((a, b) => b.position - a.position)) {
        const segments = manifest.segments.map((hash) => {
          const segment = state.segments.get(hash)
          return segment !== undefined && segmentHash(segment) === hash ? new Uint8Array(segment) : undefined
        })
        if (segments.every((segment) => segment !== undefined)) return { position: manifest.position, segments }
      }
      return undefined
    })
  }

  async readRows(
    reads: readonly RowRead[],
    sink: (index: number, bytes: Uint8Array | undefined) => void,
  ): Promise<void> {
    return this.#call(() => {
      for (const [i, read] of reads.entries()) lendRow(this.#lane(read.lane).rows, read.key, i, sink)
    })
  }

  async readOwnRows(
    lane: LaneName,
    token: LaneToken,
    sequence: number,
    keys: readonly Uint8Array[],
    sink: (index: number, bytes: Uint8Array | undefined) => void,
  ): Promise<WriteOutcome> {
    return this.#call(() => {
      const { record, rows } = this.#lane(lane)
      const verdict = judgeRead(record, token, sequence)
      if (verdict === 'ok') for (const [i, key] of keys.entries()) lendRow(rows, key, i, sink)
      return verdict
    })
  }

  async readLedger(lane: LaneName): Promise<readonly LedgerSegment[]> {
    return this.#call(() => {
      const segments = [...this.#lane(lane).ledger].sort(([a], [b]) => a - b)
      return segments.map(([number, bytes]) => ({ number, bytes: new Uint8Array(bytes) }))
    })
  }

  sampleRows(lanes: readonly LaneName[], count: number): Promise<readonly StoredRow[]> {
    return this.#call(() => firstRows(this, lanes, count))
  }

  async *scanRows(lane: LaneName): AsyncIterable<StoredRow> {
    const { rows } = this.#lane(lane)
    for (const text of [...rows.keys()].sort()) {
      yield { key: Buffer.from(text, 'latin1'), bytes: new Uint8Array(rows.get(text)!) }
    }
  }

  async readLayout(namespace: string, view: string): Promise<string | undefined> {
    return this.#call(() => this.#layouts.get(`${namespace}/${view}`))
  }

  async writeLayout(namespace: string, view: string, expected: string | undefined, layout: string): Promise<boolean> {
    return this.#call(() => {
      const name = `${namespace}/${view}`
      if (this.#layouts.get(name) !== expected) return false
      this.#layouts.set(name, layout)
      return true
    })
  }

  async listViews(namespace: string): Promise<string[]> {
    const prefix = `${namespace}/`
    const names = [...this.#layouts.keys()].filter((name) => name.startsWith(prefix))
    return names.map((name) => name.slice(prefix.length)).sort()
  }

  async listLanes(namespace: string): Promise<LaneSize[]> {
    return [...this.#lanes.values()]
      .filter(({ lane, record, rows }) => lane.namespace === namespace && (record !== undefined || rows.size > 0))
      .map(({ lane, rows }) => ({
        lane,
        rows: rows.size,
        bytes: [...rows.values()].reduce((sum, bytes) => sum + bytes.length, 0),
      }))
  }

  async *dropLanes(lanes: readonly TakenLane[]): AsyncIterable<DropStep> {
    for (const { lane, token } of lanes) {
      const { record, rows } = this.#lane(lane)
      if (!isOwn(record, token)) {
        yield { lane, keys: 0, end: 'taken' }
        continue
      }
      this.#lanes.delete(describeLane(lane))
      yield { lane, keys: rows.size + 1, end: 'gone' }
    }
  }

  async close(): Promise<void> {}

  #lane(lane: LaneName): LaneState {
    const name = describeLane(lane)
    let state = this.#lanes.get(name)
    if (state === undefined) {
      state = {
        lane,
        record: undefined,
        rows: new Map(),
        segments: new Map(),
        manifests: [],
        ledger: new Map(),
        undo: [],
      }
      this.#lanes.set(name, state)
    }
    return state
  }

  #call<T>(work: () => T): T {
    const call = ++this.calls
    const fault = this.#faults.get(call)
    if (fault === 'crash_before' || fault === 'crash_after') this.#down = true
    if ((this.#down && fault !== 'crash_after') || fault === 'refuse') throw unavailable(call, 'was refused')
    const result = work()
    if (fault === 'lose_reply' || fault === 'crash_after') throw unavailable(call, 'lost its reply')
    return result
  }
}

function unavailable(call: number, what: string): TilefoldError {
  return new TilefoldError('STORE_UNAVAILABLE', `cannot use the memory store: call ${call} ${what}, as planned`)
}

/** Byte order of the keys is the order of these texts. */
function textOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.length).toString('latin1')
}

function lendRow(
  rows: ReadonlyMap<string, Uint8Array>,
  key: Uint8Array,
  index: number,
  sink: (index: number, bytes: Uint8Array | undefined) => void,
): void {
  const stored = rows.get(textOf(key))
  const lent = stored === undefined ? undefined : new Uint8Array(stored)
  sink(index, lent)
  // Bytes kept beyond the call are a bug of the sink's; make it show.
  lent?.fill(0xdb)
}

function putRow(rows: Map<string, Uint8Array>, row: StoredRow): void {
  const text = textOf(row.key)
  const stored = rows.get(text)
  const applied = stored === undefined ? -1 : appliedOf(stored)
  rows.set(text, applied > appliedOf(row.bytes) ? withApplied(row.bytes, applied) : new Uint8Array(row.bytes))
}

function putLedger(ledger: Map<number, Uint8Array>, { number, bytes, dropped }: LedgerWrite): void {
  for (const each of dropped) ledger.delete(each)
  ledger.set(number, new Uint8Array(bytes))
}

/** Adds a manifest and drops all but the last two, with the segments that neither names and that are not of this write. */
function addManifest(state: LaneState, manifest: CheckpointManifest, fresh: ReadonlyMap<string, Uint8Array>): void {
  state.manifests = [...state.manifests, manifest].slice(-2)
  const named = new Set(state.manifests.flatMap((each) => each.segments))
  for (const hash of state.segments.keys()) if (!named.has(hash) && !fresh.has(hash)) state.segments.delete(hash)
}

function undoOf(state: LaneState, rows: readonly StoredRow[]): () => void {
  const { record, manifests } = state
  const segments = [...state.segments]
  const ledger = [...state.ledger]
  const before = rows.map((row) => [textOf(row.key), state.rows.get(textOf(row.key))] as const)
  return () => {
    state.record = record
    state.manifests = manifests
    state.segments.clear()
    for (const [hash, segment] of segments) state.segments.set(hash, segment)
    state.ledger.clear()
    for (const [number, bytes] of ledger) state.ledger.set(number, bytes)
    for (const [text, bytes] of before) {
      if (bytes === undefined) state.rows.delete(text)
      else state.rows.set(text, bytes)
    }
  }
}
