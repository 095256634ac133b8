/**
 * What the rest of tilefold has to know of a generation that is routed: its live lanes are partitions of an internal topic, and their positions
 * are offsets of that. What they hold of the topic that is routed, only the notes of their checkpoints say.
 */
import { noteOf } from '../engine/checkpoint-note.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { readNote } from '../model/route-note.ts'
import {
  type GenerationLayout,
  isLogOf,
  liveLane,
  logOfPartition,
  type RouteLayout,
  type ViewLayout,
} from '../model/view-layout.ts'
import type { Store } from '../store/port.ts'
import { change, chosen, type LayoutSeat, missing, type OpenGeneration, put } from './layouts.ts'

/**
 * The generation's live events come by way of a router from now on. The route that it has already stays as it is. Throws CONFIG_INVALID
 * where live lanes read the topic itself, or another route is asked for.
 */
export function openRoute(
  seat: LayoutSeat,
  plan: Plan,
  source: string,
  lanes: number | undefined,
): Promise<OpenGeneration> {
  return change(seat, plan, (layout) => {
    if (!layout) throw missing(plan)
    const generation = chosen(layout, plan, seat)
    const { route, logs } = generation
    const refuse = (why: string) => {
      return new TilefoldError(
        'CONFIG_INVALID',
        `cannot route topic ${source} for view ${plan.view}: its generation ${generation.generation} ${why}. Begin a generation of its own (tilefold generation begin)`,
      )
    }
    if (route) {
      if (route.source !== source) throw refuse(`takes topic ${route.source}`)
      if (lanes !== undefined && route.lanes !== lanes) throw refuse(`has ${route.lanes} lanes; got ${lanes}`)
      return { layout, generation }
    }
    const own = logs.find(({ name }) => isLogOf(source, name))
    if (own) throw refuse(`already reads log ${own.name} itself`)
    const topic = routedTopic(seat.namespace, plan, generation.generation)
    return put(layout, { ...generation, route: { source, topic, lanes: lanes ?? ROUTED_LANES } })
  })
}

/** How widely an entity is to be spread from now on. */
export interface SaltRequest {
  readonly key: string
  readonly active: number
}

/**
 * Notes how widely entities are spread, before any router does it: the most that each has ever been never shrinks, because rows of it may
 * be there. Returns what the layout says then.
 */
export function openSalts(seat: LayoutSeat, plan: Plan, requests: readonly SaltRequest[]): Promise<OpenGeneration> {
  return change(seat, plan, (layout) => {
    if (!layout) throw missing(plan)
    const generation = chosen(layout, plan, seat)
    const salts = new Map((generation.salts ?? []).map((salt) => [salt.key, salt]))
    let isNew = false
    for (const { key, active } of requests) {
      const known = salts.get(key)
      if (known?.active === active) continue
      salts.set(key, { key, width: Math.max(known?.width ?? 1, active), active })
      isNew = true
    }
    if (!isNew) return { layout, generation }
    return put(layout, { ...generation, salts: [...salts.values()] })
  })
}

/** Unless told: at least four for each master that a team begins with. */
const ROUTED_LANES = 16

/** Kafka takes letters, digits, dots, underscores and hyphens. */
function routedTopic(namespace: string, { view, stateHash }: Plan, generation: number): string {
  const legal = (name: string) => name.replace(/[^\w.-]/g, '_')
  return `${legal(namespace)}.${legal(view)}.${stateHash}.${generation}`
}

/** Throws CONFIG_INVALID where the generation's events come by way of a router. */
export function refuseRouted({ route, generation }: GenerationLayout, what: string, because: string): void {
  if (route === undefined) return
  throw new TilefoldError(
    'CONFIG_INVALID',
    `cannot ${what}: its generation ${generation} takes topic ${route.source} by way of ${route.topic}, and ${because}`,
    { generation, ...route },
  )
}

/** Its records are those of the generation's router. */
export function isRoutedLog({ route }: Pick<GenerationLayout, 'route'>, log: string): boolean {
  return route !== undefined && isLogOf(route.topic, log)
}

/** Live lanes that a router feeds; none where there is none. */
export function routedLanes({ route }: Pick<GenerationLayout, 'route'>): string[] {
  if (route === undefined) return []
  return Array.from({ length: route.lanes }, (_, i) => liveLane(logOfPartition(route.topic, i), 0))
}

/** Without rows: the clocks and ids by which the router judges a log. */
export function routerLane(view: string, log: string): string {
  return `route.${view}.${log}`
}

/** The group that reads the topic for the router. */
export function routerGroup({ topic }: { readonly topic: string }): string {
  return `${topic}.router`
}

export interface FoundRoute {
  readonly view: string
  readonly generation: number
  readonly route: RouteLayout
}

/** Of all generations that the views' layouts name. Throws STORE_UNAVAILABLE. */
export async function findRoutes(
  { store, namespace }: { readonly store: Store; readonly namespace: string },
  plans: readonly Plan[],
): Promise<FoundRoute[]> {
  const found: FoundRoute[] = []
  for (const { view } of plans) {
    const text = await store.readLayout(namespace, view)
    const { generations } = text === undefined ? { generations: [] } : (JSON.parse(text) as ViewLayout)
    for (const { generation, route } of generations) if (route) found.push({ view, generation, route })
  }
  return found
}

export interface RoutedLane {
  readonly lane: string
  /** An offset of the internal topic; -1 before the first record. */
  readonly marker: number
  /** Where the checkpoint stands that tells the sources; -1 where there is none. Never behind the marker. */
  readonly notedAt: number
  /** By log of the topic that is routed: everything of it up to here is in the lane. */
  readonly sources: ReadonlyMap<string, number>
}

/** Throws STORE_UNAVAILABLE. */
export async function readRoutedLane(
  { store, namespace }: { readonly store: Store; readonly namespace: string },
  { stateHash, generation }: GenerationLayout,
  lane: string,
): Promise<RoutedLane> {
  const name = { namespace, stateHash, generation, lane }
  const marker = (await store.readLane(name))?.marker ?? -1
  const checkpoint = marker < 0 ? undefined : await store.readCheckpoint(name, marker)
  if (checkpoint === undefined) return { lane, marker, notedAt: -1, sources: new Map() }
  const { sources } = readNote(noteOf(Buffer.concat(checkpoint.segments)))
  return {
    lane,
    marker,
    notedAt: checkpoint.position,
    sources: new Map(sources.map(([log, { to }]) => [log, to - 1])),
  }
}
