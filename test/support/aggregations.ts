/** Random columns, and random features over them with the partial aggregates that they need. */
import type {
  FeatureOp,
  FeaturePlan,
  PartialPlan,
  ProjectedColumn,
  ValueType,
  WindowPlan,
} from '../../src/model/plan.ts'
import { formatDuration } from '../../src/model/time.ts'
import type { Random } from './random.ts'

export function drawProjections(random: Random, most: number): ProjectedColumn[] {
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
const WHOLE_OPS: readonly FeatureOp[] = [...NUMERIC_OPS, 'bit_or', 'bit_and']
const TEXT_OPS: readonly FeatureOp[] = ['count', 'first', 'last']

/** `count(*)` over every window, and for each column some operations, each over some windows. */
export function drawFeatures(
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
    const ops = someOf(random, opsOf(column.type))
    for (const op of ops) {
      const type = typeOf(op, column)
      const fallback = op !== 'count' && random.chance(0.1) ? defaultFor(type, column.scale ?? 0) : undefined
      const own = {
        op,
        partial: partialFor(partials, index, op, ops),
        type,
        ...(type === 'decimal' && { scale: column.scale }),
        ...(fallback !== undefined && { default: fallback }),
      }
      for (const { lengthMs } of someOf(random, windows)) {
        const window = windows.findIndex((each) => each.lengthMs === lengthMs)
        features.push({ name: `${column.name}_${op}_${formatDuration(lengthMs)}`, window, ...own })
      }
    }
  }
  return { partials, features }
}

function opsOf(type: ValueType): readonly FeatureOp[] {
  return type === 'utf8' ? TEXT_OPS : type === 'int64' ? WHOLE_OPS : NUMERIC_OPS
}

/** The column's partial that the operation reads: one numeric with all that is asked of it, one per edge, one per bits. */
function partialFor(partials: PartialPlan[], column: number, op: FeatureOp, ops: readonly FeatureOp[]): number {
  const isEdge = op === 'first' || op === 'last'
  const isBits = op === 'bit_or' || op === 'bit_and'
  const found = partials.findIndex(
    (each) =>
      each.column === column &&
      (isEdge
        ? each.kind === 'edge' && each.last === (op === 'last')
        : isBits
          ? each.kind === 'bits' && each.and === (op === 'bit_and')
          : each.kind === 'numeric'),
  )
  if (found >= 0) return found
  const spread = ops.some((each) => each.startsWith('var') || each.startsWith('stddev'))
  partials.push(
    isEdge
      ? { kind: 'edge', column, last: op === 'last' }
      : isBits
        ? { kind: 'bits', column, and: op === 'bit_and' }
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

/** In the spelling that a plan has it; a decimal with 38 digits behind the point has no room for one. */
function defaultFor(type: ValueType, scale: number): number | string | boolean | undefined {
  if (type === 'decimal') return scale === 38 ? undefined : scale === 0 ? '-1' : `-1.${'0'.repeat(scale)}`
  return type === 'utf8' ? 'none' : type === 'bool' ? false : type === 'int64' ? '-1' : -1
}

/** At least one of them, in their order. */
function someOf<T>(random: Random, items: readonly T[]): T[] {
  const taken = items.filter(() => random.chance(0.5))
  return taken.length > 0 ? taken : [random.pick(items)]
}
