/** What the compiled core must be: a module that any host can run, without a collector and without virtual calls. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'

const root = resolve(import.meta.dirname, '../..')
const builds = ['core.wasm', 'core.simd.wasm', 'core.debug.wasm'] as const

/** What Node's own types leave out. */
interface ModuleReflection {
  exports(module: object): { name: string }[]
  imports(module: object): { name: string }[]
  customSections(module: object, name: string): ArrayBuffer[]
}
const reflection = WebAssembly.Module as unknown as ModuleReflection

/** Recorded, so that growth is seen; raise it knowingly. */
const RELEASE_BYTES_MAX = 96 * 1024

function bytesOf(name: string): Buffer {
  return readFileSync(join(root, 'dist', name))
}

/** Exported functions of assembly/index.ts and of the files that it exports as they are, from their text. */
function declaredExports(): string[] {
  const names = ['index.ts', 'index-asof.ts', 'index-numbered.ts']
  const text = names.map((name) => readFileSync(join(root, 'assembly', name), 'utf8')).join('\n')
  return [...text.matchAll(/^export (?:function|const) (\w+)/gm)].map((match) => match[1]!).sort()
}

/** Names of the functions in a module, from its name section. */
function functionNames(bytes: Buffer): string {
  const section = reflection.customSections(new WebAssembly.Module(bytes), 'name')[0]
  return section ? Buffer.from(section).toString('latin1') : ''
}

describe.each(builds)('%s', (name) => {
  it('exports what index.ts declares, and its memory', () => {
    const exports = reflection.exports(new WebAssembly.Module(bytesOf(name))).map((each) => each.name)
    expect(exports.sort()).toEqual([...declaredExports(), 'memory'].sort())
  })

  it('imports nothing', () => {
    expect(reflection.imports(new WebAssembly.Module(bytesOf(name)))).toEqual([])
  })

  it('has no garbage collector, no allocator and no virtual call', () => {
    const names = functionNames(bytesOf(name))
    expect(names.length).toBeGreaterThan(0)
    expect(names).not.toContain('~lib/rt/')
    expect(names).not.toContain('@override')
  })
})

describe('the release build', () => {
  it('stays within its recorded size', () => {
    expect(bytesOf('core.simd.wasm').length).toBeLessThan(RELEASE_BYTES_MAX)
  })
})
