/** Damaged Parquet: a coded error that names the file, never a hang, and the next good file is read as ever. */
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { TilefoldError } from '../../src/model/errors.ts'
import { createParquetSource, listRowGroups, readRowGroups } from '../../src/source/parquet.ts'
import { seededRandom } from '../support/random.ts'
import { type Cell, duck, input, readAll, scratch, thrown } from './support.ts'

const at = scratch(afterAll)
const INPUTS = [
  input('t', 'timestamp'),
  input('n', 'int64'),
  input('x', 'float64'),
  input('s', 'utf8'),
  input('b', 'bool'),
  input('d', 'decimal', { scale: 2 }),
]
const ROWS = 4500
const VARIANTS = {
  snappy: 'compression snappy, row_group_size 2048',
  zstd: 'compression zstd',
  gzip: 'compression gzip',
  'version 2': 'parquet_version v2, compression uncompressed',
}
/** What a damaged footer may also turn into: a file whose columns have other names or types. */
const CODES = ['SOURCE_CORRUPT', 'COLUMN_MISSING', 'COLUMN_TYPE']

function read(file: string) {
  return readAll(createParquetSource({ log: 'test', paths: [file], inputs: INPUTS }).read(0))
}

beforeAll(async () => {
  for (const [name, options] of Object.entries(VARIANTS)) {
    await duck(`copy (select make_timestamp(1e15::bigint + i) as t, i * 7919 % 1000 as n, (i % 97) / 4.0::double as x, 'key ' || (i % 50) as s,
      i % 3 = 0 as b, (i * 1.25)::decimal(18, 2) as d from range(${ROWS}) r(i)) to '${at(`${name}.parquet`)}' (format parquet, ${options})`)
  }
})

/** Reads a damaged file: its rows, or the error's code. Any other error fails the test. */
async function outcome(bytes: Uint8Array, note: string): Promise<number | string> {
  const file = at('damaged.parquet')
  writeFileSync(file, bytes)
  try {
    let rows = 0
    for await (const { batch } of createParquetSource({ log: 'test', paths: [file], inputs: INPUTS }).read(0)) {
      expect(batch.columns.length).toBe(INPUTS.length)
      rows += batch.length
    }
    return rows
  } catch (error) {
    if (!(error instanceof TilefoldError)) throw new Error(`${note}: ${String(error)}`, { cause: error })
    expect(error.message, note).toContain('damaged.parquet')
    return error.code
  }
}

describe.each(Object.keys(VARIANTS))('a damaged file, %s', (name) => {
  it('cut anywhere is refused', async () => {
    const good = readFileSync(at(`${name}.parquet`))
    const random = seededRandom(11)
    const lengths = [0, 1, 3, 4, 7, 8, 11, 12, good.length - 1, good.length - 4, good.length - 8, good.length - 9]
    for (let i = 0; i < 50; i++) lengths.push(random.below(good.length))
    for (const length of lengths)
      expect(await outcome(good.subarray(0, length), `cut at ${length}`)).toBe('SOURCE_CORRUPT')
  })

  it('with bits flipped in its footer is refused, or read with every row', async () => {
    const good = readFileSync(at(`${name}.parquet`))
    const footerStart = good.length - 8 - good.readUInt32LE(good.length - 8)
    const random = seededRandom(12)
    for (let i = 0; i < 150; i++) {
      const bytes = Buffer.from(good)
      const where = random.between(footerStart, good.length - 1)
      bytes[where]! ^= 1 << random.below(8)
      const found = await outcome(bytes, `seed 12, footer byte ${where}`)
      if (typeof found === 'string') expect(CODES).toContain(found)
      else expect(found).toBe(ROWS)
    }
  })

  it('with its pages overwritten is refused, or read with every row', async () => {
    const good = readFileSync(at(`${name}.parquet`))
    const end = good.length - 8 - good.readUInt32LE(good.length - 8)
    const random = seededRandom(13)
    let refused = 0
    for (let i = 0; i < 60; i++) {
      const bytes = Buffer.from(good)
      const where = random.between(4, end - 1)
      bytes.set(random.bytes(Math.min(random.between(1, 40), end - where)), where)
      const found = await outcome(bytes, `seed 13, page byte ${where}`)
      if (typeof found === 'string') {
        expect(found).toBe('SOURCE_CORRUPT')
        refused++
      } else expect(found).toBe(ROWS)
    }
    expect(refused).toBeGreaterThan(5)
    expect((await read(at(`${name}.parquet`))).positions.length).toBe(ROWS)
  })
})

