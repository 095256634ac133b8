/** Random SQL over test columns; each expression comes with its own row-by-row answer. */
import type { Random } from '../support/random.ts'
import type { TestColumn } from './expr-columns.ts'
import type { Cell, NaiveType } from './expr-naive.ts'
import * as naive from './expr-naive.ts'
import { BOOL_FORMS, PREDICATES } from './expr-predicates.ts'
import { INTS, TEXTS } from './expr-values.ts'

export interface TestExpression {
  readonly sql: string
  readonly type: NaiveType
  readonly cell: (row: number) => Cell
}

export type ExpressionKind = 'number' | 'bool' | 'utf8'

/** Draws expressions of any type; the answer is built beside the text. */
export class ExpressionDrawer {
  readonly #random: Random
  readonly #columns: readonly TestColumn[]

  constructor(random: Random, columns: readonly TestColumn[]) {
    this.#random = random
    this.#columns = columns
  }

  draw(depth: number): TestExpression {
    return this.of(this.#random.pick(['number', 'number', 'bool', 'bool', 'utf8'] as const), depth)
  }

  /** Of one kind: such expressions can be compared. */
  of(kind: ExpressionKind, depth: number): TestExpression {
    return kind === 'number' ? this.number(depth) : kind === 'bool' ? this.bool(depth) : this.text(depth)
  }

  number(depth: number): TestExpression {
    const random = this.#random
    if (depth === 0) return random.chance(0.7) ? this.#column(['int64', 'float64', 'decimal']) : numberLiteral(random)
    const form = random.pick(['arithmetic', 'arithmetic', 'negate', 'abs', 'cast', 'choice', 'choice'] as const)
    if (form === 'negate') {
      const operand = this.number(depth - 1)
      return {
        sql: `-(${operand.sql})`,
        type: operand.type,
        cell: (row) => naive.arithmetic('-', 0n, { kind: 'int64' }, operand.cell(row), operand.type),
      }
    }
    if (form === 'abs') {
      const operand = this.number(depth - 1)
      const cell = (row: number) => {
        const value = operand.cell(row)
        return value !== null && (value as number | bigint) < 0
          ? naive.arithmetic('-', 0n, { kind: 'int64' }, value, operand.type)
          : value
      }
      return { sql: `abs(${operand.sql})`, type: operand.type, cell }
    }
    if (form === 'cast') return this.#cast(depth)
    if (form === 'choice') return this.#choice(() => this.number(depth - 1), depth)
    return this.#arithmetic(this.number(depth - 1), this.number(depth - 1))
  }

  #arithmetic(left: TestExpression, right: TestExpression): TestExpression {
    const operator = this.#random.pick(['+', '-', '*', '/', '%'])
    const met = naive.meet(left.type, right.type)
    const scale = naive.resultScale(operator, left.type, right.type)
    // A product of too many digits behind the point is a definition error, not a value.
    if (met.kind === 'decimal' && operator === '*' && scale > 38) return left
    const type: NaiveType = met.kind === 'decimal' ? { kind: 'decimal', scale } : met
    return {
      sql: `(${left.sql}) ${operator} (${right.sql})`,
      type,
      cell: (row) => naive.arithmetic(operator, left.cell(row), left.type, right.cell(row), right.type),
    }
  }

