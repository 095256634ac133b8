/**
 * The layouts' only writer: creates generations, adds lanes, moves the pointer that readers follow. Every change is one
 * compare-and-set on a small JSON value and raises its version; whoever loses the race reads again and decides anew.
 */

import { areSameRanges, formatRanges, type TimeRange } from '../model/covers.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { type GenerationLayout, generationOf, isLogOf, type ViewLayout } from '../model/view-layout.ts'
import type { Store } from '../store/port.ts'

/** Where a layout is kept. */
export interface LayoutSeat {
  readonly store: Store
  readonly namespace: string
  /** Works on this generation of a state; unless told, on the one that readers see, or the newest where they see none of it. */
  readonly generation?: number
}

/** A generation as it now stands, with the version of the layout it was read from. */
export interface OpenGeneration {
  readonly layout: ViewLayout
  readonly generation: GenerationLayout
}

export interface HistoryRequest {
  /** Lanes of a new history; fixed at its creation. */
  readonly lanes: number
  /** Name of the plan of files. */
  readonly log: string
  /** The creation instant of a new history; one that is gone on with keeps its own. */
  readonly notAfterMs: number
  readonly completeSinceMs?: number
  /** Event times that history is to be authoritative for; those it was begun with, unless told. */
  readonly covers?: readonly TimeRange[] | undefined
}

export interface LogRequest {
  readonly name: string
  readonly shards: number
  readonly notAfterMs: number
}

/**
 * The seat's generation of the plan's state; created, and at once visible, where the view is new. Throws
 * DEFINITION_CHANGED where the view's rows were folded under another state.
 */
export function openGeneration(seat: LayoutSeat, plan: Plan): Promise<OpenGeneration> {
  return change(seat, plan, (layout) => {
    if (layout) return { layout, generation: chosen(layout, plan, seat) }
    const generation = emptyGeneration(plan)
    const { stateHash } = plan
    return put({ ...emptyLayout(), current: { stateHash, generation: 1 } }, generation)
  })
}

/**
 * The generation whose history a backfill builds; created where the view is new, and not visible before `finishHistory`.
 * Throws DEFINITION_CHANGED, and CONFIG_INVALID where the generation has other history, covers other times, or already has live
 * events that no ranges keep apart from those of files.
 */
export function openHistory(seat: LayoutSeat, plan: Plan, request: HistoryRequest): Promise<OpenGeneration> {
  return change(seat, plan, (layout) => {
    const generation = layout ? chosen(layout, plan, seat) : emptyGeneration(plan)
    const { history } = generation
    const covers = generation.covers ?? request.covers
    refuseOtherCovers(plan, generation, request.covers)
    if (history.lanes > 0 && history.log !== request.log) {
      throw new TilefoldError(
        'CONFIG_INVALID',
        `cannot backfill view ${plan.view}: its generation ${generation.generation} has the history of ${history.log}; got ${request.log}`,
      )
    }
    if (history.lanes > 0) return { layout: layout!, generation }
    // A router has judged by what the layout said when it began.
    if ((generation.logs.length > 0 || generation.route) && generation.covers === undefined) {
      const names = generation.logs.map((log) => log.name).join(', ') || `topic ${generation.route!.source}`
      throw new TilefoldError(
        'CONFIG_INVALID',
        `cannot backfill view ${plan.view}: its generation ${generation.generation} already has live events of ${names}; history comes first, or in a generation whose ranges keep both apart (tilefold generation begin --replace)`,
      )
    }
    const { lanes, log, notAfterMs, completeSinceMs = generation.completeSinceMs } = request
    const base: ViewLayout = layout
      ? { ...layout, current: seat.generation === undefined ? undefined : layout.current }
      : emptyLayout()
    return put(base, { ...generation, history: { lanes, log, notAfterMs }, ...(covers && { covers }), completeSinceMs })
  })
}

/**
 * Ranges are there before the first event, or not at all: lanes hold what they were told to take then. Throws CONFIG_INVALID
 * where others are asked for.
 */