describe('the decoder after a trap', () => {
  // 300 rows by DuckDB (version 2 pages, uncompressed), one bit flipped in a delta-coded page: the decoder panics on it.
  const trap = 'fixtures/events/decoder-trap.parquet'
  const inputs = [input('n', 'int64'), input('s', 'utf8'), input('v', 'float64')]

  it('is another instance: the old one keeps what the trap left on its stack', async () => {
    const require = createRequire(import.meta.url)
    await read(at('snappy.parquet'))
    const before = require('parquet-wasm')
    await thrown(() => readAll(createParquetSource({ log: 'test', paths: [trap], inputs }).read(0)))
    await read(at('snappy.parquet'))
    const after = require('parquet-wasm')
    expect(after).not.toBe(before)
    // Damage that the decoder itself notices is no reason.
    writeFileSync(at('noticed.parquet'), readFileSync(at('snappy.parquet')).fill(0xff, 60, 90))
    expect((await thrown(() => read(at('noticed.parquet')))).code).toBe('SOURCE_CORRUPT')
    expect(require('parquet-wasm')).toBe(after)
  })

  it('is a fresh one: good files read on, before, between and after', async () => {
    const good = at('snappy.parquet')
    const groups = await listRowGroups([good])
    expect(groups.length).toBeGreaterThan(1)
    const expected = (await read(good)).columns
    const found: Cell[][] = INPUTS.map(() => [])
    for await (const each of readRowGroups(groups, { inputs: INPUTS, batchRows: 500 })) {
      // A reader in the middle of a row group keeps what it has; the next row group meets the new instance.
      const error = await thrown(() => readAll(createParquetSource({ log: 'test', paths: [trap], inputs }).read(0)))
      expect(error.code).toBe('SOURCE_CORRUPT')
      expect(error.message).toMatch(
        /decoder-trap\.parquet: row group 0: its pages cannot be decoded: the decoder stopped/,
      )
      expect(error.details).toMatchObject({ file: trap, rowGroup: 0 })
      const { columns } = await readAll(
        (async function* () {
          yield each
        })(),
      )
      for (const [index, cells] of columns.entries()) found[index]!.push(...cells)
    }
    expect(found).toEqual(expected)
    expect((await read(good)).columns).toEqual(expected)
  })
})

describe('counts that disagree', () => {
  it('between the file, its row groups and their chunks are named', async () => {
    const file = at('counts.parquet')
    const good = Buffer.from(
      parquetWriteBuffer({
        columnData: [{ name: 'n', data: new BigInt64Array(777), type: 'INT64' }],
        statistics: false,
      }),
    )
    // zigzag(777) = 1554 as a varint: the footer holds it for the file, the row group and the chunk.
    const count = Buffer.from([0x92, 0x0c])
    const footerStart = good.length - 8 - good.readUInt32LE(good.length - 8)
    const places: number[] = []
    for (let place = good.indexOf(count, footerStart); place >= 0; place = good.indexOf(count, place + 1))
      places.push(place)
    expect(places.length).toBe(3)
    const messages: string[] = []
    for (const changed of [[places[0]!], [places[1]!], [places[2]!], places]) {
      const bytes = Buffer.from(good)
      for (const place of changed) bytes[place]! += 2
      writeFileSync(file, bytes)
      const error = await thrown(() =>
        readAll(createParquetSource({ log: 'test', paths: [file], inputs: [input('n', 'int64')] }).read(0)),
      )
      expect(error.code).toBe('SOURCE_CORRUPT')
      messages.push(error.message)
    }
    expect(
      messages.filter((message) => /hold 777 rows, the file says 778|hold 778 rows, the file says 777/.test(message))
        .length,
    ).toBe(2)
    expect(messages.filter((message) => /778 values, the row group 777 rows/.test(message)).length).toBe(1)
    expect(messages[3]).toMatch(/row group 0: column "n", page \d: the pages hold 777 values of 778/)
  })
})

describe('files that are something else', () => {
  it.each([
    ['empty', '', /does not end as a Parquet file does; got "", expected "PAR1"/],
    ['text', 'date,delay\n2001-01-01,5\n', /got "1,5\\n", expected "PAR1"/],
    ['a magic word alone', 'PAR1', /does not end as/],
    ['an encrypted footer', `${'PAR1'.padEnd(40, '.')}PARE`, /its footer is encrypted/],
    [
      'a footer longer than the file',
      `PAR1${'.'.repeat(40)}\xff\xff\xff\x7fPAR1`,
      /claims 2147483647 bytes, at most 40/,
    ],
    ['a footer of nothing', `PAR1\x00\x01\x00\x00\x00PAR1`, /rows, schema or row groups are not in it/],
  ])('%s', async (_, text, message) => {
    writeFileSync(at('other.parquet'), Buffer.from(text, 'latin1'))
    const error = await thrown(() => read(at('other.parquet')))
    expect(error.code).toBe('SOURCE_CORRUPT')
    expect(error.message).toMatch(message)
  })
})
