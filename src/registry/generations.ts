/**
 * Generations beside each other: a state built anew while readers stay with the old one, until one pointer moves.
 *
 *   begin   a number nobody has used; nobody reads it. For a correction, with the ranges of event time that files are to replace
 *   fill    rebuild, backfill or workers, in any order, told the number; the same call again goes on from each lane's marker
 *   switch  the pointer, once history is in and every lane is as far as the old generation's: readers see all of the old or all
 *           of the new
 *   drop    out of the layout; its rows are what `gc` collects
 *
 * Each is one compare-and-set on the layout, so a crash in between leaves one of the two. The old generation stays as it is, to go back to.
 *
 * Under live traffic both move on. So the served markers are read first: a lane that was as far as they were then, a moment later, is not
 * behind. Between that look and the pointer's move readers gain a few records in the old generation that the new one may not have yet.
 *
 * Lanes that a router feeds are compared by what they hold of its topic's logs, whatever they are called themselves. Only checkpoints tell that:
 * of the new generation the newest, which may be less than its lanes hold; of the served one the first behind what readers see, which
 * may be a little more. Until there is one, its lane counts as behind.
 */

import { coverAll, formatRanges, joinRanges, type TakenTimes, type TimeRange, takenTimes } from '../model/covers.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import {
  type GenerationLayout,
  generationOf,
  isLogOf,
  laneGroups,
  liveLane,
  startOf,
  type ViewLayout,
} from '../model/view-layout.ts'
import type { Store } from '../store/port.ts'
import { change, isCurrent, type LayoutSeat, missing, namedGeneration, type OpenGeneration, put } from './layouts.ts'
import { type RoutedLane, readRoutedLane, routedLanes, routerLane } from './routes.ts'

/** Where a lane of a generation stands. */
export interface LaneOffsets {
  readonly stateHash: string
  readonly generation: number
  readonly isCurrent: boolean
  readonly lane: string
  /** `route`: an internal topic, whose offsets its positions are. `router`: without rows, what the router judges a log by. */
  readonly from: 'history' | 'log' | 'route' | 'router'
  /** Of a log, where the generation has a start of its own: the first position that counts. */
  readonly start?: number
  /** Every event at or before it is in the rows; -1 = none yet. */
  readonly marker: number
  /** Event times it takes; all of them where absent. */
  readonly takes?: TakenTimes
  /** Of a route's lane: by log of the topic that is routed, up to where the lane surely holds it. */
  readonly sources?: ReadonlyMap<string, number>
}

export interface OffsetsOfView {
  readonly generations: readonly (GenerationLayout & { readonly isCurrent: boolean })[]
  readonly lanes: readonly LaneOffsets[]
}

/** A lane of the generation that readers see, and how far the other one is. `served` is Infinity where nothing tells yet. */
export interface Distance {
  readonly lane: string
  readonly served: number
  readonly reached: number
}

/** Of each lane that a router feeds, the offset that readers saw at the first look. */
type Pins = Map<string, number>

/** What a generation keeps from its beginning on. */
export type GenerationStart = Pick<GenerationLayout, 'starts' | 'completeSinceMs'>

export interface BeginOptions extends GenerationStart {
  /** Higher than every number that is stored under the state. */
  readonly above?: number
  /** Event times that files are to give in the place of the log; none unless told. */
  readonly replace?: readonly TimeRange[]
}

export interface SwitchOptions {
  /** Whatever it lacks: to go back. */
  readonly allowBehind?: boolean
  /** Positions by which a lane may be behind: readers may see it step back by so many records. 0 unless told. */
  readonly maxLag?: number
  /** Looks again for so long while a lane is behind; once unless told. */
  readonly waitMs?: number
}

const LOOK_MS = 100

