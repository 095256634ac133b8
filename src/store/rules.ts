/**
 * The rules of a lane as pure functions: what may be written, and what a write makes of the record. Every store runs
 * exactly these inside its own atomic step; the reasons are in the header of `ingest/lane.ts`.
 */
import { createHash } from 'node:crypto'
import { TilefoldError } from '../model/errors.ts'
import {
  type LaneName,
  type LaneRecord,
  type LaneToken,
  type LaneWrite,
  ROW_APPLIED_BYTE,
  type WriteOutcome,
} from './port.ts'

/** `write`: do it. `landed`: this very write is already there. The other two are answers to the caller. */
export type Verdict = 'write' | 'landed' | 'fenced' | 'regressed'

export function judgeWrite(stored: LaneRecord | undefined, token: LaneToken, sequence: number): Verdict {
  if (stored === undefined || stored.token.counter < token.counter) return 'regressed'
  if (stored.token.counter > token.counter || stored.token.nonce !== token.nonce) return 'fenced'
  if (stored.sequence === sequence) return 'write'
  return stored.sequence === sequence + 1 ? 'landed' : 'regressed'
}

/** May an owner with nothing under way look at its rows? Then a sequence one ahead is not a reply that was lost. */
export function judgeRead(stored: LaneRecord | undefined, token: LaneToken, sequence: number): WriteOutcome {
  const verdict = judgeWrite(stored, token, sequence)
  if (verdict === 'write') return 'ok'
  return verdict === 'landed' ? 'regressed' : verdict
}

/** Is the lane still with who took it under this token? */
export function isOwn(stored: LaneRecord | undefined, { counter, nonce }: LaneToken): boolean {
  return stored?.token.counter === counter && stored.token.nonce === nonce
}

/** The record once its lane is taken; a lane never seen before starts at -1. */
export function takenRecord(stored: LaneRecord | undefined, nonce: string): LaneRecord {
  if (stored !== undefined) return { ...stored, token: { counter: stored.token.counter + 1, nonce } }
  return { token: { counter: 1, nonce }, sequence: 0, marker: -1, markerHash: '', flushingTo: -1, layoutVersion: 0 }
}

export function writtenRecord(stored: LaneRecord, change: LaneWrite): LaneRecord {
  const marker = change.marker !== undefined && change.marker.position >= stored.marker ? change.marker : undefined
  const erased = Math.max(stored.erased ?? 0, change.erased ?? 0)
  return {
    token: stored.token,
    sequence: stored.sequence + 1,
    marker: marker?.position ?? stored.marker,
    markerHash: marker?.hash ?? stored.markerHash,
    flushingTo: Math.max(stored.flushingTo, change.flushingTo ?? -1),
    layoutVersion: Math.max(stored.layoutVersion, change.layoutVersion ?? 0),
    ...(erased > 0 ? { erased } : {}),
  }
}

/** The applied position in a row's header; exact up to 2^53. Throws ROW_CORRUPT for bytes too short to hold one. */
export function appliedOf(row: Uint8Array): number {
  return appliedBetween(row, 0, row.length)
}

/** The same of a row at `[start, end)` of a buffer. */
export function appliedBetween(row: Uint8Array, start: number, end: number): number {
  if (end - start < ROW_APPLIED_BYTE + 8) {
    throw new TilefoldError(
      'ROW_CORRUPT',
      `cannot read a row's applied position: got ${end - start} bytes, expected at least ${ROW_APPLIED_BYTE + 8}`,
    )
  }
  const at = start + ROW_APPLIED_BYTE
  const low = (row[at]! | (row[at + 1]! << 8) | (row[at + 2]! << 16) | (row[at + 3]! << 24)) >>> 0
  const high = row[at + 4]! | (row[at + 5]! << 8) | (row[at + 6]! << 16) | (row[at + 7]! << 24)
  return high * 2 ** 32 + low
}

/** A copy of the row that says it has applied everything up to `applied`. */
export function withApplied(row: Uint8Array, applied: number): Uint8Array {
  const copy = new Uint8Array(row)
  new DataView(copy.buffer).setBigInt64(ROW_APPLIED_BYTE, BigInt(applied), true)
  return copy
}

/** 32 hex digits of SHA-256: names a segment and proves that it is whole. */
export function segmentHash(segment: Uint8Array): string {
  return createHash('sha256').update(segment).digest('hex').slice(0, 32)
}

/** A lane in messages. */
export function describeLane(lane: LaneName): string {
  return `${lane.namespace}/${lane.stateHash}/${lane.generation}/${lane.lane}`
}
