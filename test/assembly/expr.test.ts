import { beforeAll, describe, expect, it } from 'vitest'
import { project } from '../../src/define/projection.ts'
import { ProgramBuilder } from '../../src/define/program.ts'
import { ExpressionError, loadSqlParser } from '../../src/define/sql.ts'
import { seededRandom } from '../support/random.ts'
import { drawColumns, ExpressionDrawer, type TestExpression } from './expr-cases.ts'
import { type Cell, compileExprModule, ExprModule } from './expr-harness.ts'

const SEEDS = Number(process.env.FUZZ_SEEDS ?? 400)
const FIRST_SEED = Number(process.env.FUZZ_SEED ?? 1)

let bytes: Uint8Array
beforeAll(async () => {
  bytes = compileExprModule()
  await loadSqlParser()
}, 60_000)

describe('column programs', () => {
  it('agree with a row-by-row interpreter on random SQL over random columns', () => {
    const module = new ExprModule(bytes)
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
          // Too deep for the register file, or a literal with too many digits: errors of a definition.
          if (!(error instanceof ExpressionError) || !/more than 256 operations/.test(error.message)) {
            throw new Error(`seed ${seed}: ${expression.sql}`, { cause: error })
          }
          break
        }
      }
      module.reset()
      const inputs = builder.inputs.map((input) => columns.find((each) => each.declared.name === input.name)!.column)
      module.run(builder.bytes(), inputs, length)
      for (const { expression, register } of roots) {
        const expected: Cell[] = Array.from({ length }, (_, row) => expression.cell(row))
        expect(module.read(register, length), `seed ${seed}: ${expression.sql}`).toEqual(expected)
        compared += length
      }
    }
    expect(compared).toBeGreaterThan(SEEDS * 20)
  }, 600_000)
})
