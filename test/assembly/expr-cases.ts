/** Random columns in every physical form, and random SQL over them that comes with its own row-by-row answer. */

import type { SourceColumn } from '../../src/define/view.ts'
import { type Column, type PhysicalType, sliceBatch } from '../../src/model/columns.ts'
import type { Random } from '../support/random.ts'
import type { Cell } from './expr-harness.ts'
import type { NaiveType } from './expr-naive.ts'
import * as naive from './expr-naive.ts'

export interface TestColumn {
  readonly declared: SourceColumn
  readonly type: NaiveType
  /** The batch's columns, cut out of longer ones. */
  readonly column: Column
  /** What LOAD must make of it. */
  readonly cells: readonly Cell[]
}

const INTS = [
  0n,
  1n,
  -1n,
  2n,
  7n,
  1000n,
  -(2n ** 31n),
  2n ** 53n + 1n,
  2n ** 63n - 1n,
  -(2n ** 63n),
  -(2n ** 62n),
  3037000500n,
]
const FLOATS = [
  0,
  -0,
  1,
  -1.5,
  0.1,
  1e-300,
  5e-324,
  1e300,
  -1.7976931348623157e308,
  2 ** 63,
  -(2 ** 63),
  0.5,
  2.5,
  -2.5,
  1e17,
  NaN,
  Infinity,
  -Infinity,
]
const TEXTS = ['', 'a', 'b', 'ab', 'JFK', 'Zürich', '𝕏', '\u{10ffff}', 'aaaaaaaa', 'aaaaaaab', 'aaaaaaaaa', "it's"]

function drawInt(random: Random): bigint {
  if (random.chance(0.4)) return random.pick(INTS)
  return random.chance(0.5) ? BigInt(random.between(-20, 20)) : BigInt.asIntN(64, random.bits64())
}

function drawFloat(random: Random): number {
  if (random.chance(0.4)) return random.pick(FLOATS)
  if (random.chance(0.5)) return random.between(-40, 40) / 4
  const view = new DataView(new ArrayBuffer(8))
  view.setBigUint64(0, random.bits64())
  return view.getFloat64(0)
}

function drawDecimal(random: Random, digits: number): bigint {
  if (random.chance(0.1)) return 10n ** BigInt(digits) - 1n
  if (random.chance(0.1)) return -(10n ** BigInt(digits) - 1n)
  if (random.chance(0.4)) return BigInt(random.between(-2000, 2000))
  const wide = (random.bits64() << 64n) | random.bits64()
  const value = wide % 10n ** BigInt(random.between(1, digits))
  return random.chance(0.5) ? -value : value
}

/** A column of `length` rows: the slice [pad, pad + length) of a longer one. */
function cut(column: Column, pad: number, length: number): Column {
  return sliceBatch({ length: pad + length, columns: [column], positions: 0 }, pad, pad + length).columns[0]!
}

function bitmap(bits: readonly boolean[]): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(bits.length / 8))
  for (const [i, bit] of bits.entries()) if (bit) bytes[i >> 3]! |= 1 << (i & 7)
  return bytes
}

const INT_ARRAYS = {
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
} as const

/** Draws raw cells, lays them out, and says what they load as. `undefined` load = null. */
function makeColumn(
  random: Random,
  declared: SourceColumn,
  type: NaiveType,
  physical: PhysicalType,
  length: number,
  draw: () => unknown,
  loaded: (raw: never) => Cell,
): TestColumn {
  const pad = random.below(20)
  const total = pad + length
  const raw = Array.from({ length: total }, draw)
  const nulls = random.pick(['none', 'unmarked', 'some', 'all'] as const)
  const present = raw.map(() => nulls === 'none' || nulls === 'unmarked' || (nulls === 'some' && random.chance(0.7)))
  const base = { name: declared.name, type: physical, validity: nulls === 'unmarked' ? undefined : bitmap(present) }
  let column: Column
  if (physical === 'utf8') {
    const texts = raw.map((each) => Buffer.from(each as string))
    const offsets = new Int32Array(total + 1)
    for (const [i, text] of texts.entries()) offsets[i + 1] = offsets[i]! + text.length
    column = { ...base, values: Buffer.concat(texts), offsets }
  } else if (physical === 'bool') column = { ...base, values: bitmap(raw as boolean[]) }
  else if (physical === 'decimal128') {
    const words = new BigInt64Array(total * 2)
    for (const [i, value] of (raw as bigint[]).entries()) {
      words[i * 2] = BigInt.asIntN(64, value)
      words[i * 2 + 1] = value >> 64n
    }
    column = { ...base, values: new Uint8Array(words.buffer), scale: declared.scale }
  } else if (physical === 'float64' || physical === 'float32') {
    const cells = physical === 'float64' ? Float64Array.from(raw as number[]) : Float32Array.from(raw as number[])
    column = { ...base, values: new Uint8Array(cells.buffer) }
  } else {
    const values = (INT_ARRAYS[physical] as { from(raw: unknown): BigInt64Array }).from(raw)
    column = { ...base, values: new Uint8Array(values.buffer) }
  }
  const cells = raw.map((each, i) => (present[i] ? loaded(each as never) : null)).slice(pad)
  return { declared, type, column: cut(column, pad, length), cells }
}

