/**
 * Forgetting an entity, on the side of whoever asks: the request goes onto the list, then each lane that may hold the
 * entity, in every generation of the views, has to say in its record that it is done. erase.ts says what that means.
 *
 *   lane that was never begun              nothing is stored, and whoever begins it reads the list first
 *   lane with an owner                     its idle check does it, within seconds: we wait
 *   lane that nobody can own but us        history that is complete, any lane of a store that only we write to: we take
 *                                          the lane, erase, leave
 *   lane whose owner does not answer       is reported; taken if we are told to. A live owner is fenced by that, once, and
 *                                          its worker takes the lane again
 */
import type { CoreModule } from '../engine/module.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import {
  type GenerationLayout,
  historyLane,
  lanesOfEntity,
  liveLane,
  startOf,
  type ViewLayout,
} from '../model/view-layout.ts'
import { type EraseEntry, requestErase } from '../registry/erase.ts'
import type { LayoutSeat } from '../registry/layouts.ts'
import { isRoutedLog } from '../registry/routes.ts'
import type { LaneName } from '../store/port.ts'
import { Ingest, type IngestSpec } from './ingest.ts'

export interface ForgetOptions {
  readonly seat: LayoutSeat
  /** Views that shall forget; their entity has one form. */
  readonly plans: readonly Plan[]
  /** All views there are: those that share a state share its rows. */
  readonly allPlans?: readonly Plan[]
  readonly key: Uint8Array
  readonly clock: () => number
  readonly core: CoreModule
  /** A text that no other taker of a lane uses. */
  readonly nonce: () => string
  /** No other process can own lanes. */
  readonly alone: boolean
  /** Take lanes whose owner has not answered in time. */
  readonly takeSilent?: boolean
  /** How long owners are waited for. */
  readonly waitMs?: number
  /** Owners in this process look at the list now. */
  readonly nudge?: () => Promise<void>
}

/**
 * - `erased`: done
 * - `absent`: nothing was ever stored in the lane
 * - `waiting`: its owner has not said that it is done, or there is none; it will be done when somebody owns the lane
 * - `failed`: it could not be taken
 */
export interface ForgottenLane {
  readonly name: LaneName
  readonly outcome: 'erased' | 'absent' | 'waiting' | 'failed'
  readonly error?: TilefoldError
}

export interface ForgetReport {
  readonly entry: EraseEntry
  readonly lanes: readonly ForgottenLane[]
}

interface HeldLane {
  readonly name: LaneName
  readonly spec: IngestSpec
  /** Complete: no worker owns it any more. */
  readonly isSettled: boolean
}

const WAIT_MS = 15_000
const LOOK_MS = 200

/** Throws STORE_UNAVAILABLE; the request may then stand or not, and can be made again. */
export async function forget(options: ForgetOptions): Promise<ForgetReport> {
  const { seat, plans, key, clock, nudge } = options
  const states = [...new Set(plans.map((plan) => plan.stateHash))]
  const sharing = (options.allPlans ?? plans).filter((plan) => states.includes(plan.stateHash))
  const views = [...new Set([...plans, ...sharing].map((plan) => plan.view))]
  const entry = await requestErase(seat, { views, states, key: Buffer.from(key).toString('hex'), atMs: clock() })
  await nudge?.()
  const held = await lanesHolding(seat, views, key)
  const lanes = new Map(held.map((lane) => [lane, { name: lane.name, outcome: 'waiting' } as ForgottenLane]))
  const waiting = () => held.filter((lane) => lanes.get(lane)!.outcome === 'waiting')
  const look = async () => {
    for (const lane of waiting()) {
      const record = await seat.store.readLane(lane.name)
      const isDone = (record?.erased ?? 0) >= entry.number
      if (record === undefined || isDone) {
        lanes.set(lane, { name: lane.name, outcome: isDone ? 'erased' : 'absent' })
      }
    }
  }

  await look()
  for (const lane of waiting()) {
    if (options.alone || lane.isSettled) lanes.set(lane, await take(lane, options))
  }
  const deadline = performance.now() + (options.waitMs ?? WAIT_MS)
  while (waiting().length > 0 && performance.now() < deadline) {
    await new Promise((wake) => setTimeout(wake, LOOK_MS))
    await look()
  }
  if (options.takeSilent) for (const lane of waiting()) lanes.set(lane, await take(lane, options))
  return { entry, lanes: [...lanes.values()] }
}

/** An ingest honours the list when it opens, and holds nothing back afterwards. */
async function take(lane: HeldLane, { seat, core, clock, nonce }: ForgetOptions): Promise<ForgottenLane> {
  const { name, spec } = lane
  try {
    await Ingest.open(spec, { store: seat.store, core, clock, nonce: nonce() })
    return { name, outcome: 'erased' }
  } catch (error) {
    if (error instanceof TilefoldError) return { name, outcome: 'failed', error }
    throw error
  }
}

async function lanesHolding(seat: LayoutSeat, views: readonly string[], key: Uint8Array): Promise<HeldLane[]> {
  const found = new Map<string, HeldLane>()
  for (const view of views) {
    const text = await seat.store.readLayout(seat.namespace, view)
    const layout = text === undefined ? undefined : (JSON.parse(text) as ViewLayout)
    for (const generation of layout?.generations ?? []) {
      for (const lane of lanesOfEntity(generation, key)) {
        const id = `${generation.stateHash}/${generation.generation}/${lane}`
        const held = heldLane(seat.namespace, view, layout!, generation, lane)
        if (held !== undefined) found.set(id, held)
      }
    }
  }
  return [...found.values()]
}

/** Undefined for a lane of a partition that the layout counts and nobody has opened. */
function heldLane(
  namespace: string,
  view: string,
  layout: ViewLayout,
  held: GenerationLayout,
  lane: string,
): HeldLane | undefined {
  const { stateHash, generation, state, history, logs, completeSinceMs = 0 } = held
  const common = {
    view,
    state,
    stateHash,
    namespace,
    generation,
    completeSinceMs,
    layoutVersion: layout.version,
    deltaBytesMax: Number.MAX_SAFE_INTEGER,
  }
  const name = { namespace, stateHash, generation, lane }
  const ofHistory = Array.from({ length: history.lanes }, (_, i) => historyLane(i))
  if (ofHistory.includes(lane)) {
    const shares = { lanes: ofHistory, shard: ofHistory.indexOf(lane), shards: ofHistory.length }
    const spec = { ...common, ...shares, log: history.log ?? '', notAfterMs: 0, isHistory: true }
    return { name, spec, isSettled: history.endPosition !== undefined }
  }
  for (const { name: log, shards, notAfterMs } of logs) {
    const lanes = Array.from({ length: shards }, (_, i) => liveLane(log, i))
    const shard = lanes.indexOf(lane)
    if (shard < 0) continue
    const isRouted = isRoutedLog(held, log)
    const start = startOf(held, log)
    const spec = { ...common, lanes, shard, shards, log, notAfterMs, start, isHistory: false, isRouted }
    return { name, spec, isSettled: false }
  }
  return undefined
}
