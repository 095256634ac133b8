/** Taste that a machine can hold: who may import whom, one vendor per file, no leftovers. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'

const root = resolve(import.meta.dirname, '../..')

/** Import only from a lower rank, never from a peer. */
const RANKS: Record<string, number> = {
  model: 0,
  define: 1,
  engine: 1,
  source: 1,
  store: 1,
  quality: 1,
  observe: 1,
  registry: 2,
  sla: 2,
  ingest: 3,
  serve: 3,
  offline: 4,
  stream: 4,
  embed: 4,
  cli: 5,
  dashboard: 5,
}

/** Each vendor library stands in exactly one file. */
const VENDORS: Record<string, string> = {
  lmdb: 'src/store/lmdb.ts',
  'parquet-wasm': 'src/source/parquet.ts',
  'apache-arrow': 'src/source/arrow.ts',
  yaml: 'src/define/yaml.ts',
  'libpg-query': 'src/define/sql.ts',
  fastify: 'src/serve/server.ts',
  ioredis: 'src/store/redis-connection.ts',
  kafkajs: 'src/source/kafka.ts',
  'prom-client': 'src/observe/metrics.ts',
  pino: 'src/observe/log.ts',
}

function filesUnder(folder: string, ending: RegExp): string[] {
  const found: string[] = []
  for (const name of readdirSync(join(root, folder)).sort()) {
    const path = join(folder, name)
    if (statSync(join(root, path)).isDirectory()) found.push(...filesUnder(path, ending))
    else if (ending.test(name)) found.push(path)
  }
  return found
}

function importsOf(file: string): string[] {
  const text = readFileSync(join(root, file), 'utf8')
  return [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((match) => match[1]!)
}

const sources = filesUnder('src', /\.ts$/)

describe('import ranks', () => {
  it.each(sources)('%s imports only what is below it', (file) => {
    const folder = file.split('/')[1]!
    if (file.split('/').length === 2) return
    const wrong: string[] = []
    for (const target of importsOf(file)) {
      if (!target.startsWith('.')) continue
      const path = relative(root, resolve(root, dirname(file), target))
      if (path.startsWith('assembly/')) {
        const allowed = path === 'assembly/layout.ts' && (folder === 'engine' || folder === 'define')
        if (!allowed) wrong.push(`${path} (only engine and define read assembly/layout.ts)`)
        continue
      }
      const other = path.split('/')[1]!
      if (other === folder) continue
      if (!(RANKS[other]! < RANKS[folder]!)) wrong.push(`${path} (rank ${RANKS[other]} from rank ${RANKS[folder]})`)
    }
    expect(wrong, `${file} reaches upwards or sideways`).toEqual([])
  })

  it('knows a rank for every folder of src', () => {
    const folders = [
      ...new Set(sources.filter((file) => file.split('/').length > 2).map((file) => file.split('/')[1]!)),
    ]
    expect(folders.filter((folder) => RANKS[folder] === undefined)).toEqual([])
  })

  it('keeps the model free of Node', () => {
    const wrong = sources.filter(
      (file) => file.startsWith('src/model/') && importsOf(file).some((each) => !each.startsWith('.')),
    )
    expect(wrong).toEqual([])
  })
})

describe('vendors', () => {
  it.each(Object.entries(VENDORS))('%s is imported by %s alone', (vendor, home) => {
    const users = sources.filter((file) =>
      importsOf(file).some((each) => each === vendor || each.startsWith(`${vendor}/`)),
    )
    expect(users).toEqual([home])
  })

  it('has every other package of package.json in one file, too', () => {
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { dependencies: object }
    for (const name of Object.keys(manifest.dependencies)) {
      const users = sources.filter((file) =>
        importsOf(file).some((each) => each === name || each.startsWith(`${name}/`)),
      )
      const isCommand = users.every((file) => file.startsWith('src/cli/'))
      expect(
        users.length === 1 || (users.length > 0 && isCommand),
        `${name} is imported by ${users.join(', ') || 'nobody'}`,
      ).toBe(true)
    }
  })

  it('touches WebAssembly in engine/module.ts alone', () => {
    const users = sources.filter((file) => /\bnew WebAssembly\./.test(readFileSync(join(root, file), 'utf8')))
    expect(users).toEqual(['src/engine/module.ts'])
  })
})

describe('sources', () => {
  it('have no drawers', () => {
    const drawers = sources.filter((file) => /\/(utils?|helpers?|common|types)\.ts$/.test(file))
    expect(drawers).toEqual([])
  })

  it('promise nothing for later', () => {
    const all = [...sources, ...filesUnder('assembly', /\.ts$/), ...filesUnder('bench', /\.ts$/)]
    const wrong = all.filter((file) => /\b(TODO|FIXME|XXX|HACK)\b/.test(readFileSync(join(root, file), 'utf8')))
    expect(wrong).toEqual([])
  })

  it('export nothing by default', () => {
    const wrong = sources.filter((file) => /^export default\b/m.test(readFileSync(join(root, file), 'utf8')))
    expect(wrong).toEqual([])
  })

  it('name no registry and no machine', () => {
    const files = ['package.json', 'package-lock.json', '.npmrc', ...filesUnder('.ci', /./)]
    for (const file of files) {
      const text = readFileSync(join(root, file), 'utf8')
      expect(text, file).not.toMatch(/"resolved"|registry\.npmjs|https?:\/\/[^"\s]*registry/)
    }
  })
})
