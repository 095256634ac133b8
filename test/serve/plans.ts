/** Plans and layouts by hand for the request path's tests: small, complete, and nothing a compiler had to make. */
import type { FeatureOp, FeaturePlan, Plan, StatePlan, ValueType } from '../../src/model/plan.ts'
import type { GenerationLayout, ViewLayout } from '../../src/model/view-layout.ts'

export const MINUTE = 60_000
export const HOUR = 60 * MINUTE
export const DAY = 24 * HOUR

export interface PlanShape {
  readonly view?: string
  readonly entity?: StatePlan['entity']
  readonly windowsMs?: readonly number[]
  readonly ops?: readonly FeatureOp[]
  readonly type?: ValueType
  readonly ttlMs?: number
  readonly head?: StatePlan['head']
  readonly default?: FeaturePlan['default']
  readonly stateHash?: string
}

/** One numeric column `amount`, tiles 5m 1h 1d, and each op over each window: `amount_sum_1h`, `count_1h`. */
export function planOf(shape: PlanShape = {}): Plan {
  const type = shape.type ?? 'float64'
  const windowsMs = shape.windowsMs ?? [HOUR, DAY]
  const ops = shape.ops ?? ['count', 'sum']
  const ladder = [
    { stepMs: 5 * MINUTE, keepMs: 2 * DAY },
    { stepMs: HOUR, keepMs: 4 * DAY },
    { stepMs: DAY, keepMs: 40 * DAY },
  ]
  const names: Record<number, string> = { [HOUR]: '1h', [DAY]: '1d' }
  const features = windowsMs.flatMap((lengthMs, window) =>
    ops.map(
      (op): FeaturePlan => ({
        name: op === 'count' ? `count_${names[lengthMs]}` : `amount_${op}_${names[lengthMs]}`,
        op,
        partial: op === 'count' ? -1 : 0,
        window,
        type: op === 'count' ? 'int64' : type,
        ...(type === 'decimal' ? { scale: 2 } : {}),
        ...(op === 'count' || shape.default === undefined ? {} : { default: shape.default }),
      }),
    ),
  )
  return {
    view: shape.view ?? 'spend',
    stateHash: shape.stateHash ?? 'a'.repeat(16),
    definitionHash: 'd'.repeat(16),
    ...(shape.ttlMs === undefined ? {} : { ttlMs: shape.ttlMs }),
    features,
    windows: windowsMs.map((lengthMs) => ({ lengthMs, tailStepMs: lengthMs === DAY ? HOUR : 5 * MINUTE })),
    state: {
      semantics: 1,
      source: 'payments',
      inputs: [],
      program: '',
      registers: { time: 0, entity: [1], filter: -1, columns: [2], id: -1 },
      expressions: { time: 'at' },
      entity: shape.entity ?? [{ name: 'user', type: 'utf8' }],
      columns: [{ name: 'amount', type, ...(type === 'decimal' ? { scale: 2 } : {}) }],
      partials: [{ kind: 'numeric', column: 0, sum: true, squares: false, min: true, max: true }],
      ladder,
      head: shape.head ?? { kind: 'raw', lengthMs: MINUTE },
      edges: 'aligned',
      retentionMs: 40 * DAY,
      lateness: { allowedMs: DAY, policy: 'accept' },
      maxFutureMs: DAY,
      disorderMs: 0,
    },
  }
}

export function generationLayout(plan: Plan, change: Partial<GenerationLayout> = {}): GenerationLayout {
  return { stateHash: plan.stateHash, generation: 1, state: plan.state, history: { lanes: 0 }, logs: [], ...change }
}

/** A layout that serves its only generation. */
export function layoutOf(plan: Plan, change: Partial<GenerationLayout> = {}, version = 1): ViewLayout {
  const generation = generationLayout(plan, change)
  return {
    format: 1,
    version,
    laneHash: 1,
    current: { stateHash: generation.stateHash, generation: generation.generation },
    generations: [generation],
  }
}
