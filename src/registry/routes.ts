/**
 * What the rest of tilefold has to know of a generation that is routed: its live lanes are partitions of an internal topic, and their positions
 * are offsets of that. What they hold of the topic that is routed, only the notes of their checkpoints say.
 */
import { noteOf } from '../engine/core.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { readNote } from '../model/route-note.ts'
import {
  type GenerationLayout,
  liveLane,
  logOfPartition,
  type RouteLayout,
  type ViewLayout,
} from '../model/view-layout.ts'
import type { Store } from '../store/port.ts'
import { isLogOf } from './layouts.ts'

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
