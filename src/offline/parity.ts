/** Rows of a view against its mirror, as the command and programs ask for it; parity-run.ts does the work. */
import type { CoreModule } from '../engine/module.ts'
import type { Plan } from '../model/plan.ts'
import type { LayoutSeat } from '../registry/layouts.ts'
import type { ParityFiles } from './parity-logs.ts'
import { type RunReport, runParity } from './parity-run.ts'

export interface ParityOptions {
  readonly seat: LayoutSeat
  readonly plan: Plan
  /** Directory of the mirror. */
  readonly dir: string
  readonly core?: CoreModule
  /** Milliseconds since the epoch. */
  readonly clock: () => number
  /** Share of the entities, by a hash of their keys; all unless told. */
  readonly sample?: number
  /** Which of the shares: a canary goes through them. */
  readonly share?: number
  /** Topic of the view's events, where it isn't named like them. */
  readonly topic?: string
  /** Only this entity. */
  readonly key?: Uint8Array
  /** The files that history was folded from. */
  readonly history?: ParityFiles
  /** The one that is served unless told. */
  readonly generation?: number
  /** For values; now unless told. */
  readonly asOfMs?: number
  readonly memoryBytes?: number
  readonly onProgress?: (progress: { readonly recordsDone: number; readonly recordsTotal: number }) => void
  readonly signal?: AbortSignal
}

export interface RowDifference {
  readonly key: Uint8Array
  readonly lane: string
  /** Up to here the log was read for it. */
  readonly position: number
  /** At one frontier; absent where there is none. */
  readonly stored?: Uint8Array
  readonly expected?: Uint8Array
}

export interface ParityReport {
  readonly compared: number
  readonly equal: number
  readonly mismatched: number
  readonly missing: number
  readonly extra: number
  /** Entities whose values were compared. */
  readonly entities: number
  /** Rows of entities that were asked to be forgotten. */
  readonly forgotten: number
  /** Rows that are ahead of the mirror. */
  readonly unverified: number
  readonly records: number
  /** Lanes that nothing was given for. */
  readonly unchecked: readonly string[]
  readonly differences: readonly RowDifference[]
}

/** Throws what `runParity` throws. */
export async function compareWithMirror(options: ParityOptions): Promise<ParityReport> {
  const { seat, plan, dir, clock, sample = 1, share = 0, topic, onProgress, signal } = options
  const differences: RowDifference[] = []
  const report: RunReport = await runParity({
    seat,
    plan,
    mirror: dir,
    ...(topic === undefined ? {} : { topics: new Map([[plan.state.source, topic]]) }),
    sample: { of: Math.max(1, Math.round(1 / sample)), index: share },
    asOfMs: options.asOfMs ?? clock(),
    ...(options.key && { key: options.key }),
    ...(options.history && { history: options.history }),
    ...(options.generation === undefined ? {} : { generation: options.generation }),
    ...(options.memoryBytes === undefined ? {} : { memoryBytes: options.memoryBytes }),
    ...(signal && { signal }),
    onRecords: (recordsDone) => onProgress?.({ recordsDone, recordsTotal: recordsDone }),
    onFinding: ({ key, lane = 'values', position = -1, stored, recomputed }) =>
      differences.push({ key, lane, position, ...(stored && { stored }), ...(recomputed && { expected: recomputed }) }),
  })
  signal?.throwIfAborted()
  const { compared, equal, mismatched, missing, extra, entities, forgotten, ahead, records, unchecked } = report
  return {
    compared,
    equal,
    mismatched,
    missing,
    extra,
    entities,
    forgotten,
    unverified: ahead,
    records,
    unchecked,
    differences,
  }
}
