/**
 * Files of other writers, kept in fixtures/parquet with twins that say what is in them: INT96, both versions of pages,
 * every codec and encoding, decimals, dictionaries, units and zones. Read right, or refused by a code; never read wrong.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { TimeUnit } from '../../src/model/columns.ts'
import type { InputColumn } from '../../src/model/plan.ts'
import { createParquetSource } from '../../src/source/parquet.ts'
import { type Cell, codeOf, input, readAll } from './support.ts'

const FOLDER = 'fixtures/parquet'

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

const twins = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.json'))
  .map((name) => JSON.parse(readFileSync(join(FOLDER, name), 'utf8')) as Twin)
const cases = twins.flatMap((twin) => Object.entries(twin.files).map(([file, writer]) => ({ file, writer, twin })))

function read(file: string, inputs: readonly InputColumn[], batchRows?: number) {
  return readAll(createParquetSource({ log: 'golden', paths: [join(FOLDER, file)], inputs, batchRows }).read(0))
}

it('has a twin for every file', () => {
  const files = readdirSync(FOLDER).filter((name) => name.endsWith('.parquet'))
  expect(cases.map(({ file }) => file).sort()).toEqual(files.sort())
  expect(files.length).toBeGreaterThan(15)
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