export function refuseOtherCovers(
  { view }: Plan,
  { generation, history, covers }: GenerationLayout,
  wanted: readonly TimeRange[] | undefined,
): void {
  if (wanted === undefined || (covers === undefined && history.lanes === 0)) return
  if (covers && areSameRanges(covers, wanted)) return
  throw new TilefoldError(
    'CONFIG_INVALID',
    `cannot backfill view ${view}: the history of its generation ${generation} was begun ${covers ? `for ${formatRanges(covers)}` : 'without a cut'}; got ${formatRanges(wanted)}. Begin a generation of its own (tilefold generation begin)`,
    { view, generation },
  )
}

/** All files are in: notes where history ends, and lets readers see the generation. */
export function finishHistory(
  seat: LayoutSeat,
  plan: Plan,
  end: { readonly position: number; readonly sequences: readonly number[] },
): Promise<OpenGeneration> {
  return change(seat, plan, (layout) => {
    if (!layout) throw missing(plan)
    const generation = chosen(layout, plan, seat)
    const { history, stateHash } = generation
    const own = { stateHash, generation: generation.generation }
    // One that is built beside another is seen when somebody switches to it.
    const current = (seat.generation !== undefined && layout.current) || own
    if (history.endPosition === end.position && isCurrent(layout, current)) return { layout, generation }
    const { isReopened: _, ...kept } = history
    const finished = { ...kept, endPosition: end.position, sequences: end.sequences }
    return put({ ...layout, current }, { ...generation, history: finished })
  })
}

/**
 * A part of the history is gone: it is open again, to be gone on with by a backfill of the same files. Readers stay where they are, and
 * are told. `sequences`: as they were compared; a history that was finished anew meanwhile is left alone.
 */
export function reopenHistory(
  seat: LayoutSeat,
  plan: Plan,
  { generation: number, sequences }: { readonly generation: number; readonly sequences: readonly number[] },
): Promise<OpenGeneration> {
  return change(seat, plan, (layout) => {
    if (!layout) throw missing(plan)
    const generation = namedGeneration(layout, plan, number)
    const { endPosition: _, sequences: found, ...kept } = generation.history
    if (JSON.stringify(found) !== JSON.stringify(sequences)) return { layout, generation }
    return put(layout, { ...generation, history: { ...kept, isReopened: true } })
  })
}

/** The log's lanes, added where they are new. Shards and bounds are those of its creation. */
export function openLog(seat: LayoutSeat, plan: Plan, request: LogRequest): Promise<OpenGeneration> {
  return change(seat, plan, (layout) => {
    if (!layout) throw missing(plan)
    const generation = chosen(layout, plan, seat)
    if (generation.logs.some((log) => log.name === request.name)) return { layout, generation }
    const { route } = generation
    if (route && isLogOf(route.source, request.name)) {
      throw new TilefoldError(
        'CONFIG_INVALID',
        `cannot read log ${request.name} into view ${plan.view}: its generation ${generation.generation} takes topic ${route.source} by way of ${route.topic}; its events would count twice`,
      )
    }
    return put(layout, { ...generation, logs: [...generation.logs, request] })
  })
}

/** Notes that a topic is keyed by the view's entity, and how many partitions it has now. */
export function openTopic(seat: LayoutSeat, plan: Plan, name: string, partitions: number): Promise<OpenGeneration> {
  return change(seat, plan, (layout) => {
    if (!layout) throw missing(plan)
    const generation = chosen(layout, plan, seat)
    const topics = generation.topics ?? []
    const known = topics.find((topic) => topic.name === name)
    if (known?.partitions.includes(partitions)) return { layout, generation }
    const counts = [...(known?.partitions ?? []), partitions].sort((a, b) => a - b)
    const others = topics.filter((topic) => topic.name !== name)
    return put(layout, { ...generation, topics: [...others, { name, partitioner: 'murmur2', partitions: counts }] })
  })
}

// ---- one change ----------------------------------------------------------------------------------------------------

