/**
 * Which consumer group reads for which views. Members of a group share its partitions, so all of them must take the same views: a
 * group is named by what it fills.
 *
 *   generation 1, however many views     the base name: they share one read and one decode
 *   a later one of a state               a group of its own, so that it is filled while the one before it is served, and stays
 *                                        the group of its workers when readers have been moved
 *
 * Where a lane stands only its marker tells: a group that is new to a generation reads nothing twice and leaves nothing out.
 */
import type { Plan } from '../model/plan.ts'
import { type LayoutSeat, openGeneration } from '../registry/layouts.ts'

export interface ReadingGroup {
  readonly groupId: string
  readonly generation: number
  readonly plans: readonly Plan[]
  /** By view: the internal topic that a router writes for it. */
  readonly routes: ReadonlyMap<string, string>
}

/** The groups that the plans' views are read by: at the seat's generation, or each at the one that its readers see. */
export async function readingGroups(seat: LayoutSeat, base: string, plans: readonly Plan[]): Promise<ReadingGroup[]> {
  const groups = new Map<string, { generation: number; plans: Plan[]; routes: Map<string, string> }>()
  for (const plan of plans) {
    const { generation, route } = (await openGeneration(seat, plan)).generation
    const groupId = groupOfGeneration(base, plan.stateHash, generation)
    const group = groups.get(groupId) ?? { generation, plans: [] as Plan[], routes: new Map<string, string>() }
    groups.set(groupId, group)
    group.plans.push(plan)
    if (route) group.routes.set(plan.view, route.topic)
  }
  return [...groups].map(([groupId, group]) => ({ groupId, ...group }))
}

export function groupOfGeneration(base: string, stateHash: string, generation: number): string {
  return generation === 1 ? base : `${base}-${stateHash}-${generation}`
}
