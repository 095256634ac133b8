/** The forms of random SQL that give a bool, each beside what it says of a row. */
import type { Random } from '../support/random.ts'
import type { ExpressionDrawer, ExpressionKind, TestExpression } from './expr-drawer.ts'
import type { Cell } from './expr-naive.ts'
import * as naive from './expr-naive.ts'

/** A form of a predicate, its operands drawn to `depth`. */
type Predicate = (drawer: ExpressionDrawer, random: Random, depth: number) => TestExpression

/** Drawn as often as they stand here. */
export const BOOL_FORMS = [
  'compare',
  'compare',
  'logic',
  'logic',
  'not',
  'null',
  'truth',
  'distinct',
  'between',
  'in',
  'choice',
  'cast',
] as const

const COMPARISONS = ['=', '<>', '<', '<=', '>', '>='] as const

export const PREDICATES: Record<Exclude<(typeof BOOL_FORMS)[number], 'choice'>, Predicate> = {
  compare(drawer, random, depth) {
    const [left, right] = pair(drawer, random, depth)
    const operator = random.pick(COMPARISONS)
    return bool(`(${left.sql}) ${operator} (${right.sql})`, (row) => compare(left, operator, right, row))
  },

  logic(drawer, random, depth) {
    const operands = Array.from({ length: random.between(2, 3) }, () => drawer.bool(depth))
    const operator = random.pick(['AND', 'OR'] as const)
    const combine = operator === 'AND' ? naive.and : naive.or
    const sql = operands.map((each) => `(${each.sql})`).join(` ${operator} `)
    return bool(sql, (row) => combine(operands.map((each) => each.cell(row))))
  },

  not(drawer, _, depth) {
    const operand = drawer.bool(depth)
    return bool(`NOT (${operand.sql})`, (row) => naive.not(operand.cell(row)))
  },

  null(drawer, random, depth) {
    const operand = drawer.draw(depth)
    const isNot = random.chance(0.5)
    return bool(`(${operand.sql}) IS ${not(isNot)}NULL`, (row) => (operand.cell(row) === null) !== isNot)
  },

  truth(drawer, random, depth) {
    const operand = drawer.bool(depth)
    const [word, wanted] = random.pick([
      ['TRUE', true],
      ['FALSE', false],
      ['UNKNOWN', null],
    ] as const)
    const isNot = random.chance(0.5)
    return bool(`(${operand.sql}) IS ${not(isNot)}${word}`, (row) => (operand.cell(row) === wanted) !== isNot)
  },

  distinct(drawer, random, depth) {
    const [left, right] = pair(drawer, random, depth)
    const isNot = random.chance(0.5)
    const same = (row: number) => {
      const [a, b] = [left.cell(row), right.cell(row)]
      return a === null || b === null ? a === b : naive.order(a, left.type, b, right.type) === 0
    }
    return bool(`(${left.sql}) IS ${not(isNot)}DISTINCT FROM (${right.sql})`, (row) => same(row) === isNot)
  },

  between(drawer, random, depth) {
    const [operand, low] = pair(drawer, random, depth)
    const { kind } = operand.type
    const high = drawer.of(kind === 'utf8' || kind === 'bool' ? kind : 'number', depth)
    const isNot = random.chance(0.5)
    const inside = (row: number) => naive.and([compare(operand, '>=', low, row), compare(operand, '<=', high, row)])
    return bool(`(${operand.sql}) ${not(isNot)}BETWEEN (${low.sql}) AND (${high.sql})`, negated(isNot, inside))
  },

  in(drawer, random, depth) {
    const operand = random.chance(0.5) ? drawer.text(depth) : drawer.number(depth)
    const items = Array.from({ length: random.between(1, 3) }, () =>
      operand.type.kind === 'utf8' ? drawer.text(0) : drawer.number(0),
    )
    const isNot = random.chance(0.5)
    const inside = (row: number) => naive.or(items.map((each) => compare(operand, '=', each, row)))
    return bool(
      `(${operand.sql}) ${not(isNot)}IN (${items.map((each) => each.sql).join(', ')})`,
      negated(isNot, inside),
    )
  },

  cast(drawer, random, depth) {
    const operand = random.chance(0.7) ? drawer.number(depth) : drawer.bool(depth)
    const { sql, type } = operand
    return bool(`CAST(${sql} AS bool)`, (row) => naive.castTo(operand.cell(row), type, { kind: 'bool' }, 0))
  },
}

function bool(sql: string, cell: (row: number) => Cell): TestExpression {
  return { sql, type: { kind: 'bool' }, cell }
}

/** Two operands that can be compared. */
function pair(drawer: ExpressionDrawer, random: Random, depth: number): [TestExpression, TestExpression] {
  const kind: ExpressionKind = random.pick(['number', 'number', 'number', 'utf8', 'bool'] as const)
  return [drawer.of(kind, depth), drawer.of(kind, depth)]
}

function compare(left: TestExpression, operator: string, right: TestExpression, row: number): Cell {
  return naive.holds(operator, naive.order(left.cell(row), left.type, right.cell(row), right.type))
}

function not(isNot: boolean): string {
  return isNot ? 'NOT ' : ''
}

function negated(isNot: boolean, cell: (row: number) => Cell): (row: number) => Cell {
  return isNot ? (row) => naive.not(cell(row)) : cell
}
