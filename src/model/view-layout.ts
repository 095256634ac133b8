/**
 * The layout of a view: which generation is served, and every lane that may hold an entity. A small versioned JSON value
 * in the store, written before its lanes are first used; readers re-read it when a row is newer than what they know.
 */
import { laneHash } from './key.ts'
import type { StatePlan } from './plan.ts'

export interface ViewLayout {
  readonly format: 1
  /** Grows with every change; rows carry the version they were written under. */
  readonly version: number
  /** Version of the hash that spreads entities over lanes. */
  readonly laneHash: 1
  /** What readers answer from; absent until a generation is complete enough to be seen. */
  readonly current?: { readonly stateHash: string; readonly generation: number }
  readonly generations: readonly GenerationLayout[]
}

export interface GenerationLayout {
  readonly stateHash: string
  readonly generation: number
  /** The state the rows were folded under, so that a changed definition can be told from it, field by field. */
  readonly state: StatePlan
  /** History lanes `h0..h(lanes-1)`, written by the backfill; 0 where the generation has no history. */
  readonly history: {
    readonly lanes: number
    readonly log?: string
    /** Rows of the plan of files; set when all of them are in. */
    readonly endPosition?: number
    /** Final lane sequences, compared by the live lanes' idle check: a lower one means that history was lost. */
    readonly sequences?: readonly number[]
  }
  /** Windows that start before this are `incomplete`; undefined = complete since ever. */
  readonly completeSinceMs?: number
  /** Live input logs. `notAfterMs` bounds the late clock of a log without record times: its creation instant. */
  readonly logs: readonly { readonly name: string; readonly shards: number; readonly notAfterMs: number }[]
}

export function generationOf(layout: ViewLayout, stateHash: string, generation: number): GenerationLayout | undefined {
  return layout.generations.find((each) => each.stateHash === stateHash && each.generation === generation)
}

/** Names of every lane that may hold the entity: one history lane and one shard of each live log. */
export function lanesOfEntity(generation: GenerationLayout, key: Uint8Array): string[] {
  const hash = laneHash(key)
  const lanes: string[] = []
  if (generation.history.lanes > 0) lanes.push(historyLane(hash % generation.history.lanes))
  for (const log of generation.logs) lanes.push(liveLane(log.name, hash % log.shards))
  return lanes
}

export function historyLane(index: number): string {
  return `h${index}`
}

export function liveLane(log: string, shard: number): string {
  return `${log}.${shard}`
}
