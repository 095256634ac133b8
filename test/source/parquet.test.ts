/** Parquet against second opinions (hyparquet, DuckDB), positions, resuming, and files of other writers. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { afterAll, describe, expect, it } from 'vitest'
import { sliceBatch } from '../../src/model/columns.ts'
import {
  createParquetSource,
  describeParquet,
  listRowGroups,
  type RowGroup,
  readRowGroups,
} from '../../src/source/parquet.ts'
import type { SourceBatch } from '../../src/source/port.ts'
import { seededRandom } from '../support/random.ts'
import { type Cell, cellsOf, codeOf, duck, input, readAll, scratch, thrown } from './support.ts'

const require = createRequire(import.meta.url)
const FLIGHTS = path.resolve('node_modules/vega-datasets/data/flights-3m.parquet')
const FLIGHT_INPUTS = [
  input('date', 'timestamp'),
  input('delay', 'int64'),
  input('distance', 'int64'),
  input('origin', 'utf8'),
  input('destination', 'utf8'),
]
const at = scratch(afterAll)

function source(paths: readonly string[], inputs = FLIGHT_INPUTS, batchRows?: number) {
  return createParquetSource({ log: 'test', paths, inputs, batchRows })
}

async function firstOf<T>(items: AsyncIterable<T>): Promise<T> {
  for await (const item of items) return item
  throw new Error('nothing was read')
}

describe('the flights file', () => {
  it('lists its row groups from the footer alone', async () => {
    const groups = await listRowGroups([FLIGHTS])
    const [[groupCount], [rowCount]] = (await duck(
      `select count(distinct row_group_id), (select num_rows from parquet_file_metadata('${FLIGHTS}')) from parquet_metadata('${FLIGHTS}')`,
    )) as [[bigint], [bigint]]
    expect(groups.length).toBe(Number(groupCount))
    expect(groups.reduce((sum, group) => sum + group.rows, 0)).toBe(Number(rowCount))
    // Each begins where the one before ends.
    for (const [index, group] of groups.entries()) {
      expect(group.rowGroup).toBe(index)
      expect(group.firstPosition).toBe(index === 0 ? 0 : groups[index - 1]!.firstPosition + groups[index - 1]!.rows)
    }
  })

  it('gives every cell of a row group as hyparquet reads it', async () => {
    const group = (await listRowGroups([FLIGHTS]))[4]!
    const read = await readAll(readRowGroups([group], { inputs: FLIGHT_INPUTS }))
    const file = await asyncBufferFromFile(FLIGHTS)
    const rowStart = group.firstPosition
    const peer = await parquetReadObjects({
      file,
      compressors,
      rowStart,
      rowEnd: rowStart + group.rows,
      parsers: { timestampFromMicroseconds: (value: bigint) => value } as never,
    })
    expect(read.positions[0]).toBe(rowStart)
    expect(read.positions.length).toBe(group.rows)
    expect(peer.length).toBe(group.rows)
    // A million cells: compared one by one, and shown only where they differ.
    for (const [index, { name }] of FLIGHT_INPUTS.entries()) {
      const cells = read.columns[index]!
      const row = peer.findIndex((each, at) => ((each as Record<string, Cell>)[name] ?? null) !== cells[at])
      expect(row, `${name}: got ${String(cells[row])}, hyparquet has ${String(peer[row]?.[name])}`).toBe(-1)
    }
    for (const { batch, origin } of read.batches) {
      expect(batch.columns[0]!.unit).toBe('us')
      expect(origin).toBe('flights-3m.parquet, row group 4')
    }
  })

  it('agrees with DuckDB on sums over all three million rows', async () => {
    let rows = 0
    const sums = { delay: 0n, distance: 0n, date: 0n, letters: 0 }
    const inputs = [...FLIGHT_INPUTS].reverse()
    for await (const { batch } of source([FLIGHTS], inputs).read(0)) {
      rows += batch.length
      const [destination, origin, distance, delay, date] = batch.columns
      for (const [column, name] of [
        [date, 'date'],
        [delay, 'delay'],
        [distance, 'distance'],
      ] as const) {
        const cells = new BigInt64Array(column!.values.buffer, column!.values.byteOffset, batch.length)
        for (const cell of cells) sums[name] += cell
        expect(column!.name).toBe(name)
      }
      for (const column of [origin!, destination!]) {
        for (let byte = column.offsets![0]!; byte < column.offsets![batch.length]!; byte++)
          sums.letters += column.values[byte]!
      }
    }
    const [[count], [delay], [distance], [date], [letters]] = (await duck(
      `select count(*), sum(delay)::hugeint, sum(distance)::hugeint, sum(epoch_us(date))::hugeint,
       sum(list_sum(list_transform(string_split(origin || destination, ''), x -> ascii(x))))::bigint from '${FLIGHTS}'`,
    )) as [[bigint], [bigint], [bigint], [bigint], [bigint]]
    expect({ rows, ...sums }).toEqual({ rows: Number(count), delay, distance, date, letters: Number(letters) })
  }, 60_000)

  it('reads on from any position as if it had not stopped', async () => {
    const seed = 3
    const random = seededRandom(seed)
    const groups = await listRowGroups([FLIGHTS])
    const total = (await source([FLIGHTS]).rowsTotal())!
    const edges = groups.flatMap((group) => [group.firstPosition, group.firstPosition + group.rows - 1])
    const positions = [...random.shuffled(edges).slice(0, 5), ...Array.from({ length: 5 }, () => random.below(total))]
    for (const from of positions) {
      const first = await firstOf(source([FLIGHTS], FLIGHT_INPUTS, 1000).read(from))
      expect(first.batch.positions, `seed ${seed}`).toBe(from)
      // The same rows out of the batch of a read from the row group's start.
      const group = groups.findLast((each) => each.firstPosition <= from)!
      const rows: Cell[][] = FLIGHT_INPUTS.map(() => [])
      for await (const { batch } of readRowGroups([group], { inputs: FLIGHT_INPUTS, batchRows: 65_536 })) {
        const start = Math.max(0, from - (batch.positions as number))
        const end = Math.min(batch.length, from + first.batch.length - (batch.positions as number))
        if (start >= end) continue
        for (const [index, cells] of cellsOf(sliceBatch(batch, start, end)).entries()) rows[index]!.push(...cells)
      }
      expect(cellsOf(first.batch), `seed ${seed}, from ${from}`).toEqual(rows)
    }
    expect(await readAll(source([FLIGHTS]).read(total))).toEqual({ columns: [], positions: [], batches: [] })
  })

  it('hands row groups to another thread: plain data in, one transferable buffer out', async () => {
    const groups = structuredClone((await listRowGroups([FLIGHTS])) as RowGroup[])
    const batches: SourceBatch[] = []
    for await (const each of readRowGroups(groups.slice(2, 4), { inputs: FLIGHT_INPUTS })) batches.push(each)
    expect(batches[0]!.batch.positions).toBe(groups[2]!.firstPosition)
    expect(batches.at(-1)!.rowsDone).toBe(groups[2]!.rows + groups[3]!.rows)
    const { batch } = batches[0]!
    const before = cellsOf(batch)
    const buffers = new Set(batch.columns.flatMap((column) => [column.values.buffer, column.offsets?.buffer]))
    buffers.delete(undefined)
    expect(buffers.size).toBe(1)
    const moved = structuredClone(batch, { transfer: [...buffers] as ArrayBuffer[] })
    expect(batch.columns[0]!.values.length).toBe(0)
    expect(cellsOf(moved)).toEqual(before)
  })

  it('overwrites the batch before only where that was asked for', async () => {
    const [group] = await listRowGroups([FLIGHTS])
    const read = async (reuseBuffers: boolean) => {
      const buffers = new Set<ArrayBufferLike>()
      const cells: string[] = []
      for await (const { batch } of readRowGroups([group!], { inputs: FLIGHT_INPUTS, reuseBuffers })) {
        buffers.add(batch.columns[0]!.values.buffer)
        for (const { values } of batch.columns) cells.push(Buffer.from(values).toString('latin1'))
      }
      return { buffers: buffers.size, cells }
    }
    const own = await read(false)
    const reused = await read(true)
    expect(own.buffers).toBe(own.cells.length / FLIGHT_INPUTS.length)
    expect(reused.buffers).toBeLessThan(own.buffers / 4)
    expect(reused.cells.join() === own.cells.join()).toBe(true)
  })

  it('stops when told to', async () => {
    const controller = new AbortController()
    const read = async () => {
      for await (const _ of source([FLIGHTS]).read(0, controller.signal)) controller.abort(new Error('enough'))
    }
    await expect(read()).rejects.toThrow('enough')
  })

  it('says which column is missing or of another type, and what was meant', async () => {
    const missing = await thrown(() => readAll(source([FLIGHTS], [input('orign', 'utf8')]).read(0)))
    expect(missing.code).toBe('COLUMN_MISSING')
    expect(missing.message).toMatch(/"orign" of flights-3m.parquet: it is not there; did you mean "origin"\?/)
    const wrong = await thrown(() => readAll(source([FLIGHTS], [input('origin', 'float64')]).read(0)))
    expect(wrong.code).toBe('COLUMN_TYPE')
    expect(wrong.message).toMatch(/got Utf8, expected float64/)
    // An instant is not a number: its unit would be guessed.
    expect(await codeOf(() => readAll(source([FLIGHTS], [input('date', 'int64')]).read(0)))).toBe('COLUMN_TYPE')
  })
})

describe('a plan of files', () => {
  it('takes files in the order of their names and numbers rows on over them', async () => {
    mkdirSync(at('plan/ds=2'), { recursive: true })
    mkdirSync(at('plan/ds=1'))
    const write = (name: string, first: number, rows: number) => {
      const data = BigInt64Array.from({ length: rows }, (_, row) => BigInt(first + row))
      writeFileSync(at(name), Buffer.from(parquetWriteBuffer({ columnData: [{ name: 'n', data, type: 'INT64' }] })))
    }
    write('plan/ds=2/b.parquet', 400, 7)
    write('plan/ds=1/z.parquet', 200, 5)
    write('plan/ds=1/a.parquet', 0, 100)
    write('plan/ds=1/_tmp.parquet', 900, 5)
    write('plan/ds=2/a.parquet', 300, 0)
    const expected = [...Array(100).keys(), 200, 201, 202, 203, 204, 400, 401, 402, 403, 404, 405, 406].map(BigInt)
    for (const paths of [
      [at('plan')],
      [at('plan/*/*.parquet')],
      [at('plan/**/*.parquet')],
      [at('plan/ds=1'), at('plan/ds=2')],
    ]) {
      const read = await readAll(source(paths, [input('n', 'int64')], 32).read(0))
      expect(read.columns[0], paths.join()).toEqual(expected)
      expect(read.positions).toEqual([...expected.keys()])
      const later = await readAll(source(paths, [input('n', 'int64')]).read(103))
      expect(later.columns[0]).toEqual(expected.slice(103))
      expect(later.batches.at(-1)).toMatchObject({ rowsDone: 112, rowsTotal: 112 })
    }
  })

  it('refuses what is not there', async () => {
    expect(await codeOf(() => source([at('nowhere.parquet')]).rowsTotal())).toBe('SOURCE_NOT_FOUND')
    expect(await codeOf(() => source([at('nowhere/*.parquet')]).rowsTotal())).toBe('SOURCE_NOT_FOUND')
    mkdirSync(at('empty'))
    expect(await codeOf(() => source([at('empty')]).rowsTotal())).toBe('SOURCE_NOT_FOUND')
  })

  it('notices a file that has changed since it was listed', async () => {
    const write = (rows: number) =>
      writeFileSync(
        at('moving.parquet'),
        Buffer.from(parquetWriteBuffer({ columnData: [{ name: 'n', data: new Int32Array(rows), type: 'INT32' }] })),
      )
    write(10)
    const groups = await listRowGroups([at('moving.parquet')])
    write(11)
    const error = await thrown(() => readAll(readRowGroups(groups, { inputs: [input('n', 'int64')] })))
    expect(error.code).toBe('SOURCE_CORRUPT')
    expect(error.message).toMatch(/has changed: row group 0; got 11 rows, expected 10 rows/)
  })
})

