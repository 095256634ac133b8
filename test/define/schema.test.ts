import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { AGGREGATION_KEYS, VIEW_KEYS } from '../../src/define/check.ts'
import { definitionSchema, schemaText } from '../../src/define/schema.ts'
import { FILE_KEYS } from '../../src/define/yaml.ts'

// fastify's own validator, so that nothing of ours judges the schema.
const fromFastify = createRequire(createRequire(import.meta.url).resolve('fastify'))
const fromCompiler = createRequire(fromFastify.resolve('@fastify/ajv-compiler'))
interface Validator {
  (value: unknown): boolean
  errors?: unknown
}
const Ajv = fromCompiler('ajv') as new (options: object) => { compile(schema: unknown): Validator }

const DEFINITIONS = new URL('../../fixtures/definitions/', import.meta.url)
const validate = new Ajv({ strict: true, strictTypes: false, allowUnionTypes: true, allErrors: true }).compile(
  definitionSchema,
)

function accepts(kind: string, name: string): boolean {
  return validate(parse(readFileSync(new URL(`${kind}/${name}`, DEFINITIONS), 'utf8')))
}

function files(kind: string): string[] {
  return readdirSync(new URL(kind, DEFINITIONS)).filter((each) => each.endsWith('.yaml'))
}

describe('the JSON Schema', () => {
  it('is the file in the package', () => {
    const file = new URL('../../schema.json', import.meta.url)
    if (process.env.UPDATE_GOLDEN === '1') writeFileSync(file, schemaText())
    expect(readFileSync(file, 'utf8')).toBe(schemaText())
  })

  it('knows the keys that the checks know', () => {
    const { properties } = definitionSchema as unknown as { properties: Record<string, Record<string, never>> }
    const view = properties.views!.items as unknown as { properties: Record<string, { items: { properties: object } }> }
    expect(Object.keys(properties).sort()).toEqual([...FILE_KEYS].sort())
    expect(Object.keys(view.properties).sort()).toEqual([...VIEW_KEYS].sort())
    expect(Object.keys(view.properties.aggregations!.items.properties).sort()).toEqual([...AGGREGATION_KEYS].sort())
  })

  it('explains every key', () => {
    const bare: string[] = []
    const visit = (value: unknown, path: string): void => {
      if (typeof value !== 'object' || value === null) return
      const properties = (value as { properties?: Record<string, { description?: string }> }).properties ?? {}
      for (const [key, each] of Object.entries(properties)) if (!each.description) bare.push(`${path}.${key}`)
      for (const [key, each] of Object.entries(value)) visit(each, `${path}.${key}`)
    }
    visit(definitionSchema, '')
    expect(bare).toEqual([])
  })

  it.each(files('valid'))('accepts %s', (name) => {
    expect(accepts('valid', name), JSON.stringify(validate.errors)).toBe(true)
  })

  // What only the checks can see (names that don't exist, steps that don't divide) an editor can't.
  it.each([
    'unknown-keys',
    'missing-keys',
    'durations',
    'column-types',
    'exact-edges',
    'empty',
    'not-an-object',
    'names',
  ])('refuses %s.yaml', (name) => {
    expect(accepts('invalid', `${name}.yaml`)).toBe(false)
  })
})
