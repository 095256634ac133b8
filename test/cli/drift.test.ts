/**
 * Files of one history whose schemas drift: what a definition reads decides. A column nobody reads may come and go; one that
 * is read must be there in each file, in any type its declaration takes, and then means the same in all of them.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Float32, Int32, Null, Table, TimestampMicrosecond, tableToIPC, Utf8, vectorFromArray } from 'apache-arrow'
import { beforeAll, describe, expect, it } from 'vitest'
import { duck } from '../source/support.ts'
import {
  askValues,
  cli,
  errorOf,
  expectedValues,
  makeFolder,
  makeOrders,
  ORDERS_YAML,
  type Order,
  writeIn,
} from './harness.ts'

const folder = makeFolder()
const definitions = writeIn(folder, 'views.yaml', ORDERS_YAML)
const first = makeOrders(120)
const second = makeOrders(120, Date.parse(first.at(-1)!.at) + 600_000)
const all = [...first, ...second]
/** Columns as they are declared, in SQL over the text `at`, `customer`, `amount`, `items` of an order. */
const BASE = { at: `epoch_ms("at"::TIMESTAMP)`, customer: 'customer', amount: 'amount::DOUBLE', items: 'items::BIGINT' }
const AS_OF = '2025-01-02T12:00:00Z'

let runs = 0
async function write(name: string, orders: readonly Order[], columns: Record<string, string>): Promise<string> {
  const path = join(folder, name)
  const rows = orders.map(
    ({ at, customer, amount, items }) => `('${at.slice(0, -1)}', '${customer}', ${amount}, ${items})`,
  )
  const selected = Object.entries(columns).map(([column, sql]) => `${sql} AS "${column}"`)
  await duck(
    `COPY (SELECT ${selected.join()} FROM (VALUES ${rows.join()}) t("at", customer, amount, items)) TO '${path}' (FORMAT parquet)`,
    'SELECT 1',
  )
  return path
}

/** What a store holds and a training set says of the files as one history; both are the naive recompute's. */
async function expectValues(files: readonly string[]): Promise<void> {
  const store = join(folder, `store-${runs++}`)
  const backfilled = await cli(['backfill', ...files, '--store', store, '-f', definitions])
  expect([backfilled.code, backfilled.stderr]).toEqual([0, expect.not.stringContaining('error')])
  const spine = join(folder, 'spine.parquet')
  await duck(
    `COPY (SELECT c AS customer, TIMESTAMP '${AS_OF.slice(0, -1)}' AS event_timestamp FROM (VALUES ('ada'), ('bob'), ('cleo')) t(c)) TO '${spine}'`,
    'SELECT 1',
  )
  const out = join(folder, 'train.parquet')
  expect(
    (
      await cli([
        'training-set',
        '--spine',
        spine,
        ...files.flatMap((file) => ['--events', file]),
        '--out',
        out,
        '-f',
        definitions,
      ])
    ).code,
  ).toBe(0)
  const columns = (await duck(`SELECT * FROM '${out}'`)).slice(2)
  for (const [row, customer] of ['ada', 'bob', 'cleo'].entries()) {
    const expected = expectedValues(all, customer, AS_OF)
    expect(expected[1]).toBeGreaterThan(10)
    expect(await askValues(store, definitions, customer, AS_OF), customer).toEqual(expected)
    expect(
      columns.map((cells) => Number(cells[row])),
      customer,
    ).toEqual(expected)
  }
}

const readers = [
  ['backfill', (files: readonly string[], store: string) => ['backfill', ...files, '--store', store]],
  [
    'training-set',
    (files: readonly string[]) => [
      'training-set',
      '--spine',
      files[0]!,
      '--time',
      'at',
      ...files.flatMap((file) => ['--events', file]),
      '--out',
      join(folder, 'never.parquet'),
    ],
  ],
] as const

let base: string
beforeAll(async () => {
  base = await write('a.parquet', first, BASE)
})

