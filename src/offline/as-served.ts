/**
 * AS SERVED: answers once more, out of the log, as they were given.
 *
 *   what was served: key, as-of, applied position of each lane's row
 *     -> each log through the walk again, with a stop at every such position   -> the row as it was then
 *     -> the rows of an answer's lanes                                         -> merged as of its instant
 *
 * A late event, a duplicate, an event that had not arrived: what the answer knew and what it didn't is in the positions, so the
 * values are those that were served, bit for bit. A lane that had no row then has none now. Frontiers are held back before the
 * earliest instant that is still to be answered: which flush had moved them how far does not show.
 */
import { Merger } from '../engine/merger.ts'
import { loadCore } from '../engine/module.ts'
import type { FeatureStatus, FeatureValue, Plan } from '../model/plan.ts'
import type { GenerationLayout } from '../model/view-layout.ts'
import { refuseRouted } from '../registry/routes.ts'
import { findLogs, type LogsWanted, type ParityLog, POSITIONS_DIFFER } from './parity-logs.ts'
import { Replay } from './parity-replay.ts'

export interface ServedVector {
  /** Canonical. */
  readonly key: Uint8Array
  readonly asOfMs: number
  /** The lanes that had a row, and up to which position of its log it was applied. */
  readonly applied: readonly { readonly lane: string; readonly applied: number }[]
  /** The lanes are those that may have had a row: one that has none at its position is no loss. */
  readonly isModel?: boolean
}

export interface AsServedOptions extends LogsWanted {
  /** The generation that was served from. */
  readonly generation: GenerationLayout
  readonly vectors: readonly ServedVector[]
  /** By the hex of their keys, from which event time on events of these entities count. */
  readonly forgotten?: ReadonlyMap<string, number>
  readonly signal?: AbortSignal
}

export interface AsServedAnswer {
  /** By index of the plan's features. */
  readonly values: readonly FeatureValue[]
  readonly statuses: readonly FeatureStatus[]
  /** Lanes whose log was not given, or does not go so far: without them the values mean nothing. */
  readonly missing: readonly string[]
  /** Lanes that had a row, and by their log should have had none. */
  readonly absent: readonly string[]
}

/** What the lanes of one vector give. */
interface Found {
  readonly rows: Uint8Array[]
  readonly missing: Set<string>
  readonly absent: Set<string>
}

const RECOMPUTED = `${POSITIONS_DIFFER}; take the logged values (tilefold training-set --as-served --from-log)`

/** Vectors for which a log is read once: so many rows are held, and one more for each further lane. */
const VECTORS_AT_ONCE = 100_000

/**
 * In the order of the vectors. Each log is read once for every 100,000 of them; memory holds a row for each vector and lane.
 * Throws SOURCE_NOT_FOUND, SOURCE_CORRUPT, MIRROR_INVALID, COLUMN_*, CONFIG_INVALID for a generation that is routed.
 */
export async function answersAsServed(options: AsServedOptions): Promise<AsServedAnswer[]> {
  const { plan, generation, vectors, signal } = options
  // Answers without a row need no log.
  const isAnyApplied = vectors.some(({ applied }) => applied.length > 0)
  if (isAnyApplied) refuseRouted(generation, `recompute what view ${plan.view} served`, RECOMPUTED)
  const logs = isAnyApplied ? (await findLogs(options, generation)).logs : []
  const answers: AsServedAnswer[] = []
  for (let from = 0; from < vectors.length; from += VECTORS_AT_ONCE) {
    const some = vectors.slice(from, from + VECTORS_AT_ONCE)
    const found = some.map((): Found => ({ rows: [], missing: new Set(), absent: new Set() }))
    for (const [log, stops] of stopsOf(logs, some, found)) await replayLog(options, log, stops, some, found)
    signal?.throwIfAborted()
    for (const answer of mergeAll(plan, some, found)) answers.push(answer)
  }
  return answers
}

/** Vectors by the position of the log that each of them is to be taken at. */
type Stops = Map<number, number[]>

function stopsOf(
  logs: readonly ParityLog[],
  vectors: readonly ServedVector[],
  found: readonly Found[],
): Map<ParityLog, Stops> {
  const known = new Map(logs.flatMap((log) => log.lanes.map((lane) => [lane, log] as const)))
  const stops = new Map<ParityLog, Stops>()
  for (const [i, { applied }] of vectors.entries()) {
    for (const { lane, applied: position } of applied) {
      const log = known.get(lane)
      if (log === undefined || position > log.end) {
        found[i]!.missing.add(lane)
        continue
      }
      const own = stops.get(log) ?? new Map<number, number[]>()
      stops.set(log, own)
      const at = own.get(position)
      if (at) at.push(i)
      else own.set(position, [i])
    }
  }
  return stops
}

async function replayLog(
  { plan, generation, forgotten, signal }: AsServedOptions,
  log: ParityLog,
  stops: Stops,
  vectors: readonly ServedVector[],
  found: readonly Found[],
): Promise<void> {
  const positions = [...stops.keys()].sort((a, b) => a - b)
  const held = earliestFrom(positions, stops, vectors)
  let next = 0
  const replay = await Replay.open({
    plan,
    source: log.source,
    sample: { of: 1, index: 0 },
    notAfterMs: log.notAfterMs,
    takes: log.takes,
    completeSinceMs: generation.completeSinceMs ?? 0,
    start: log.start,
    ...(forgotten && { forgotten }),
    heldMs: () => held[next]!,
  })
  await replay.run(positions, signal, async (position) => {
    const own = stops.get(position)!
    const rows = await replay.rowsOf(own.map((i) => vectors[i]!.key))
    for (const [at, i] of own.entries()) {
      const row = rows[at]
      if (row !== undefined) found[i]!.rows.push(row)
      else if (!vectors[i]!.isModel) found[i]!.absent.add(laneOf(log, vectors[i]!))
    }
    next = Math.min(next + 1, positions.length - 1)
  })
}

function laneOf({ lanes }: ParityLog, { applied }: ServedVector): string {
  return applied.find(({ lane }) => lanes.includes(lane))!.lane
}

/** For each position the earliest instant that is asked about there or behind it. */
function earliestFrom(positions: readonly number[], stops: Stops, vectors: readonly ServedVector[]): Float64Array {
  const earliest = new Float64Array(positions.length)
  let soFar = Number.MAX_SAFE_INTEGER
  for (let i = positions.length - 1; i >= 0; i--) {
    for (const vector of stops.get(positions[i]!)!) soFar = Math.min(soFar, vectors[vector]!.asOfMs)
    earliest[i] = soFar
  }
  return earliest
}

/** Vectors of one call of the merger. */
const MERGED_AT_ONCE = 1000

function mergeAll(plan: Plan, vectors: readonly ServedVector[], found: readonly Found[]): AsServedAnswer[] {
  const merger = Merger.create(loadCore(), plan)
  const answers: AsServedAnswer[] = []
  for (let from = 0; from < vectors.length; from += MERGED_AT_ONCE) {
    const some = vectors.slice(from, from + MERGED_AT_ONCE)
    merger.begin(
      some.length,
      Float64Array.from(some, ({ asOfMs }) => asOfMs),
    )
    for (const i of some.keys()) for (const row of found[from + i]!.rows) merger.addRow(i, row)
    merger.run()
    for (const i of some.keys()) {
      const { missing, absent } = found[from + i]!
      answers.push({
        values: plan.features.map((_, feature) => merger.value(i, feature)),
        statuses: plan.features.map((_, feature) => merger.status(i, feature)),
        missing: [...missing],
        absent: [...absent],
      })
    }
  }
  return answers
}
