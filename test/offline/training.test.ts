/** Training sets from files into files, by the command line and by the API. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { Table, tableFromArrays, tableFromIPC } from 'apache-arrow'
import { parquetReadObjects } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { parseDefinitions } from '../../src/define/yaml.ts'
import { openSpine, spineOfTable } from '../../src/offline/spine.ts'
import { trainingSet } from '../../src/offline/training.ts'
import { arrowBatches, writeTrainingSet } from '../../src/offline/training-output.ts'
import { createParquetSource } from '../../src/source/parquet.ts'
import {
  cli,
  errorOf,
  expectedValues,
  makeFolder,
  makeOrders,
  NOW,
  ORDERS_YAML,
  type Order,
  writeIn,
} from '../cli/harness.ts'

const folder = makeFolder()
const definitions = writeIn(folder, 'views.yaml', ORDERS_YAML)
const orders = makeOrders(300)
const FEATURES = ['count_1h', 'count_24h', 'amount_sum_24h', 'items_last_24h'].map(
  (name) => `orders_by_customer__${name}`,
)

function toParquet(rows: readonly Order[]): Uint8Array {
  const columnData = [
    { name: 'at', data: rows.map((row) => BigInt(Date.parse(row.at))), type: 'INT64' as const },
    { name: 'customer', data: rows.map((row) => row.customer), type: 'STRING' as const },
    { name: 'amount', data: rows.map((row) => row.amount), type: 'DOUBLE' as const },
    { name: 'items', data: rows.map((row) => BigInt(row.items)), type: 'INT64' as const },
  ]
  return new Uint8Array(parquetWriteBuffer({ columnData, rowGroupSize: 70 }))
}

interface Label {
  readonly label: string | null
  readonly customer: string | null
  readonly event_timestamp: Date | null
  readonly score: number
}

/** Unsorted, with duplicates, an unknown customer, instants before and after history, and rows that ask about nothing. */
const labels: Label[] = Array.from({ length: 400 }, (_, i) => {
  const customer = ['ada', 'bob', 'cleo', 'nobody'][(i * 7) % 4]!
  const minute = (i * 7919) % (300 * 10 + 2000)
  return {
    label: i % 9 === 0 ? null : `l${i}`,
    customer,
    event_timestamp: new Date(Date.UTC(2024, 11, 31) + minute * 60_000),
    score: i / 8,
  }
})
labels.push(labels[3]!, labels[3]!, { ...labels[4]!, customer: null }, { ...labels[5]!, event_timestamp: null })

function toSpine(rows: readonly Label[]): Uint8Array {
  const columnData = [
    { name: 'label', data: rows.map((row) => row.label), type: 'STRING' as const },
    { name: 'customer', data: rows.map((row) => row.customer), type: 'STRING' as const },
    { name: 'event_timestamp', data: rows.map((row) => row.event_timestamp), type: 'TIMESTAMP' as const },
    { name: 'score', data: rows.map((row) => row.score), type: 'FLOAT' as const },
  ]
  return new Uint8Array(parquetWriteBuffer({ columnData, rowGroupSize: 130 }))
}

const events = writeIn(folder, 'orders.parquet', toParquet(orders))
const spine = writeIn(folder, 'labels.parquet', toSpine(labels))

function build(out: string, ...args: string[]) {
  return cli(['training-set', '--spine', spine, '--events', events, '--out', out, '-f', definitions, ...args])
}

function wanted({ customer, event_timestamp }: Label): (number | null)[] {
  if (customer === null || event_timestamp === null) return [null, null, null, null]
  return expectedValues(orders, customer, event_timestamp.toISOString())
}

async function readRows(path: string): Promise<Record<string, unknown>[]> {
  const bytes = readFileSync(path)
  const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer
  return parquetReadObjects({ file, compressors })
}

const plain = (value: unknown) => (typeof value === 'bigint' ? Number(value) : value)