describe('a file of a history', () => {
  it.each<[string, Record<string, string>]>([
    [
      'with columns more, in another order',
      { extra: `[1, 2]`, items: BASE.items, amount: BASE.amount, note: `'x'`, customer: BASE.customer, at: BASE.at },
    ],
    ['with narrower numbers', { ...BASE, amount: 'amount::FLOAT', items: 'items::TINYINT' }],
    ['with other whole numbers', { ...BASE, amount: 'amount::DOUBLE', items: 'items::UINTEGER' }],
    ['with unsigned numbers of 64 bits', { ...BASE, items: 'items::UBIGINT' }],
    ['with instants in microseconds', { ...BASE, at: '"at"::TIMESTAMP' }],
    ['with instants of a zone', { ...BASE, at: `timezone('UTC', "at"::TIMESTAMP)` }],
    ['with instants in nanoseconds', { ...BASE, at: '"at"::TIMESTAMP_NS' }],
  ])('%s is read as the others are', async (_, columns) => {
    const other = await write('b.parquet', second, columns)
    await expectValues([base, other])
    if (columns.amount !== 'amount::FLOAT') return
    const [narrow, wide] = [await write('c.parquet', first, columns), await write('d.parquet', second, BASE)]
    await expectValues([narrow, wide])
  })

  it.each<[string, Record<string, string>, string, RegExp]>([
    [
      'without a column',
      { at: BASE.at, customer: BASE.customer, items: BASE.items },
      'COLUMN_MISSING',
      /"amount" of b.parquet: it is not there/,
    ],
    [
      'with a column of another name',
      { at: BASE.at, customer: BASE.customer, Amount: BASE.amount, items: BASE.items },
      'COLUMN_MISSING',
      /"amount" of b.parquet.*did you mean "Amount"/,
    ],
    [
      'with text for numbers',
      { ...BASE, amount: 'amount::VARCHAR' },
      'COLUMN_TYPE',
      /"amount" of b.parquet: got Utf8, expected float64/,
    ],
    [
      'with wider numbers than doubles hold',
      { ...BASE, amount: '(amount * 4)::BIGINT' },
      'COLUMN_TYPE',
      /"amount" of b.parquet: got Int64, expected float64/,
    ],
    [
      'with doubles for whole numbers',
      { ...BASE, items: 'items::DOUBLE' },
      'COLUMN_TYPE',
      /"items" of b.parquet: got Float64, expected int64/,
    ],
    [
      'with decimals',
      { ...BASE, amount: 'amount::DECIMAL(9, 2)' },
      'COLUMN_TYPE',
      /"amount" of b.parquet: got Decimal/,
    ],
    [
      'with another key',
      { ...BASE, customer: 'items' },
      'COLUMN_TYPE',
      /"customer" of b.parquet: got Int32, expected utf8/,
    ],
    [
      'with instants for numbers',
      { ...BASE, items: '"at"::TIMESTAMP' },
      'COLUMN_TYPE',
      /"items" of b.parquet: got Timestamp<MICROSECOND>, expected int64/,
    ],
    [
      'with text that holds nothing',
      { ...BASE, items: 'NULL::VARCHAR' },
      'COLUMN_TYPE',
      /"items" of b.parquet: got Utf8/,
    ],
    [
      'with lists',
      { ...BASE, items: '[items]' },
      'COLUMN_TYPE',
      /"items" of b.parquet: got a nested or repeated column/,
    ],
  ])('%s is refused by its name before anything is stored', async (_, columns, code, message) => {
    const other = await write('b.parquet', second, columns)
    for (const [name, args] of readers) {
      const store = join(folder, `store-${runs++}`)
      const error = errorOf(await cli([...args([base, other], store), '-f', definitions, '-o', 'json']))
      expect([error.code, error.message], name).toEqual([code, expect.stringMatching(message)])
      if (name === 'backfill') await expect(askValues(store, definitions, 'ada', AS_OF)).rejects.toThrow()
    }
  })
})

describe('an Arrow file of a history', () => {
  const table = (orders: readonly Order[], more: object) =>
    tableToIPC(
      new Table({
        at: vectorFromArray(orders.map(({ at }) => BigInt(Date.parse(at)))),
        customer: vectorFromArray(
          orders.map(({ customer }) => customer),
          new Utf8(),
        ),
        amount: vectorFromArray(orders.map(({ amount }) => amount)),
        items: vectorFromArray(orders.map(({ items }) => BigInt(items))),
        ...more,
      }),
      'file',
    )
  const write = (name: string, orders: readonly Order[], more: object = {}) => {
    const path = join(folder, name)
    writeFileSync(path, table(orders, more))
    return path
  }

  it('with narrower columns, other units and columns more is read as the others are', async () => {
    const more = {
      extra: vectorFromArray(second.map(() => 'x')),
      at: vectorFromArray(
        second.map(({ at }) => Date.parse(at)),
        new TimestampMicrosecond(),
      ),
      amount: vectorFromArray(
        second.map(({ amount }) => amount),
        new Float32(),
      ),
      items: vectorFromArray(
        second.map(({ items }) => items),
        new Int32(),
      ),
    }
    await expectValues([write('a.arrow', first), write('b.arrow', second, more)])
  })

  it('with a column of another type, or none, is refused by its name', async () => {
    const cases = [
      [{ amount: vectorFromArray(second.map(() => 'x')) }, 'COLUMN_TYPE', /"amount" of b.arrow/],
      [
        {
          customer: vectorFromArray(
            second.map(() => 1),
            new Int32(),
          ),
        },
        'COLUMN_TYPE',
        /"customer" of b.arrow/,
      ],
    ] as const
    for (const [more, code, message] of cases) {
      const files = [write('a.arrow', first), write('b.arrow', second, more)]
      const error = errorOf(
        await cli(['backfill', ...files, '--store', join(folder, `store-${runs++}`), '-f', definitions, '-o', 'json']),
      )
      expect([error.code, error.message]).toEqual([code, expect.stringMatching(message)])
    }
  })

  it('with a column of nulls alone is one without values', async () => {
    const files = [
      write('a.arrow', first),
      write('b.arrow', second, {
        amount: vectorFromArray(
          second.map(() => null),
          new Null(),
        ),
      }),
    ]
    const store = join(folder, `store-${runs++}`)
    expect((await cli(['backfill', ...files, '--store', store, '-f', definitions])).code).toBe(0)
    const late = new Date(Date.parse(second.at(-1)!.at) + 1).toISOString()
    const [, count] = expectedValues(all, 'ada', late)
    // Events are counted all the same.
    const [, , sum] = expectedValues(first, 'ada', late)
    expect((await askValues(store, definitions, 'ada', late)).slice(1, 3)).toEqual([count, sum])
  })
})
