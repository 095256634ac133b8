/**
 * Generations beside each other: a state built anew while readers stay with the old one, until one pointer moves.
 *
 *   begin   a number nobody has used; nobody reads it. For a correction, with the ranges of event time that files are to replace
 *   fill    rebuild and backfill, in any order, told the number; the same call again goes on from each lane's marker
 *   switch  the pointer, once history is in and every lane is as far as the old generation's: readers see all of the old or all
 *           of the new
 *   drop    out of the layout; its rows are what `gc` collects
 *
 * Each is one compare-and-set on the layout, so a crash in between leaves one of the two. The old generation stays as it is, to go back to.
 */

import { coverAll, formatRanges, joinRanges, type TakenTimes, type TimeRange, takenTimes } from '../model/covers.ts'
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
  /** Event times it takes; all of them where absent. */
  readonly takes?: TakenTimes
}

export interface OffsetsOfView {
  readonly generations: readonly (GenerationLayout & { readonly isCurrent: boolean })[]
  readonly lanes: readonly LaneOffsets[]
}

/** A lane of the generation that readers see, and how far the other one is. */
export interface Distance {
  readonly lane: string
  readonly served: number
  readonly reached: number
}

export interface BeginOptions {
  /** Higher than every number that is stored under the state. */
  readonly above?: number
  /** Event times that files are to give in the place of the log; none unless told. */
  readonly replace?: readonly TimeRange[]
}

/** A new generation of the plan's state, not visible. */
export function beginGeneration(
  seat: LayoutSeat,
  plan: Plan,
  { above = 0, replace = [] }: BeginOptions = {},
): Promise<OpenGeneration> {
  return change(seat, plan, (layout) => {
    if (!layout) throw missing(plan)
    const { stateHash, state } = plan
    const used = layout.generations.map(({ generation }) => generation)
    const number = Math.max(above, layout.highest ?? 0, ...used) + 1
    const fresh = { stateHash, generation: number, state, history: { lanes: 0 }, logs: [] }
    if (replace.length === 0) return put({ ...layout, highest: number }, fresh)
    // The rest is what readers have, and as complete as that is.
    const completeSinceMs = servedBy(layout)?.completeSinceMs
    return put({ ...layout, highest: number }, { ...fresh, covers: joinRanges(replace), completeSinceMs })
  })
}

/**
 * Moves the readers to a generation of the plan's state. Throws LAYOUT_MISSING, and VIEW_NOT_READY where its history is not all
 * in; and where a lane is behind the one that is read now or history is missing that readers see now, unless `allowBehind`: to
 * go back.
 */
export async function switchGeneration(
  seat: LayoutSeat,
  plan: Plan,
  number: number,
  { allowBehind = false } = {},
): Promise<OpenGeneration> {
  const before = await readView(seat, plan)
  const target = namedGeneration(before, plan, number)
  refuseUnfinished(plan, target)
  if (!allowBehind) refuseLessHistory(plan, before, target)
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
    refuseUnfinished(plan, generation)
    const { stateHash } = generation
    return put({ ...layout, current: { stateHash, generation: number } }, generation)
  })
}

/** Files are to be in whole before anybody reads them. */
function refuseUnfinished({ view }: Plan, { generation, history, covers }: GenerationLayout): void {
  const isBegun = history.lanes > 0
  if (isBegun ? history.endPosition !== undefined : covers === undefined) return
  const got = isBegun ? 'files that are not all in' : 'none'
  throw new TilefoldError(
    'VIEW_NOT_READY',
    `cannot switch view ${view} to generation ${generation}: its history is not finished; got ${got}, expected "tilefold backfill --generation ${generation}" to have come to its end`,
    { view, generation },
  )
}

/**
 * What readers see of files comes from no log: another generation has it only from files. The times that they are to give so
 * that nothing is missed, where the generation's don't.
 */
