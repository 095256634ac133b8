/**
 * The late clock of every state that takes a topic's events, along each partition's log.
 *
 * The core judges the records as it does in the stream: which of them advance the clock is its word, not a second
 * reading of the rules. The clock is a running maximum, and what it has reached changes nothing about which record
 * advances it. So one core serves all partitions: it starts at nothing with each batch, and the caller takes the maximum.
 */
import { Core } from '../engine/core.ts'
import { loadCore } from '../engine/module.ts'
import type { ColumnBatch } from '../model/columns.ts'
import type { Plan } from '../model/plan.ts'

/** Entity keys that a core keeps; they are only a cache. */
const ENTITIES_MAX = 100_000

export type Clocks = Readonly<Record<string, number>>

export class LateClocks {
  readonly #cores = new Map<string, Core>()

  constructor(plans: readonly Plan[]) {
    const shares = { lanes: 1, shard: 0, shards: 1, completeSinceMs: 0, layoutVersion: 0 }
    for (const { state, stateHash } of plans) {
      // Duplicates advance the clock as well, so ids need not be kept.
      const judged = { ...state, dedupe: undefined }
      if (!this.#cores.has(stateHash)) this.#cores.set(stateHash, new Core(loadCore(), judged, shares, 0))
    }
  }

  /** Where a log begins. */
  start(): Clocks {
    return Object.fromEntries([...this.#cores.keys()].map((stateHash) => [stateHash, -1]))
  }

  /** What is known of the states behind a file that was closed with `clocks`. */
  resume(clocks: Clocks): Clocks {
    return Object.fromEntries(
      [...this.#cores.keys()].flatMap((hash) => (hash in clocks ? [[hash, clocks[hash]!]] : [])),
    )
  }

  /** The clocks behind a batch. */
  advance(clocks: Clocks, batch: ColumnBatch): Clocks {
    const first = typeof batch.positions === 'number' ? batch.positions : batch.positions[0]!
    const advanced: Record<string, number> = {}
    for (const [stateHash, clock] of Object.entries(clocks)) {
      const core = this.#cores.get(stateHash)!
      core.startAt(first)
      core.prepare(batch)
      advanced[stateHash] = Math.max(clock, core.lateClockMs)
      if (core.entityCount > ENTITIES_MAX) core.forgetEntities()
    }
    return advanced
  }
}
