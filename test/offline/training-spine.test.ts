/** Spines as people have them, into `tilefold training-set`: each has a rule with a value, or an error that says what is wrong. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  Field,
  Null,
  Schema,
  Table,
  TimestampMillisecond,
  tableFromIPC,
  tableToIPC,
  Utf8,
  vectorFromArray,
} from 'apache-arrow'
import { beforeAll, describe, expect, it } from 'vitest'
import { cli, errorOf, expectedValues, makeFolder, makeOrders, ORDERS_YAML, writeIn } from '../cli/harness.ts'
import { duck } from '../source/support.ts'

const folder = makeFolder()
const definitions = writeIn(folder, 'views.yaml', ORDERS_YAML)
const orders = makeOrders(300)
const events = join(folder, 'orders.parquet')
const out = join(folder, 'train.parquet')
const FEATURES = ['count_1h', 'count_24h', 'amount_sum_24h', 'items_last_24h'].map(
  (name) => `orders_by_customer__${name}`,
)
/** An instant in the middle of the orders, of no round second. */
const AT = '2025-01-02T01:23:45.678Z'
const AT_MS = Date.parse(AT)
const US = `make_timestamp(${AT_MS}000)`

const columnsOf = `"at", customer, amount, items`
beforeAll(async () => {
  const rows = orders.map(
    ({ at, customer, amount, items }) => `(${Date.parse(at)}, '${customer}', ${amount}::DOUBLE, ${items}::BIGINT)`,
  )
  await duck(`COPY (SELECT * FROM (VALUES ${rows.join()}) t(${columnsOf})) TO '${events}' (FORMAT parquet)`, 'SELECT 1')
})

/** A file of what the SQL selects. */
async function spineOf(name: string, select: string): Promise<string> {
  const path = join(folder, name)
  await duck(`COPY (${select}) TO '${path}' (FORMAT parquet)`, 'SELECT 1')
  return path
}

function build(spines: readonly string[], ...more: string[]) {
  return cli([
    'training-set',
    ...spines.flatMap((spine) => ['--spine', spine]),
    '--events',
    events,
    '--out',
    out,
    '-f',
    definitions,
    '-o',
    'json',
    ...more,
  ])
}

/** The features row by row, and every column's cells. */
async function rowsOf(path = out): Promise<{ values: (number | null)[][]; columns: Record<string, unknown[]> }> {
  const [names] = await duck(`SELECT column_name FROM (DESCRIBE SELECT * FROM '${path}')`)
  const cells = await duck(`SELECT * FROM '${path}'`)
  const columns = Object.fromEntries(names!.map((name, i) => [name as string, cells[i]!]))
  const values = cells[0]!.map((_, row) =>
    FEATURES.map((name) => (columns[name]![row] === null ? null : Number(columns[name]![row]))),
  )
  return { values, columns }
}

const NOTHING = FEATURES.map(() => null)
const UNKNOWN = [0, 0, null, null]

