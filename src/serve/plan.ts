/**
 * What to read, decided before anything is: a pure function of the request and the layouts.
 *
 *                    window [start, as-of) of one feature, start = floor(as-of − length, tail step)
 *
 *        start                                                                       as-of
 *          │◄── tail ──►│◄───────────────── body ─────────────────►│◄──── head ────►│
 *          ├──┬──┬──┬──┬┼───────────┬───────────┬───────────┬──┬──┬┼ · ·· · ··· ·  ·┤
 *           fine tiles   coarse tiles, as large as fit       fine    raw events (or the head's own fine tiles)
 *
 * Nothing of this cover is chosen here: each row knows how far its own levels reach, and the core walks them from the
 * newest to the oldest, all windows of the view in one sweep. What the host has to know is only where the rows are:
 * one per lane that may hold the entity, history and live alike, each a partial answer that merges with the others.
 *
 *   request row ─► join keys ─► canonical key ─► hash ─► one lane of each group ─► one row to read
 */
import { TilefoldError } from '../model/errors.ts'
import { encodeKey, laneHash, partitionHash } from '../model/key.ts'
import type { Plan, WindowPlan } from '../model/plan.ts'
import { floorTo } from '../model/time.ts'
import { saltedLane, saltKey } from '../model/view-layout.ts'
import type { LaneName, RowRead } from '../store/port.ts'
import { type FeatureRequest, invalid, show } from './api.ts'
import type { ServedView } from './catalog.ts'
import type { ViewTarget } from './target.ts'

export interface ReadPlan {
  /** One per slot (distinct view) of the request. */
  readonly slots: readonly SlotPlan[]
  /** Slot by slot, entity by entity, lane by lane. */
  readonly reads: RowRead[]
  /** The entity that each read is for. */
  readonly readers: readonly number[]
}

export interface SlotPlan {
  readonly view: ServedView
  readonly target: ViewTarget
  /** Canonical, by entity. */
  readonly keys: EntityKeys
  /** The slot's reads begin here, and end where the next slot's begin. */
  readonly firstRead: number
}

/** Throws REQUEST_INVALID naming the row and the key part. */
export function planRead(request: FeatureRequest, targets: readonly ViewTarget[]): ReadPlan {
  const slots: SlotPlan[] = []
  const reads: RowRead[] = []
  const readers: number[] = []
  const encoded = new Map<number, EntityKeys>()
  for (let slot = 0; slot < request.views.length; slot++) {
    const view = request.views[slot]!
    const target = targets[slot]!
    let keys = encoded.get(view.keysOf)
    if (keys === undefined) {
      keys = encodeKeys(view.plan, request.entities)
      encoded.set(view.keysOf, keys)
    }
    slots.push({ view, target, keys, firstRead: reads.length })
    addReads(reads, readers, target, keys)
  }
  return { slots, reads, readers }
}

/** Indexes and no iterators, and no hash where there is nothing to choose: this runs for every entity of every request. */
function addReads(reads: RowRead[], readers: number[], target: ViewTarget, keys: EntityKeys): void {
  const { groups, salts } = target
  const byLane = groups.some(({ lanes, by }) => by === 'lane' && lanes.length > 1)
  const byPartition = groups.some(({ lanes, by }) => by === 'partition' && lanes.length > 1)
  for (let entity = 0; entity < keys.length; entity++) {
    const key = keys[entity]!
    const hash = byLane ? laneHash(key) : 0
    const partition = byPartition ? partitionHash(key) : 0
    const first = reads.length
    for (let i = 0; i < groups.length; i++) {
      const { lanes, by, isRouted } = groups[i]!
      const lane = lanes[(by === 'lane' ? hash : partition) % lanes.length]!
      // A topic that has grown may keep an entity where it was.
      if (by === 'partition' && isAmong(reads, first, lane)) continue
      reads.push({ lane, key })
      readers.push(entity)
      const width = isRouted && salts.size > 0 ? (salts.get(saltKey(key)) ?? 1) : 1
      for (let more = 1; more < width; more++) {
        reads.push({ lane: saltedLane(partition, more, lanes), key })
        readers.push(entity)
      }
    }
  }
}

function isAmong(reads: readonly RowRead[], first: number, { lane }: LaneName): boolean {
  for (let i = first; i < reads.length; i++) if (reads[i]!.lane.lane === lane) return true
  return false
}

type EntityKeys = readonly Uint8Array[]

function encodeKeys(plan: Plan, entities: FeatureRequest['entities']): EntityKeys {
  const parts = plan.state.entity
  const keys = new Array<Uint8Array>(entities.length)
  const values = new Array<unknown>(parts.length)
  for (let entity = 0; entity < entities.length; entity++) {
    const row = entities[entity]!
    for (let part = 0; part < parts.length; part++) {
      const { name } = parts[part]!
      const value = row[name]
      if (value === undefined || value === null || typeof value === 'object') throw badPart(plan, entity, name, value)
      values[part] = value
    }
    try {
      keys[entity] = encodeKey(parts, values)
    } catch (cause) {
      if (!(cause instanceof TilefoldError)) throw cause
      throw new TilefoldError(cause.code, `${cause.message}, in entities[${entity}]`, { view: plan.view, entity })
    }
  }
  return keys
}

function badPart(plan: Plan, entity: number, name: string, value: unknown): TilefoldError {
  return invalid(
    `entities[${entity}] has ${value === undefined ? 'no' : `${show(value)} for`} ${JSON.stringify(name)}, ` +
      `which view ${plan.view} is keyed by`,
    { view: plan.view, entity, key: name },
  )
}

/** Where a window as of `asOfMs` starts: aligned edges grow it by less than one tail step. */
export function windowStartMs(window: WindowPlan, asOfMs: number): number {
  return floorTo(asOfMs - window.lengthMs, window.tailStepMs)
}

/** Where it ends, exclusively: exactly at as-of, or at the sub-tile of the head that as-of lies in. */
export function windowEndMs(plan: Plan, asOfMs: number): number {
  return plan.state.head.kind === 'raw' ? asOfMs : floorTo(asOfMs, plan.state.ladder[0]!.stepMs)
}
