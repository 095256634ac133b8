import { beforeAll, describe, expect, it } from 'vitest'
import { typeExpression } from '../../src/define/expression.ts'
import { printExpression } from '../../src/define/print.ts'
import { project } from '../../src/define/projection.ts'
import { ExpressionError, loadSqlParser, parseExpression } from '../../src/define/sql.ts'
import type { SourceColumn } from '../../src/define/view.ts'
import { drawColumns } from '../assembly/expr-columns.ts'
import { ExpressionDrawer } from '../assembly/expr-drawer.ts'
import { seededRandom } from '../support/random.ts'

beforeAll(loadSqlParser)

const COLUMNS: readonly SourceColumn[] = [
  { name: 'i', type: 'int64' },
  { name: 'f', type: 'float64' },
  { name: 'd', type: 'decimal', precision: 12, scale: 2 },
  { name: 'e', type: 'decimal', precision: 38, scale: 30 },
  { name: 's', type: 'utf8' },
  { name: 'b', type: 'bool' },
  { name: 'at', type: 'timestamp', unit: 'us' },
  { name: 'userId', type: 'utf8' },
  { name: 'user', type: 'int64' },
  { name: 'order', type: 'int64' },
  { name: 'größe', type: 'int64' },
  { name: 'a b', type: 'int64' },
  { name: `long_${'x'.repeat(80)}`, type: 'int64' },
]
const NAMES = COLUMNS.map((each) => each.name)

function typeOf(sql: string): string {
  const { type, scale } = typeExpression(parseExpression(sql, NAMES), COLUMNS)
  return type === 'decimal' ? `decimal ${scale}` : type
}

function print(sql: string): string {
  return printExpression(parseExpression(sql, NAMES))
}

function refusal(sql: string): { message: string; at: number } {
  try {
    project(sql, COLUMNS)
  } catch (error) {
    if (error instanceof ExpressionError) return { message: error.message, at: error.at }
    throw error
  }
  throw new Error(`${sql} was accepted`)
}

describe('types', () => {
  it.each([
    ['i + i', 'int64'],
    ['i / 2', 'int64'],
    ['i + 0.5', 'float64'],
    ['i * f', 'float64'],
    ['d + f', 'float64'],
    ['d + 1', 'decimal 2'],
    ['d + 0.125', 'decimal 3'],
    ['d * 0.125', 'decimal 5'],
    ['d / 3', 'decimal 6'],
    ['d % i', 'decimal 2'],
    ['e / d', 'decimal 30'],
    // 10^38 is the largest factor of the dividend: 38 = 6 - 0 + 32 would not leave the scale of the larger side.
    ['i / e', 'int64 / e'],
    ['-d', 'decimal 2'],
    ['abs(f)', 'float64'],
    ['at', 'int64'],
    ['at - at', 'int64'],
    ['coalesce(i, d)', 'decimal 2'],
    ['greatest(i, f, d)', 'float64'],
    ['nullif(i, 0)', 'int64'],
    ["case when b then s else 'x' end", 'utf8'],
    ['case when b then i end', 'int64'],
    ['case when b then 1.5 else d end', 'decimal 2'],
    ['i::decimal(10,4)', 'decimal 4'],
    ['CAST(b AS int64)', 'int64'],
    ['i::bool', 'bool'],
    ['d::double precision', 'float64'],
    ['i > 0', 'bool'],
    ["s IN ('a')", 'bool'],
    ['NOT b', 'bool'],
    ['null::float8', 'float64'],
  ])('of %s is %s', (sql, type) => {
    // Scale of a quotient: the larger side's, but the dividend may grow by 10^38 at most.
    const expected = type === 'int64 / e' ? `decimal ${Math.min(Math.max(0, 30, 6), 38 + 0 - 30)}` : type
    expect(typeOf(sql)).toBe(expected)
  })
})

describe('one spelling', () => {
  it('for one meaning', () => {
    expect(print('i>5')).toBe('i > 5')
    for (const sql of ['i>5', '( i ) > 5', 'i\n>\t5 -- more than five', '/* x */ i > (5)', '(i > 5)']) {
      expect(print(sql)).toBe('i > 5')
    }
    expect(print('i != 5')).toBe('i <> 5')
    expect(print('NOT (i IS NULL)')).toBe('i is not null')
    expect(print('i NOTNULL')).toBe('i is not null')
    expect(print('i::BIGINT')).toBe('cast(i as int64)')
    expect(print('CAST(i AS NUMERIC(10, 4))')).toBe('cast(i as decimal(10,4))')
    expect(print("s <> 'it''s'")).toBe("s <> 'it''s'")
  })

  it('keeps different meanings apart', () => {
    const texts = [
      'i - (5 - i)',
      '(i - 5) - i',
      'NOT (b AND b)',
      '(NOT b) AND b',
      'i + 1',
      'i + 1.0',
      'i = 1',
      "s = '1'",
    ].map(print)
    expect(new Set(texts).size).toBe(texts.length)
  })

  it('parses back to itself, whatever is drawn', () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = seededRandom(seed)
      const columns = drawColumns(random, 0)
      const names = columns.map((each) => each.declared.name)
      const { sql } = new ExpressionDrawer(random, columns).draw(3)
      const printed = printExpression(parseExpression(sql, names))
      expect(printExpression(parseExpression(printed, names)), `seed ${seed}: ${sql}`).toBe(printed)
    }
  })
})

