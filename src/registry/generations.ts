/**
 * Generations beside each other: a state built anew while readers stay with the old one, until one pointer moves.
 *
 *   begin   a number nobody has used; nobody reads it
 *   fill    rebuild or backfill, told the number; the same call again goes on from each lane's marker
 *   switch  the pointer, once every lane is as far as the old generation's: readers see all of the old or all of the new
 *   drop    out of the layout; its rows are what `gc` collects
 *
 * Each is one compare-and-set on the layout, so a crash in between leaves one of the two. The old generation stays as it is, to go back to.
 */
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { type GenerationLayout, generationOf, laneGroups, type ViewLayout } from '../model/view-layout.ts'
import type { Store } from '../store/port.ts'
import { change, isCurrent, type LayoutSeat, missing, namedGeneration, type OpenGeneration, put } from './layouts.ts'

/** Where a lane of a generation stands. */
export interface LaneOffsets {
  readonly stateHash: string
  readonly generation: number
  readonly isCurrent: boolean
  readonly lane: string
  readonly from: 'history' | 'log'
  /** Every event at or before it is in the rows; -1 = none yet. */
  readonly marker: number
}

/** A lane of the generation that readers see, and how far the other one is. */
export interface Distance {
  readonly lane: string
  readonly served: number
  readonly reached: number
}

/** A new generation of the plan's state, not visible. `above`: higher than every number that is stored under the state. */
export function beginGeneration(seat: LayoutSeat, plan: Plan, above = 0): Promise<OpenGeneration> {
  return change(seat, plan, (layout) => {
    if (!layout) throw missing(plan)
    const { stateHash, state } = plan
    const used = layout.generations.map(({ generation }) => generation)
    const number = Math.max(above, layout.highest ?? 0, ...used) + 1
    return put(
      { ...layout, highest: number },
      { stateHash, generation: number, state, history: { lanes: 0 }, logs: [] },
    )
  })
}

/**
 * Moves the readers to a generation of the plan's state. Throws LAYOUT_MISSING, and VIEW_NOT_READY where a lane is behind the
 * one that is read now, unless `allowBehind`: to go back.
 */
export async function switchGeneration(
  seat: LayoutSeat,
  plan: Plan,
  number: number,
  { allowBehind = false } = {},
): Promise<OpenGeneration> {
  const before = await readView(seat, plan)
  const target = namedGeneration(before, plan, number)
  if (target.history.lanes > 0 && target.history.endPosition === undefined && !allowBehind) {
    throw new TilefoldError(
      'VIEW_NOT_READY',
      `cannot switch view ${plan.view} to generation ${number}: its history of ${target.history.log} is not complete; finish the backfill first`,
      { view: plan.view, generation: number },
    )
  }
  const behind = (await distances(seat, before, target)).filter(({ served, reached }) => reached < served)
  if (behind.length > 0 && !allowBehind) {
    const { lane, served, reached } = behind[0]!
    throw new TilefoldError(
      'VIEW_NOT_READY',
      `cannot switch view ${plan.view} to generation ${number}: ${behind.length} lanes are behind what readers see; got ${reached} in ${lane}, expected ${served} or more`,
      { view: plan.view, generation: number, behind },
    )
  }
  return change(seat, plan, (layout) => {
    if (!layout) throw missing(plan)
    const generation = namedGeneration(layout, plan, number)
    if (isCurrent(layout, generation)) return { layout, generation }
    const { stateHash } = generation
    return put({ ...layout, current: { stateHash, generation: number } }, generation)
  })
}

/** Takes a generation out of the layout. Throws LAYOUT_MISSING, and STATE_IN_USE where readers see it. */
export function dropGeneration(
  seat: LayoutSeat,
  plan: Plan,
  { stateHash, generation }: { readonly stateHash: string; readonly generation: number },
): Promise<OpenGeneration> {
  return change(seat, plan, (layout) => {
    if (!layout) throw missing(plan)
    const dropped = generationOf(layout, stateHash, generation)
    if (!dropped) return { layout, generation: namedGeneration(layout, { ...plan, stateHash }, generation) }
    if (isCurrent(layout, dropped)) {
      throw new TilefoldError(
        'STATE_IN_USE',
        `cannot drop generation ${generation} of view ${plan.view}: readers see it; switch to another first`,
      )
    }
    const generations = layout.generations.filter((each) => each !== dropped)
    const highest = Math.max(layout.highest ?? 0, ...layout.generations.map((each) => each.generation))
    return { layout: { ...layout, version: layout.version + 1, generations, highest }, generation: dropped }
  })
}

/** Every lane of every generation that the view's layout names. */
export async function readOffsets(seat: LayoutSeat, plan: Plan): Promise<LaneOffsets[]> {
  const layout = await readView(seat, plan)
  const found: LaneOffsets[] = []
  for (const each of layout.generations) {
    const { stateHash, generation, history } = each
    for (const [i, lane] of lanesOf(each).entries()) {
      const marker = await markerOf(seat, each, lane)
      const from = i < history.lanes ? 'history' : 'log'
      found.push({ stateHash, generation, isCurrent: isCurrent(layout, each), lane, from, marker })
    }
  }
  return found
}

/** Positions are the log's, whatever the state: lanes of one name compare. History lanes count rows of files and don't. */
async function distances(seat: LayoutSeat, layout: ViewLayout, target: GenerationLayout): Promise<Distance[]> {
  const { current } = layout
  const served = current && generationOf(layout, current.stateHash, current.generation)
  if (!served || served === target) return []
  const lanes = lanesOf(served).slice(served.history.lanes)
  return Promise.all(
    lanes.map(async (lane) => ({
      lane,
      served: await markerOf(seat, served, lane),
      reached: await markerOf(seat, target, lane),
    })),
  )
}

function lanesOf(generation: GenerationLayout): string[] {
  return [...new Set(laneGroups(generation).flatMap(({ lanes }) => lanes))]
}

async function markerOf(
  { store, namespace }: { readonly store: Store; readonly namespace: string },
  { stateHash, generation }: GenerationLayout,
  lane: string,
): Promise<number> {
  return (await store.readLane({ namespace, stateHash, generation, lane }))?.marker ?? -1
}

async function readView({ store, namespace }: LayoutSeat, plan: Plan): Promise<ViewLayout> {
  const text = await store.readLayout(namespace, plan.view)
  if (text === undefined) throw missing(plan)
  return JSON.parse(text) as ViewLayout
}
