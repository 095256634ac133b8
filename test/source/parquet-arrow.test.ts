/** Parquet written from Arrow: writers keep an Arrow schema in the footer, which must not change what is read. */
import { writeFileSync } from 'node:fs'
import {
  Dictionary,
  Float16,
  Int8,
  Int64,
  LargeUtf8,
  Null,
  Table,
  tableToIPC,
  Uint16,
  Uint64,
  Utf8,
  vectorFromArray,
} from 'apache-arrow'
import { Table as ParquetTable, writeParquet } from 'parquet-wasm'
import { afterAll, describe, expect, it } from 'vitest'
import { createParquetSource } from '../../src/source/parquet.ts'
import { type Cell, codeOf, input, readAll, scratch } from './support.ts'

const at = scratch(afterAll)

describe('a file with an Arrow schema in its metadata', () => {
  it('gives plain columns, whatever Arrow types the writer had', async () => {
    const rows = 500
    const draw = <T>(value: (row: number) => T) =>
      Array.from({ length: rows }, (_, row) => (row % 4 === 1 ? null : value(row)))
    const texts = draw((row) => `Ω${row % 13}`)
    const large = draw((row) => 'x'.repeat(row % 30))
    const small = draw((row) => (row % 256) - 128)
    const counts = draw((row) => row * 131)
    const wide = draw((row) => 2n ** 64n - 1n - BigInt(row))
    const table = new Table({
      dictionary: vectorFromArray(texts, new Dictionary(new Utf8(), new Int8())),
      large: vectorFromArray(large, new LargeUtf8()),
      small: vectorFromArray(small, new Int8()),
      counts: vectorFromArray(counts, new Uint16()),
      wide: vectorFromArray(wide, new Uint64()),
      nothing: vectorFromArray(
        draw(() => null),
        new Null(),
      ),
      half: vectorFromArray(
        draw(() => 1),
        new Float16(),
      ),
      n: vectorFromArray(draw(BigInt), new Int64()),
    })
    writeFileSync(at('arrow.parquet'), writeParquet(ParquetTable.fromIPCStream(tableToIPC(table, 'stream'))))
    const inputs = [
      input('dictionary', 'utf8'),
      input('large', 'utf8'),
      input('small', 'float64'),
      input('counts', 'int64'),
      input('wide', 'int64'),
      input('nothing', 'bool'),
      input('n', 'int64'),
      // Two views may declare one column twice.
      input('dictionary', 'utf8'),
    ]
    const number = (value: Cell) => (value === null ? null : Number(value))
    const read = await readAll(createParquetSource({ log: 'test', paths: [at('arrow.parquet')], inputs }).read(0))
    expect(read.columns[0]).toEqual(texts)
    expect(read.columns[1]).toEqual(large)
    expect(read.columns[2]!.map(number)).toEqual(small)
    expect(read.columns[3]!.map(number)).toEqual(counts)
    expect(read.columns[4]).toEqual(wide)
    expect(read.columns[5]).toEqual(Array(rows).fill(null))
    expect(read.columns[6]).toEqual(draw(BigInt))
    expect(read.columns[7]).toEqual(texts)
    const half = createParquetSource({ log: 'test', paths: [at('arrow.parquet')], inputs: [input('half', 'float64')] })
    expect(await codeOf(() => readAll(half.read(0)))).toBe('COLUMN_TYPE')
  })
})
