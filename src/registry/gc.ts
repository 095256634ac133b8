/**
 * States that are stored and that no layout names any more: what is left of views that were dropped, of definitions that were
 * changed, of generations that were replaced.
 *
 *   survey   every lane of the namespace, by (state hash, generation), and what the layouts say of each
 *   collect  layouts read again -> owners quiet? -> lanes taken, which fences whoever had them -> dropped, under that token
 *
 * A layout names a lane before the lane is written (layouts.ts), so a state that no layout names is nobody's, unless a layout
 * is being changed in this moment: therefore layouts are read once more behind the taking.
 */
import { TilefoldError } from '../model/errors.ts'
import type { ViewLayout } from '../model/view-layout.ts'
import type { LaneRecord, LaneSize, SweptStore, TakenLane } from '../store/port.ts'

/**
 * - `current`: a view is answered from it
 * - `named`: a layout names it: being built, or kept to go back to
 * - `retired`: no layout names it
 */
export type StateStanding = 'current' | 'named' | 'retired'

export interface StoredState {
  readonly stateHash: string
  readonly generation: number
  readonly standing: StateStanding
  /** Whose layouts name it. */
  readonly views: readonly string[]
  readonly lanes: readonly LaneSize[]
  readonly rows: number
  readonly bytes: number
}

export interface CollectOptions {
  readonly store: SweptStore
  readonly namespace: string
  readonly states: readonly StoredState[]
  /** An owner that writes within so long lives. */
  readonly quietMs: number
  /** Resolves after so long; rejects or resolves at once when the signal says stop. */
  readonly sleep: (ms: number) => Promise<void>
  /** A text that no other taker uses. */
  readonly nonce: string
  readonly signal?: AbortSignal
  readonly onProgress?: (keys: number) => void
}

export interface Collected {
  readonly lanes: number
  readonly keys: number
  /** Lanes that somebody took while they were dropped. */
  readonly taken: readonly string[]
  /** False where the signal stopped it. */
  readonly finished: boolean
}

/** By state hash and generation. */
export async function surveyStates(store: SweptStore, namespace: string): Promise<StoredState[]> {
  // Lanes first: a state that is new in between has its layout by then.
  const lanes = await store.listLanes(namespace)
  const named = await namedStates(store, namespace)
  const states = new Map<string, LaneSize[]>()
  for (const size of lanes) {
    const name = nameOf(size.lane)
    states.set(name, [...(states.get(name) ?? []), size])
  }
  return [...states]
    .map(([name, own]): StoredState => {
      const { stateHash, generation } = own[0]!.lane
      const { views = [], isCurrent = false } = named.get(name) ?? {}
      return {
        stateHash,
        generation,
        standing: isCurrent ? 'current' : views.length > 0 ? 'named' : 'retired',
        views,
        lanes: own,
        rows: own.reduce((sum, { rows }) => sum + rows, 0),
        bytes: own.reduce((sum, { bytes }) => sum + bytes, 0),
      }
    })
    .sort((a, b) => (a.stateHash < b.stateHash ? -1 : a.stateHash > b.stateHash ? 1 : a.generation - b.generation))
}

/** Drops states for good. Throws STATE_IN_USE where a layout names one, or an owner wrote a moment ago. */
export async function collectStates(options: CollectOptions): Promise<Collected> {
  const { store, namespace, states, quietMs, sleep, nonce, signal, onProgress } = options
  await refuseNamed(options)
  const lanes = states.flatMap((state) => state.lanes.map(({ lane }) => lane))
  const before = await Promise.all(lanes.map((lane) => store.readLane(lane)))
  await sleep(quietMs)
  if (signal?.aborted) return { lanes: 0, keys: 0, taken: [], finished: false }
  const after = await Promise.all(lanes.map((lane) => store.readLane(lane)))
  for (const [i, lane] of lanes.entries()) {
    if (isSame(before[i], after[i])) continue
    throw new TilefoldError(
      'STATE_IN_USE',
      `cannot delete state ${lane.stateHash}, generation ${lane.generation}: lane ${lane.lane} was written within the last ${quietMs} ms; stop the worker or engine that folds it`,
      { stateHash: lane.stateHash, generation: lane.generation, lane: lane.lane, namespace },
    )
  }
  const taken: TakenLane[] = []
  for (const lane of lanes) taken.push({ lane, token: (await store.takeLane(lane, nonce)).token })
  await refuseNamed(options)

  let keys = 0
  let gone = 0
  const lost: string[] = []
  for await (const step of store.dropLanes(taken)) {
    keys += step.keys
    if (step.end === 'gone') gone++
    if (step.end === 'taken') lost.push(step.lane.lane)
    onProgress?.(keys)
    if (signal?.aborted) break
  }
  return { lanes: gone, keys, taken: lost, finished: gone + lost.length === taken.length }
}

async function refuseNamed({ store, namespace, states }: CollectOptions): Promise<void> {
  const named = await namedStates(store, namespace)
  for (const state of states) {
    const views = named.get(nameOf(state))?.views
    if (views === undefined) continue
    throw new TilefoldError(
      'STATE_IN_USE',
      `cannot delete state ${state.stateHash}, generation ${state.generation}: the layout of ${views.join(', ')} names it`,
      { stateHash: state.stateHash, generation: state.generation, views },
    )
  }
}

interface NamedState {
  readonly views: readonly string[]
  readonly isCurrent: boolean
}

/** Throws STORE_FORMAT: what a layout of another format names, nobody can tell. */
async function namedStates(store: SweptStore, namespace: string): Promise<ReadonlyMap<string, NamedState>> {
  const named = new Map<string, NamedState>()
  for (const view of await store.listViews(namespace)) {
    const text = await store.readLayout(namespace, view)
    if (text === undefined) continue
    const layout = JSON.parse(text) as ViewLayout
    if (layout.format !== 1) {
      throw new TilefoldError(
        'STORE_FORMAT',
        `cannot tell which states are in use: the layout of view ${view} has another format; got ${layout.format}, expected 1`,
        { view },
      )
    }
    const pointers = [...layout.generations, ...(layout.current === undefined ? [] : [layout.current])]
    for (const pointer of pointers) {
      const name = nameOf(pointer)
      const known = named.get(name)
      named.set(name, {
        views: [...new Set([...(known?.views ?? []), view])],
        isCurrent: known?.isCurrent === true || (layout.current !== undefined && nameOf(layout.current) === name),
      })
    }
  }
  return named
}

function nameOf({ stateHash, generation }: { readonly stateHash: string; readonly generation: number }): string {
  return `${stateHash}/${generation}`
}

function isSame(a: LaneRecord | undefined, b: LaneRecord | undefined): boolean {
  if (a === undefined || b === undefined) return a === b
  return a.sequence === b.sequence && a.token.counter === b.token.counter && a.token.nonce === b.token.nonce
}
