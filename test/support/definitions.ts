/**
 * Random plans: every mix of columns, operations, windows, ladders, heads and policies, with a column program that loads
 * and nothing else. Plans made from definitions are tested where definitions are; these reach corners that no definition
 * would spell.
 */
import { createHash } from 'node:crypto'
import {
  EXPR_LOAD,
  INSTRUCTION_BYTES,
  PROGRAM_HEADER_BYTES,
  PROGRAM_INPUTS_AT,
  PROGRAM_INSTRUCTIONS_AT,
  PROGRAM_VERSION,
  PROGRAM_VERSION_AT,
  TYPE_BOOL,
  TYPE_DEC,
  TYPE_F64,
  TYPE_I64,
  TYPE_UTF8,
  UNIT_MS,
} from '../../assembly/layout.ts'
import type { PhysicalType } from '../../src/model/columns.ts'
import type {
  FeatureOp,
  FeaturePlan,
  InputColumn,
  LevelPlan,
  PartialPlan,
  Plan,
  ProjectedColumn,
  StatePlan,
  ValueType,
  WindowPlan,
} from '../../src/model/plan.ts'
import { formatDuration } from '../../src/model/time.ts'
import { ID_INPUT, KEEP_INPUT, TIME_INPUT } from './batches.ts'
import type { Random } from './random.ts'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
const YEAR = 365 * DAY

/** What a caller fixes; everything else is drawn. */
export interface PlanOptions {
  readonly head?: 'raw' | 'step'
  /**
   * Only plans whose answers do not depend on the order of the log: policy accept, no dedupe, nothing near retention. Left
   * out, all policies come up.
   */
  readonly orderFree?: boolean
  readonly ladderMs?: readonly number[]
  /** Columns at most. */
  readonly columns?: number
}

export function drawPlan(random: Random, options: PlanOptions = {}): Plan {
  const head = options.head ?? (random.chance(0.75) ? 'raw' : 'step')
  const ladderMs = options.ladderMs ?? random.pick(LADDERS_MS[head])
  const windows = drawWindows(random, ladderMs)
  const columns = drawProjections(random, options.columns ?? 4)
  const { partials, features } = drawFeatures(random, columns, windows)
  const state = drawState(random, options, { head, ladderMs, windows, columns, partials })
  return {
    view: 'drawn',
    state,
    stateHash: hashOf(state),
    features,
    windows,
    definitionHash: hashOf({ state, features, windows }),
  }
}

const LADDERS_MS: Record<'raw' | 'step', readonly (readonly number[])[]> = {
  raw: [
    [5 * MINUTE, HOUR, DAY],
    [MINUTE, HOUR],
    [HOUR],
    [10 * SECOND, MINUTE, 10 * MINUTE],
    [5 * MINUTE, 15 * MINUTE, HOUR, DAY],
    // Steps that are no calendar's: tiles count from the epoch all the same.
    [7 * SECOND, 70 * SECOND, 700 * SECOND],
    [SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND, 16 * SECOND],
  ],
  step: [[SECOND, MINUTE, HOUR], [10 * SECOND, 5 * MINUTE, HOUR, DAY], [SECOND, 5 * SECOND], [MINUTE]],
}

/** One to four window lengths, most of them multiples of nothing; the start goes by a step of at most a twelfth. */
function drawWindows(random: Random, ladderMs: readonly number[]): WindowPlan[] {
  const finestMs = ladderMs[0]!
  const coarsestMs = ladderMs[ladderMs.length - 1]!
  const candidates = [
    12 * finestMs,
    13 * finestMs + 1,
    ...ladderMs.map((stepMs) => 24 * stepMs),
    12 * coarsestMs + 7,
    7 * coarsestMs,
  ]
  const lengths = new Set<number>()
  for (let i = random.between(1, 4); i > 0; i--) lengths.add(Math.max(12 * finestMs, random.pick(candidates)))
  return [...lengths]
    .sort((a, b) => a - b)
    .map((lengthMs) => {
      const allowed = ladderMs.filter((stepMs) => stepMs * 12 <= lengthMs)
      return { lengthMs, tailStepMs: random.chance(0.7) ? allowed[allowed.length - 1]! : random.pick(allowed) }
    })
}

function drawProjections(random: Random, most: number): ProjectedColumn[] {
  const types: ValueType[] = ['float64', 'float64', 'float64', 'int64', 'decimal', 'bool', 'utf8']
  return Array.from({ length: random.below(most + 1) }, (_, i): ProjectedColumn => {
    const type = random.pick(types)
    return { name: `c${i}`, type, ...(type === 'decimal' && { scale: random.pick([0, 2, 9, 38]) }) }
  })
}

