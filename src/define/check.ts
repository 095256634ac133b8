/**
 * From plain values (a YAML document, or what the DSL collected) to a `ViewDefinition`: shapes, names, durations, and that
 * columns exist. What needs types or the ladder is the compiler's.
 */
import { KEY_PARTS_MAX, LEVELS_MAX } from '../../assembly/layout.ts'
import { formatDuration } from '../model/time.ts'
import { readColumns } from './check-source.ts'
import {
  readColumnName,
  readDuration,
  readExpression,
  readFeatureName,
  readName,
  readObject,
  readOneOf,
  required,
} from './check-values.ts'
import { type Path, type Problems, show } from './problems.ts'
import {
  AGGREGATION_OPS,
  type AggregationDefinition,
  type AggregationOp,
  DEFAULTS,
  type LatePolicy,
  LIMITS,
  type SourceColumn,
  type ViewDefinition,
} from './view.ts'

export const VIEW_KEYS = [
  'name',
  'source',
  'entity',
  'time',
  'filter',
  'aggregations',
  'tiles',
  'edges',
  'head',
  'head_step',
  'lateness',
  'dedupe',
  'max_future',
  'disorder',
  'retention',
  'ttl',
  'slack',
] as const
export const AGGREGATION_KEYS = ['op', 'column', 'windows', 'as', 'name', 'default'] as const

const LATE_POLICIES = ['accept', 'side_output', 'drop'] as const satisfies readonly LatePolicy[]

/** Reads one view at `path`; returns undefined when a problem leaves nothing to compile. */
export function checkView(value: unknown, path: Path, problems: Problems): Omit<ViewDefinition, 'origin'> | undefined {
  const before = problems.count
  const view = readObject(value, path, VIEW_KEYS, problems)
  if (view === undefined) return undefined
  const at = (...more: (string | number)[]): Path => [...path, ...more]
  for (const key of ['name', 'source', 'entity', 'time', 'aggregations']) required(view, key, path, problems)

  const name = readName(view.name, at('name'), problems)
  const source =
    view.source === undefined ? undefined : readObject(view.source, at('source'), ['name', 'columns'], problems)
  for (const key of source ? ['name', 'columns'] : []) required(source!, key, at('source'), problems)
  const sourceName = source && readName(source.name, at('source', 'name'), problems)
  const columns = source && readColumns(source.columns, at('source', 'columns'), problems)

  const entity = readEntity(view.entity, at('entity'), columns, problems)
  const time = readTime(view.time, at('time'), columns, problems)
  const filter = view.filter === undefined ? undefined : readExpression(view.filter, at('filter'), problems)
  const aggregations = readAggregations(view.aggregations, at('aggregations'), problems)

  const tilesMs = readTiles(view.tiles ?? DEFAULTS.tiles, at('tiles'), problems)
  const edges = readEdges(view.edges, at('edges'), problems)
  const headMs = readDuration(view.head, at('head'), problems, LIMITS.headMsMin, LIMITS.headMsMax) ?? DEFAULTS.headMs
  const headStepMs = readHeadStep(view.head_step, at('head_step'), tilesMs, headMs, problems)

  const duration = (key: string, from: number, to: number) => readDuration(view[key], at(key), problems, from, to)
  const retentionMs = duration('retention', LIMITS.stepMsMin, LIMITS.retentionMsMax)
  const lateness = readLateness(view.lateness, at('lateness'), problems)
  const dedupe = readDedupe(view.dedupe, at('dedupe'), columns, problems)
  const maxFutureMs = duration('max_future', 0, LIMITS.retentionMsMax) ?? DEFAULTS.maxFutureMs
  const disorderMs = duration('disorder', 0, LIMITS.disorderMsMax) ?? DEFAULTS.disorderMs
  const ttlMs = duration('ttl', 1, LIMITS.retentionMsMax)
  const slackMs = duration('slack', 0, LIMITS.slackMsMax) ?? DEFAULTS.slackMs

  if (problems.count > before) return undefined
  return {
    name: name!,
    source: { name: sourceName!, columns: columns! },
    entity: entity!,
    time: time!,
    filter,
    aggregations,
    tilesMs: tilesMs!,
    edges,
    headMs,
    headStepMs,
    lateness,
    dedupe,
    maxFutureMs,
    disorderMs,
    retentionMs,
    ttlMs,
    slackMs,
  }
}

