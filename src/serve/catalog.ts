/** What can be asked: the views of a reader and their features by name, worked out once from the plans. */
import { TilefoldError } from '../model/errors.ts'
import { didYouMean } from '../model/nearest.ts'
import type { FeatureOp, FeaturePlan, Plan, ValueType, WindowPlan } from '../model/plan.ts'
import { formatDuration } from '../model/time.ts'

/** What an answer says about one of its columns. */
export interface FeatureInfo {
  readonly name: string
  readonly view: string
  readonly op: FeatureOp
  readonly type: ValueType
  /** Digits behind the point; decimal only. */
  readonly scale?: number
  /** The window's length, as a duration: `24h` reads `1d`. */
  readonly window: string
}

export interface ServedFeature {
  readonly view: ServedView
  /** Index into the plan's features, and so into the merger's. */
  readonly index: number
  readonly info: FeatureInfo
  readonly window: WindowPlan
}

export interface ServedView {
  /** Position in the catalog: mergers are leased in this order. */
  readonly index: number
  readonly plan: Plan
  readonly features: readonly ServedFeature[]
  readonly byName: ReadonlyMap<string, ServedFeature>
  /** Views whose keys have the same parts share the encoded keys of a request; this is the first of them. */
  readonly keysOf: number
}

export interface Catalog {
  readonly views: readonly ServedView[]
  readonly byName: ReadonlyMap<string, ServedView>
}

/** Throws DEFINITION_INVALID when two plans have one name. */
export function catalogOf(plans: readonly Plan[]): Catalog {
  const views: ServedView[] = []
  const byName = new Map<string, ServedView>()
  const keyShapes = new Map<string, number>()
  for (const [index, plan] of plans.entries()) {
    if (byName.has(plan.view)) {
      throw new TilefoldError('DEFINITION_INVALID', `cannot serve: view ${JSON.stringify(plan.view)} is defined twice`)
    }
    const shape = JSON.stringify(plan.state.entity.map((part) => [part.name, part.type]))
    if (!keyShapes.has(shape)) keyShapes.set(shape, index)
    const features: ServedFeature[] = []
    const view: ServedView = {
      index,
      plan,
      features,
      byName: new Map<string, ServedFeature>(),
      keysOf: keyShapes.get(shape)!,
    }
    for (const feature of plan.features) {
      const served = serveFeature(view, features.length, feature)
      features.push(served)
      ;(view.byName as Map<string, ServedFeature>).set(feature.name, served)
    }
    views.push(view)
    byName.set(plan.view, view)
  }
  return { views, byName }
}

function serveFeature(view: ServedView, index: number, feature: FeaturePlan): ServedFeature {
  const window = view.plan.windows[feature.window]!
  const info: FeatureInfo = {
    name: feature.name,
    view: view.plan.view,
    op: feature.op,
    type: feature.type,
    ...(feature.scale === undefined ? {} : { scale: feature.scale }),
    window: formatDuration(window.lengthMs),
  }
  return { view, index, info, window }
}

/** Throws VIEW_UNKNOWN. */
export function viewNamed(catalog: Catalog, name: string): ServedView {
  const view = catalog.byName.get(name)
  if (view !== undefined) return view
  const hint = didYouMean(name, catalog.byName.keys())
  throw new TilefoldError('VIEW_UNKNOWN', `cannot find view ${shorten(name)}: ${hint.text}`, {
    view: name.slice(0, 200),
    suggestion: hint.name,
  })
}

/** Throws FEATURE_UNKNOWN. */
export function featureNamed(view: ServedView, name: string): ServedFeature {
  const feature = view.byName.get(name)
  if (feature !== undefined) return feature
  const hint = didYouMean(name, view.byName.keys())
  throw new TilefoldError(
    'FEATURE_UNKNOWN',
    `cannot find feature ${shorten(name)} in view ${view.plan.view}: ${hint.text}`,
    {
      view: view.plan.view,
      feature: name.slice(0, 200),
      suggestion: hint.name,
    },
  )
}

function shorten(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}…` : name)
}
