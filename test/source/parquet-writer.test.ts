/** Parquet that we write, read by DuckDB, hyparquet, ourselves and (in the plain profile) parquetjs-lite. */
import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'
import { afterAll, describe, expect, it } from 'vitest'
import type { Column } from '../../src/model/columns.ts'
import { createParquetSource } from '../../src/source/parquet.ts'
import { COMPRESSIONS, type ParquetStyle, ParquetWriter } from '../../src/source/parquet-writer.ts'
import type { WriterField } from '../../src/source/parquet-writer-columns.ts'
import { rowsToBatch } from '../../src/source/rows.ts'
import { seededRandom } from '../support/random.ts'
import { duck, input, readAll, scratch } from './support.ts'

const at = scratch(afterAll)
const SEED = Number(process.env.TILEFOLD_SEED ?? 1)

const FIELDS: readonly WriterField[] = [
  { name: '_offset', type: 'int64', isRequired: true },
  { name: '_partition', type: 'int32', isRequired: true },
  { name: '_key', type: 'binary' },
  { name: 'card', type: 'utf8' },
  { name: 'at', type: 'int64', unit: 'ms' },
  { name: 'amount', type: 'float64' },
  { name: 'price', type: 'decimal128', scale: 2 },
  { name: 'ok', type: 'bool' },
  { name: 'big', type: 'int64' },
]
const INPUTS = [
  input('card', 'utf8'),
  input('at', 'timestamp', { unit: 'ms' }),
  input('amount', 'float64'),
  input('price', 'decimal', { scale: 2 }),
  input('ok', 'bool'),
  input('big', 'int64'),
]
const PLAIN = ['_offset', '_partition', '_key', 'card', 'at', 'amount', 'ok']

interface Row {
  readonly card: string | null
  readonly at: number
  readonly amount: number | null
  readonly price: string | null
  readonly ok: boolean | null
  readonly big: bigint
}

function drawRows(count: number): Row[] {
  const random = seededRandom(SEED)
  const maybe = <T>(value: T) => (random.below(7) === 0 ? null : value)
  return Array.from({ length: count }, (_, i) => ({
    card: maybe(i % 11 === 0 ? 'żółć 🦆' : `card-${random.below(40)}`),
    at: 1_700_000_000_000 + i * 977,
    amount: maybe(random.below(1_000_000) / 64),
    price: maybe(`${random.below(100_000)}.${10 + random.below(90)}`),
    ok: maybe(random.below(2) === 0),
    big: 2n ** 62n - BigInt(i),
  }))
}

const keyOf = (i: number) => (i % 5 === 0 ? null : Uint8Array.of(255, i & 255, 0))

/** Writes the rows with a run of nulls behind every hundredth, in row groups of some 700. */
async function write(name: string, rows: readonly Row[], style: ParquetStyle, fields = FIELDS): Promise<string> {
  const parts: Uint8Array[] = []
  const writer = new ParquetWriter(fields, style, {
    write: async (bytes) => {
      parts.push(Uint8Array.from(bytes))
    },
  })
  const column = (wanted: string) => writer.columns.find(({ field }) => field.name === wanted)
  const batch = rowsToBatch(rows as unknown as Record<string, unknown>[], INPUTS, 0)
  for (let from = 0; from < rows.length; from += 100) {
    const to = Math.min(rows.length, from + 100)
    for (const each of batch.columns as Column[]) column(each.name)?.append(each, from, to)
    for (let i = from; i < to; i++) {
      column('_offset')?.appendWhole(2 ** 40 + i)
      column('_partition')?.appendWhole(i % 3)
      column('_key')?.appendBytes(keyOf(i))
    }
    for (const { field } of writer.columns) {
      if (field.isRequired) column(field.name)!.appendWhole(7)
      else column(field.name)!.appendNulls(1)
    }
    if (writer.waitingRows >= 700) await writer.endRowGroup()
  }
  await writer.finish({ tilefold: '{"start":5}' })
  const path = at(name)
  writeFileSync(path, Buffer.concat(parts))
  expect(writer.bytes).toBe(Buffer.concat(parts).length)
  return path
}

/** What every reader must find, with a null row behind each hundred. */
function expected<T>(rows: readonly Row[], value: (row: Row, i: number) => T, none: T): T[] {
  return rows.flatMap((row, i) => [value(row, i), ...((i + 1) % 100 === 0 || i === rows.length - 1 ? [none] : [])])
}

const rows = drawRows(2_345)
const styles = COMPRESSIONS.flatMap((compression) => [
  { compression, isPlain: false },
  { compression, isPlain: true },
])

