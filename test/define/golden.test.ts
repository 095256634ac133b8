/**
 * Golden pairs: `valid/x.yaml` compiles to `valid/x.json`, `invalid/x.yaml` is refused with `invalid/x.txt`. A new case is
 * a file; UPDATE_GOLDEN=1 writes its twin. State hashes name what is stored: a change in them is a change for every user.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { parseDefinitions } from '../../src/define/yaml.ts'
import { TilefoldError } from '../../src/model/errors.ts'
import type { Plan } from '../../src/model/plan.ts'

const DIRECTORY = new URL('../../fixtures/definitions/', import.meta.url)

function cases(kind: string): string[] {
  return readdirSync(new URL(kind, DIRECTORY))
    .filter((each) => each.endsWith('.yaml'))
    .map((each) => each.slice(0, -'.yaml'.length))
}

function compareWithFile(path: string, text: string): void {
  const file = new URL(path, DIRECTORY)
  if (process.env.UPDATE_GOLDEN === '1' || (!existsSync(file) && !process.env.CI)) writeFileSync(file, text)
  expect(text).toBe(readFileSync(file, 'utf8'))
}

/** How expressions are computed may change; what they mean is in the rest. */
function withoutProgram({ state, ...plan }: Plan) {
  const { program: _program, registers: _registers, inputs, ...rest } = state
  return { ...plan, state: { ...rest, inputs: inputs.map(({ accepts: _accepts, ...input }) => input) } }
}

async function compileFile(path: string): Promise<{ namespace: string; plans: Plan[] }> {
  const text = readFileSync(new URL(path, DIRECTORY))
  const { namespace, views } = parseDefinitions(text, path.replace(/^.*\//, ''))
  return { namespace, plans: await Promise.all(views.map(compileView)) }
}

describe('definition files', () => {
  it.each(cases('valid'))('%s compiles to its plan', async (name) => {
    const { namespace, plans } = await compileFile(`valid/${name}.yaml`)
    const text = `${JSON.stringify({ namespace, plans: plans.map(withoutProgram) }, null, 1)}\n`
    compareWithFile(`valid/${name}.json`, text)
  })

  it.each(cases('invalid'))('%s is refused with its message', async (name) => {
    const error = await compileFile(`invalid/${name}.yaml`).then(
      () => undefined,
      (each: unknown) => each,
    )
    expect(error).toBeInstanceOf(TilefoldError)
    const { code, message, details } = error as TilefoldError
    compareWithFile(`invalid/${name}.txt`, `${code}\n${message}\n`)
    // Every problem has its place, in the message and as data.
    for (const problem of details.problems as { file: string; line: number; column: number }[]) {
      expect(message).toContain(`${problem.file}:${problem.line}:${problem.column}`)
    }
  })
})