const NUMERIC_OPS: readonly FeatureOp[] = [
  'count',
  'sum',
  'mean',
  'min',
  'max',
  'var_pop',
  'var_samp',
  'stddev_pop',
  'stddev_samp',
  'first',
  'last',
]
const TEXT_OPS: readonly FeatureOp[] = ['count', 'first', 'last']

/** `count(*)` over every window, and for each column some operations, each over some windows. */
function drawFeatures(
  random: Random,
  columns: readonly ProjectedColumn[],
  windows: readonly WindowPlan[],
): { partials: PartialPlan[]; features: FeaturePlan[] } {
  const partials: PartialPlan[] = []
  const features: FeaturePlan[] = windows.map(({ lengthMs }, window) => ({
    name: `count_${formatDuration(lengthMs)}`,
    op: 'count',
    partial: -1,
    window,
    type: 'int64',
  }))
  for (const [index, column] of columns.entries()) {
    const ops = (column.type === 'utf8' ? TEXT_OPS : NUMERIC_OPS).filter(() => random.chance(0.5))
    for (const op of ops) {
      const partial = partialFor(partials, index, op, ops)
      for (const [window, { lengthMs }] of windows.entries()) {
        if (random.chance(0.3)) continue
        features.push({
          name: `${column.name}_${op}_${formatDuration(lengthMs)}`,
          op,
          partial,
          window,
          type: typeOf(op, column),
          ...(column.scale !== undefined && typeOf(op, column) === 'decimal' && { scale: column.scale }),
          ...(random.chance(0.1) && { default: defaultFor(typeOf(op, column)) }),
        })
      }
    }
  }
  return { partials, features }
}

/** The column's partial that the operation reads: one numeric with all that is asked of it, and one per edge. */
function partialFor(partials: PartialPlan[], column: number, op: FeatureOp, ops: readonly FeatureOp[]): number {
  const isEdge = op === 'first' || op === 'last'
  const found = partials.findIndex(
    (each) =>
      each.column === column &&
      (isEdge ? each.kind === 'edge' && each.last === (op === 'last') : each.kind === 'numeric'),
  )
  if (found >= 0) return found
  const spread = ops.some((each) => each.startsWith('var') || each.startsWith('stddev'))
  partials.push(
    isEdge
      ? { kind: 'edge', column, last: op === 'last' }
      : {
          kind: 'numeric',
          column,
          sum: spread || ops.includes('sum') || ops.includes('mean'),
          squares: spread,
          min: ops.includes('min'),
          max: ops.includes('max'),
        },
  )
  return partials.length - 1
}

function typeOf(op: FeatureOp, column: ProjectedColumn): ValueType {
  if (op === 'count') return 'int64'
  if (op === 'sum' && column.type === 'bool') return 'int64'
  if (op === 'mean' || op.startsWith('var') || op.startsWith('stddev')) return 'float64'
  return column.type
}

function defaultFor(type: ValueType): number | string | boolean {
  return type === 'utf8' ? 'none' : type === 'bool' ? false : type === 'decimal' ? '-1' : -1
}

interface Shape {
  readonly head: 'raw' | 'step'
  readonly ladderMs: readonly number[]
  readonly windows: readonly WindowPlan[]
  readonly columns: readonly ProjectedColumn[]
  readonly partials: readonly PartialPlan[]
}

