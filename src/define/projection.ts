/**
 * Which columns a view projects and which partial aggregates it keeps of them: the order is by name and kind, never by the
 * order in which features were listed, so that listing them otherwise is the same state.
 */
import { COLUMNS_MAX, PARTIALS_MAX } from '../../assembly/layout.ts'
import type { FeatureOp, PartialPlan, ProjectedColumn, ValueType } from '../model/plan.ts'
import { typeExpression } from './expression.ts'
import { printColumn, printExpression } from './print.ts'
import { parseExpression } from './sql.ts'
import { loadColumn, type TypedNode } from './typed.ts'
import type { SourceColumn } from './view.ts'

export interface Projection extends ProjectedColumn {
  readonly node: TypedNode
  /** The bare column it is, if it is one: features are named after it. */
  readonly column?: string
}

/** A column's name, or a SQL expression, typed. Throws ExpressionError. */
export function project(text: string, columns: readonly SourceColumn[]): Projection {
  // A name as it is declared needs no quotes here, whatever is in it.
  const bare = columns.find((each) => each.name === text)
  if (bare !== undefined) return projectionOf(printColumn(bare.name), loadColumn(bare))
  const names = columns.map((each) => each.name)
  const parsed = parseExpression(text, names)
  return projectionOf(printExpression(parsed), typeExpression(parsed, columns))
}

function projectionOf(name: string, node: TypedNode): Projection {
  return { name, type: node.type, scale: node.type === 'decimal' ? node.scale : undefined, node, column: node.column }
}

type Keep = 'sum' | 'squares' | 'min' | 'max' | 'first' | 'last' | 'count' | 'bit_or' | 'bit_and'

/** What each operation keeps. `count` of a column needs no more than its number of cells, which every numeric partial has. */
const KEEPS: Record<FeatureOp, Keep> = {
  count: 'count',
  sum: 'sum',
  mean: 'sum',
  min: 'min',
  max: 'max',
  var_pop: 'squares',
  var_samp: 'squares',
  stddev_pop: 'squares',
  stddev_samp: 'squares',
  first: 'first',
  last: 'last',
  bit_or: 'bit_or',
  bit_and: 'bit_and',
}

export interface Need {
  readonly op: FeatureOp
  readonly projection: Projection
}

/** Distinct columns by name, and their partials: numeric, first, last, bit_or, bit_and. */
export function mergeNeeds(needs: readonly Need[]): { columns: Projection[]; partials: PartialPlan[] } {
  const columns = [...new Map(needs.map((each) => [each.projection.name, each.projection])).values()]
  columns.sort((a, b) => (a.name < b.name ? -1 : 1))
  const partials = columns.flatMap((projection, column): PartialPlan[] => {
    const keeps = new Set(
      needs.filter((each) => each.projection.name === projection.name).map((each) => KEEPS[each.op]),
    )
    const merged: PartialPlan[] = []
    if (['count', 'sum', 'squares', 'min', 'max'].some((each) => keeps.has(each as 'sum'))) {
      const squares = keeps.has('squares')
      const sum = squares || keeps.has('sum')
      merged.push({ kind: 'numeric', column, sum, squares, min: keeps.has('min'), max: keeps.has('max') })
    }
    if (keeps.has('first')) merged.push({ kind: 'edge', column, last: false })
    if (keeps.has('last')) merged.push({ kind: 'edge', column, last: true })
    if (keeps.has('bit_or')) merged.push({ kind: 'bits', column, and: false })
    if (keeps.has('bit_and')) merged.push({ kind: 'bits', column, and: true })
    return merged
  })
  return { columns, partials }
}

/** Index of the partial that answers the operation; -1 for rows. */
export function partialOf(
  need: Need | undefined,
  columns: readonly Projection[],
  partials: readonly PartialPlan[],
): number {
  if (need === undefined) return -1
  const column = columns.findIndex((each) => each.name === need.projection.name)
  const keep = KEEPS[need.op]
  return partials.findIndex((each) => each.column === column && isKept(each, keep))
}

function isKept(partial: PartialPlan, keep: Keep): boolean {
  if (keep === 'first' || keep === 'last') return partial.kind === 'edge' && partial.last === (keep === 'last')
  if (keep === 'bit_or' || keep === 'bit_and') return partial.kind === 'bits' && partial.and === (keep === 'bit_and')
  return partial.kind === 'numeric'
}

/** The limits of the core, as a problem. */
export function checkProjection(columns: readonly Projection[], partials: readonly PartialPlan[]): string | undefined {
  if (columns.length > COLUMNS_MAX)
    return `got ${columns.length} aggregated columns, expected at most ${COLUMNS_MAX}: split the view`
  if (partials.length > PARTIALS_MAX)
    return `got ${partials.length} partial aggregates, expected at most ${PARTIALS_MAX}: split the view`
  return undefined
}

/** Type of the answer, or undefined where the operation does not take the column. */
export function resultType(
  op: FeatureOp,
  column: ProjectedColumn | undefined,
): { type: ValueType; scale?: number } | undefined {
  if (op === 'count') return { type: 'int64' }
  if (column === undefined) return undefined
  if (op === 'first' || op === 'last') return { type: column.type, scale: column.scale }
  if (op === 'bit_or' || op === 'bit_and') return column.type === 'int64' ? { type: 'int64' } : undefined
  if (column.type === 'utf8') return undefined
  if (op === 'min' || op === 'max') return { type: column.type, scale: column.scale }
  if (op === 'sum') return { type: column.type === 'bool' ? 'int64' : column.type, scale: column.scale }
  return { type: 'float64' }
}
