/** Mirrors, training sets and logs of answers as pyarrow and Polars read them, and what they write of them read by us. */
import { readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { bool, count, decimal, defineView, float64, int64, sum, timestamp, utf8 } from '../../src/define/dsl.ts'
import { ServedLogWriter } from '../../src/offline/served-log.ts'
import { openSpine } from '../../src/offline/spine.ts'
import { trainingSet } from '../../src/offline/training.ts'
import { writeTrainingSet } from '../../src/offline/training-output.ts'
import { createParquetSource } from '../../src/source/parquet.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { HOUR, NOON, openShop } from '../serve/shop.ts'
import { duck, input, readAll } from '../source/support.ts'
import { START_MS } from '../stream/payments.ts'
import { runPython, whyNoPython } from '../support/python.ts'
import { seededRandom } from '../support/random.ts'
import { makeFolder, ScriptedGroup, startMirror } from './mirror-scene.ts'

const SEED = Number(process.env.TILEFOLD_SEED ?? 1)
const READERS = ['pyarrow', 'polars'] as const
const SCRIPT = resolve('test/support/read-files.py')

interface Task {
  readonly reader: (typeof READERS)[number]
  readonly path: string
  readonly sort?: readonly string[]
  readonly where?: readonly [column: string, value: unknown]
  /** The table is written there once more, by the reader's own writer. */
  readonly copy?: string
}

interface Table {
  readonly types: Readonly<Record<string, string>>
  readonly cells: Readonly<Record<string, readonly unknown[]>>
}

const readInPython = (tasks: readonly Task[]) => runPython(SCRIPT, tasks) as readonly Table[]

/** DuckDB's reading, in the cells of read-files.py. */
async function duckTable(from: string, order = ''): Promise<Table['cells']> {
  const [names, types] = await duck(`SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM ${from})`)
  const cells = names!.map((name, i) => {
    const [column, type] = [`"${name}"`, String(types![i])]
    if (type.startsWith('TIMESTAMP')) return `epoch_us(${column})::VARCHAR`
    if (type === 'DATE') return `date_diff('day', DATE '1970-01-01', ${column})::VARCHAR`
    if (type === 'BLOB') return `hex(${column})`
    return /INT|DECIMAL/.test(type) ? `${column}::VARCHAR` : column
  })
  const columns = await duck(`SELECT ${cells.join(', ')} FROM ${from} ${order}`)
  return Object.fromEntries(names!.map((name, i) => [name, columns[i]!]))
}

const view = (columns: Record<string, ReturnType<typeof utf8>>) =>
  compileView(
    defineView({
      name: 'spend',
      source: {
        name: 'payments',
        columns: { at: timestamp('ms'), card: utf8(), amount: float64(), ...columns } as never,
      },
      entity: 'card' as never,
      time: 'at' as never,
      filter:
        Object.keys(columns)
          .map((name) => `${name} IS NULL OR ${name} IS NOT NULL`)
          .join(' AND ') || undefined,
      aggregations: [count({ windows: ['1h', '24h'] }), sum('amount' as never, { windows: ['24h'] })],
    }),
  )

/** Payments with everything that a column may be, and some that nobody can read. */
function drawLog(count: number): StreamMessage[] {
  const random = seededRandom(SEED)
  return Array.from({ length: count }, (_, i) => {
    const at = START_MS + i * 60_000
    const maybe = <T>(value: T) => (random.below(6) === 0 ? null : value)
    const event = {
      at,
      card: `kárta ${random.below(9)}`,
      amount: maybe(random.below(1e6) / 64),
      price: maybe(`${random.below(2) ? '-' : ''}${random.below(1e9)}.${10 + random.below(90)}`),
      ok: maybe(random.below(2) === 0),
      points: maybe(random.below(2 ** 31) - 2 ** 30),
    }
    const value =
      random.below(20) === 0 ? null : Buffer.from(random.below(20) === 0 ? '{"card":' : JSON.stringify(event))
    const key = random.below(9) === 0 ? null : Buffer.from([255, i & 255])
    return { key, value, timestamp: String(at + random.below(5000)), offset: String(i * 2) }
  })
}

describe.skipIf((await whyNoPython()) !== undefined)('pyarrow and Polars', () => {
  it.each([
    { compression: 'zstd', isPlain: false },
    { compression: 'snappy', isPlain: false },
    { compression: 'snappy', isPlain: true },
  ] as const)(
    'read a mirror as DuckDB does, as a folder with its partitions ($compression, plain $isPlain)',
    async (style) => {
      const dir = makeFolder()
      const more = { ok: bool(), points: int64(), ...(style.isPlain ? {} : { price: decimal(12, 2) }) }
      const group = new ScriptedGroup('payments', [drawLog(500), drawLog(130)], seededRandom(SEED))
      const { consumer, mirror } = startMirror(group, {
        dir,
        plans: [await view(more as never)],
        style,
        clock: () => START_MS,
      })
      await mirror.start()
      for (const partition of [0, 1]) {
        await group.assign(partition, consumer)
        while (await consumer.deliver(partition, 77)) {}
      }
      await mirror.stop()
      expect([...mirror.stopped.values()]).toEqual([])

      const folder = `${dir}/events/payments`
      const order = 'ORDER BY _partition, _offset'
      const files = `read_parquet('${folder}/**/*.parquet', hive_partitioning = true, hive_types = {'ds': VARCHAR})`
      const expected = await duckTable(files, order)
      expect(expected._offset!.length).toBe(630)
      const sort = ['_partition', '_offset']
      const copies = READERS.map((reader) => join(dir, `${reader}.parquet`))
      const hour = Number(expected.hour![0])
      const tables = readInPython([
        ...READERS.map((reader, i) => ({ reader, path: folder, sort, copy: copies[i]! })),
        ...READERS.map((reader) => ({ reader, path: folder, where: ['hour', hour] as const })),
      ])
      for (const [i, { types, cells }] of tables.slice(0, READERS.length).entries()) {
        const { ds: days, hour: hours, ...columns } = cells
        const { ds, hour: folders, ...others } = expected
        expect(columns, READERS[i]).toEqual(others)
        // What the folders are called: text or a date, as each likes it.
        expect(hours!.map(Number), READERS[i]).toEqual(folders!.map(Number))
        const dayOf = (day: unknown) =>
          /^\d+$/.test(String(day)) ? new Date(+(day as string) * 86_400_000).toISOString().slice(0, 10) : day
        expect(days!.map(dayOf), READERS[i]).toEqual(ds)
        const instant = style.isPlain ? 'int64' : 'timestamp[ms, tz=UTC]'
        expect(types).toMatchObject({
          _record_ts: instant,
          at: instant,
          _event_ts: instant,
          _offset: 'int64',
          points: 'int64',
        })
        expect(types).toMatchObject({ _partition: 'int32', amount: 'double', ok: 'bool' })
        if (!style.isPlain) expect(types.price).toMatch(/^decimal128\(38, 2\)$/)
      }
      // One folder alone, by its name.
      for (const { cells } of tables.slice(READERS.length)) {
        expect(cells._offset!.length).toBe(expected.hour!.filter((each) => Number(each) === hour).length)
      }
      // And back: what they wrote of it is what we read of ours.
      const inputs = [
        input('_offset', 'int64'),
        input('card', 'utf8'),
        input('at', 'timestamp'),
        input('ok', 'bool'),
        input('amount', 'float64'),
        input('points', 'int64'),
        ...(style.isPlain ? [] : [input('price', 'decimal', { scale: 2 })]),
      ]
      const own = await readAll(createParquetSource({ log: 'own', paths: [folder], inputs }).read(0))
      const rows = own.columns[0]!.map((_, row) => own.columns.map((column) => String(column[row])).join()).sort()
      for (const copy of copies) {
        const back = await readAll(createParquetSource({ log: 'back', paths: [copy], inputs }).read(0))
        expect(
          back.columns[0]!.map((_, row) => back.columns.map((column) => String(column[row])).join()).sort(),
        ).toEqual(rows)
      }
    },
  )

  it('read training sets, as Parquet and as Arrow, with every type that a spine may keep', async () => {
    const dir = makeFolder()
    const [spine, events] = [join(dir, 'spine.parquet'), join(dir, 'events.parquet')]
    const cell = (sql: string, n: number) => `CASE WHEN (i + ${n}) % 5 > 0 THEN ${sql} END`
    const columns = {
      card: cell(`'card ' || (i % 7)`, 1),
      event_timestamp: cell(`make_timestamp(${START_MS}000 + i * 60123456)`, 2),
      i8: cell('(i % 256 - 128)::TINYINT', 3),
      u16: cell('(i * 131)::USMALLINT', 4),
      i32: cell('(i - 1000)::INTEGER', 0),
      u32: cell('(4294967295 - i)::UINTEGER', 1),
      u64: cell('(i * 7)::UBIGINT', 2),
      f32: cell('(i / 3)::FLOAT', 3),
      f64: cell('i / 7', 4),
      flag: cell('i % 3 = 0', 0),
      d: cell('(i / 4)::DECIMAL(9, 2)', 1),
      big: cell(`'12345678901234567890123456789012.345678'::DECIMAL(38, 6) - i`, 2),
      s: cell('make_timestamp(i * 1000000)::TIMESTAMP_S', 3),
      ms: cell('make_timestamp(i * 7001000)::TIMESTAMP_MS', 4),
      ns: cell('make_timestamp_ns(i * 1000000007)', 0),
      tz: cell(`make_timestamp(i * 77)::TIMESTAMPTZ`, 1),
      day: cell(`DATE '1969-12-30' + i::INTEGER`, 2),
      text: cell(`repeat('ß', i % 9)`, 3),
    }
    const selected = Object.entries(columns).map(([name, sql]) => `${sql} AS ${name}`)
    await duck(
      `COPY (SELECT ${selected.join(', ')} FROM range(300) t(i)) TO '${spine}'`,
      `COPY (SELECT ${START_MS} + i * 30000 AS "at", 'card ' || (i % 6) AS card, i / 4 AS amount FROM range(900) t(i)) TO '${events}'`,
      'SELECT 1',
    )
    const plan = await view({})
    const files: string[] = []
    for (const name of ['train.parquet', 'train.arrow', 'train.feather']) {
      const source = createParquetSource({ log: 'payments', paths: [events], inputs: plan.state.inputs })
      const options = {
        spine: await openSpine([spine]),
        views: [{ plan }],
        events: { payments: source },
        clock: () => START_MS,
      }
      files.push(join(dir, name))
      await writeTrainingSet(files.at(-1)!, trainingSet(options).read(), { about: 'test' })
    }
    const expected = await duckTable(`'${files[0]}'`)
    // The spine is kept, whatever its columns were written as.
    const kept = await duckTable(`'${spine}'`)
    for (const name of Object.keys(columns)) {
      expect(expected[name], name).toEqual(kept[name])
    }
    expect(new Set(expected.spend__count_24h).size).toBeGreaterThan(10)
    const tables = readInPython(READERS.flatMap((reader) => files.map((path) => ({ reader, path }))))
    expect(tables.length).toBe(6)
    for (const { types, cells } of tables) {
      expect(Object.keys(cells)).toEqual([
        ...Object.keys(columns),
        'spend__count_1h',
        'spend__count_24h',
        'spend__amount_sum_24h',
      ])
      expect(cells).toEqual(expected)
      expect(types).toMatchObject({
        event_timestamp: 'timestamp[us, tz=UTC]',
        ns: 'timestamp[ns, tz=UTC]',
        day: expect.stringMatching(/^date32/),
        spend__count_24h: 'int64',
        spend__amount_sum_24h: 'double',
        d: 'decimal128(38, 2)',
        u32: 'int64',
        flag: 'bool',
      })
    }
  })

  it('read a log of answers, a folder for each day', async () => {
    const directory = makeFolder()
    const shop = await openShop()
    const random = seededRandom(SEED)
    const log = new ServedLogWriter({
      directory,
      share: 1,
      intervalMs: HOUR,
      clock: () => NOON,
      metrics: { servedLogged: () => {} },
      onFault: (cause) => {
        throw cause
      },
    })
    const reader = shop.newReader({ log })
    for (let i = 0; i < 40; i++) {
      const entities = [{ user: random.pick(['ann', 'bob', 'nobody']), shop: random.pick([1n, 2n]) }]
      await reader.getFeatures({
        features: ['spend:price_sum_1d', 'spend:note_last_1d', 'visits:points_last_1d'],
        entities,
        asOfs: [NOON - random.below(3 * HOUR)],
      })
    }
    await log.close()
    for (const name of ['spend', 'visits']) {
      const folder = join(directory, name)
      expect(readdirSync(folder)).toEqual(['date=2026-03-01'])
      const files = `read_parquet('${folder}/**/*.parquet', hive_partitioning = false)`
      const expected = await duckTable(files, 'ORDER BY _request_id, _request_row')
      expect(expected._request_id!.length).toBe(40)
      const sort = ['_request_id', '_request_row']
      for (const { types, cells } of readInPython(READERS.map((reader) => ({ reader, path: folder, sort })))) {
        const { date, ...columns } = cells
        expect(columns).toEqual(expected)
        expect(date!.length).toBe(40)
        expect(types).toMatchObject({ event_timestamp: 'timestamp[ms, tz=UTC]', _served_at: 'timestamp[ms, tz=UTC]' })
      }
    }
  })
})