function drawState(random: Random, options: PlanOptions, shape: Shape): StatePlan {
  const orderFree = options.orderFree === true
  const entity = drawEntity(random)
  const hasFilter = random.chance(0.4)
  const dedupe = !orderFree && random.chance(0.5)
  const idType = dedupe || random.chance(0.2) ? random.pick(['utf8', 'int64'] as const) : undefined
  const coarsestMs = shape.ladderMs[shape.ladderMs.length - 1]!
  const longestMs = shape.windows[shape.windows.length - 1]!.lengthMs

  const inputs: InputColumn[] = [{ name: TIME_INPUT, type: 'timestamp', unit: 'ms', accepts: INTEGERS }]
  for (const part of entity) inputs.push({ name: part.name, type: part.type, accepts: ACCEPTS[part.type] })
  const columnsFrom = inputs.length
  for (const { name, type, scale } of shape.columns) inputs.push({ name, type, scale, accepts: ACCEPTS[type] })
  if (hasFilter) inputs.push({ name: KEEP_INPUT, type: 'bool', accepts: ACCEPTS.bool })
  if (idType) inputs.push({ name: ID_INPUT, type: idType, accepts: ACCEPTS[idType] })

  return {
    semantics: 1,
    source: 'events',
    inputs,
    program: loadProgram(inputs),
    registers: {
      time: 0,
      entity: entity.map((_, i) => 1 + i),
      filter: inputs.findIndex(({ name }) => name === KEEP_INPUT),
      columns: shape.columns.map((_, i) => columnsFrom + i),
      id: inputs.findIndex(({ name }) => name === ID_INPUT),
    },
    entity,
    columns: shape.columns,
    ...(idType && { id: { type: idType } }),
    partials: shape.partials,
    ladder: keepTimes(random, shape),
    head: { kind: shape.head, lengthMs: random.pick([SECOND, 10 * SECOND, MINUTE, 5 * MINUTE]) },
    edges: 'aligned',
    retentionMs: orderFree ? 50 * YEAR : longestMs + random.pick([coarsestMs, 3 * coarsestMs, 10 * longestMs]),
    lateness: {
      allowedMs: random.pick([0, SECOND, shape.ladderMs[0]!, coarsestMs]),
      policy: orderFree ? 'accept' : random.pick(['accept', 'side_output', 'drop']),
    },
    maxFutureMs: orderFree ? 50 * YEAR : random.pick([0, MINUTE, DAY, 50 * YEAR]),
    ...(dedupe && { dedupe: { withinMs: random.pick([0, MINUTE, HOUR, longestMs]) } }),
    disorderMs: random.pick([0, SECOND, MINUTE, HOUR]),
  }
}

function drawEntity(random: Random): StatePlan['entity'] {
  const first = random.chance(0.6) ? 1 : random.between(2, 3)
  return Array.from({ length: first }, (_, i) => ({
    name: `key${i}`,
    type: i === 0 && random.chance(0.7) ? 'utf8' : random.pick(['utf8', 'int64', 'bool'] as const),
  }))
}

/**
 * How long each level is kept: as long as a window's start may lie in it, which is its length and one step of its tail; a
 * level that no start needs, until its parent is built. Some slack, because more is never wrong.
 */
function keepTimes(random: Random, shape: Shape): LevelPlan[] {
  return shape.ladderMs.map((stepMs, level) => {
    const parentMs = shape.ladderMs[level + 1] ?? stepMs
    const needs = shape.windows
      .filter(({ tailStepMs }) => tailStepMs <= stepMs)
      .map((window) => window.lengthMs + window.tailStepMs)
    const headMs = shape.head === 'step' && level === 0 ? 5 * MINUTE : 0
    return { stepMs, keepMs: Math.max(...needs, 2 * parentMs + headMs) + random.pick([0, stepMs, 10 * parentMs]) }
  })
}

const INTEGERS: readonly PhysicalType[] = ['int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64']
const ACCEPTS: Record<ValueType, readonly PhysicalType[]> = {
  float64: ['float64', 'float32', 'int8', 'int16', 'int32', 'uint8', 'uint16', 'uint32'],
  int64: INTEGERS,
  decimal: ['decimal128'],
  bool: ['bool'],
  utf8: ['utf8'],
}

const LOAD_TYPES: Record<InputColumn['type'], number> = {
  timestamp: TYPE_I64,
  float64: TYPE_F64,
  int64: TYPE_I64,
  decimal: TYPE_DEC,
  bool: TYPE_BOOL,
  utf8: TYPE_UTF8,
}

/** Input i goes to register i. */
export function loadProgram(inputs: readonly InputColumn[]): string {
  const bytes = new Uint8Array(PROGRAM_HEADER_BYTES + inputs.length * INSTRUCTION_BYTES)
  const words = new DataView(bytes.buffer)
  words.setUint32(PROGRAM_VERSION_AT, PROGRAM_VERSION, true)
  words.setUint32(PROGRAM_INSTRUCTIONS_AT, inputs.length, true)
  words.setUint32(PROGRAM_INPUTS_AT, inputs.length, true)
  for (const [i, { type }] of inputs.entries()) {
    const instruction = [EXPR_LOAD, i, LOAD_TYPES[type], type === 'timestamp' ? UNIT_MS : 0, 0]
    for (const [word, value] of instruction.entries()) {
      words.setInt32(PROGRAM_HEADER_BYTES + i * INSTRUCTION_BYTES + 4 * word, value, true)
    }
  }
  return Buffer.from(bytes).toString('base64')
}

/** Any name will do for a plan that no definition is behind, as long as equal plans have equal ones. */
function hashOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 16)
}