/** One row in seven is null; the rest reaches to the ends of each type. */
const duckTypes = (rows: number) => `
  select
    case when i % 7 <> 0 then case i when 1 then -9223372036854775808 when 2 then 9223372036854775807 when 3 then 9007199254740993 else i * 1234567891 end end::bigint as i64,
    case when i % 7 <> 0 then i - 1000 end::integer as i32,
    case when i % 7 <> 0 then i % 200 end::utinyint as u8,
    case when i % 7 <> 0 then 18446744073709551615 - i::ubigint end::ubigint as u64,
    case when i % 7 <> 0 then case i when 1 then 'nan'::double when 2 then 'inf'::double when 3 then -0.0 else i / 3.0 end end::double as f64,
    case when i % 7 <> 0 then i / 3.0 end::float as f32,
    case when i % 7 <> 0 then i % 3 = 0 end as flag,
    case when i % 7 <> 0 then case i % 4 when 0 then '' when 1 then 'zürich' when 2 then '😀' || i else repeat('x', i % 40) end end as text,
    case when i % 7 <> 0 then 'key ' || (i % 11) end as key,
    case when i % 7 <> 0 then (i - 1000)::decimal(9, 2) / 4 end::decimal(9, 2) as d9,
    case when i % 7 <> 0 then (i::decimal(18, 4) - 1000) * 1234567 end::decimal(18, 4) as d18,
    case when i % 7 <> 0 then case i when 1 then 99999999999999999999999999999999999999 when 2 then -99999999999999999999999999999999999999 else i end end::decimal(38, 0) as d38,
    case when i % 7 <> 0 then make_timestamp(1e15::bigint + i * 1000001) end as t_us,
    case when i % 7 <> 0 then make_timestamp_ns(1e18::bigint + i * 1000000001) end as t_ns,
    case when i % 7 <> 0 then make_timestamp(1e15::bigint + i * 1000000)::timestamp_ms end as t_ms,
    case when i % 7 <> 0 then make_timestamp(1e15::bigint + i * 1000000)::timestamptz end as t_tz,
    case when i % 7 <> 0 then date '2001-01-01' + i::integer end as day,
    null::bigint as nothing,
    [i, i + 1] as nested, {'a': i} as record
  from range(${rows}) t(i)`

