/** From a generation's layout to the ingests of one live log. */
import { takenTimes } from '../model/covers.ts'
import type { Plan } from '../model/plan.ts'
import { liveLane, startOf } from '../model/view-layout.ts'
import type { OpenGeneration } from '../registry/layouts.ts'
import type { IngestSpec } from './ingest.ts'

export interface LiveShares {
  /** Ingests that the log's lanes are spread over. */
  readonly shards: number
  /** Bytes that may wait for a flush, per ingest. */
  readonly deltaBytesMax: number
  readonly keyedBy?: IngestSpec['keyedBy']
  readonly ledgerMs?: number | undefined
  readonly isRouted?: boolean
}

/** One spec per ingest; the log is in the layout (registry `openLog`). */
export function liveSpecs(
  namespace: string,
  plan: Plan,
  log: string,
  { layout, generation }: OpenGeneration,
  { shards, deltaBytesMax, keyedBy, ledgerMs, isRouted }: LiveShares,
): IngestSpec[] {
  const { shards: laneCount, notAfterMs } = generation.logs.find((each) => each.name === log)!
  const lanes = Array.from({ length: laneCount }, (_, i) => liveLane(log, i))
  const start = startOf(generation, log)
  return Array.from({ length: shards }, (_, shard) => ({
    view: plan.view,
    state: plan.state,
    stateHash: plan.stateHash,
    namespace,
    generation: generation.generation,
    log,
    lanes,
    shard,
    shards,
    notAfterMs,
    completeSinceMs: generation.completeSinceMs ?? 0,
    layoutVersion: layout.version,
    deltaBytesMax,
    isHistory: false,
    takes: takenTimes(generation.covers, false),
    keyedBy,
    ...(isRouted && { isRouted }),
    ...(start === undefined ? {} : { start }),
    ...(ledgerMs === undefined ? {} : { ledgerMs }),
  }))
}

/** Two views of one state whose readers see different generations have rows of their own. */
export function sharesRows(
  spec: Pick<IngestSpec, 'stateHash' | 'generation'>,
  generation: Pick<OpenGeneration['generation'], 'stateHash' | 'generation'>,
): boolean {
  return spec.stateHash === generation.stateHash && spec.generation === generation.generation
}