/** Two or three columns of each type, in random physical forms. */
export function drawColumns(random: Random, length: number): TestColumn[] {
  const columns: TestColumn[] = []
  const int = (name: string, physical: PhysicalType, draw: () => unknown, loaded: (raw: never) => Cell) =>
    columns.push(makeColumn(random, { name, type: 'int64' }, { kind: 'int64' }, physical, length, draw, loaded))
  int(
    'i',
    'int64',
    () => drawInt(random),
    (raw: bigint) => raw,
  )
  const bits = random.pick([8, 16, 32] as const)
  int(
    'j',
    `int${bits}`,
    () => Number(BigInt.asIntN(bits, drawInt(random))),
    (raw: number) => BigInt(raw),
  )
  int(
    'k',
    `uint${bits}`,
    () => Number(BigInt.asUintN(bits, drawInt(random))),
    (raw: number) => BigInt(raw),
  )
  int(
    'u',
    'uint64',
    () => BigInt.asUintN(64, drawInt(random)),
    (raw: bigint) => naive.clampInt(raw),
  )

  const float = (name: string, physical: PhysicalType, draw: () => unknown, loaded: (raw: never) => Cell) =>
    columns.push(makeColumn(random, { name, type: 'float64' }, { kind: 'float64' }, physical, length, draw, loaded))
  float('f', 'float64', () => drawFloat(random), naive.clampFloat)
  float('g', 'float32', () => Math.fround(drawFloat(random)), naive.clampFloat)
  float('h', random.pick(['int8', 'int16', 'int32']), () => random.between(-100, 100), naive.clampFloat)

  for (const [name, precision, scale] of [
    ['m', 12, 2],
    ['n', 38, 10],
    ['o', 38, 0],
    ['q', 20, 20],
  ] as const) {
    const declared = { name, type: 'decimal', precision, scale } as const
    const type = { kind: 'decimal', scale } as const
    // One digit too many now and then: no decimal, so a null cell.
    const draw = () => (random.chance(0.02) ? 10n ** 38n : drawDecimal(random, precision))
    columns.push(
      makeColumn(random, declared, type, 'decimal128', length, draw, (raw: bigint) => naive.clampDecimal(raw)),
    )
  }
  for (const name of ['b', 'c']) {
    const draw = () => random.chance(0.5)
    columns.push(
      makeColumn(random, { name, type: 'bool' }, { kind: 'bool' }, 'bool', length, draw, (raw: boolean) => raw),
    )
  }
  for (const name of ['s', 't']) {
    const draw = () => (random.chance(0.02) ? 'x'.repeat(4097) : random.pick(TEXTS))
    const loaded = (raw: string) => (raw.length > 4096 ? null : raw)
    columns.push(makeColumn(random, { name, type: 'utf8' }, { kind: 'utf8' }, 'utf8', length, draw, loaded))
  }
  return columns
}

// ---- expressions -----------------------------------------------------------------------------------------------------

export interface TestExpression {
  readonly sql: string
  readonly type: NaiveType
  readonly cell: (row: number) => Cell
}

const COMPARISONS = ['=', '<>', '<', '<=', '>', '>='] as const

export function holds(operator: string, sign: number | null): Cell {
  if (sign === null) return null
  switch (operator) {
    case '=':
      return sign === 0
    case '<>':
      return sign !== 0
    case '<':
      return sign < 0
    case '<=':
      return sign <= 0
    case '>':
      return sign > 0
    default:
      return sign >= 0
  }
}

/** Draws expressions of any type; the answer is built beside the text. */
export class ExpressionDrawer {
  readonly #random: Random
  readonly #columns: readonly TestColumn[]

  constructor(random: Random, columns: readonly TestColumn[]) {
    this.#random = random
    this.#columns = columns
  }

  draw(depth: number): TestExpression {
    const kind = this.#random.pick(['number', 'number', 'bool', 'bool', 'utf8'] as const)
    return kind === 'number' ? this.number(depth) : kind === 'bool' ? this.bool(depth) : this.text(depth)
  }