/** A new generation of the plan's state, not visible. */
export function beginGeneration(
  seat: LayoutSeat,
  plan: Plan,
  { above = 0, replace = [], starts, completeSinceMs }: BeginOptions = {},
): Promise<OpenGeneration> {
  return change(seat, plan, (layout) => {
    if (!layout) throw missing(plan)
    const { stateHash, state } = plan
    const used = layout.generations.map(({ generation }) => generation)
    const number = Math.max(above, layout.highest ?? 0, ...used) + 1
    const fresh = { stateHash, generation: number, state, history: { lanes: 0 }, logs: [] }
    // The rest is what readers have, and no more complete than that is.
    const since =
      replace.length > 0 ? Math.max(servedBy(layout)?.completeSinceMs ?? 0, completeSinceMs ?? 0) : completeSinceMs
    return put(
      { ...layout, highest: number },
      {
        ...fresh,
        ...(replace.length > 0 && { covers: joinRanges(replace) }),
        ...(starts && { starts }),
        ...(since && { completeSinceMs: since }),
      },
    )
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
  { allowBehind = false, maxLag = 0, waitMs = 0 }: SwitchOptions = {},
): Promise<OpenGeneration> {
  const untilMs = performance.now() + waitMs
  const pins: Pins = new Map()
  for (;;) {
    const before = await readView(seat, plan)
    const target = namedGeneration(before, plan, number)
    refuseUnfinished(plan, target)
    if (allowBehind) break
    refuseLessHistory(plan, before, target)
    const behind = (await distances(seat, before, target, pins)).filter(
      ({ served, reached }) => reached + maxLag < served,
    )
    if (behind.length === 0) break
    if (performance.now() >= untilMs) throw isBehind(plan, number, behind, maxLag)
    await new Promise((wake) => setTimeout(wake, LOOK_MS))
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

function isBehind(plan: Plan, number: number, behind: readonly Distance[], maxLag: number): TilefoldError {
  const untold = behind.filter(({ served }) => served === Number.POSITIVE_INFINITY)
  if (untold.length > 0) {
    const lanes = untold.map(({ lane }) => lane).join(', ')
    return new TilefoldError(
      'VIEW_NOT_READY',
      `cannot switch view ${plan.view} to generation ${number}: how much of the topic readers see is not noted yet; got no checkpoint behind what ${lanes} held, expected one within seconds while workers run, a minute where nothing happens (--wait 2m)`,
      { view: plan.view, generation: number, behind: untold.map(({ lane }) => ({ lane })) },
    )
  }
  const { lane, served, reached } = behind.reduce((a, b) => (b.served - b.reached > a.served - a.reached ? b : a))
  return new TilefoldError(
    'VIEW_NOT_READY',
    `cannot switch view ${plan.view} to generation ${number}: ${behind.length} lanes are behind what readers see; got ${reached} in ${lane}, expected ${served - maxLag} or more`,
    { view: plan.view, generation: number, behind },
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
    const starts = startsOf(each)
    const own = { stateHash, generation, isCurrent: isCurrent(layout, each) }
    const routed = new Set(routedLanes(each))
    const sources = new Set<string>()
    // Those that nobody has opened yet have a start all the same; of a route the router has it.
    const named = routed.size > 0 ? [] : starts.keys()
    for (const [i, lane] of [...new Set([...lanesOf(each), ...named])].entries()) {
      const isHistory = i < history.lanes
      const takes = takenTimes(each.covers, isHistory)
      const start = starts.get(lane)
      const about = { ...own, lane, ...(takes && { takes }) }
      if (routed.has(lane)) {
        const held = await readRoutedLane(seat, each, lane)
        for (const log of held.sources.keys()) sources.add(log)
        found.push({ ...about, from: 'route', marker: held.marker, sources: held.sources })
        continue
      }
      const marker = await markerOf(seat, each, lane)
      found.push({ ...about, from: isHistory ? 'history' : 'log', ...(start !== undefined && { start }), marker })
    }
    if (each.route) for (const { log } of each.starts ?? []) sources.add(log)
    for (const log of [...sources].sort()) {
      const start = startOf(each, log)
      const marker = await markerOf(seat, each, routerLane(plan.view, log))
      found.push({
        ...own,
        lane: routerLane(plan.view, log),
        from: 'router',
        ...(start !== undefined && { start }),
        marker,
      })
    }
  }
  return { generations: generations.map((each) => ({ ...each, isCurrent: isCurrent(layout, each) })), lanes: found }
}

/** Positions are the log's, whatever the state: lanes of one name compare. History lanes count rows of files and don't. */
async function distances(
  seat: LayoutSeat,
  layout: ViewLayout,
  target: GenerationLayout,
  pins: Pins,
): Promise<Distance[]> {
  const served = servedBy(layout)
  if (!served || served === target) return []
  const seen = await readersSee(seat, served, pins)
  const held = await surelyHeld(seat, target, [...seen.keys()])
  // What lies before its start it doesn't lack.
  const starts = startsOf(target)
  return [...seen].map(([lane, position]) => ({
    lane,
    served: position,
    reached: Math.max(held.get(lane) ?? -1, (starts.get(lane) ?? 0) - 1),
  }))
}

/** Up to where readers see each log at most, by the name that its lane has where no router stands between. */
async function readersSee(seat: LayoutSeat, served: GenerationLayout, pins: Pins): Promise<Map<string, number>> {
  const seen = new Map<string, number>()
  const routed = await readRoutedLanes(seat, served)
  for (const { lane, marker, notedAt, sources } of routed) {
    if (!pins.has(lane)) pins.set(lane, marker)
    if (notedAt < pins.get(lane)!) seen.set(lane, Number.POSITIVE_INFINITY)
    for (const [log, position] of sources) {
      const name = liveLane(log, 0)
      seen.set(name, Math.max(position, seen.get(name) ?? -1))
    }
  }
  const fed = new Set(routed.map(({ lane }) => lane))
  const own = lanesOf(served).filter((lane, i) => i >= served.history.lanes && !fed.has(lane))
  for (const lane of own) seen.set(lane, await markerOf(seat, served, lane))
  return seen
}

/** Up to where the generation has each of the lanes, at least. */
async function surelyHeld(
  seat: LayoutSeat,
  target: GenerationLayout,
  lanes: readonly string[],
): Promise<Map<string, number>> {
  const routed = await readRoutedLanes(seat, target)
  const least = (lane: string) =>
    Math.min(
      ...routed.map(({ sources }) => new Map([...sources].map(([log, to]) => [liveLane(log, 0), to])).get(lane) ?? -1),
    )
  const held = new Map<string, number>()
  for (const lane of lanes) {
    const log = lane.slice(0, lane.lastIndexOf('.'))
    const isRouted = target.route !== undefined && isLogOf(target.route.source, log)
    held.set(lane, isRouted ? least(lane) : await markerOf(seat, target, lane))
  }
  return held
}

async function readRoutedLanes(seat: LayoutSeat, generation: GenerationLayout): Promise<RoutedLane[]> {
  return Promise.all(routedLanes(generation).map((lane) => readRoutedLane(seat, generation, lane)))
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

/** Where the lanes of each log start, where that is told. */
function startsOf(generation: GenerationLayout): Map<string, number> {
  const { logs, starts } = generation
  if (starts === undefined) return new Map()
  const named = starts
    .filter(({ log }) => !logs.some(({ name }) => name === log))
    .map(({ log }) => ({ log, shards: 1 }))
  return new Map(
    [...logs.map(({ name, shards }) => ({ log: name, shards })), ...named].flatMap(({ log, shards }) =>
      Array.from({ length: shards }, (_, shard) => [liveLane(log, shard), startOf(generation, log)!] as const),
    ),
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