describe('a spine whose instants are', () => {
  const floored = Math.floor(AT_MS / 1000) * 1000
  const midnight = Date.UTC(2025, 0, 2)
  it.each([
    ['microseconds without a zone: UTC', US, AT_MS],
    ['microseconds with a zone', `timezone('UTC', ${US})`, AT_MS],
    ['seconds', `${US}::TIMESTAMP_S`, floored],
    ['milliseconds', `${US}::TIMESTAMP_MS`, AT_MS],
    ['nanoseconds', `make_timestamp_ns(${AT_MS}000000 + 999999)`, AT_MS],
    ['a date: its first moment', `DATE '2025-01-02'`, midnight],
    ['whole numbers: milliseconds', `${AT_MS}::BIGINT`, AT_MS],
    ['unsigned whole numbers', `${AT_MS}::UBIGINT`, AT_MS],
  ])('%s', async (_, instant, ms) => {
    const spine = await spineOf(
      'spine.parquet',
      `SELECT c AS customer, ${instant} AS event_timestamp FROM (VALUES ('ada'), ('bob'), ('nobody')) t(c)`,
    )
    const { code, stderr } = await build([spine])
    expect([code, stderr]).toEqual([0, ''])
    const { values } = await rowsOf()
    const asOf = new Date(ms).toISOString()
    expect(values).toEqual([expectedValues(orders, 'ada', asOf), expectedValues(orders, 'bob', asOf), UNKNOWN])
    expect(values[0]![1]).toBeGreaterThan(0)
  })

  it.each([
    ['text', `'${AT}'`, /got Utf8, expected timestamp/],
    ['doubles', `${AT_MS}::DOUBLE`, /got Float64, expected timestamp/],
    ['times of day', `TIME '10:00:00'`, /expected timestamp/],
    [
      'whole numbers of another unit',
      `${Math.floor(AT_MS / 1000)}::BIGINT`,
      /3 of 3 sampled times .* is the unit s\? --any-times/,
    ],
    ['and of another', `${AT_MS}000::BIGINT`, /is the unit us\?/],
  ])('%s is refused', async (_, instant, message) => {
    const spine = await spineOf(
      'spine.parquet',
      `SELECT c AS customer, ${instant} AS event_timestamp FROM (VALUES ('ada'), ('bob'), ('nobody')) t(c)`,
    )
    const error = errorOf(await build([spine]))
    expect([error.code, error.message]).toEqual(['COLUMN_TYPE', expect.stringMatching(message)])
    expect(error.message).toContain('"event_timestamp" of spine.parquet')
  })

  it('of another unit are taken as they are if told', async () => {
    const spine = await spineOf(
      'spine.parquet',
      `SELECT 'ada' AS customer, ${Math.floor(AT_MS / 1000)}::BIGINT AS event_timestamp`,
    )
    expect((await build([spine], '--any-times')).code).toBe(0)
    expect((await rowsOf()).values).toEqual([UNKNOWN])
  })
})

