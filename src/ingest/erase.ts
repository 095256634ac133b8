/**
 * Forgetting an entity, on the side of a lane's owner. What is promised:
 *
 * - A request has a number and an instant (registry/erase.ts). From when a lane's owner has read it, the entity's events with an
 *   event time before the instant count no more in that lane: they are `filtered`. That holds for every way in, a late
 *   event, a replay, a backfill, a new generation: who opens a lane reads the whole list first.
 * - What the lane had accepted of the entity until then is erased, events between the instant and now included: its delta
 *   is dropped, its row replaced by a *tombstone*, the header with its applied position and not a tile or event behind it.
 *   Readers see an entity without events. What comes later, and is not older than the instant, counts again.
 * - Once. The write that ends the flush of the tombstones also notes the request's number in the lane record (`erased`), so
 *   it is all or nothing for the lane, it regresses with the rows, and the next owner knows what is done. A crash before
 *   that write: the next owner erases again, from further on or from not as far, before anybody has seen a later event
 *   in a row. A crash behind it: the replay skips, as always, what lies at or before a row's applied position, and a
 *   tombstone has one; it is where the erased events are remembered to have been.
 * - Counters are not rolled back: an event that was applied, then erased, stays counted as applied. Every record still
 *   has one outcome.
 * - Not touched: the log itself, dead letters and side output, files of the mirror, answers that were logged, and for its
 *   horizon the event ids of the dedupe set. The tombstone and the list keep the entity's key.
 *
 * Lanes are looked through one by one: a request is done when all of them say so (erase-request.ts waits for that).
 */
import type { Core } from '../engine/core.ts'
import { partitionHash } from '../model/key.ts'
import { concerns, lastErase, readErases } from '../registry/erase.ts'
import type { LayoutSeat } from '../registry/layouts.ts'
import type { Store } from '../store/port.ts'
import type { IngestSpec } from './ingest.ts'
import type { LaneOwner } from './lane.ts'

interface Forgotten {
  readonly key: Uint8Array
  /** The latest instant that was asked for. */
  readonly atMs: number
  /** Number of the last request. */
  readonly number: number
}

/** The erase list as one ingest knows it. */
export class Erasures {
  readonly #spec: IngestSpec
  readonly #seat: LayoutSeat
  readonly #core: Core
  readonly #owners: ReadonlyMap<number, LaneOwner>
  readonly #readApplied: (from: number) => Promise<void>
  readonly #forgotten = new Map<string, Forgotten>()
  #known = 0

  /** `readApplied`: reads what rows hold of the entities numbered from `from` on, for a replay. */
  constructor(
    spec: IngestSpec,
    store: Store,
    core: Core,
    owners: ReadonlyMap<number, LaneOwner>,
    readApplied: (from: number) => Promise<void>,
  ) {
    this.#spec = spec
    this.#seat = { store, namespace: spec.namespace }
    this.#core = core
    this.#owners = owners
    this.#readApplied = readApplied
  }

  /** Takes in what is new in the list; returns the lanes that have to be flushed for it. */
  async look(): Promise<ReadonlySet<number>> {
    const last = await lastErase(this.#seat)
    if (last <= this.#known) return new Set()
    const { view, stateHash } = this.#spec
    const entries = await readErases(this.#seat, this.#known, last)
    const fresh = new Map<string, Forgotten>()
    for (const entry of entries) {
      const key = Buffer.from(entry.key, 'hex')
      if (!concerns(entry, view, stateHash) || !this.#mayHold(key)) continue
      const atMs = Math.max(entry.atMs, this.#forgotten.get(entry.key)?.atMs ?? 0, fresh.get(entry.key)?.atMs ?? 0)
      fresh.set(entry.key, { key, atMs, number: entry.number })
    }
    for (const [hex, each] of fresh) this.#forgotten.set(hex, each)
    const entities = await this.#draw(fresh.values())
    this.#known = last
    for (const owner of this.#owners.values()) owner.noteErased(last)
    return this.#erase(entities)
  }

  /** Entity numbers were given anew. */
  async drawAgain(): Promise<void> {
    await this.#draw(this.#forgotten.values())
  }

  /** Only partitions that the entity may be in know it: elsewhere its key is a mistake to be noticed. */
  #mayHold(key: Uint8Array): boolean {
    const { keyedBy } = this.#spec
    if (keyedBy === undefined) return true
    const hash = partitionHash(key)
    return keyedBy.counts.some((count) => hash % count === keyedBy.partition)
  }

  async #draw(forgotten: Iterable<Forgotten>): Promise<Map<number, Forgotten>> {
    const from = this.#core.entityCount
    const entities = new Map<number, Forgotten>()
    for (const each of forgotten) entities.set(this.#core.forgetBefore(each.key, each.atMs), each)
    // Known from here on, they would not be looked up when a replay meets them.
    if (this.#core.entityCount > from) await this.#readApplied(from)
    return entities
  }

  async #erase(entities: ReadonlyMap<number, Forgotten>): Promise<ReadonlySet<number>> {
    const byLane = new Map<number, number[]>()
    for (const [entity, { number }] of entities) {
      const lane = this.#core.laneOf(entity)
      const owner = lane === undefined ? undefined : this.#owners.get(lane)
      if (owner === undefined || number <= (owner.record.erased ?? 0)) continue
      byLane.set(lane!, [...(byLane.get(lane!) ?? []), entity])
    }
    for (const [lane, own] of byLane) {
      const stored: boolean[] = []
      const keys = own.map((entity) => entities.get(entity)!.key)
      await this.#owners.get(lane)!.readRows(keys, (i, bytes) => {
        stored[i] = bytes !== undefined
      })
      for (const [i, entity] of own.entries()) this.#core.erase(entity, stored[i]!)
    }
    return new Set(byLane.keys())
  }
}
