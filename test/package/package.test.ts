/** The package in a folder of its own, as a stranger installs it: the command, and programs of every kind. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { npm, pack, plainEnvironment, root } from './pack.ts'

let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tilefold-package-'))
  const { tarball } = pack(folder)
  writeFileSync(join(folder, 'package.json'), '{ "name": "stranger", "private": true }\n')
  npm(folder, ['install', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error', tarball])
}, 300_000)

afterAll(() => rmSync(folder, { recursive: true, force: true }))

function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { cwd: folder, encoding: 'utf8', env: plainEnvironment() })
}

function tilefold(...args: string[]): string {
  return run('npx', '--no-install', 'tilefold', ...args)
}

function write(name: string, text: string): string {
  writeFileSync(join(folder, name), text)
  return name
}

interface Order {
  readonly at: string
  readonly customer: string
  readonly amount: number
  readonly items: number
}

describe('the installed command', () => {
  it('goes from an empty folder to features: init, backfill, get', () => {
    tilefold('init')
    const orders = readFileSync(join(folder, 'events.ndjson'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Order)
    const summary = JSON.parse(tilefold('backfill', 'events.ndjson', '-o', 'json')) as {
      finished: boolean
      rows: number
    }
    expect(summary).toMatchObject({ finished: true, rows: orders.length })

    const asOf = '2025-01-02T12:00:00Z'
    const names = ['count_24h', 'amount_sum_24h', 'amount_mean_24h', 'amount_max_24h', 'items_last_24h']
    const features = names.map((name) => `orders_by_customer:${name}`)
    const answer = JSON.parse(
      tilefold('get', ...features, '--entity', 'customer=ada', '--as-of', asOf, '-o', 'json'),
    ) as { rows: { values: number[]; statuses: string[] }[] }

    // Amounts are quarters, so that plain sums are exact.
    const endMs = Date.parse(asOf)
    const inside = orders.filter(({ at, customer }) => {
      const ms = Date.parse(at)
      return customer === 'ada' && ms >= endMs - 86_400_000 && ms < endMs
    })
    const sum = inside.reduce((total, order) => total + order.amount, 0)
    expect(inside.length).toBeGreaterThan(5)
    expect(answer.rows[0]).toEqual({
      values: [
        inside.length,
        sum,
        sum / inside.length,
        Math.max(...inside.map((order) => order.amount)),
        inside.at(-1)!.items,
      ],
      statuses: names.map(() => 'ok'),
    })
  })

  it('points the editor at the schema that is installed with it', () => {
    const [modeline] = readFileSync(join(folder, 'tilefold.yaml'), 'utf8').split('\n')
    const [, schema] = /^# yaml-language-server: \$schema=(\S+)$/.exec(modeline!) ?? []
    expect(existsSync(join(folder, schema!))).toBe(true)
  })

  it('knows its version', () => {
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
    expect(tilefold('--version').trim()).toBe(version)
  })
})

/** A view, a push, an answer. `imports` binds the names that it uses. */
function program(imports: string): string {
  return `${imports}
const AT = Date.UTC(2024, 0, 1, 12)
const clicks = defineView({
  name: 'clicks',
  source: { name: 'clicks', columns: { at: timestamp('ms'), user: utf8(), n: int64() } },
  entity: 'user',
  time: 'at',
  aggregations: [count({ windows: ['1h'] }), sum('n', { windows: ['1h'] })],
})
async function main() {
  const engine = await createEngine({ views: [clicks], store: './store-of-program', threads: 1, clock: () => AT + 1000 })
  await engine.push([{ at: AT, user: 'ada', n: 40n }, { at: AT + 1, user: 'ada', n: 2n }], { log: 'web', offset: 0 })
  await engine.flush()
  const { rows } = await engine.getFeatures({ view: 'clicks', entities: [{ user: 'ada' }], asOf: AT + 2 })
  console.log(rows[0]?.values.join(' '))
  await engine.close()
}
void main()
`
}

const NAMES = 'createEngine, defineView, count, sum, timestamp, utf8, int64'

describe('a program that uses the package', () => {
  it('imports it as an ES module, with worker threads and a store on disk', () => {
    const file = write('program.mjs', program(`import { ${NAMES} } from 'tilefold'`))
    expect(run(process.execPath, file).trim()).toBe('2 42')
  })

  it('requires it from CommonJS', () => {
    rmSync(join(folder, 'store-of-program'), { recursive: true, force: true })
    const file = write('program.cjs', program(`const { ${NAMES} } = require('tilefold')`))
    expect(run(process.execPath, file).trim()).toBe('2 42')
  })

  it('finds the core, the schema and the manifest under their names', () => {
    const file = write(
      'names.mjs',
      `import { readFileSync } from 'node:fs'
const bytes = readFileSync(new URL(import.meta.resolve('tilefold/core.wasm')))
console.log(WebAssembly.validate(bytes), JSON.parse(readFileSync(new URL(import.meta.resolve('tilefold/schema.json')), 'utf8')).type,
  JSON.parse(readFileSync(new URL(import.meta.resolve('tilefold/package.json')), 'utf8')).name)
`,
    )
    expect(run(process.execPath, file).trim()).toBe('true object tilefold')
  })
})

describe('a TypeScript program', () => {
  /** Compiles against the installed declarations, with the library check on and no types of Node. */
  function compile(name: string, text: string): string {
    write(name, text)
    const compilerOptions = {
      target: 'es2022',
      module: 'nodenext',
      moduleResolution: 'nodenext',
      strict: true,
      noEmit: true,
      skipLibCheck: false,
      types: [],
    }
    const config = write(`tsconfig.${name}.json`, JSON.stringify({ compilerOptions, files: [name] }))
    try {
      return run(process.execPath, join(root, 'node_modules/typescript/bin/tsc'), '-p', config)
    } catch (error) {
      return `${(error as { stdout: string }).stdout}`
    }
  }

  const typed = `
import { createEngine, createMemoryStore, count, defineView, int64, mean, timestamp, utf8, TilefoldError } from 'tilefold'
import type { Engine, EntityOf, FeaturesOf } from 'tilefold'

const trips = defineView({
  name: 'trips',
  source: { name: 'trips', columns: { at: timestamp(), city: utf8(), delay: int64() } },
  entity: 'city',
  time: 'at',
  aggregations: [count({ windows: ['1h', '24h'] }), mean('delay', { windows: ['24h'] })],
})
const features: FeaturesOf<typeof trips> = { count_1h: 1, count_24h: 2, delay_mean_24h: null }
const entity: EntityOf<typeof trips> = { city: 'Rome' }

export async function main(): Promise<void> {
  const engine: Engine = await createEngine({ views: [trips], store: createMemoryStore() })
  await engine.push([{ at: 0, city: 'Rome', delay: 3 }], { log: 'trips' })
  const answer = await engine.getFeatures({ view: 'trips', entities: [entity] })
  const values: readonly unknown[] | undefined = answer.rows[0]?.values
  const total: number = features.count_1h + features.count_24h
  try {
    await engine.close()
  } catch (error) {
    if (error instanceof TilefoldError && error.code === 'FENCED') throw new Error(String(total) + String(values))
  }
}
`

  it('compiles as an ES module', () => {
    expect(compile('typed.mts', typed)).toBe('')
  })

  it('compiles as CommonJS', () => {
    expect(compile('typed.cts', typed)).toBe('')
  })

  it('is told of a feature that there is not', () => {
    const wrong = `${typed}\nexport const missing = features.count_2h\n`
    expect(compile('wrong.mts', wrong)).toMatch(/wrong\.mts\(\d+,\d+\): error TS2551.*count_2h/)
  })
})
