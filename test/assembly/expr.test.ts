import { beforeAll, describe, expect, it } from 'vitest'
import {
  COLUMN_BYTES,
  COLUMN_OFFSETS,
  COLUMN_VALUES,
  INSTRUCTION_BYTES,
  PROGRAM_HEADER_BYTES,
} from '../../assembly/layout.ts'
import { ProgramBuilder } from '../../src/define/program.ts'
import { project } from '../../src/define/projection.ts'
import { ExpressionError, loadSqlParser } from '../../src/define/sql.ts'
import type { SourceColumn } from '../../src/define/view.ts'
import type { Column, TimeUnit } from '../../src/model/columns.ts'
import { seededRandom } from '../support/random.ts'
import { drawColumns, type TestColumn } from './expr-columns.ts'
import { ExpressionDrawer, type TestExpression } from './expr-drawer.ts'
import { compileExprModule, ExprModule } from './expr-harness.ts'
import { type Cell, decimalOfFloat, floatOfDecimal } from './expr-naive.ts'

/** Raise for a longer hunt: FUZZ_SEEDS=100000 FUZZ_SEED=1 npx vitest run test/assembly/expr.test.ts */
const SEEDS = Number(process.env.FUZZ_SEEDS ?? 1000)
const FIRST_SEED = Number(process.env.FUZZ_SEED ?? 1)
const TRAP_ASSERT = 1

let compiled: WebAssembly.Module
let module: ExprModule
beforeAll(async () => {
  compiled = compileExprModule()
  module = new ExprModule(compiled)
  await loadSqlParser()
}, 120_000)

/** Runs expressions over columns and reads what each gives. */
function evaluate(columns: readonly TestColumn[], sql: readonly string[], length: number): Cell[][] {
  const declared = columns.map((each) => each.declared)
  const builder = new ProgramBuilder(declared)
  const registers = sql.map((each) => builder.root(project(each, declared).node))
  module.run(builder.bytes(), inputsOf(builder, columns), length)
  return registers.map((each) => module.read(each, length))
}

function inputsOf(builder: ProgramBuilder, columns: readonly TestColumn[]): Column[] {
  return builder.inputs.map((input) => columns.find((each) => each.declared.name === input.name)!.column)
}

function int64Column(
  name: string,
  values: readonly bigint[],
  declared?: Partial<SourceColumn>,
  unit?: TimeUnit,
): TestColumn {
  const cells = BigInt64Array.from(values)
  const column: Column = { name, type: 'int64', values: new Uint8Array(cells.buffer), unit }
  return { declared: { name, type: 'int64', ...declared }, type: { kind: 'int64' }, column, cells: values }
}

function floatColumn(name: string, values: readonly number[]): TestColumn {
  const column: Column = { name, type: 'float64', values: new Uint8Array(Float64Array.from(values).buffer) }
  return { declared: { name, type: 'float64' }, type: { kind: 'float64' }, column, cells: values }
}

function decimalColumn(name: string, scale: number, values: readonly bigint[]): TestColumn {
  const words = BigInt64Array.from(values.flatMap((each) => [BigInt.asIntN(64, each), each >> 64n]))
  const column: Column = { name, type: 'decimal128', values: new Uint8Array(words.buffer), scale }
  return {
    declared: { name, type: 'decimal', precision: 38, scale },
    type: { kind: 'decimal', scale },
    column,
    cells: values,
  }
}

describe('column programs', () => {
  it('agree with a row-by-row interpreter on random SQL over random columns', () => {
    let compared = 0
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
      const random = seededRandom(seed)
      const length = random.pick([0, 1, 7, 8, 9, 16, 33, 100])
      const columns = drawColumns(random, length)
      const drawer = new ExpressionDrawer(random, columns)
      const declared = columns.map((each) => each.declared)
      const builder = new ProgramBuilder(declared)
      const roots: { expression: TestExpression; register: number }[] = []
      for (let i = 0; i < 5; i++) {
        const expression = drawer.draw(random.between(0, 3))
        try {
          roots.push({ expression, register: builder.root(project(expression.sql, declared).node) })
        } catch (error) {
          // A view may need more registers than there are: an error of its definition.
          if (!(error instanceof ExpressionError) || !/more than 256 operations/.test(error.message)) {
            throw new Error(`seed ${seed}: ${expression.sql}`, { cause: error })
          }
          break
        }
      }
      module.run(builder.bytes(), inputsOf(builder, columns), length)
      for (const { expression, register } of roots) {
        const expected: Cell[] = Array.from({ length }, (_, row) => expression.cell(row))
        expect(module.read(register, length), `seed ${seed}: ${expression.sql}`).toEqual(expected)
        compared += length
      }
    }
    expect(compared).toBeGreaterThan(SEEDS * 20)
  }, 3_600_000)

  it('take the largest batch that readers yield', () => {
    const length = 65_536
    const values = Array.from({ length }, (_, i) => BigInt(i) - 30_000n)
    const column = int64Column('i', values)
    const [doubled, priced, named] = evaluate(
      [column],
      ['i * 2', 'i::decimal(20,4)', "CASE WHEN i > 0 THEN 'up' ELSE 'down' END"],
      length,
    )
    expect(doubled).toEqual(values.map((each) => each * 2n))
    expect(priced).toEqual(values.map((each) => each * 10_000n))
    expect(named).toEqual(values.map((each) => (each > 0n ? 'up' : 'down')))
  })

  it('give a constant a cell for each row, so that plans can name it', () => {
    const columns = [int64Column('i', [1n, 2n, 3n])]
    expect(
      evaluate(columns, ['7', '1.5', "'text'", 'true', "''", 'CAST(NULL AS float64)', '2::decimal(5,2)'], 3),
    ).toEqual([
      [7n, 7n, 7n],
      [1.5, 1.5, 1.5],
      ['text', 'text', 'text'],
      [true, true, true],
      ['', '', ''],
      [null, null, null],
      [200n, 200n, 200n],
    ])
  })
})