// ---- parts of a view -------------------------------------------------------------------------------------------------

function readEntity(value: unknown, path: Path, columns: readonly SourceColumn[] | undefined, problems: Problems) {
  if (value === undefined) return undefined
  const list = typeof value === 'string' ? [value] : value
  if (!Array.isArray(list) || list.length === 0 || list.length > KEY_PARTS_MAX) {
    problems.add(path, `got ${show(value)}, expected a column or a list of 1 to ${KEY_PARTS_MAX} columns`)
    return undefined
  }
  const pathOf = (i: number) => (typeof value === 'string' ? path : [...path, i])
  for (const [i, name] of list.entries()) {
    const column = readColumnName(name, pathOf(i), columns, problems)
    if (column && !['utf8', 'int64', 'bool'].includes(column.type)) {
      problems.add(pathOf(i), `got entity column ${show(name)} of type ${column.type}, expected utf8, int64 or bool`)
    }
    if (list.indexOf(name) !== i) problems.add(pathOf(i), `got entity column ${show(name)} twice, expected it once`)
  }
  return list as string[]
}

function readTime(value: unknown, path: Path, columns: readonly SourceColumn[] | undefined, problems: Problems) {
  const column = readColumnName(value, path, columns, problems)
  if (column && column.type !== 'timestamp') {
    problems.add(
      path,
      `got time column ${show(value)} of type ${column.type}, expected a timestamp: declare it as "timestamp[ms]" (or [s], [us], [ns], [day], the unit its integers count)`,
    )
  }
  return typeof value === 'string' ? value : undefined
}

function readAggregations(value: unknown, path: Path, problems: Problems): AggregationDefinition[] {
  if (value === undefined) return []
  if (!Array.isArray(value) || value.length === 0 || value.length > LIMITS.aggregationsMax) {
    problems.add(path, `got ${show(value)}, expected a list of 1 to ${LIMITS.aggregationsMax} aggregations`)
    return []
  }
  return value.flatMap((each, i) => readAggregation(each, [...path, i], problems) ?? [])
}

function readAggregation(value: unknown, path: Path, problems: Problems): AggregationDefinition | undefined {
  const before = problems.count
  const given = readObject(value, path, AGGREGATION_KEYS, problems)
  if (given === undefined) return undefined
  const ops = Object.keys(AGGREGATION_OPS) as AggregationOp[]
  const op = readOneOf(required(given, 'op', path, problems), [...path, 'op'], ops, problems)
  const column = given.column === undefined ? undefined : readExpression(given.column, [...path, 'column'], problems)
  if (op !== undefined && op !== 'count' && given.column === undefined) {
    problems.add(path, `got ${op} without a column, expected "column": a column of the source or a SQL expression`)
  }
  const windows = readWindows(required(given, 'windows', path, problems), [...path, 'windows'], problems)
  const as = given.as === undefined ? undefined : readFeatureName(given.as, [...path, 'as'], problems)
  const name = given.name === undefined ? undefined : readFeatureName(given.name, [...path, 'name'], problems)
  if (as !== undefined && name !== undefined) {
    problems.add(
      [...path, 'name'],
      'got both "as" and "name", expected one: "as" is followed by the window, "name" is whole',
    )
  }
  if (name !== undefined && windows.length > 1) {
    problems.add(
      [...path, 'name'],
      `got "name" with ${windows.length} windows, expected one window, or "as" (the window is appended to it)`,
    )
  }
  const fallback = given.default
  if (fallback !== undefined && !['number', 'string', 'boolean'].includes(typeof fallback)) {
    problems.add([...path, 'default'], `got ${show(fallback)}, expected a number, a text or a bool`)
  }
  if (problems.count > before) return undefined
  return { op: op!, column, windows, as, name, default: fallback as number | string | boolean | undefined }
}