/** Decides on what is stored and writes what it decided; decides again when somebody else was faster. */
export async function change(
  seat: LayoutSeat,
  plan: Plan,
  decide: (layout: ViewLayout | undefined) => OpenGeneration,
): Promise<OpenGeneration> {
  for (;;) {
    const text = await seat.store.readLayout(seat.namespace, plan.view)
    const before = text === undefined ? undefined : readLayout(plan.view, text)
    const after = decide(before)
    if (after.layout === before) return after
    if (await seat.store.writeLayout(seat.namespace, plan.view, text, JSON.stringify(after.layout))) return after
  }
}

function readLayout(view: string, text: string): ViewLayout {
  const layout = JSON.parse(text) as ViewLayout
  if (layout.format !== 1 || layout.laneHash !== 1) {
    throw new TilefoldError(
      'STORE_FORMAT',
      `cannot use the layout of view ${view}: got format ${layout.format} and lane hash ${layout.laneHash}, expected 1 and 1`,
    )
  }
  return layout
}

function emptyLayout(): ViewLayout {
  return { format: 1, version: 0, laneHash: 1, generations: [] }
}

function emptyGeneration(plan: Plan): GenerationLayout {
  return { stateHash: plan.stateHash, generation: 1, state: plan.state, history: { lanes: 0 }, logs: [] }
}

export function put(layout: ViewLayout, generation: GenerationLayout): OpenGeneration {
  const others = layout.generations.filter(
    (each) => each.stateHash !== generation.stateHash || each.generation !== generation.generation,
  )
  return { layout: { ...layout, version: layout.version + 1, generations: [...others, generation] }, generation }
}

/** The seat's generation of the plan's state. Throws DEFINITION_CHANGED. */
export function chosen(layout: ViewLayout, plan: Plan, seat: LayoutSeat): GenerationLayout {
  const own = layout.generations.filter((each) => each.stateHash === plan.stateHash)
  if (seat.generation !== undefined) return namedGeneration(layout, plan, seat.generation)
  const found = own.find((each) => isCurrent(layout, each)) ?? own.sort((a, b) => b.generation - a.generation)[0]
  if (found) return found
  const { current } = layout
  const stored = current ? generationOf(layout, current.stateHash, current.generation) : layout.generations[0]
  const fields = stored ? changedFields(stored.state, plan.state) : []
  throw new TilefoldError(
    'DEFINITION_CHANGED',
    `cannot use view ${plan.view}: its rows were folded under another definition; got state ${plan.stateHash}, expected ${stored?.stateHash} (changed: ${fields.join(', ')})`,
    { fields },
  )
}

/** Throws LAYOUT_MISSING. */
export function namedGeneration(layout: ViewLayout, plan: Plan, number: number): GenerationLayout {
  const found = generationOf(layout, plan.stateHash, number)
  if (found) return found
  const known = layout.generations.map((each) => `${each.stateHash}/${each.generation}`).join(', ')
  throw new TilefoldError(
    'LAYOUT_MISSING',
    `cannot use generation ${number} of view ${plan.view}: its layout does not name it; got ${plan.stateHash}/${number}, expected one of ${known || 'none'}`,
  )
}

/** Parts of the state in which two definitions differ; the compiled program follows from the others. */
export function changedFields(a: Plan['state'], b: Plan['state']): string[] {
  const derived = new Set(['program', 'registers'])
  return Object.keys({ ...a, ...b }).filter((key) => {
    const field = key as keyof Plan['state']
    return !derived.has(key) && JSON.stringify(a[field]) !== JSON.stringify(b[field])
  })
}

export function isCurrent(layout: ViewLayout, pointer: { stateHash: string; generation: number }): boolean {
  return layout.current?.stateHash === pointer.stateHash && layout.current.generation === pointer.generation
}

export function missing(plan: Plan): TilefoldError {
  return new TilefoldError('LAYOUT_MISSING', `cannot use view ${plan.view}: the store holds no layout for it`)
}