const TYPED_INPUTS = [
  input('i64', 'int64'),
  input('i32', 'int64'),
  input('u8', 'int64'),
  input('u64', 'int64'),
  input('f64', 'float64'),
  input('f32', 'float64'),
  input('flag', 'bool'),
  input('text', 'utf8'),
  input('key', 'utf8'),
  input('d9', 'decimal', { scale: 2 }),
  input('d18', 'decimal', { scale: 4 }),
  input('d38', 'decimal', { scale: 0 }),
  input('t_us', 'timestamp'),
  input('t_ns', 'timestamp'),
  input('t_ms', 'timestamp'),
  input('t_tz', 'timestamp'),
  input('day', 'timestamp'),
  input('nothing', 'int64'),
]

/** DuckDB's own reading of a file it wrote, as integers where the types have units or scales. */
async function duckCells(file: string): Promise<Cell[][]> {
  const columns = await duck(
    `select i64, i32::bigint, u8::bigint, u64::hugeint, f64, f32, flag, text, key,
      (d9 * 100)::hugeint, (d18 * 10000)::hugeint, d38::hugeint,
      epoch_us(t_us), epoch_ns(t_ns), epoch_ms(t_ms), epoch_us(t_tz), date_diff('day', date '1970-01-01', day)::bigint, nothing
     from '${file}'`,
  )
  return columns as Cell[][]
}

