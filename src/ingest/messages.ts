/** What the threads of a pool say to each other: plain data, answered in any order, matched by id. */

import type { PackedBatch } from '../engine/pack.ts'
import type { Counters } from '../model/counters.ts'
import { type ErrorCode, TilefoldError } from '../model/errors.ts'
import type { IngestSpec } from './ingest.ts'
import type { SideRecord } from './side.ts'

export type Call =
  | { readonly op: 'open'; readonly handle: number; readonly spec: IngestSpec; readonly nonce: string }
  | { readonly op: 'push'; readonly handle: number; readonly batch: PackedBatch; readonly hash?: string }
  | { readonly op: 'flush'; readonly handle: number; readonly isLast: boolean }
  | { readonly op: 'advance'; readonly handle: number; readonly ms: number }
  | { readonly op: 'check'; readonly handle: number }
  | { readonly op: 'renew'; readonly handle: number }
  | { readonly op: 'drop'; readonly handle: number }
  | { readonly op: 'stop' }

export type Request = Call & { readonly id: number }

/** How an ingest stands, sent with every answer. */
export interface IngestStatus {
  readonly resumeFrom: number
  readonly applied: number
  readonly marker: { readonly position: number; readonly hash: string }
  readonly watermarkMs: number
  readonly deltaBytes: number
  readonly memoryBytes: number
  /** Part of it that `renew` would give back. */
  readonly spareBytes: number
  readonly counters: Counters
  /** Since it was opened. */
  readonly written: { readonly rows: number; readonly bytes: number }
  readonly checkpointMs: number
  readonly sequences: readonly (readonly [lane: number, sequence: number])[]
}

export type Answer =
  | { readonly id: number; readonly status: IngestStatus | undefined }
  | { readonly id: number; readonly error: PostedError }
  | { readonly side: SideRecord[] }

export interface PostedError {
  readonly code: ErrorCode
  readonly message: string
  readonly details: Readonly<Record<string, unknown>>
}

export function postError(error: unknown): PostedError {
  if (error instanceof TilefoldError) return { code: error.code, message: error.message, details: error.details }
  return { code: 'CORE_TRAP', message: `cannot go on: ${(error as Error)?.message ?? error}`, details: {} }
}

export function readError(error: PostedError): TilefoldError {
  return new TilefoldError(error.code, error.message, error.details)
}
