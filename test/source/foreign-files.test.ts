/**
 * Files of other writers, kept in fixtures/parquet and fixtures/arrow with twins that say what is in them: INT96, both versions
 * of pages, every codec and encoding, decimals, dictionaries, units and zones. Read right, or refused by a code; never wrong.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { TimeUnit } from '../../src/model/columns.ts'
import type { InputColumn } from '../../src/model/plan.ts'
import { openSpine } from '../../src/offline/spine.ts'
import { createArrowSource } from '../../src/source/arrow.ts'
import { createParquetSource } from '../../src/source/parquet.ts'
import { type Cell, codeOf, input, readAll, thrown } from './support.ts'

const FOLDERS = ['fixtures/parquet', 'fixtures/arrow']

interface TwinColumn {
  readonly name: string
  readonly type: InputColumn['type']
  readonly scale?: number
  readonly unit?: TimeUnit
  readonly cells: readonly (string | number | boolean | null)[]
}

interface Twin {
  /** What wrote each of them. */
  readonly files: Readonly<Record<string, string>>
  readonly rows: number
  readonly columns: readonly TwinColumn[]
  readonly refused: readonly { readonly name: string; readonly type: InputColumn['type'] }[]
}

/** A twin's cell as `cellsOf` gives it. */
function cellOf(type: InputColumn['type'], cell: TwinColumn['cells'][number]): Cell {
  if (cell === null || type === 'utf8' || type === 'bool') return cell
  return type === 'float64' ? Number(cell) : BigInt(cell)
}

const cases = FOLDERS.flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')) as Twin)
    .flatMap((twin) =>
      Object.entries(twin.files).map(([name, writer]) => ({ file: join(folder, name), writer, twin })),
    ),
)

function read(file: string, inputs: readonly InputColumn[], batchRows?: number) {
  const create = file.endsWith('.parquet') ? createParquetSource : createArrowSource
  return readAll(create({ log: 'golden', paths: [file], inputs, batchRows }).read(0))
}

it('has a twin for every file', () => {
  const files = FOLDERS.flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)))
  const told = files.filter((name) => !/json$|refused-/.test(name))
  expect(cases.map(({ file }) => file).sort()).toEqual(told.sort())
  expect(told.length).toBeGreaterThan(20)
})

it.each(['lz4', 'zstd'])('says of compressed record batches that they are (%s)', async (codec) => {
  const error = await thrown(() => read(`fixtures/arrow/refused-${codec}.feather`, [input('n', 'int64')]))
  expect([error.code, error.message]).toEqual([
    'SOURCE_CORRUPT',
    expect.stringMatching(/refused-\w+\.feather: its record batches are compressed.*: write them uncompressed/),
  ])
  // As a spine, too, whose columns are known before it is read.
  const spine = await openSpine([`fixtures/arrow/refused-${codec}.feather`])
  expect(spine.fields).toMatchObject([{ name: 'n', physical: 'int64' }])
})

describe.each(cases)('$file ($writer)', ({ file, twin: { rows, columns, refused } }) => {
  const inputs = columns.map(({ name, type, scale }) => input(name, type, scale === undefined ? {} : { scale }))

  it.each([undefined, 13])('gives what was written, in batches of %s rows', async (batchRows) => {
    const found = await read(file, inputs, batchRows)
    expect(found.positions).toEqual([...Array(rows).keys()])
    for (const [i, { name, type, cells, unit }] of columns.entries()) {
      expect(found.columns[i], name).toEqual(cells.map((cell) => cellOf(type, cell)))
      for (const { batch } of found.batches) expect(batch.columns[i]!.unit, name).toBe(unit)
    }
  })

  it('refuses what no column can hold', async () => {
    for (const { name, type } of refused) {
      expect(await codeOf(() => read(file, [input(name, type, { scale: 0 })])), name).toBe('COLUMN_TYPE')
    }
  })
})