describe('a spine whose rows', () => {
  it('are unsorted, twice there, of nobody, of no key, of no time, before history, after it or out of range', async () => {
    const cells: [string | null, number | null][] = [
      ['bob', AT_MS],
      ['ada', AT_MS - 86_400_000],
      ['ada', AT_MS],
      ['bob', AT_MS],
      [null, AT_MS],
      ['ada', null],
      [null, null],
      ['', AT_MS],
      ['nobody', AT_MS],
      ['ada', Date.UTC(2020, 0, 1)],
      ['ada', Date.UTC(2030, 0, 1)],
      ['ada', -1],
      ['ada', 2 ** 32 * 1000],
      ['ada', Date.parse(orders[0]!.at)],
      ['ada', Date.parse(orders[0]!.at) + 1],
      ['cleo', AT_MS],
    ]
    const rows = cells.map(
      ([key, ms], i) =>
        `(${key === null ? 'NULL' : `'${key}'`}, ${ms === null ? 'NULL' : `make_timestamp(${ms}000)`}, ${i})`,
    )
    const spine = await spineOf(
      'spine.parquet',
      `SELECT * FROM (VALUES ${rows.join()}) t(customer, event_timestamp, label)`,
    )
    const { code, stdout, stderr } = await build([spine])
    expect(code).toBe(0)
    const { values, columns } = await rowsOf()
    const expected = cells.map(([key, ms]) => {
      const usable = key !== null && key !== '' && ms !== null && ms >= 0 && ms < 2 ** 32 * 1000
      return usable ? expectedValues(orders, key, new Date(ms).toISOString()) : NOTHING
    })
    expect(values).toEqual(expected)
    expect(columns.label).toEqual(cells.map((_, i) => i))
    expect(columns.customer).toEqual(cells.map(([key]) => key))
    expect(stderr).toContain('6 rows have no usable key or instant')
    expect(JSON.parse(stdout)).toMatchObject({ rows: cells.length, unusable: 6, views: [{ ahead: 1, unknown: 3 }] })
  })

  it.each(['parquet', 'arrow'])('have no key at all, a column of nulls (%s)', async (format) => {
    let spine = await spineOf(
      'spine.parquet',
      `SELECT NULL::VARCHAR AS customer, ${US} AS event_timestamp FROM range(3)`,
    )
    if (format === 'arrow') {
      const table = new Table({
        customer: vectorFromArray([null, null, null], new Null()),
        event_timestamp: vectorFromArray([0, 1, 2], new TimestampMillisecond()),
      })
      spine = writeIn(folder, 'nulls.arrow', tableToIPC(table, 'file'))
    }
    const { code, stderr } = await build([spine])
    expect([code, stderr]).toEqual([0, expect.stringContaining('3 rows have no usable key')])
    const { values, columns } = await rowsOf()
    expect(values).toEqual([NOTHING, NOTHING, NOTHING])
    expect(columns.customer).toEqual([null, null, null])
  })

  it('have no instant at all, a column of nulls', async () => {
    const table = new Table({
      customer: vectorFromArray(['ada', 'bob'], new Utf8()),
      event_timestamp: vectorFromArray([null, null], new Null()),
    })
    const { code, stderr } = await build([writeIn(folder, 'nulls.arrow', tableToIPC(table, 'file'))])
    expect([code, stderr]).toEqual([0, expect.stringContaining('2 rows have no usable key or instant')])
    expect((await rowsOf()).values).toEqual([NOTHING, NOTHING])
  })

  it('are none', async () => {
    const none = new Table(
      new Schema([new Field('customer', new Utf8()), new Field('event_timestamp', new TimestampMillisecond())]),
    )
    for (const spine of [
      await spineOf('spine.parquet', `SELECT 'ada' AS customer, ${US} AS event_timestamp WHERE false`),
      writeIn(folder, 'none.arrow', tableToIPC(none, 'file')),
    ]) {
      const error = errorOf(await build([spine]))
      expect([error.code, error.message]).toEqual(['OUTPUT_FAILED', expect.stringMatching(/the spine has no rows/)])
    }
  })
})

describe('a spine whose keys', () => {
  it.each([
    [
      'are missing',
      `SELECT 'ada' AS custmer, ${US} AS event_timestamp`,
      'COLUMN_MISSING',
      /"customer" of spine.parquet.*did you mean "custmer"/,
    ],
    [
      'are of another type',
      `SELECT 7::BIGINT AS customer, ${US} AS event_timestamp`,
      'COLUMN_TYPE',
      /"customer" of spine.parquet: got Int64, expected utf8/,
    ],
    [
      'are nested',
      `SELECT {'a': 'ada'} AS customer, ${US} AS event_timestamp`,
      'COLUMN_TYPE',
      /"customer" of spine.parquet: got a nested/,
    ],
    [
      'stand beside a column that cannot be kept',
      `SELECT 'ada' AS customer, ${US} AS event_timestamp, [1, 2] AS list`,
      'COLUMN_TYPE',
      /cannot keep column "list" of spine.parquet.*leave it out/,
    ],
    [
      'stand beside a column of bytes',
      `SELECT 'ada' AS customer, ${US} AS event_timestamp, 'x'::BLOB AS bytes`,
      'COLUMN_TYPE',
      /cannot keep column "bytes"/,
    ],
  ])('%s is refused', async (_, select, code, message) => {
    const error = errorOf(await build([await spineOf('spine.parquet', select)]))
    expect([error.code, error.message]).toEqual([code, expect.stringMatching(message)])
  })
})