describe('tilefold training-set', () => {
  it('adds features to a spine, which keeps its columns and its order', async () => {
    const out = join(folder, 'train.parquet')
    const { code, stdout, stderr } = await build(out, '--check-leakage', '-o', 'json')
    expect(stderr).toContain('2 rows have no usable key or instant')
    expect(code).toBe(0)
    const summary = JSON.parse(stdout)
    expect(summary).toMatchObject({ rows: labels.length, unusable: 2, spilled_bytes: 0 })
    expect(summary.views[0]).toMatchObject({ view: 'orders_by_customer', outcomes: { applied: orders.length } })
    expect(summary.leakage.views[0]).toMatchObject({ rows: 4, leaks: [] })
    expect(summary.leakage.views[0].moved).toBeGreaterThan(0)

    const rows = await readRows(out)
    expect(Object.keys(rows[0]!)).toEqual(['label', 'customer', 'event_timestamp', 'score', ...FEATURES])
    expect(rows.length).toBe(labels.length)
    for (const [i, label] of labels.entries()) {
      const { label: text, customer, event_timestamp, score } = rows[i]!
      expect([text ?? null, customer ?? null, event_timestamp ?? null, score], `row ${i}`).toEqual([
        label.label,
        label.customer,
        label.event_timestamp,
        label.score,
      ])
      expect(
        FEATURES.map((name) => plain(rows[i]![name]) ?? null),
        `row ${i}`,
      ).toEqual(wanted(label))
    }
  })

  it('is read by DuckDB, which computes the same from the raw events', async () => {
    const out = join(folder, 'duck.parquet')
    expect((await build(out)).code).toBe(0)
    const connection = await (await DuckDBInstance.create(':memory:')).connect()
    const [count, sum] = ['orders_by_customer__count_24h', 'orders_by_customer__amount_sum_24h']
    const result = await connection.runAndReadAll(`
      WITH spine AS (SELECT *, row_number() OVER () AS n, epoch_ms(event_timestamp) AS t FROM '${out}'),
      own AS (SELECT n, count(e.amount) AS c, sum(e.amount) AS s FROM spine
        LEFT JOIN '${events}' e ON e.customer = spine.customer AND e.at < t AND e.at >= (t - 86400000) // 3600000 * 3600000
        GROUP BY n)
      SELECT count(*), count(*) FILTER (WHERE c IS NOT DISTINCT FROM ${count} AND s IS NOT DISTINCT FROM ${sum})
      FROM own JOIN spine USING (n) WHERE spine.customer IS NOT NULL AND t IS NOT NULL`)
    const [[all, same]] = result.getRows() as [[bigint, bigint]]
    expect(Number(all)).toBe(labels.length - 2)
    expect(same).toBe(all)
    connection.closeSync()
  })

  it('writes Arrow by the ending, and only the features that are named, in their order', async () => {
    const out = join(folder, 'train.arrow')
    const names = 'orders_by_customer:items_last_24h,orders_by_customer:count_1h'
    expect((await build(out, '--features', names)).code).toBe(0)
    const table = tableFromIPC(readFileSync(out))
    expect(table.schema.fields.map((field) => field.name).slice(4)).toEqual([FEATURES[3], FEATURES[0]])
    expect(table.numRows).toBe(labels.length)
    for (const [i, label] of labels.entries()) {
      const [count, , , last] = wanted(label)
      expect([table.getChildAt(4)!.get(i), table.getChildAt(5)!.get(i)].map(plain), `row ${i}`).toEqual([last, count])
    }
  })

  it('says what is wrong, and leaves what was there', async () => {
    const out = writeIn(folder, 'kept.parquet', 'before')
    const broken = writeIn(
      folder,
      'broken.parquet',
      Buffer.concat([toParquet(orders).subarray(0, 900), toParquet(orders).subarray(1000)]),
    )
    const untimed = writeIn(
      folder,
      'untimed.parquet',
      new Uint8Array(parquetWriteBuffer({ columnData: [{ name: 'customer', data: ['ada'], type: 'STRING' }] })),
    )
    const textual = writeIn(
      folder,
      'textual.parquet',
      new Uint8Array(
        parquetWriteBuffer({
          columnData: [
            { name: 'customer', data: ['ada'], type: 'STRING' },
            { name: 'event_timestamp', data: ['2025-01-01 00:00:00'], type: 'STRING' },
          ],
        }),
      ),
    )
    const empty = writeIn(folder, 'empty.parquet', toSpine([]))
    const cases: [string[], string, RegExp][] = [
      [['--spine', untimed, '--events', events, '--out', out], 'COLUMN_MISSING', /"event_timestamp".*not there/],
      [
        ['--spine', textual, '--events', events, '--out', out],
        'COLUMN_TYPE',
        /"event_timestamp".*got .*expected timestamp/,
      ],
      [
        ['--spine', spine, '--events', events, '--out', out, '--time', 'event_timestam'],
        'COLUMN_MISSING',
        /event_timestamp/,
      ],
      [['--spine', spine, '--events', broken, '--out', out], 'SOURCE_CORRUPT', /broken\.parquet/],
      [
        ['--spine', spine, '--events', events, '--out', out, '--features', 'orders_by_customer:count_2h'],
        'FEATURE_UNKNOWN',
        /count_1h|count_24h/,
      ],
      [
        ['--spine', spine, '--events', events, '--out', out, '--features', 'orders'],
        'VIEW_UNKNOWN',
        /orders_by_customer/,
      ],
      [
        ['--spine', spine, '--events', events, '--out', join(folder, 'train.csv')],
        'USAGE',
        /\.parquet, \.arrow or \.feather/,
      ],
      [['--spine', spine, '--events', events], 'USAGE', /--out is missing/],
      [['--events', events, '--out', out], 'USAGE', /--spine is missing/],
      [['--spine', empty, '--events', events, '--out', out], 'OUTPUT_FAILED', /no rows/],
      [
        ['--spine', spine, '--events', events, '--out', join(folder, 'nowhere', 'x.parquet')],
        'OUTPUT_FAILED',
        /nowhere/,
      ],
      [['--spine', spine, '--events', events, '--out', out, '--memory', '1MiB'], 'USAGE', /at least 64MiB/],
    ]
    for (const [args, code, message] of cases) {
      const outcome = await cli(['training-set', ...args, '-f', definitions, '-o', 'json'])
      expect(outcome.code, args.join(' ')).not.toBe(0)
      const error = errorOf(outcome)
      expect([error.code, error.message], args.join(' ')).toEqual([code, expect.stringMatching(message)])
    }
    expect(readFileSync(out, 'utf8')).toBe('before')
    expect(readdirSync(folder).filter((name) => name.startsWith('_tmp'))).toEqual([])
  })

  it('leaves nothing behind when it is stopped', async () => {
    const out = join(folder, 'stopped.parquet')
    const { code } = await cli(
      ['training-set', '--spine', spine, '--events', events, '--out', out, '-f', definitions],
      { onListening: (send) => send('SIGINT') },
    )
    expect(code).toBe(130)
    expect(existsSync(out)).toBe(false)
    expect(readdirSync(folder).filter((name) => name.startsWith('_tmp'))).toEqual([])
  })
})