  #cast(depth: number): TestExpression {
    const random = this.#random
    const operand = random.chance(0.8) ? this.number(depth - 1) : this.bool(depth - 1)
    const precision = random.between(1, 38)
    const scale = random.between(0, precision)
    const to = random.pick<NaiveType>([{ kind: 'int64' }, { kind: 'float64' }, { kind: 'decimal', scale }])
    const name = to.kind === 'decimal' ? `decimal(${precision},${scale})` : to.kind
    const sql = random.chance(0.5) ? `CAST(${operand.sql} AS ${name})` : `(${operand.sql})::${name}`
    return { sql, type: to, cell: (row) => naive.castTo(operand.cell(row), operand.type, to, precision) }
  }

  bool(depth: number): TestExpression {
    const random = this.#random
    if (depth === 0) {
      if (random.chance(0.7)) return this.#column(['bool'])
      const value = random.chance(0.5)
      return { sql: String(value), type: { kind: 'bool' }, cell: () => value }
    }
    const form = random.pick(BOOL_FORMS)
    if (form === 'choice') return this.#choice(() => this.bool(depth - 1), depth)
    return PREDICATES[form](this, random, depth - 1)
  }

  text(depth: number): TestExpression {
    if (depth > 0 && this.#random.chance(0.6)) return this.#choice(() => this.text(depth - 1), depth)
    if (this.#random.chance(0.7)) return this.#column(['utf8'])
    const value = this.#random.pick(TEXTS)
    return { sql: `'${value.replaceAll("'", "''")}'`, type: { kind: 'utf8' }, cell: () => value }
  }

  /** COALESCE, NULLIF, greatest, least, CASE: one of several values of a kind. */
  #choice(draw: () => TestExpression, depth: number): TestExpression {
    const random = this.#random
    const form = random.pick(['coalesce', 'nullif', 'greatest', 'least', 'case', 'case'] as const)
    const items = Array.from({ length: form === 'nullif' ? 2 : random.between(1, 3) }, draw)
    const type = items.map((each) => each.type).reduce(naive.meet)
    const cells = (row: number) => items.map((each) => naive.convert(each.cell(row), each.type, type))
    const call = `${form}(${items.map((each) => each.sql).join(', ')})`
    if (form === 'coalesce') return { sql: call, type, cell: (row) => cells(row).find((each) => each !== null) ?? null }
    if (form === 'nullif') {
      const [left, right] = items as [TestExpression, TestExpression]
      const cell = (row: number) => {
        const value = left.cell(row)
        return naive.order(value, left.type, right.cell(row), right.type) === 0 ? null : value
      }
      return { sql: call, type: left.type, cell }
    }
    if (form !== 'case') {
      const wins = form === 'greatest' ? 1 : -1
      const better = (a: Cell, b: Cell) =>
        a === null ? b : b === null ? a : naive.order(b, type, a, type) === wins ? b : a
      return { sql: call, type, cell: (row) => cells(row).reduce(better, null) }
    }
    const subject = random.chance(0.3) ? this.number(Math.max(0, depth - 1)) : undefined
    const whens = items.map(() => (subject ? this.number(0) : this.bool(Math.max(0, depth - 1))))
    const otherwise = random.chance(0.5) ? draw() : undefined
    const all = otherwise ? naive.meet(type, otherwise.type) : type
    const matches = (i: number, row: number) =>
      subject
        ? naive.order(subject.cell(row), subject.type, whens[i]!.cell(row), whens[i]!.type) === 0
        : whens[i]!.cell(row) === true
    const cell = (row: number) => {
      const taken = items.find((_, i) => matches(i, row)) ?? otherwise
      return taken ? naive.convert(taken.cell(row), taken.type, all) : null
    }
    const branches = items.map((each, i) => ` WHEN ${whens[i]!.sql} THEN ${each.sql}`).join('')
    const sql = `CASE${subject ? ` (${subject.sql})` : ''}${branches}${otherwise ? ` ELSE ${otherwise.sql}` : ''} END`
    return { sql, type: all, cell }
  }

  #column(kinds: readonly NaiveType['kind'][]): TestExpression {
    const column = this.#random.pick(this.#columns.filter((each) => kinds.includes(each.type.kind)))
    return { sql: column.declared.name, type: column.type, cell: (row) => column.cells[row]! }
  }
}

/**
 * Literals with a type of their own: integers are int64; numbers with a point take the type of what they meet, which is
 * tested apart, so here they are cast.
 */
function numberLiteral(random: Random): TestExpression {
  if (random.chance(0.5)) {
    const value = random.pick(INTS)
    // The parser negates literals itself, and 2^63 is no int64.
    const sql = value === -(2n ** 63n) ? `(${value})::int64` : `(${value})`
    return { sql, type: { kind: 'int64' }, cell: () => value }
  }
  if (random.chance(0.5)) {
    const value = random.between(-400, 400) / 8
    return { sql: `(${value})::float64`, type: { kind: 'float64' }, cell: () => value }
  }
  const scale = random.between(0, 6)
  const digits = BigInt(random.between(-100_000, 100_000))
  const sql = `${digits}e-${scale}`
  return { sql: `(${sql})::decimal(20,${scale})`, type: { kind: 'decimal', scale }, cell: () => digits }
}
