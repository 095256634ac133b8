/** What package.json promises, held against what is packed. */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { pack, root } from './pack.ts'

interface Manifest {
  readonly name: string
  readonly version: string
  readonly description: string
  readonly license: string
  readonly type: string
  readonly engines: Readonly<Record<string, string>>
  readonly exports: Readonly<Record<string, string | Readonly<Record<string, string>>>>
  readonly bin: Readonly<Record<string, string>>
  readonly files: readonly string[]
  readonly sideEffects: boolean
  readonly dependencies: Readonly<Record<string, string>>
  readonly scripts: Readonly<Record<string, string>>
}

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest
const packed = pack().files
const paths = packed.map((file) => file.path)

function inPackage(target: string): string {
  return target.replace(/^\.\//, '')
}

describe('package.json', () => {
  it('names the package, its license and the Node versions it runs on', () => {
    expect(manifest.name).toBe('tilefold')
    expect(manifest.version).toMatch(/^\d+\.\d+\.\d+$/)
    expect(manifest.description.length).toBeGreaterThan(20)
    expect(manifest.license).toBe('Apache-2.0')
    expect(manifest.engines.node).toBe('>=20.19')
    expect(manifest.type).toBe('module')
    expect(manifest.sideEffects).toBe(false)
  })

  it('exports types first, one condition for import and require, and only files that are packed', () => {
    const main = manifest.exports['.'] as Readonly<Record<string, string>>
    expect(Object.keys(main)).toEqual(['types', 'default'])
    for (const target of Object.values(manifest.exports)) {
      for (const file of typeof target === 'string' ? [target] : Object.values(target)) {
        expect(paths, file).toContain(inPackage(file))
      }
    }
    expect(Object.keys(manifest.exports)).toEqual(
      expect.arrayContaining(['./core.wasm', './schema.json', './package.json']),
    )
  })

  it('has the command as an executable with a shebang', () => {
    const target = inPackage(manifest.bin.tilefold!)
    const file = packed.find((each) => each.path === target)
    expect(file, target).toBeDefined()
    expect(file!.mode & 0o111).not.toBe(0)
    expect(readFileSync(join(root, target), 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/)
  })

  it('depends on exact versions from the registry', () => {
    expect(Object.keys(manifest.dependencies).length).toBeGreaterThan(0)
    for (const [name, version] of Object.entries(manifest.dependencies)) {
      expect(version, name).toMatch(/^\d+\.\d+\.\d+$/)
    }
  })

  it('runs nothing on the machine that installs it', () => {
    for (const script of ['preinstall', 'install', 'postinstall', 'prepare'])
      expect(manifest.scripts[script], script).toBeUndefined()
  })
})

describe('the packed files', () => {
  it('hold the license, the readme, the core, and types beside every module', () => {
    expect(paths).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'dist/core.wasm', 'dist/schema.json']))
    expect(readFileSync(join(root, 'LICENSE'), 'utf8')).toMatch(/^\s*Apache License\s+Version 2\.0, January 2004/)
    const modules = paths.filter((path) => /^dist\/src\/.*\.js$/.test(path))
    expect(modules.length).toBeGreaterThan(50)
    for (const module of modules) expect(paths, module).toContain(module.replace(/\.js$/, '.d.ts'))
  })

  it('hold no tests, no benches, no fixtures, no debug build', () => {
    const stray = paths.filter((path) =>
      /(^|\/)(test|bench|fixtures|node_modules|\.ci|\.tilefold)(\/|$)|debug|\.tgz$/.test(path),
    )
    expect(stray).toEqual([])
  })

  it('hold the sources that their maps point to', () => {
    for (const path of paths.filter((each) => /^dist\/src\/.*\.js\.map$/.test(each)).slice(0, 40)) {
      const { sources } = JSON.parse(readFileSync(join(root, path), 'utf8')) as { sources: string[] }
      for (const source of sources) expect(paths, `${path} -> ${source}`).toContain(join(path, '..', source))
    }
  })

  it('name no machine', () => {
    const places = [root, homedir()].filter((place) => place.length > 1)
    for (const path of paths.filter((each) => /\.(js|ts|json|map|md)$/.test(each))) {
      const text = readFileSync(join(root, path), 'utf8')
      for (const place of places) expect(text.includes(`${place}/`), `${path} names ${place}`).toBe(false)
    }
  })
})