  number(depth: number): TestExpression {
    const random = this.#random
    if (depth === 0) return random.chance(0.7) ? this.#column(['int64', 'float64', 'decimal']) : this.#numberLiteral()
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
    const type = { kind: 'bool' } as const
    const form = random.pick([
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
    ] as const)
    switch (form) {
      case 'compare': {
        const [left, right] = this.#pair(depth)
        const operator = random.pick(COMPARISONS)
        const cell = (row: number) =>
          holds(operator, naive.order(left.cell(row), left.type, right.cell(row), right.type))
        return { sql: `(${left.sql}) ${operator} (${right.sql})`, type, cell }
      }
      case 'logic': {
        const operands = Array.from({ length: random.between(2, 3) }, () => this.bool(depth - 1))
        const operator = random.pick(['AND', 'OR'] as const)
        const sql = operands.map((each) => `(${each.sql})`).join(` ${operator} `)
        const combine = operator === 'AND' ? naive.and : naive.or
        return { sql, type, cell: (row) => combine(operands.map((each) => each.cell(row))) }
      }
      case 'not': {
        const operand = this.bool(depth - 1)
        return { sql: `NOT (${operand.sql})`, type, cell: (row) => naive.not(operand.cell(row)) }
      }
      case 'null': {
        const operand = this.draw(depth - 1)
        const isNot = random.chance(0.5)
        return {
          sql: `(${operand.sql}) IS ${isNot ? 'NOT ' : ''}NULL`,
          type,
          cell: (row) => (operand.cell(row) === null) !== isNot,
        }
      }
      case 'truth': {
        const operand = this.bool(depth - 1)
        const [word, wanted] = random.pick([
          ['TRUE', true],
          ['FALSE', false],
          ['UNKNOWN', null],
        ] as const)
        const isNot = random.chance(0.5)
        return {
          sql: `(${operand.sql}) IS ${isNot ? 'NOT ' : ''}${word}`,
          type,
          cell: (row) => (operand.cell(row) === wanted) !== isNot,
        }
      }
      case 'distinct': {
        const [left, right] = this.#pair(depth)
        const isNot = random.chance(0.5)
        const same = (row: number) => {
          const [a, b] = [left.cell(row), right.cell(row)]
          return a === null || b === null ? a === b : naive.order(a, left.type, b, right.type) === 0
        }
        return {
          sql: `(${left.sql}) IS ${isNot ? 'NOT ' : ''}DISTINCT FROM (${right.sql})`,
          type,
          cell: (row) => same(row) === isNot,
        }
      }
      case 'between': {
        const [operand, low] = this.#pair(depth)
        const high =
          operand.type.kind === 'utf8'
            ? this.text(depth - 1)
            : operand.type.kind === 'bool'
              ? this.bool(depth - 1)
              : this.number(depth - 1)
        const isNot = random.chance(0.5)
        const inside = (row: number) => {
          const value = operand.cell(row)
          const above = holds('>=', naive.order(value, operand.type, low.cell(row), low.type))
          return naive.and([above, holds('<=', naive.order(value, operand.type, high.cell(row), high.type))])
        }
        const sql = `(${operand.sql}) ${isNot ? 'NOT ' : ''}BETWEEN (${low.sql}) AND (${high.sql})`
        return { sql, type, cell: (row) => (isNot ? naive.not(inside(row)) : inside(row)) }
      }
      case 'in': {
        const operand = random.chance(0.5) ? this.text(depth - 1) : this.number(depth - 1)
        const items = Array.from({ length: random.between(1, 3) }, () =>
          operand.type.kind === 'utf8' ? this.text(0) : this.number(0),
        )
        const isNot = random.chance(0.5)
        const inside = (row: number) =>
          naive.or(
            items.map((each) => holds('=', naive.order(operand.cell(row), operand.type, each.cell(row), each.type))),
          )
        const sql = `(${operand.sql}) ${isNot ? 'NOT ' : ''}IN (${items.map((each) => each.sql).join(', ')})`
        return { sql, type, cell: (row) => (isNot ? naive.not(inside(row)) : inside(row)) }
      }
      case 'choice':
        return this.#choice(() => this.bool(depth - 1), depth)
      case 'cast': {
        const operand = random.chance(0.7) ? this.number(depth - 1) : this.bool(depth - 1)
        return {
          sql: `CAST(${operand.sql} AS bool)`,
          type,
          cell: (row) => naive.castTo(operand.cell(row), operand.type, type, 0),
        }
      }
    }
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

  /** Two operands that can be compared. */
  #pair(depth: number): [TestExpression, TestExpression] {
    const kind = this.#random.pick(['number', 'number', 'number', 'text', 'bool'] as const)
    const draw = () =>
      kind === 'number' ? this.number(depth - 1) : kind === 'text' ? this.text(depth - 1) : this.bool(depth - 1)
    return [draw(), draw()]
  }

  #column(kinds: readonly NaiveType['kind'][]): TestExpression {
    const column = this.#random.pick(this.#columns.filter((each) => kinds.includes(each.type.kind)))
    return { sql: column.declared.name, type: column.type, cell: (row) => column.cells[row]! }
  }

  /**
   * Literals with a type of their own: integers are int64; numbers with a point take the type of what they meet, which is
   * tested apart, so here they are cast.
   */
  #numberLiteral(): TestExpression {
    const random = this.#random
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
}