export function missingHistory(
  layout: ViewLayout,
  { history, covers, generation, stateHash }: GenerationLayout,
): string | undefined {
  const served = servedBy(layout)
  if (served === undefined || served.history.lanes === 0 || isCurrent(layout, { stateHash, generation }))
    return undefined
  if (history.lanes > 0 && covers === undefined) return undefined
  // History without ranges may reach back however far.
  const wanted = served.covers ?? [{ fromMs: 0, toMs: 1 }]
  if (covers && coverAll(covers, wanted)) return undefined
  return served.covers ? formatRanges(served.covers) : 'all times before the log, from 1970 on'
}

function refuseLessHistory({ view }: Plan, layout: ViewLayout, target: GenerationLayout): void {
  const expected = missingHistory(layout, target)
  if (expected === undefined) return
  const { generation, covers } = target
  throw new TilefoldError(
    'VIEW_NOT_READY',
    `cannot switch view ${view} to generation ${generation}: readers see history that it lacks; got ${covers ? formatRanges(covers) : 'no history'}, expected ${expected}. Begin one with those times too and backfill the files of both; or --allow-behind, to go back`,
    { view, generation },
  )
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

/** What the view's layout names: its generations in the order they were changed last, and every lane of each. */
export async function readOffsets(seat: LayoutSeat, plan: Plan): Promise<OffsetsOfView> {
  const layout = await readView(seat, plan)
  const { generations } = layout
  const found: LaneOffsets[] = []
  for (const each of generations) {
    const { stateHash, generation, history } = each
    for (const [i, lane] of lanesOf(each).entries()) {
      const marker = await markerOf(seat, each, lane)
      const isHistory = i < history.lanes
      const from = isHistory ? 'history' : 'log'
      const takes = takenTimes(each.covers, isHistory)
      found.push({
        stateHash,
        generation,
        isCurrent: isCurrent(layout, each),
        lane,
        from,
        marker,
        ...(takes && { takes }),
      })
    }
  }
  return { generations: generations.map((each) => ({ ...each, isCurrent: isCurrent(layout, each) })), lanes: found }
}

/** Positions are the log's, whatever the state: lanes of one name compare. History lanes count rows of files and don't. */
async function distances(seat: LayoutSeat, layout: ViewLayout, target: GenerationLayout): Promise<Distance[]> {
  const served = servedBy(layout)
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

/** What readers see. */
function servedBy({ generations, current }: ViewLayout): GenerationLayout | undefined {
  return generations.find((each) => each.stateHash === current?.stateHash && each.generation === current.generation)
}

/** Its files may hold what its log holds too, and nothing tells which of the two counts. */
export function isUncut({ history, covers }: GenerationLayout): boolean {
  return history.lanes > 0 && covers === undefined
}

/** Of these views, those that readers see a history of that has no cut. Throws STORE_UNAVAILABLE. */
export async function findUncut({ store, namespace }: LayoutSeat, plans: readonly Plan[]): Promise<string[]> {
  const found: string[] = []
  for (const { view } of plans) {
    const text = await store.readLayout(namespace, view)
    const served = text === undefined ? undefined : servedBy(JSON.parse(text) as ViewLayout)
    if (served && isUncut(served)) found.push(view)
  }
  return found
}

/** The views that have the generation. Throws LAYOUT_MISSING where none has. */
export async function plansOfGeneration(seat: LayoutSeat, plans: readonly Plan[]): Promise<readonly Plan[]> {
  const { store, namespace, generation } = seat
  if (generation === undefined) return plans
  const found: Plan[] = []
  for (const plan of plans) {
    const text = await store.readLayout(namespace, plan.view)
    if (text !== undefined && generationOf(JSON.parse(text) as ViewLayout, plan.stateHash, generation)) found.push(plan)
  }
  if (found.length === 0 && plans[0]) namedGeneration(await readView(seat, plans[0]), plans[0], generation)
  return found
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
