/**
 * What is asked of a spine, as plans for the core: its keys and instants are read by the code that reads events, so a key
 * means the same on both sides, and an instant too.
 */
import { ProgramBuilder } from '../define/program.ts'
import { loadColumn } from '../define/typed.ts'
import { TilefoldError } from '../model/errors.ts'
import { didYouMean } from '../model/nearest.ts'
import type { FeaturePlan, Plan, StatePlan } from '../model/plan.ts'

/** The acceptance of a spine is that of a log that takes everything: only a key or an instant that is none is refused. */
export const FOR_EVER_MS = 2 ** 50

/** A state that keeps nothing: entity key and instant of each row. */
export function askedState(entity: StatePlan['entity'], time: string): StatePlan {
  const columns = [
    { name: time, type: 'timestamp' as const, unit: 'ms' as const },
    ...entity.map(({ name, type }) => ({ name, type })),
  ]
  const builder = new ProgramBuilder(columns)
  const registers = columns.map((column) => builder.register(loadColumn(column)))
  return {
    semantics: 0,
    source: 'spine',
    inputs: builder.inputs,
    program: Buffer.from(builder.bytes()).toString('base64'),
    registers: { time: registers[0]!, entity: registers.slice(1), filter: -1, columns: [], id: -1 },
    expressions: { time },
    entity,
    columns: [],
    partials: [],
    ladder: [{ stepMs: 1000, keepMs: FOR_EVER_MS }],
    head: { kind: 'raw', lengthMs: 0 },
    edges: 'aligned',
    retentionMs: FOR_EVER_MS,
    lateness: { allowedMs: FOR_EVER_MS, policy: 'accept' },
    maxFutureMs: FOR_EVER_MS,
    disorderMs: 0,
  }
}

/**
 * The plan with the named features, in the order they are named, and no more windows, partials and columns than they need.
 * What is accepted stays as it is. Throws FEATURE_UNKNOWN.
 */
export function narrowPlan(plan: Plan, names: readonly string[] | undefined): Plan {
  const features = names === undefined ? plan.features : [...new Set(names)].map((name) => featureOf(plan, name))
  const windows = plan.windows.filter((_, i) => features.some((feature) => feature.window === i))
  const partials = plan.state.partials.filter((_, i) => features.some((feature) => feature.partial === i))
  // An edge's events are ordered by every column.
  const keepsAll = partials.some((partial) => partial.kind === 'edge')
  const kept = plan.state.columns.map((_, i) => i).filter((i) => keepsAll || partials.some((each) => each.column === i))
  const { registers } = plan.state
  const state: StatePlan = {
    ...plan.state,
    columns: kept.map((i) => plan.state.columns[i]!),
    registers: { ...registers, columns: kept.map((i) => registers.columns[i]!) },
    partials: partials.map((partial) => ({ ...partial, column: kept.indexOf(partial.column) })),
  }
  const moved = features.map(
    (feature): FeaturePlan => ({
      ...feature,
      window: windows.indexOf(plan.windows[feature.window]!),
      partial: feature.partial < 0 ? -1 : partials.indexOf(plan.state.partials[feature.partial]!),
    }),
  )
  return { ...plan, state, windows, features: moved }
}

/** Throws FEATURE_UNKNOWN. */
export function featureOf(plan: Plan, name: string): FeaturePlan {
  const found = plan.features.find((feature) => feature.name === name)
  if (found !== undefined) return found
  const known = plan.features.map((feature) => feature.name)
  const hint = didYouMean(name, known)
  throw new TilefoldError(
    'FEATURE_UNKNOWN',
    `cannot ask for ${plan.view}:${name}: the view has no such feature; ${hint.text}`,
    { view: plan.view, feature: name, suggestion: hint.name },
  )
}