describe('a written Parquet file', () => {
  it.each(styles)('is read by DuckDB, every cell ($compression, plain $isPlain)', async (style) => {
    const path = await write(`duck-${style.compression}-${style.isPlain}.parquet`, rows, style)
    const [offset, partition, key, card, ms, amount, price, ok, big] = await duck(
      `SELECT _offset, _partition, hex(_key), card, ${style.isPlain ? '"at"' : 'epoch_ms("at")'}, amount, price::VARCHAR, ok, big FROM '${path}'`,
    )
    const hex = (bytes: Uint8Array | null) => bytes && Buffer.from(bytes).toString('hex').toUpperCase()
    expect(offset).toEqual(expected(rows, (_, i) => BigInt(2 ** 40 + i), 7n))
    expect(partition).toEqual(expected<unknown>(rows, (_, i) => i % 3, 7))
    expect(key).toEqual(expected(rows, (_, i) => hex(keyOf(i)), null))
    expect(card).toEqual(expected(rows, (row) => row.card, null))
    expect(ms).toEqual(expected<unknown>(rows, (row) => BigInt(row.at), null))
    expect(amount).toEqual(expected(rows, (row) => row.amount, null))
    expect(price).toEqual(expected(rows, (row) => row.price, null))
    expect(ok).toEqual(expected(rows, (row) => row.ok, null))
    expect(big).toEqual(expected<unknown>(rows, (row) => row.big, null))
  })

  it('says what its columns are, and finds its row groups by their statistics', async () => {
    const path = await write('schema.parquet', rows, { compression: 'zstd', isPlain: false })
    const [names, types] = await duck(`SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM '${path}')`)
    expect(Object.fromEntries(names!.map((name, i) => [name, types![i]]))).toEqual({
      _offset: 'BIGINT',
      _partition: 'INTEGER',
      _key: 'BLOB',
      card: 'VARCHAR',
      at: 'TIMESTAMP WITH TIME ZONE',
      amount: 'DOUBLE',
      price: 'DECIMAL(38,2)',
      ok: 'BOOLEAN',
      big: 'BIGINT',
    })
    const file = await asyncBufferFromFile(path)
    const metadata = await parquetMetadataAsync(file)
    expect(metadata.row_groups.map((group) => Number(group.num_rows))).toEqual([707, 707, 707, 248])
    expect(metadata.key_value_metadata).toContainEqual({ key: 'tilefold', value: '{"start":5}' })
    expect(metadata.schema.find(({ name }) => name === 'at')?.logical_type).toEqual({
      type: 'TIMESTAMP',
      isAdjustedToUTC: true,
      unit: 'MILLIS',
    })
    expect(metadata.schema.map(({ type }) => type)).not.toContain('INT96')
    for (const group of metadata.row_groups) {
      expect(group.columns[8]!.meta_data!.statistics?.max_value).toBeTypeOf('bigint')
    }
    const [found] = await duck(`SELECT count(*) FROM '${path}' WHERE big = ${2n ** 62n - 1900n}`)
    expect(found).toEqual([1n])
  })

  it('is read by hyparquet', async () => {
    const path = await write('hyparquet.parquet', rows, { compression: 'zstd', isPlain: false })
    const read = await parquetReadObjects({ file: await asyncBufferFromFile(path), compressors, utf8: false })
    expect(read.map(({ card }) => card ?? null)).toEqual(expected(rows, (row) => row.card, null))
    expect(read.map(({ big }) => big ?? null)).toEqual(expected<unknown>(rows, (row) => row.big, null))
    expect(read.map(({ at: time }) => time?.getTime() ?? null)).toEqual(expected<unknown>(rows, (row) => row.at, null))
  })

  it('is read by ourselves, from any row on', async () => {
    const path = await write('own.parquet', rows, { compression: 'zstd', isPlain: false })
    const source = createParquetSource({ log: 'own', paths: [path], inputs: INPUTS, batchRows: 256 })
    const all = await readAll(source.read(0))
    expect(all.columns[0]).toEqual(expected(rows, (row) => row.card, null))
    expect(all.columns[5]).toEqual(expected<unknown>(rows, (row) => row.big, null))
    const late = await readAll(source.read(1500))
    expect(late.columns[2]).toEqual(all.columns[2]!.slice(1500))
  })

  it('is read by parquetjs-lite in the plain profile', async () => {
    const fields = FIELDS.filter(({ name }) => PLAIN.includes(name))
    const path = await write('lite.parquet', rows, { compression: 'snappy', isPlain: true }, fields)
    const lite = createRequire(import.meta.url)('parquetjs-lite') as {
      ParquetReader: { openFile(path: string): Promise<LiteReader> }
    }
    const reader = await lite.ParquetReader.openFile(path)
    const cursor = reader.getCursor()
    const read: Record<string, unknown>[] = []
    for (let row = await cursor.next(); row; row = await cursor.next()) read.push(row)
    await reader.close()
    expect(read.map(({ _offset }) => Number(_offset))).toEqual(expected(rows, (_, i) => 2 ** 40 + i, 7))
    expect(read.map(({ card }) => card ?? null)).toEqual(expected(rows, (row) => row.card, null))
    expect(read.map(({ amount }) => amount ?? null)).toEqual(expected(rows, (row) => row.amount, null))
    expect(read.map(({ at: time }) => (time === undefined ? null : Number(time)))).toEqual(
      expected<unknown>(rows, (row) => row.at, null),
    )
  })

  it('is not there without rows', async () => {
    const writer = new ParquetWriter(FIELDS, { compression: 'zstd', isPlain: false }, { write: async () => {} })
    await expect(writer.finish({})).rejects.toThrow('without rows')
  })
})

interface LiteReader {
  getCursor(): { next(): Promise<Record<string, unknown> | null> }
  close(): Promise<void>
}
