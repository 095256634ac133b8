/**
 * The layout of a view: which generation is served, and every lane that may hold an entity. A small versioned JSON value
 * in the store, written before its lanes are first used; readers re-read it when a row is newer than what they know.
 */
import type { TimeRange } from './covers.ts'
import { laneHash, partitionHash } from './key.ts'
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
  /** The highest number that a generation has had: one that was dropped leaves rows until they are collected. */
  readonly highest?: number
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
    /** Its creation instant, which bounds the late clock of files without record times; absent in older layouts. */
    readonly notAfterMs?: number
    /** Rows of the plan of files; set when all of them are in. */
    readonly endPosition?: number
    /** Final lane sequences, compared by the live lanes' idle check: a lower one means that history was lost. */
    readonly sequences?: readonly number[]
    /** It was complete, and a part of it was lost since: answers say so until a backfill of the same files is done. */
    readonly isReopened?: true
  }
  /**
   * Event times for which the history lanes are authoritative, ascending and apart; fixed before any lane is written. Absent:
   * every lane takes every event, and what files and logs both hold counts twice.
   */
  readonly covers?: readonly TimeRange[]
  /** Windows that start before this are `incomplete`; undefined = complete since ever. */
  readonly completeSinceMs?: number
  /** Live input logs. `notAfterMs` bounds the late clock of a log without record times: its creation instant. */
  readonly logs: readonly { readonly name: string; readonly shards: number; readonly notAfterMs: number }[]
  /**
   * Where its live lanes start, fixed when it was begun; a log that isn't named starts at 0. Clocks and duplicates begin empty there.
   * Absent: each log starts with what it holds when it is first opened.
   */
  readonly starts?: readonly LogStart[]
  /** Its live events come by way of a router, which keys them by the view's entity; fixed before its first live event. */
  readonly route?: RouteLayout
  /** Entities that the router spreads over several lanes, and those that it once did; written before their first use. */
  readonly salts?: readonly SaltLayout[]
  /** Topics that their producers key by the view's entity: an entity is then in one of the topic's logs, not in all. */
  readonly topics?: readonly TopicLayout[]
}

export interface RouteLayout {
  /** The topic that is routed, */
  readonly source: string
  /** into this one, whose partitions are the live lanes. */
  readonly topic: string
  readonly lanes: number
}

export interface SaltLayout {
  /** Canonical key, hex. */
  readonly key: string
  /** The most lanes that have held it: its own, by hash, and those behind it. Never less. */
  readonly width: number
  /** Lanes that it is written to now. */
  readonly active: number
}

export interface LogStart {
  readonly log: string
  /** Of the first record that counts. */
  readonly position: number
}

export interface TopicLayout {
  readonly name: string
  /** What producers choose the partition by: the only one that is known, Kafka's own. */
  readonly partitioner: 'murmur2'
  /** How many partitions there have been, ascending: after a growth an entity may be in one partition for each count. */
  readonly partitions: readonly number[]
}

export function generationOf(layout: ViewLayout, stateHash: string, generation: number): GenerationLayout | undefined {
  return layout.generations.find((each) => each.stateHash === stateHash && each.generation === generation)
}

/** Where the generation's lanes of a log have to start; undefined: with what the log holds. */
export function startOf({ starts }: Pick<GenerationLayout, 'starts'>, log: string): number | undefined {
  return starts && (starts.find((each) => each.log === log)?.position ?? 0)
}

/** Windows that start before it are incomplete: all of them while a part of history is missing. */
export function completeSinceOf({ history, completeSinceMs }: GenerationLayout): number {
  if (history.isReopened) return Number.POSITIVE_INFINITY
  return completeSinceMs ?? Number.NEGATIVE_INFINITY
}

/** Lanes to choose one from for each entity. */
export interface LaneGroup {
  readonly lanes: readonly string[]
  readonly by: 'lane' | 'partition'
  /** A router fills them: `salts` says which entities are in more than one. */
  readonly isRouted?: true
}

/** Every lane is in a group, and an entity can only be in the lane that `choose` says of each: history first. */
export function laneGroups({ history, logs, route, topics = [] }: GenerationLayout): LaneGroup[] {
  const groups: LaneGroup[] = []
  const upTo = (count: number, name: (index: number) => string) => Array.from({ length: count }, (_, i) => name(i))
  if (history.lanes > 0) groups.push({ lanes: upTo(history.lanes, historyLane), by: 'lane' })
  for (const { name, partitions } of topics) {
    for (const count of partitions) {
      const lanes = upTo(count, (partition) => liveLane(logOfPartition(name, partition), 0))
      groups.push({ lanes, by: 'partition', ...(name === route?.topic && { isRouted: true }) })
    }
  }
  const keyed = new Set(groups.flatMap((group) => group.lanes))
  for (const { name, shards } of logs) {
    if (keyed.has(liveLane(name, 0))) continue
    groups.push({ lanes: upTo(shards, (shard) => liveLane(name, shard)), by: 'lane' })
  }
  return groups
}

/** Names of every lane that may hold the entity, each once. */
export function lanesOfEntity(generation: GenerationLayout, key: Uint8Array): string[] {
  const chosen = laneGroups(generation).flatMap(({ lanes, by, isRouted }) => {
    const hash = by === 'lane' ? laneHash(key) : partitionHash(key)
    const width = isRouted ? (saltWidths(generation).get(saltKey(key)) ?? 1) : 1
    return Array.from({ length: width }, (_, i) => saltedLane(hash, i, lanes))
  })
  return [...new Set(chosen)]
}

/** Lanes of each entity that is or was in more than one, by `saltKey`. */
export function saltWidths({ salts = [] }: GenerationLayout): ReadonlyMap<string, number> {
  return new Map(salts.map(({ key, width }) => [key, width]))
}

export function saltKey(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.length).toString('hex')
}

/** The entity's own lane, and the i-th behind it. */
export function saltedLane<T>(hash: number, i: number, lanes: readonly T[]): T {
  return lanes[((hash % lanes.length) + i) % lanes.length]!
}

/** The log of a topic's partition. */
export function logOfPartition(topic: string, partition: number): string {
  return `${topic}.${partition}`
}

/** Is it one of the topic's partitions? */
export function isLogOf(topic: string, log: string): boolean {
  return log.startsWith(`${topic}.`) && /^\d+$/.test(log.slice(topic.length + 1))
}

export function historyLane(index: number): string {
  return `h${index}`
}

export function liveLane(log: string, shard: number): string {
  return `${log}.${shard}`
}
