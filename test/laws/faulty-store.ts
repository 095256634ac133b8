/** A store behind which the process can be killed: at a chosen call, before or after the call's work is done. */

import { TilefoldError } from '../../src/model/errors.ts'
import type {
  Checkpoint,
  LaneName,
  LaneRecord,
  LaneToken,
  LaneWrite,
  LedgerSegment,
  RowRead,
  Store,
  StoredRow,
  WriteOutcome,
} from '../../src/store/port.ts'

/**
 * - `before`, `after`: the process dies there; nothing comes back, and nothing of it is done any more
 * - `lose_reply`: the work is done and the caller is told that nobody knows
 */
export type CallFault = 'before' | 'after' | 'lose_reply'

/** What the dead process sees: no code of ours, so that nothing takes it for a store that may answer the next time. */
export class Killed extends Error {}

export class FaultyStore implements Store {
  readonly writeBytesMax: number
  /** Calls since the process (re)started. */
  calls = 0
  readonly #inner: Store
  #faultAt = -1
  #fault: CallFault = 'before'
  #isDead = false

  constructor(inner: Store) {
    this.#inner = inner
    this.writeBytesMax = inner.writeBytesMax
  }

  /** Plans a fault for the call `offset` calls from now (0: the next one). */
  plan(offset: number, fault: CallFault): void {
    this.#faultAt = this.calls + offset
    this.#fault = fault
  }

  /** A new process on the same store: no faults planned, calls counted from 0. */
  restart(): void {
    this.#faultAt = -1
    this.#isDead = false
    this.calls = 0
  }

  takeLane(lane: LaneName, nonce: string): Promise<LaneRecord> {
    return this.#call(() => this.#inner.takeLane(lane, nonce))
  }

  readLane(lane: LaneName): Promise<LaneRecord | undefined> {
    return this.#call(() => this.#inner.readLane(lane))
  }

  write(lane: LaneName, token: LaneToken, sequence: number, change: LaneWrite): Promise<WriteOutcome> {
    return this.#call(() => this.#inner.write(lane, token, sequence, change))
  }

  readCheckpoint(lane: LaneName, position: number): Promise<Checkpoint | undefined> {
    return this.#call(() => this.#inner.readCheckpoint(lane, position))
  }

  readRows(reads: readonly RowRead[], sink: (index: number, bytes: Uint8Array | undefined) => void): Promise<void> {
    return this.#call(() => this.#inner.readRows(reads, sink))
  }

  readOwnRows(
    lane: LaneName,
    token: LaneToken,
    sequence: number,
    keys: readonly Uint8Array[],
    sink: (index: number, bytes: Uint8Array | undefined) => void,
  ): Promise<WriteOutcome> {
    return this.#call(() => this.#inner.readOwnRows(lane, token, sequence, keys, sink))
  }

  readLedger(lane: LaneName): Promise<readonly LedgerSegment[]> {
    return this.#call(() => this.#inner.readLedger(lane))
  }

  sampleRows(lanes: readonly LaneName[], count: number): Promise<readonly StoredRow[]> {
    return this.#inner.sampleRows(lanes, count)
  }

  scanRows(lane: LaneName): AsyncIterable<StoredRow> {
    return this.#inner.scanRows(lane)
  }

  readLayout(namespace: string, view: string): Promise<string | undefined> {
    return this.#call(() => this.#inner.readLayout(namespace, view))
  }

  writeLayout(namespace: string, view: string, expected: string | undefined, layout: string): Promise<boolean> {
    return this.#call(() => this.#inner.writeLayout(namespace, view, expected, layout))
  }

  close(): Promise<void> {
    return this.#inner.close()
  }

  async #call<T>(work: () => Promise<T>): Promise<T> {
    const call = this.calls++
    if (this.#isDead) throw new Killed(`call ${call} of a process that is dead`)
    if (call !== this.#faultAt) return work()
    if (this.#fault === 'lose_reply') {
      await work()
      throw new TilefoldError('STORE_UNAVAILABLE', `cannot use the store: call ${call} lost its reply, as planned`)
    }
    this.#isDead = true
    if (this.#fault === 'after') await work()
    throw new Killed(`killed ${this.#fault} call ${call}, as planned`)
  }
}
