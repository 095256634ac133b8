/** Where the rows of a view are: the generation a layout points to, and its lanes by name, worked out once per layout. */
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { type GenerationLayout, generationOf, laneGroups, saltWidths, type ViewLayout } from '../model/view-layout.ts'
import { changedFields } from '../registry/layouts.ts'
import type { LaneName } from '../store/port.ts'

export interface ViewTarget {
  readonly layout: ViewLayout
  readonly generation: GenerationLayout
  /** Which lanes may hold an entity: of each group the one at (hash mod its length). */
  readonly groups: readonly TargetGroup[]
  /** How many lanes of a routed group hold an entity, where it is more than one; by `saltKey`. */
  readonly salts: ReadonlyMap<string, number>
}

export interface TargetGroup {
  readonly lanes: readonly LaneName[]
  readonly by: 'lane' | 'partition'
  readonly isRouted?: true
}

/** Throws VIEW_NOT_READY, DEFINITION_CHANGED, STORE_FORMAT. */
export function targetOf(namespace: string, plan: Plan, layout: ViewLayout): ViewTarget {
  if (layout.format !== 1 || layout.laneHash !== 1) {
    throw new TilefoldError(
      'STORE_FORMAT',
      `cannot read view ${plan.view}: its layout has format ${layout.format} and lane hash ${layout.laneHash}, expected 1 and 1`,
    )
  }
  const current = layout.current
  if (current === undefined) {
    throw new TilefoldError(
      'VIEW_NOT_READY',
      `cannot answer from view ${plan.view}: no generation of it is complete yet`,
    )
  }
  const generation = generationOf(layout, current.stateHash, current.generation)
  if (generation === undefined) {
    throw new TilefoldError(
      'STORE_FORMAT',
      `cannot read view ${plan.view}: its layout points to generation ${current.generation} of ${current.stateHash} and does not describe it`,
    )
  }
  if (generation.stateHash !== plan.stateHash) throw changed(plan, generation)
  return { layout, generation, groups: namedGroups(namespace, generation), salts: saltWidths(generation) }
}

/** The layout's groups with whole names: no text is built per entity. */
function namedGroups(namespace: string, generation: GenerationLayout): TargetGroup[] {
  const { stateHash, generation: number } = generation
  return laneGroups(generation).map(({ lanes, by, isRouted }) => ({
    by,
    ...(isRouted && { isRouted }),
    lanes: lanes.map((lane) => ({ namespace, stateHash, generation: number, lane })),
  }))
}

function changed(plan: Plan, generation: GenerationLayout): TilefoldError {
  const fields = changedFields(plan.state, generation.state)
  return new TilefoldError(
    'DEFINITION_CHANGED',
    `cannot answer from view ${plan.view}: its definition needs other state than the store serves; ` +
      `got state ${generation.stateHash}, expected ${plan.stateHash} (they differ in ${fields.join(', ') || 'nothing named'})`,
    { view: plan.view, served: generation.stateHash, defined: plan.stateHash, fields },
  )
}
