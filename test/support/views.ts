/** A drawn plan said as a definition, so that what the compiler makes of it can be compared with it and run. */
import type { Aggregation, ColumnSpec, Duration, ViewOptions } from '../../src/define/dsl.ts'
import { bool, decimal, float64, int64, timestamp, utf8 } from '../../src/define/dsl.ts'
import type { FeaturePlan, InputColumn, Plan } from '../../src/model/plan.ts'
import { formatDuration } from '../../src/model/time.ts'
import { ID_INPUT, KEEP_INPUT, TIME_INPUT } from './batches.ts'

/** For plans drawn with `slackMs`: its tail steps and keep times follow from the definition. */
export function viewOf(plan: Plan, slackMs: number): ViewOptions {
  const { state } = plan
  const stepsMs = state.ladder.map((level) => level.stepMs)
  const isStepped = state.head.kind === 'step'
  return {
    name: plan.view,
    source: {
      name: state.source,
      columns: Object.fromEntries(state.inputs.map((input) => [input.name, specOf(input)])),
    },
    entity: state.entity.map((part) => part.name),
    time: TIME_INPUT,
    ...(state.registers.filter >= 0 && { filter: KEEP_INPUT }),
    aggregations: aggregationsOf(plan),
    tiles: (isStepped ? stepsMs.slice(1) : stepsMs).map(duration),
    head: duration(state.head.lengthMs),
    ...(isStepped && { headStep: duration(stepsMs[0]!) }),
    lateness: { allowed: duration(state.lateness.allowedMs), policy: state.lateness.policy },
    ...(state.dedupe && { dedupe: { id: ID_INPUT, within: duration(state.dedupe.withinMs) } }),
    maxFuture: duration(state.maxFutureMs),
    disorder: duration(state.disorderMs),
    retention: duration(state.retentionMs),
    slack: duration(slackMs),
  }
}

/** Features of one operation over one column are one aggregation with several windows. */
function aggregationsOf(plan: Plan): Aggregation[] {
  const groups = new Map<string, FeaturePlan[]>()
  for (const feature of plan.features) {
    const group = `${feature.op} ${feature.partial}`
    groups.set(group, [...(groups.get(group) ?? []), feature])
  }
  return [...groups.values()].map((features) => {
    const { op, partial, default: fallback } = features[0]!
    const windows = features.map((feature) => duration(plan.windows[feature.window]!.lengthMs))
    const column = partial < 0 ? undefined : plan.state.columns[plan.state.partials[partial]!.column]!.name
    return { op, column, options: { windows, ...(fallback !== undefined && { default: fallback }) } }
  })
}

function specOf(input: InputColumn): ColumnSpec {
  switch (input.type) {
    case 'timestamp':
      return timestamp(input.unit)
    case 'decimal':
      return decimal(38, input.scale!)
    case 'float64':
      return float64()
    case 'int64':
      return int64()
    case 'bool':
      return bool()
    case 'utf8':
      return utf8()
  }
}

function duration(ms: number): Duration {
  return formatDuration(ms) as Duration
}