describe('literals', () => {
  it('with a point take the type of what they meet', () => {
    const columns = [int64Column('i', [1n]), floatColumn('f', [0.1]), decimalColumn('d', 2, [10n])]
    // 0.1 + 0.2 is 0.30000000000000004 in doubles and 0.3 in decimals.
    const sql = [
      'f + 0.2 = 0.3',
      'd + 0.2 = 0.3',
      'd + 0.2',
      'i + 0.5',
      'd * 1e1',
      'd > 0.0999999999999999999999999999',
      '0.1 + 0.2 = 0.3',
    ]
    expect(evaluate(columns, sql, 1)).toEqual([[false], [true], [30n], [1.5], [100n], [true], [false]])
  })

  it('of int64 reach its ends, and beyond them are no int64', () => {
    const columns = [int64Column('i', [2n ** 63n - 1n, -(2n ** 63n)])]
    const sql = ['i = 9223372036854775807', 'i = -9223372036854775808', 'i < 9223372036854775808', 'i + 1', 'i - 1']
    expect(evaluate(columns, sql, 2)).toEqual([
      [true, false],
      [false, true],
      // 2^63 is a float64 here, and the largest int64 becomes 2^63 as one.
      [false, true],
      [null, -(2n ** 63n) + 1n],
      [2n ** 63n - 2n, null],
    ])
  })
})

describe('instants', () => {
  const MS_PER: Record<TimeUnit, readonly [bigint, bigint]> = {
    ns: [1n, 1_000_000n],
    us: [1n, 1_000n],
    ms: [1n, 1n],
    s: [1_000n, 1n],
    day: [86_400_000n, 1n],
  }
  const floor = (value: bigint, unit: TimeUnit): bigint | null => {
    const [times, divisor] = MS_PER[unit]
    const scaled = value * times
    const quotient = scaled / divisor - (scaled % divisor < 0n ? 1n : 0n)
    return quotient === BigInt.asIntN(64, quotient) ? quotient : null
  }

  it('become milliseconds, floored, whatever their unit', () => {
    const random = seededRandom(7)
    const edges = [
      0n,
      1n,
      -1n,
      999n,
      -999n,
      1000n,
      -1000n,
      2n ** 52n,
      2n ** 52n + 1n,
      -(2n ** 52n),
      -(2n ** 52n) - 1n,
      2n ** 63n - 1n,
      -(2n ** 63n),
    ]
    const multiples = Array.from({ length: 3000 }, () => {
      const near = BigInt(random.between(-1, 1))
      return (
        (BigInt.asIntN(64, random.bits64()) >> BigInt(random.between(0, 50))) * random.pick([1n, 1000n, 1_000_000n]) +
        near
      )
    }).map((each) => BigInt.asIntN(64, each))
    const values = [...edges, ...multiples]
    for (const unit of Object.keys(MS_PER) as TimeUnit[]) {
      const column = int64Column('t', values, { type: 'timestamp', unit })
      expect(evaluate([column], ['t'], values.length)[0], unit).toEqual(values.map((each) => floor(each, unit)))
    }
  })

  it('go by the unit that the column states itself', () => {
    const column = int64Column('t', [1_500_999n], { type: 'timestamp', unit: 's' }, 'us')
    expect(evaluate([column], ['t'], 1)).toEqual([[1500n]])
  })

  it('may be days in 32 bits', () => {
    const column: Column = { name: 't', type: 'int32', values: new Uint8Array(Int32Array.from([1, -1]).buffer) }
    const days: TestColumn = {
      declared: { name: 't', type: 'timestamp', unit: 'day' },
      type: { kind: 'int64' },
      column,
      cells: [],
    }
    expect(evaluate([days], ['t'], 2)).toEqual([[86_400_000n, -86_400_000n]])
  })
})

