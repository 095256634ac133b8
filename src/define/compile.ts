/**
 * From a definition to the plan that everything else interprets, in order: windows, expressions, partials, features, ladder,
 * program, hashes. Problems of all steps are collected before any is thrown.
 */
import { WINDOWS_MAX } from '../../assembly/layout.ts'
import type { FeaturePlan, Plan, StatePlan, WindowPlan } from '../model/plan.ts'
import { formatDuration } from '../model/time.ts'
import { isFeatureName } from './check-values.ts'
import { checkFeatureNames, planFeatures } from './features.ts'
import { hashDefinition, hashState } from './hash.ts'
import { buildLadder, checkLadder, tailStep } from './ladder.ts'
import { printColumn } from './print.ts'
import { type Path, Problems, show } from './problems.ts'
import { loadedColumns, ProgramBuilder } from './program.ts'
import {
  checkProjection,
  mergeNeeds,
  type Need,
  type Projection,
  partialOf,
  project,
  resultType,
} from './projection.ts'
import { ExpressionError, loadSqlParser } from './sql.ts'
import { loadColumn, type TypedNode } from './typed.ts'
import { AGGREGATION_OPS, type AggregationDefinition, type ViewDefinition } from './view.ts'

/** Raised when the same definition would accept or keep other things than before. */
const SEMANTICS = 1

/**
 * Compiles a view, from the DSL or from YAML alike. Rejects with DEFINITION_INVALID or EXPRESSION_INVALID; the error's
 * `details.problems` has every problem with its place.
 */
export async function compileView(view: ViewDefinition): Promise<Plan> {
  await loadSqlParser()
  const problems = new Problems(view.origin)
  const windows = planWindows(view, problems)
  const filter = compileFilter(view, problems)
  const needs = view.aggregations.map((each, i) => planNeed(view, each, ['aggregations', i], problems))
  const { columns, partials } = mergeNeeds(needs.filter((each) => each !== undefined))
  const limit = checkProjection(columns, partials)
  if (limit !== undefined) problems.add(['aggregations'], limit)

  const features = view.aggregations.flatMap((each, i) =>
    planFeatures(each, needs[i], ['aggregations', i], problems).map((feature) => ({
      ...feature,
      partial: partialOf(needs[i], columns, partials),
      window: windows.findIndex((window) => window.lengthMs === feature.lengthMs),
    })),
  )
  checkFeatureNames(features, problems)
  problems.finish()

  const ladder = buildLadder(view, windows)
  const wide = checkLadder(ladder)
  if (wide !== undefined) problems.add(['tiles'], wide)
  const times = planTimes(view, windows, problems)
  problems.finish()

  const program = compileProgram(view, filter, needs, columns, problems)
  problems.finish()
  const state: StatePlan = {
    semantics: SEMANTICS,
    source: view.source.name,
    ...program,
    expressions: {
      time: printColumn(view.time),
      filter: filter?.name,
      id: view.dedupe && printColumn(view.dedupe.id),
    },
    entity: view.entity.map((name) => ({ name, type: columnOf(view, name).type as 'utf8' | 'int64' | 'bool' })),
    columns: columns.map(({ name, type, scale }) => ({ name, type, scale })),
    id: view.dedupe && { type: columnOf(view, view.dedupe.id).type as 'utf8' | 'int64' },
    partials,
    ladder,
    head: { kind: view.headStepMs === undefined ? 'raw' : 'step', lengthMs: view.headMs },
    edges: view.edges,
    ...times,
    maxFutureMs: view.maxFutureMs,
    disorderMs: view.disorderMs,
  }
  const stateHash = hashState(state)
  const served = {
    view: view.name,
    state,
    features: features.map(({ path: _path, lengthMs: _lengthMs, ...feature }): FeaturePlan => feature),
    windows,
    ttlMs: view.ttlMs,
  }
  return { ...served, stateHash, definitionHash: hashDefinition(served, stateHash) }
}

function columnOf(view: ViewDefinition, name: string) {
  return view.source.columns.find((each) => each.name === name)!
}

// ---- windows and times -----------------------------------------------------------------------------------------------

/** Distinct windows, ascending. */
function planWindows(view: ViewDefinition, problems: Problems): WindowPlan[] {
  const windows = new Map<number, WindowPlan>()
  for (const [i, aggregation] of view.aggregations.entries()) {
    for (const [j, { lengthMs }] of aggregation.windows.entries()) {
      const tail = tailStep(lengthMs, view.tilesMs)
      if ('problem' in tail) problems.add(['aggregations', i, 'windows', j], tail.problem)
      else windows.set(lengthMs, { lengthMs, tailStepMs: tail.stepMs })
    }
  }
  if (windows.size > WINDOWS_MAX) {
    problems.add(
      ['aggregations'],
      `got ${windows.size} different windows, expected at most ${WINDOWS_MAX}: split the view`,
    )
  }
  return [...windows.values()].sort((a, b) => a.lengthMs - b.lengthMs)
}