describe('files of DuckDB', () => {
  it.each([
    ['snappy', 3000, 'compression snappy'],
    ['zstd, small row groups', 5000, 'compression zstd, row_group_size 2048'],
    ['gzip', 3000, 'compression gzip'],
    ['uncompressed', 3000, 'compression uncompressed'],
    ['brotli', 50, 'compression brotli'], // its writer is slow
    ['lz4', 3000, 'compression lz4_raw'],
    ['version 2 pages', 3000, 'parquet_version v2, compression zstd'],
    ['version 2, uncompressed', 5000, 'parquet_version v2, compression uncompressed, row_group_size 2048'],
  ])('%s', async (name, rows, options) => {
    const file = at(`${name.replace(/\W+/g, '-')}.parquet`)
    await duck(`copy (${duckTypes(rows)}) to '${file}' (format parquet, ${options})`)
    const read = await readAll(source([file], TYPED_INPUTS, 1000).read(0))
    const expected = await duckCells(file)
    for (const [index, { name: column }] of TYPED_INPUTS.entries()) {
      expect(read.columns[index], column).toEqual(expected[index])
    }
    expect(read.positions).toEqual([...Array(rows).keys()])
    const units = read.batches[0]!.batch.columns.map((column) => column.unit)
    expect(units.slice(12, 17)).toEqual(['us', 'ns', 'ms', 'us', 'day'])
  })

  it('leaves nested columns alone, and says so where one is asked for', async () => {
    const file = at('nested.parquet')
    await duck(`copy (${duckTypes(10)}) to '${file}' (format parquet)`)
    const error = await thrown(() => readAll(source([file], [input('record', 'utf8')]).read(0)))
    expect(error.code).toBe('COLUMN_TYPE')
    expect(error.message).toMatch(/nested/)
    const described = await describeParquet(file)
    expect(described).toMatchObject({ rows: 10, rowGroups: 1 })
    const physical = Object.fromEntries(described.fields.map((field) => [field.name, field.physical]))
    expect(physical).toMatchObject({ i64: 'int64', text: 'utf8', d9: 'decimal128', day: 'int32', nested: undefined })
  })

  it('refuses decimals of another scale', async () => {
    const file = at('scale.parquet')
    await duck(`copy (select 1.25::decimal(9, 2) as d) to '${file}' (format parquet)`)
    expect(await codeOf(() => readAll(source([file], [input('d', 'decimal', { scale: 3 })]).read(0)))).toBe(
      'COLUMN_TYPE',
    )
  })

  it('reads a file without rows', async () => {
    const file = at('none.parquet')
    await duck(`copy (select 1::bigint as n where false) to '${file}' (format parquet)`)
    expect(await readAll(source([file], [input('n', 'int64')]).read(0))).toMatchObject({ positions: [], batches: [] })
    expect(await source([file]).rowsTotal()).toBe(0)
  })

  it('reads all-null columns of every declared type', async () => {
    const file = at('nulls.parquet')
    await duck(
      `copy (select null::bigint as i, null::varchar as s, null as x from range(20)) to '${file}' (format parquet)`,
    )
    const inputs = [input('i', 'int64'), input('s', 'utf8')]
    const read = await readAll(source([file], inputs).read(0))
    expect(read.columns).toEqual([Array(20).fill(null), Array(20).fill(null)])
  })

  it('decodes a row group larger than a slice in pieces', async () => {
    const file = at('large.parquet')
    const rows = 1_200_000
    await duck(
      `copy (select i::bigint as n, 'v' || (i % 1000) as s from range(${rows}) t(i)) to '${file}' (format parquet, row_group_size ${rows * 2})`,
    )
    expect((await listRowGroups([file])).length).toBe(1)
    let next = 0
    for await (const { batch } of source([file], [input('n', 'int64'), input('s', 'utf8')], 50_000).read(5)) {
      expect(batch.positions).toBe(next === 0 ? 5 : next)
      next = (batch.positions as number) + batch.length
      const cells = new BigInt64Array(
        batch.columns[0]!.values.buffer,
        batch.columns[0]!.values.byteOffset,
        batch.length,
      )
      expect(Number(cells[0])).toBe(batch.positions)
      expect(Number(cells[batch.length - 1])).toBe(next - 1)
    }
    expect(next).toBe(rows)
  })
})