describe('decimals and doubles', () => {
  it('convert with one correct rounding', () => {
    const random = seededRandom(11)
    for (const scale of [0, 1, 2, 17, 22, 23, 30, 38]) {
      const values = Array.from({ length: 800 }, () => {
        const wide = ((random.bits64() << 64n) | random.bits64()) >> BigInt(random.between(2, 127))
        // Half of them right between two doubles, or one off: 53 bits, a one, and zeros.
        const half = (BigInt(random.bits()) | 1n | (1n << 53n)) << BigInt(random.between(0, 60))
        const value = random.chance(0.5) ? wide : half + BigInt(random.between(-1, 1))
        return (random.chance(0.5) ? value : -value) % 10n ** 38n
      })
      const [found] = evaluate([decimalColumn('d', scale, values)], ['d::float64'], values.length)
      expect(found, `scale ${scale}`).toEqual(values.map((each) => floatOfDecimal(each, scale)))
    }
  })

  it('round halves away from zero towards decimals, and are null beyond the digits', () => {
    const random = seededRandom(13)
    const values = Array.from(
      { length: 2000 },
      () => (random.between(-(2 ** 31), 2 ** 31) * 2 ** random.between(-60, 40)) / 8,
    )
    values.push(0.5, -0.5, 0.125, 2.5, 1e22, -1e22, 5e-324, 1.7976931348623157e308)
    for (const [precision, scale] of [
      [38, 0],
      [12, 2],
      [38, 38],
      [5, 5],
    ] as const) {
      const limit = 10n ** BigInt(precision)
      const expected = values
        .map((each) => decimalOfFloat(each, scale))
        .map((each) => (each < limit && each > -limit ? each : null))
      expect(evaluate([floatColumn('f', values)], [`f::decimal(${precision},${scale})`], values.length)[0]).toEqual(
        expected,
      )
    }
  })
})

describe('loads', () => {
  it('point into the input where the two forms are the same', () => {
    const columns = [int64Column('i', [1n, 2n]), floatColumn('f', [1, 2]), decimalColumn('d', 2, [1n, 2n])]
    const builder = new ProgramBuilder(columns.map((each) => each.declared))
    const descriptors = module.write(inputsOf(builder, columns), 2)
    module.runAt(builder.bytes(), descriptors, 2)
    const view = new DataView(module.exports.memory.buffer)
    for (const [i, input] of builder.inputs.entries()) {
      const values = view.getUint32(descriptors + i * COLUMN_BYTES + COLUMN_VALUES, true)
      expect(module.exports.registerData(i), input.name).toBe(values)
      expect(module.exports.registerValid(i)).toBe(0)
    }
  })

  it('trap on text offsets that descend or leave the text', () => {
    const declared: SourceColumn = { name: 's', type: 'utf8' }
    const builder = new ProgramBuilder([declared])
    for (const offsets of [
      [0, 5, 3, 6],
      [0, 2, 4, 7],
      [0, -1, 4, 6],
      [0, 2, 2 ** 31 - 1, 6],
    ]) {
      const broken = new ExprModule(compiled)
      const text: Column = {
        name: 's',
        type: 'utf8',
        values: Buffer.from('abcdef'),
        offsets: Int32Array.from([0, 2, 4, 6]),
      }
      const descriptor = broken.write([text], 3)
      const { buffer } = broken.exports.memory
      const at = new DataView(buffer).getUint32(descriptor + COLUMN_OFFSETS, true)
      new Int32Array(buffer).set(offsets, at / 4)
      expect(() => broken.runAt(builder.bytes(), descriptor, 3), String(offsets)).toThrow('unreachable')
      expect(broken.exports.trapCode.value).toBe(TRAP_ASSERT)
    }
  })
})

describe('damaged programs', () => {
  it('trap on an assertion or compute something, and never read outside', () => {
    const random = seededRandom(17)
    const columns = drawColumns(random, 20)
    const declared = columns.map((each) => each.declared)
    const builder = new ProgramBuilder(declared)
    const sql = [
      'i + j',
      'f * 2',
      "s = 'JFK' OR t < s",
      "CASE WHEN b THEN s ELSE 'x' END",
      'm / n',
      'm::float64',
      'f::decimal(12,2)',
      'coalesce(m, 1)',
      'greatest(f, g)',
      'm > n',
      'NOT c',
      '1',
    ]
    for (const each of sql) builder.root(project(each, declared).node)
    const program = builder.bytes()
    let trapped = 0
    for (let i = 0; i < 500; i++) {
      const damaged = Uint8Array.from(program)
      const at = random.chance(0.5)
        ? random.below(damaged.length)
        : PROGRAM_HEADER_BYTES + random.below(columns.length + 40) * INSTRUCTION_BYTES
      damaged[at] = random.chance(0.5) ? random.below(256) : random.pick([0, 1, 2, 40, 41, 255])
      const cut = random.chance(0.1) ? random.below(damaged.length) : damaged.length
      try {
        module.run(damaged.subarray(0, cut), inputsOf(builder, columns), 20)
      } catch (error) {
        expect(String(error), `change ${i} at byte ${at}`).toMatch(/unreachable/)
        expect(module.exports.trapCode.value).toBe(TRAP_ASSERT)
        trapped++
        module = new ExprModule(compiled)
      }
    }
    expect(trapped).toBeGreaterThan(50)
  }, 120_000)
})
