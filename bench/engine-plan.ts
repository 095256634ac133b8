/** The views that the claims are measured on, and a core instance set up for one of them. */
import { compileView } from '../src/define/compile.ts'
import {
  type Aggregation,
  count,
  type Duration,
  defineView,
  float64,
  last,
  max,
  min,
  sum,
  timestamp,
  utf8,
  varPop,
} from '../src/define/dsl.ts'
import type { ViewDefinition } from '../src/define/view.ts'
import { type CoreExports, loadCore } from '../src/engine/module.ts'
import { featureProgram, stateProgram } from '../src/engine/program.ts'
import type { Plan } from '../src/model/plan.ts'

/** One lane, one shard. */
export const SHARES = { lanes: 1, shard: 0, shards: 1, completeSinceMs: 0, layoutVersion: 0 }

/** Beyond every time of the workloads; the core takes a wall clock as a number. */
export const FAR_MS = Number.MAX_SAFE_INTEGER

/** Rows per call: V8 is at full speed after some ten calls, and a batch stays in the cache. */
export const BATCH_ROWS = 8192

export interface PlanOptions {
  readonly windows: readonly Duration[]
  readonly tiles?: readonly Duration[]
  /** Adds the population variance, and with it exact squares. */
  readonly squares?: boolean
  /** Only the count, the sum and the last: rows of 2 KB where all five are 3.5. */
  readonly isLean?: boolean
  /** How far behind the frontier an as-of may lie. */
  readonly slack?: Duration
  /** The head as tiles of this width instead of raw events. */
  readonly headStep?: Duration
}

/** Count, sum, min, max and last (and variance) of `value` by `key`, over each window. Features in that order. */
export async function valuePlan({ windows, ...options }: PlanOptions): Promise<Plan> {
  return compileView(valueView(windows, options))
}

export function valueView(windows: readonly Duration[], options: Omit<PlanOptions, 'windows'> = {}): ViewDefinition {
  const each = { windows }
  const aggregations: Aggregation[] = [
    count(each),
    sum('value', each),
    ...(options.isLean ? [] : [min('value', each), max('value', each)]),
    last('value', each),
  ]
  if (options.squares) aggregations.push(varPop('value', each))
  return defineView({
    name: 'bench',
    source: { name: 'events', columns: { key: utf8(), time: timestamp('ms'), value: float64() } },
    entity: 'key',
    time: 'time',
    aggregations,
    tiles: options.tiles,
    slack: options.slack,
    headStep: options.headStep,
  })
}

/** An instance for folding, with the features too where it merges. */
export function createCore(plan: Plan): CoreExports {
  const core = loadCore().instantiate()
  core.configure(writeInput(core, stateProgram(plan.state, SHARES)))
  core.configureFeatures(writeInput(core, featureProgram(plan)))
  return core
}

function writeInput(core: CoreExports, bytes: Uint8Array): number {
  const at = core.reserveInput(bytes.length, 0) >>> 0
  new Uint8Array(core.memory.buffer).set(bytes, at)
  return at
}