describe('files of other writers', () => {
  it('reads what hyparquet-writer writes', async () => {
    const rows = 3000
    const random = seededRandom(7)
    const list = <T>(draw: (row: number) => T): (T | null)[] =>
      Array.from({ length: rows }, (_, row) => (row % 5 === 2 ? null : draw(row)))
    const data = {
      n: list(() => BigInt.asIntN(64, random.bits64())),
      x: list(() => random.fraction()),
      s: list((row) => `${'é'.repeat(row % 3)}${row}`),
      b: list(() => random.chance(0.5)),
      t: list((row) => new Date(1e12 + row)),
    }
    const bytes = parquetWriteBuffer({
      columnData: [
        { name: 'n', data: data.n, type: 'INT64' },
        { name: 'x', data: data.x, type: 'DOUBLE' },
        { name: 's', data: data.s, type: 'STRING' },
        { name: 'b', data: data.b, type: 'BOOLEAN' },
        { name: 't', data: data.t, type: 'TIMESTAMP' },
      ],
      rowGroupSize: 700,
    })
    writeFileSync(at('hy.parquet'), Buffer.from(bytes))
    const inputs = [
      input('n', 'int64'),
      input('x', 'float64'),
      input('s', 'utf8'),
      input('b', 'bool'),
      input('t', 'timestamp'),
    ]
    const read = await readAll(source([at('hy.parquet')], inputs).read(0))
    expect(read.columns.slice(0, 4)).toEqual([data.n, data.x, data.s, data.b])
    expect(read.columns[4]).toEqual(data.t.map((date) => date && BigInt(date.getTime())))
    expect(read.batches[0]!.batch.columns[4]!.unit).toBe('ms')
  })

  it('reads what parquetjs-lite writes', async () => {
    const parquet = require('parquetjs-lite') as {
      ParquetSchema: new (fields: object) => object
      ParquetWriter: {
        openFile(
          schema: object,
          file: string,
        ): Promise<{
          appendRow(row: object): Promise<void>
          close(): Promise<void>
          setRowGroupSize(rows: number): void
        }>
      }
    }
    const schema = new parquet.ParquetSchema({
      n: { type: 'INT64' },
      x: { type: 'DOUBLE', optional: true, compression: 'GZIP' },
      s: { type: 'UTF8', compression: 'SNAPPY' },
      b: { type: 'BOOLEAN' },
      t: { type: 'TIMESTAMP_MILLIS' },
    })
    const writer = await parquet.ParquetWriter.openFile(schema, at('lite.parquet'))
    writer.setRowGroupSize(300)
    const rows = Array.from({ length: 1000 }, (_, row) => ({
      n: row * 1000 - 5,
      x: row % 3 === 0 ? undefined : row / 8,
      s: `käfer ${row % 17}`,
      b: row % 2 === 0,
      t: new Date(1e12 + row * 1000),
    }))
    for (const row of rows) await writer.appendRow(row)
    await writer.close()
    const inputs = [
      input('n', 'int64'),
      input('x', 'float64'),
      input('s', 'utf8'),
      input('b', 'bool'),
      input('t', 'timestamp'),
    ]
    const read = await readAll(source([at('lite.parquet')], inputs).read(0))
    expect(read.columns).toEqual([
      rows.map((row) => BigInt(row.n)),
      rows.map((row) => row.x ?? null),
      rows.map((row) => row.s),
      rows.map((row) => row.b),
      rows.map((row) => BigInt(row.t.getTime())),
    ])
    // DuckDB, as a judge of the file itself.
    const [n] = await duck(`select n from '${at('lite.parquet')}'`)
    expect(n).toEqual(rows.map((row) => BigInt(row.n)))
    expect(readFileSync(at('lite.parquet')).subarray(0, 4).toString()).toBe('PAR1')
  })
})