/** Retention, lateness and dedupe, which hang together. */
function planTimes(view: ViewDefinition, windows: readonly WindowPlan[], problems: Problems) {
  const longestMs = windows.at(-1)!.lengthMs
  const retentionMs = view.retentionMs ?? longestMs + view.tilesMs.at(-1)!
  const { policy, allowedMs = retentionMs } = view.lateness
  if (retentionMs < longestMs) {
    problems.add(
      ['retention'],
      `got ${formatDuration(retentionMs)}, expected at least the longest window, ${formatDuration(longestMs)}`,
    )
  }
  if (allowedMs > retentionMs) {
    problems.add(
      ['lateness', 'allowed'],
      `got ${formatDuration(allowedMs)}, expected at most the retention, ${formatDuration(retentionMs)}`,
    )
  }
  if (view.dedupe && view.dedupe.withinMs > retentionMs) {
    problems.add(
      ['dedupe', 'within'],
      `got ${formatDuration(view.dedupe.withinMs)}, expected at most the retention, ${formatDuration(retentionMs)}`,
    )
  }
  return { retentionMs, lateness: { allowedMs, policy }, dedupe: view.dedupe && { withinMs: view.dedupe.withinMs } }
}

// ---- expressions -----------------------------------------------------------------------------------------------------

/** Runs `work`; an ExpressionError becomes a problem at `path`. */
function attempt<T>(text: string, path: Path, problems: Problems, work: () => T): T | undefined {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof ExpressionError)) throw error
    problems.add(path, `in ${show(text)}: ${error.message}`, { code: 'EXPRESSION_INVALID', offset: error.at })
    return undefined
  }
}

function compileFilter(view: ViewDefinition, problems: Problems): Projection | undefined {
  const text = view.filter
  if (text === undefined) return undefined
  const filter = attempt(text, ['filter'], problems, () => project(text, view.source.columns))
  if (filter !== undefined && filter.type !== 'bool') {
    problems.add(['filter'], `in ${show(text)}: got ${filter.type}, expected bool`, { code: 'EXPRESSION_INVALID' })
  }
  return filter
}

/** What an aggregation needs of the state; undefined for rows, and after a problem. */
function planNeed(
  view: ViewDefinition,
  aggregation: AggregationDefinition,
  path: Path,
  problems: Problems,
): Need | undefined {
  const text = aggregation.column
  if (text === undefined) return undefined
  const at = [...path, 'column']
  const projection = attempt(text, at, problems, () => project(text, view.source.columns))
  if (projection === undefined) return undefined
  const op = AGGREGATION_OPS[aggregation.op]
  if (resultType(op, projection) === undefined) {
    problems.add(
      at,
      `got ${aggregation.op} of a ${projection.type} column, expected ${op.startsWith('bit_') ? 'int64' : NUMERIC_TYPES}`,
    )
    return undefined
  }
  if (aggregation.as === undefined && aggregation.name === undefined) {
    if (projection.column === undefined) {
      problems.add(at, `got expression ${show(text)} without a name, expected "as": its features are {as}_{window}`)
    } else if (!isFeatureName(projection.column)) {
      problems.add(
        at,
        `got column ${show(text)}, which makes no feature name; expected "as": the features are {as}_{window}`,
      )
    }
  }
  return { op, projection }
}

const NUMERIC_TYPES = 'float64, int64, decimal or bool (utf8 has count, first and last)'

// ---- program ---------------------------------------------------------------------------------------------------------

function compileProgram(
  view: ViewDefinition,
  filter: Projection | undefined,
  needs: readonly (Need | undefined)[],
  columns: readonly Projection[],
  problems: Problems,
) {
  const named = [view.time, ...view.entity, ...(view.dedupe ? [view.dedupe.id] : [])]
  const nodes = [...columns, ...(filter ? [filter] : [])].map((each) => each.node)
  const used = new Set([...named, ...nodes.flatMap(loadedColumns)])
  const builder = new ProgramBuilder(view.source.columns.filter((each) => used.has(each.name)))
  const registerOf = (name: string) => builder.register(loadColumn(columnOf(view, name)))
  // Registers may run out: that is the fault of the expression that asks for one too many.
  const rootOf = (projection: Projection, node: TypedNode, path: Path) =>
    attempt(projection.name, path, problems, () => builder.root(node)) ?? -1
  const pathOf = (projection: Projection): Path => [
    'aggregations',
    needs.findIndex((each) => each?.projection.name === projection.name),
    'column',
  ]
  const registers = {
    time: registerOf(view.time),
    entity: view.entity.map(registerOf),
    filter: filter === undefined ? -1 : rootOf(filter, filter.node, ['filter']),
    columns: columns.map((each) => rootOf(each, foldedAs(each.node), pathOf(each))),
    id: view.dedupe === undefined ? -1 : registerOf(view.dedupe.id),
  }
  return { inputs: builder.inputs, program: Buffer.from(builder.bytes()).toString('base64'), registers }
}

/** Partials fold bools as the int64 0 and 1. */
function foldedAs(node: TypedNode): TypedNode {
  return node.type === 'bool' ? { operation: 'cast', type: 'int64', scale: 0, operands: [node] } : node
}
