/** An engine as the laws see it: what they push, kill, ask and read. */
import type { ColumnBatch } from '../../src/model/columns.ts'
import type { TimeRange } from '../../src/model/covers.ts'
import type { KeyPart } from '../../src/model/key.ts'
import type { FeatureStatus, FeatureValue, Plan } from '../../src/model/plan.ts'
import type { Verdict } from '../oracle/naive.ts'

/** An engine over an empty store. Calls come one at a time. */
export interface Subject {
  /** Rows of one log, in log order; rows at positions already taken are redeliveries. */
  push(log: string, batch: ColumnBatch): Promise<void>
  /** After it, everything pushed is in the store. */
  flush(): Promise<void>
  /** Does now what may be put off: watermark, folding of the head, compaction, eviction. */
  advance(): Promise<void>
  /** Reads the whole plan of files into history lanes, before anything is pushed. */
  backfill(batches: readonly ColumnBatch[]): Promise<void>
  /**
   * Dies without warning and starts again on the same store. With `storeCall`, dies at that call to the store of a flush
   * begun now (counted from 0; a shorter flush ends well first). Returns for each log the first position that it must be
   * given again; a log not named goes on where it was.
   */
  crash(storeCall?: number): Promise<ReadonlyMap<string, number>>
  /** What a request answers, in the order of the plan's features. */
  features(key: readonly KeyPart[], asOfMs: number): Promise<readonly Answer[]>
  /**
   * Every stored row by the hex of its canonical key: merged over lanes, without run headers, compacted and evicted as of
   * the watermark. Rows that then hold neither a tile nor a raw event are left out.
   */
  rows(watermarkMs: number): Promise<ReadonlyMap<string, Uint8Array>>
  /** Outcomes of all logs (and the backfill) since the store was empty, where the engine counts them. */
  outcomes?(): Promise<Record<Verdict, number>>
  close(): Promise<void>
}

export interface Answer {
  readonly name: string
  readonly value: FeatureValue
  readonly status: FeatureStatus
}

export interface SubjectOptions {
  readonly plan: Plan
  /** Input logs that will be pushed to, by name. */
  readonly logs: readonly string[]
  /** Lanes that each log is spread over. */
  readonly lanes: number
  /** Creation instant of each log. */
  readonly notAfterMs: number
  /** What the wall clock is to show: behind every event. */
  readonly nowMs: number
  /** Times that history is authoritative for. */
  readonly covers?: readonly TimeRange[]
}

export type SubjectFactory = (options: SubjectOptions) => Promise<Subject>