describe('names', () => {
  it('are columns as they are spelled, else folded, or quoted', () => {
    expect(print('userId IS NULL')).toBe('userId is null')
    expect(print('"userId" IS NULL')).toBe('userId is null')
    expect(print('I > 5')).toBe('i > 5')
    expect(print('größe > 5')).toBe('"größe" > 5')
    expect(print('"a b" > 5')).toBe('"a b" > 5')
    expect(print('"order" > 5')).toBe('"order" > 5')
    expect(print('user > 5')).toBe('user > 5')
    const long = NAMES.at(-1)!
    expect(print(`${long} + "${long}"`)).toBe(`${long} + ${long}`)
  })

  it('that are whole aggregation columns need no quotes', () => {
    for (const name of NAMES) expect(project(name, COLUMNS).column).toBe(name)
    expect(project('"order"', COLUMNS).column).toBe('order')
    expect(project('"order" + 0', COLUMNS).column).toBeUndefined()
  })
})

describe('refusals', () => {
  it.each([
    ["s LIKE 'a%'", /^got LIKE, which is not supported; supported are /, 2],
    ["s ~ 'a'", /operator ~/, 2],
    ['s || s', /operator \|\|/, 2],
    ['upper(s)', /function upper/, 0],
    ['sum(i)', /function sum/, 0],
    ['abs(i) FILTER (WHERE b)', /function abs/, 0],
    ['i + (SELECT 1)', /a subquery/, 4],
    ['$1', /a parameter/, 0],
    ['i[1]', /a subscript/, 0],
    ["i > '5'", /^got utf8 and int64 together/, 2],
    ["'é' = s AND i > s", /^got utf8 and int64 together/, 14],
    ['b > 1', /^got bool and int64 together/, 2],
    ['s + s', /^got utf8 \+ utf8, expected numbers/, 2],
    ['i AND b', /^got int64, expected bool/, 0],
    ['NOT i', /^got int64, expected bool/, 0],
    ['case when i then 1 end', /^got int64, expected bool/, 10],
    ['abs(s)', /^got abs of utf8/, 0],
    ['null', /^got null alone/, 0],
    ['coalesce(null, null)', /^got nothing but nulls/, 0],
    ['e * e', /^got a product with 60 digits behind the point/, 2],
    ['delay > 5', /^got unknown column "delay"/, 0],
    ['userid > 5', /^got unknown column "userid", did you mean "userId"\?/, 0],
    ['x.i', /^got a qualified name/, 0],
    ['i > ', /^syntax error at end of input/, 4],
    ['order > 5', /order is a SQL keyword, write the column as "order" in double quotes/, 6],
    ['i; drop', /^syntax error/, 7],
    ['i, f', /exactly one/, 0],
    ['i AS x', /exactly one/, 0],
    ['i FROM t', /exactly one/, 0],
    ['', /exactly one/, 0],
    ['i\0 AND garbage(', /NUL/, 1],
    ['i::int', /^got a cast to int4, expected float64, int64/, 3],
    ['i::decimal', /decimal\(precision,scale\)/, 3],
    ['i::decimal(39,2)', /1 to 38 digits/, 3],
    ["'1'::int64", /^got a cast from utf8 to int64/, 3],
    ['1e999 > f', /^got number 1e999/, 0],
    [`d > 0.${'1'.repeat(40)}`, /at most 38 digits/, 4],
    ["x'1F' = i", /this kind of literal/, 0],
  ])('of %j say why and where', (sql, message, at) => {
    const refused = refusal(sql)
    expect(refused.message).toMatch(message)
    expect(refused.at).toBe(at)
  })

  it('of nests too deep are refusals, and leave the parser usable', () => {
    const deep = [
      `i${'+i'.repeat(2000)} > 's'`,
      `${'NOT '.repeat(1000)}b`,
      `${'-('.repeat(1000)}i${')'.repeat(1000)}`,
      '('.repeat(4000),
    ]
    for (let i = 0; i < 10; i++) {
      for (const sql of deep) expect(refusal(sql).message).toMatch(/nested more than|at end of input|memory exhausted/)
      expect(project('i > 0', COLUMNS).type).toBe('bool')
    }
  })
})
