/**
 * AS SERVED: answers once more, out of the log, as they were given.
 *
 *   what was served: key, as-of, applied position of each lane's row
 *     -> each log through the walk again, with a stop at every such position   -> the row as it was then
 *     -> the rows of an answer's lanes                                         -> merged as of its instant
 *
 * A late event, a duplicate, an event that had not arrived: what the answer knew and what it didn't is in the positions, so the
 * values are those that were served, bit for bit. A lane that had no row then has none now.
 */
import { Merger } from '../engine/merger.ts'
import { loadCore } from '../engine/module.ts'
import type { FeatureStatus, FeatureValue, Plan } from '../model/plan.ts'
import type { GenerationLayout } from '../model/view-layout.ts'
import { findLogs, type LogsWanted, type ParityLog } from './parity-logs.ts'
import { Replay } from './parity-replay.ts'

export interface ServedVector {
  /** Canonical. */
  readonly key: Uint8Array
  readonly asOfMs: number
  /** The lanes that had a row, and up to which position of its log it was applied. */
  readonly applied: readonly { readonly lane: string; readonly applied: number }[]
}

export interface AsServedOptions extends LogsWanted {
  /** The generation that was served from. */
  readonly generation: GenerationLayout
  readonly vectors: readonly ServedVector[]
  readonly signal?: AbortSignal
}

export interface AsServedAnswer {
  /** By index of the plan's features. */
  readonly values: readonly FeatureValue[]
  readonly statuses: readonly FeatureStatus[]
  /** Lanes whose log was not given, or does not go so far: without them the values mean nothing. */
  readonly missing: readonly string[]
}

/**
 * In the order of the vectors. Each log is read once; memory holds a row for each vector and lane. Throws SOURCE_NOT_FOUND,
 * SOURCE_CORRUPT, MIRROR_INVALID, COLUMN_*.
 */
export async function answersAsServed(options: AsServedOptions): Promise<AsServedAnswer[]> {
  const { plan, generation, vectors } = options
  const { logs } = await findLogs(options, generation)
  const rows = vectors.map((): Uint8Array[] => [])
  const missing = vectors.map(() => new Set<string>())
  const known = new Map(logs.flatMap((log) => log.lanes.map((lane) => [lane, log] as const)))
  const stops = new Map<ParityLog, Map<number, number[]>>()
  for (const [i, { applied }] of vectors.entries()) {
    for (const { lane, applied: position } of applied) {
      const log = known.get(lane)
      if (log === undefined || position > log.end) missing[i]!.add(lane)
      else addStop(stops, log, position, i)
    }
  }
  for (const [log, vectorsAt] of stops) {
    const replay = await Replay.open({
      plan,
      source: log.source,
      sample: { of: 1, index: 0 },
      notAfterMs: log.notAfterMs,
      takes: log.takes,
      completeSinceMs: generation.completeSinceMs ?? 0,
      start: log.start,
    })
    const positions = [...vectorsAt.keys()].sort((a, b) => a - b)
    await replay.run(positions, options.signal, async (position) => {
      const own = vectorsAt.get(position)!
      const found = await replay.rowsOf(own.map((i) => vectors[i]!.key))
      for (const [at, i] of own.entries()) {
        const row = found[at]
        if (row === undefined) missing[i]!.add(log.lanes[0]!)
        else rows[i]!.push(row)
      }
    })
  }
  options.signal?.throwIfAborted()
  return mergeAll(plan, vectors, rows, missing)
}

function addStop(stops: Map<ParityLog, Map<number, number[]>>, log: ParityLog, position: number, vector: number): void {
  const own = stops.get(log) ?? new Map<number, number[]>()
  stops.set(log, own)
  const at = own.get(position)
  if (at) at.push(vector)
  else own.set(position, [vector])
}

/** Vectors of one call of the merger. */
const MERGED_AT_ONCE = 1000

function mergeAll(
  plan: Plan,
  vectors: readonly ServedVector[],
  rows: readonly (readonly Uint8Array[])[],
  missing: readonly ReadonlySet<string>[],
): AsServedAnswer[] {
  const merger = Merger.create(loadCore(), plan)
  const answers: AsServedAnswer[] = []
  for (let from = 0; from < vectors.length; from += MERGED_AT_ONCE) {
    const some = vectors.slice(from, from + MERGED_AT_ONCE)
    merger.begin(
      some.length,
      Float64Array.from(some, ({ asOfMs }) => asOfMs),
    )
    for (const i of some.keys()) for (const row of rows[from + i]!) merger.addRow(i, row)
    merger.run()
    for (const i of some.keys()) {
      answers.push({
        values: plan.features.map((_, feature) => merger.value(i, feature)),
        statuses: plan.features.map((_, feature) => merger.status(i, feature)),
        missing: [...missing[from + i]!],
      })
    }
  }
  return answers
}