describe('a spine of several files', () => {
  const base = `SELECT 'ada' AS customer, ${US} AS event_timestamp, 1::BIGINT AS label`
  it.each([
    ['with columns in another order', `SELECT 2::BIGINT AS label, 'bob' AS customer, ${US} AS event_timestamp`],
    ['one with a zone', `SELECT 'bob' AS customer, timezone('UTC', ${US}) AS event_timestamp, 2::BIGINT AS label`],
  ])('%s is one spine', async (_, second) => {
    const { code } = await build([await spineOf('a.parquet', base), await spineOf('b.parquet', second)])
    expect(code).toBe(0)
    const { values, columns } = await rowsOf()
    expect(values).toEqual([expectedValues(orders, 'ada', AT), expectedValues(orders, 'bob', AT)])
    expect(columns.label!.map(Number)).toEqual([1, 2])
  })

  it.each([
    [
      'a column more',
      `SELECT 'bob' AS customer, ${US} AS event_timestamp, 2::BIGINT AS label, 3 AS other`,
      'COLUMN_MISSING',
      /"other" of a.parquet: it is not there, but in b.parquet/,
    ],
    [
      'a column less',
      `SELECT 'bob' AS customer, ${US} AS event_timestamp`,
      'COLUMN_MISSING',
      /"label" of b.parquet: it is not there, but in a.parquet/,
    ],
    [
      'a narrower column',
      `SELECT 'bob' AS customer, ${US} AS event_timestamp, 2::INTEGER AS label`,
      'COLUMN_TYPE',
      /"label" of b.parquet: got Int32, expected Int64 as in a.parquet/,
    ],
    [
      'instants of another unit',
      `SELECT 'bob' AS customer, ${US}::TIMESTAMP_MS AS event_timestamp, 2::BIGINT AS label`,
      'COLUMN_TYPE',
      /"event_timestamp" of b.parquet: got Timestamp<MILLISECOND>, expected Timestamp<MICROSECOND>/,
    ],
    [
      'whole numbers for instants',
      `SELECT 'bob' AS customer, ${AT_MS} AS event_timestamp, 2::BIGINT AS label`,
      'COLUMN_TYPE',
      /"event_timestamp" of b.parquet: got Int64/,
    ],
  ])('one with %s is refused', async (_, second, code, message) => {
    const [a, b] = [await spineOf('a.parquet', base), await spineOf('b.parquet', second)]
    const error = errorOf(await build([a, b]))
    expect([error.code, error.message]).toEqual([code, expect.stringMatching(message)])
    expect((await build([b, a])).code).toBe(1)
  })

  it('one with a column that holds nothing keeps the type of the others, whichever comes first', async () => {
    const write = (name: string, label: readonly (number | null)[]) =>
      writeIn(
        folder,
        name,
        tableToIPC(
          new Table({
            customer: vectorFromArray(['ada'], new Utf8()),
            event_timestamp: vectorFromArray([AT_MS], new TimestampMillisecond()),
            seen:
              label[0] === null
                ? vectorFromArray(label, new Null())
                : vectorFromArray(label, new TimestampMillisecond()),
          }),
          'file',
        ),
      )
    const [some, none] = [write('some.arrow', [AT_MS]), write('none.arrow', [null])]
    const arrow = join(folder, 'both.arrow')
    for (const [spines, seen] of [
      [
        [some, none],
        [AT_MS, null],
      ],
      [
        [none, some],
        [null, AT_MS],
      ],
    ] as const) {
      expect((await build(spines)).code).toBe(0)
      const [cells] = await duck(`SELECT epoch_ms(seen) FROM '${out}'`)
      expect(cells!.map((cell) => cell && Number(cell))).toEqual(seen)
      expect((await rowsOf()).values).toEqual([expectedValues(orders, 'ada', AT), expectedValues(orders, 'ada', AT)])
      const args = spines.flatMap((spine) => ['--spine', spine])
      expect((await cli(['training-set', ...args, '--events', events, '--out', arrow, '-f', definitions])).code).toBe(0)
      const table = tableFromIPC(readFileSync(arrow))
      expect(String(table.schema.fields[2]!.type)).toBe('Timestamp<MILLISECOND, UTC>')
    }
  })

  it('leaves nothing behind where it is refused', () => {
    expect(readdirSync(folder).filter((name) => name.startsWith('_tmp'))).toEqual([])
  })
})
