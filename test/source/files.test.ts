import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { listFiles } from '../../src/source/files.ts'
import { codeOf, scratch, thrown } from './support.ts'

const at = scratch(afterAll)
const FILES = [
  'a/1.parquet',
  'a/10.parquet',
  'a/2.parquet',
  'a/B.parquet',
  'a/_tmp.parquet',
  'a/.hidden.parquet',
  'a/notes.txt',
  'a/ds=2001-01-02/x.parquet',
  'a/ds=2001-01-01/x.parquet',
  'a/_delta_log/0.parquet',
  'b/[1].parquet',
  'b/1.parquet',
]

beforeAll(() => {
  for (const file of FILES) {
    mkdirSync(path.dirname(at(file)), { recursive: true })
    writeFileSync(at(file), '')
  }
  symlinkSync(at('b/1.parquet'), at('a/link.parquet'))
  symlinkSync(at('a'), at('a/loop'))
})

async function list(...entries: string[]): Promise<string[]> {
  const root = at('.')
  return (
    await listFiles(
      entries.map((entry) => at(entry)),
      ['.parquet'],
    )
  ).map((file) => path.relative(root, file))
}

describe('a plan of files', () => {
  it('walks a directory in the order of names, past hidden and temporary ones', async () => {
    const inA = ['1', '10', '2', 'B', 'ds=2001-01-01/x', 'ds=2001-01-02/x', 'link'].map((name) => `a/${name}.parquet`)
    expect(await list('a')).toEqual(inA)
    expect(await list('a/')).toEqual(inA)
    expect(await list('a/**/*.parquet')).toEqual(inA)
  })

  it('matches globs within names, and keeps the order of entries', async () => {
    expect(await list('a/*.parquet')).toEqual([
      'a/1.parquet',
      'a/10.parquet',
      'a/2.parquet',
      'a/B.parquet',
      'a/link.parquet',
    ])
    expect(await list('a/?.parquet')).toEqual(['a/1.parquet', 'a/2.parquet', 'a/B.parquet'])
    expect(await list('a/ds=*/x.parquet')).toEqual(['a/ds=2001-01-01/x.parquet', 'a/ds=2001-01-02/x.parquet'])
    expect(await list('*/1.parquet')).toEqual(['a/1.parquet', 'b/1.parquet'])
    expect(await list('b/*.parquet', 'a/1*.parquet')).toEqual([
      'b/1.parquet',
      'b/[1].parquet',
      'a/1.parquet',
      'a/10.parquet',
    ])
    // A file twice is one file; brackets are only names.
    expect(await list('b/[1].parquet', 'b')).toEqual(['b/[1].parquet', 'b/1.parquet'])
    expect(await list('a/notes.txt')).toEqual(['a/notes.txt'])
  })

  it('is relative to where the program runs', async () => {
    const here = process.cwd()
    try {
      process.chdir(at('.'))
      expect(await listFiles(['a/1.parquet'], [])).toEqual(['a/1.parquet'])
      expect(await listFiles(['b/?.parquet', './b/1.parquet'], [])).toEqual(['b/1.parquet', './b/1.parquet'])
      expect(await listFiles(['?/1.parquet'], [])).toEqual(['a/1.parquet', 'b/1.parquet'])
    } finally {
      process.chdir(here)
    }
  })

  it('is never empty', async () => {
    for (const entry of ['nowhere', 'a/nothing*', 'nowhere/*.parquet', 'a/_delta_log/*.csv']) {
      const error = await thrown(() => list(entry))
      expect(error.code).toBe('SOURCE_NOT_FOUND')
      expect(error.message).toContain(path.basename(entry.replace('/*.parquet', '')))
    }
    mkdirSync(at('empty'), { recursive: true })
    expect(await codeOf(() => list('a', 'empty'))).toBe('SOURCE_NOT_FOUND')
  })
})