describe('trainingSet', () => {
  const plans = Promise.all(parseDefinitions(Buffer.from(ORDERS_YAML), 'views.yaml').views.map(compileView))

  async function optionsOf(file: string) {
    const views = (await plans).map((plan) => ({ plan }))
    const inputs = views[0]!.plan.state.inputs
    const source = createParquetSource({ log: 'orders', paths: [file], inputs })
    return { spine: await openSpine([spine]), views, events: { orders: source }, clock: () => NOW }
  }

  it('yields Arrow record batches from an Arrow table', async () => {
    const instants = BigInt64Array.from(labels.slice(0, 50), (label) => BigInt(label.event_timestamp!.getTime()))
    const table = tableFromArrays({ customer: labels.slice(0, 50).map((label) => label.customer), t: instants })
    const options = await optionsOf(events)
    const set = trainingSet({ ...options, spine: spineOfTable(table as never), time: 't' })
    const batches = []
    for await (const batch of arrowBatches(set.read())) batches.push(batch)
    const built = new Table(batches)
    expect(built.schema.fields.map((field) => field.name)).toEqual(['customer', 't', ...FEATURES])
    for (let row = 0; row < 50; row++) {
      expect(FEATURES.map((name) => plain(built.getChild(name)!.get(row)))).toEqual(wanted(labels[row]!))
    }
  })

  it('changes where an event crosses the edge of an instant, and only there', async () => {
    // ada's order of 08:00 moves to the instants that ask right behind it, and so out of their sight.
    const atMs = Date.parse(orders[24]!.at)
    const moved = orders.map((order, i) => (i === 24 ? { ...order, at: new Date(atMs + 1).toISOString() } : order))
    const asked: Label[] = [-1, 0, 1, 2].map((ms) => ({
      ...labels[0]!,
      customer: 'ada',
      event_timestamp: new Date(atMs + ms),
    }))
    const edge = writeIn(folder, 'edge.parquet', toSpine(asked))
    const counts = async (file: string) => {
      const out = join(folder, 'edge-out.parquet')
      const set = trainingSet({ ...(await optionsOf(file)), spine: await openSpine([edge]) })
      await writeTrainingSet(out, set.read(), {})
      return (await readRows(out)).map((row) => Number(row[FEATURES[0]!]))
    }
    const [before, after] = [await counts(events), await counts(writeIn(folder, 'moved.parquet', toParquet(moved)))]
    const base = before[0]!
    expect(before).toEqual([base, base, base + 1, base + 1])
    expect(after).toEqual([base, base, base, base + 1])
  })

  it('is read once, and refuses names that would stand twice', async () => {
    const options = await optionsOf(events)
    const set = trainingSet(options)
    for await (const _ of set.read());
    await expect(set.read().next()).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
    expect(() => trainingSet({ ...options, views: [...options.views, ...options.views] })).toThrow(/two of them/)
    expect(() => trainingSet({ ...options, events: {} })).toThrow(/no events of its source "orders"/)
  })
})