function readWindows(value: unknown, path: Path, problems: Problems): AggregationDefinition['windows'] {
  if (value === undefined) return []
  if (!Array.isArray(value) || value.length === 0) {
    problems.add(path, `got ${show(value)}, expected a list of durations like ["1h", "24h"]`)
    return []
  }
  return value.flatMap((each, i) => {
    const lengthMs = readDuration(each, [...path, i], problems, 1, LIMITS.windowMsMax)
    return lengthMs === undefined ? [] : [{ text: each as string, lengthMs }]
  })
}

function readTiles(value: unknown, path: Path, problems: Problems): number[] | undefined {
  if (!Array.isArray(value) || value.length === 0 || value.length > LEVELS_MAX) {
    problems.add(
      path,
      `got ${show(value)}, expected a list of 1 to ${LEVELS_MAX} steps like ["5m", "1h", "1d"], finest first`,
    )
    return undefined
  }
  const steps = value.map((each, i) =>
    readDuration(each ?? null, [...path, i], problems, LIMITS.stepMsMin, LIMITS.stepMsMax),
  )
  for (let i = 1; i < steps.length; i++) {
    const finer = steps[i - 1]
    const step = steps[i]
    if (finer === undefined || step === undefined) continue
    if (step <= finer) {
      problems.add(
        [...path, i],
        `got step ${show(value[i])} behind ${show(value[i - 1])}, expected steps in ascending order`,
      )
    } else if (step % finer !== 0) {
      problems.add(
        [...path, i],
        `got step ${show(value[i])}, expected a multiple of the step before it, ${show(value[i - 1])}`,
      )
    }
  }
  return steps as number[]
}

function readEdges(value: unknown, path: Path, problems: Problems): 'aligned' {
  if (value === 'exact') {
    problems.add(
      path,
      'got "exact", which this version does not have; expected "aligned": a window starts on a tile edge, at most a twelfth early',
    )
  } else if (value !== undefined) readOneOf(value, path, ['aligned'], problems)
  return DEFAULTS.edges
}

function readHeadStep(
  value: unknown,
  path: Path,
  tilesMs: readonly number[] | undefined,
  headMs: number,
  problems: Problems,
): number | undefined {
  const stepMs = readDuration(value, path, problems, LIMITS.stepMsMin, LIMITS.stepMsMax)
  const finest = tilesMs?.[0]
  if (stepMs === undefined || finest === undefined) return stepMs
  if (stepMs >= finest || finest % stepMs !== 0) {
    problems.add(path, `got ${show(value)}, expected a divisor of the finest tile, ${formatDuration(finest)}`)
  } else if (headMs % stepMs !== 0) {
    problems.add(path, `got ${show(value)}, expected a divisor of the head, ${formatDuration(headMs)}`)
  } else if (tilesMs!.length === LEVELS_MAX) {
    problems.add(path, `got a head step and ${LEVELS_MAX} tile steps, expected at most ${LEVELS_MAX} levels together`)
  }
  return stepMs
}

function readLateness(value: unknown, path: Path, problems: Problems): ViewDefinition['lateness'] {
  if (value === undefined) return { policy: DEFAULTS.policy }
  const given = readObject(value, path, ['allowed', 'policy'], problems)
  if (given === undefined) return { policy: DEFAULTS.policy }
  return {
    policy: readOneOf(given.policy ?? DEFAULTS.policy, [...path, 'policy'], LATE_POLICIES, problems) ?? DEFAULTS.policy,
    allowedMs: readDuration(given.allowed, [...path, 'allowed'], problems, 0, LIMITS.retentionMsMax),
  }
}

function readDedupe(value: unknown, path: Path, columns: readonly SourceColumn[] | undefined, problems: Problems) {
  if (value === undefined) return undefined
  const given = readObject(value, path, ['id', 'within'], problems)
  if (given === undefined) return undefined
  const id = readColumnName(required(given, 'id', path, problems), [...path, 'id'], columns, problems)
  if (id && id.type !== 'utf8' && id.type !== 'int64') {
    problems.add([...path, 'id'], `got event id ${show(given.id)} of type ${id.type}, expected utf8 or int64`)
  }
  const withinMs = readDuration(given.within, [...path, 'within'], problems, 1, LIMITS.retentionMsMax)
  return id && { id: id.name, withinMs: withinMs ?? DEFAULTS.dedupeWithinMs }
}
