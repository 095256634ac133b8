import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { describe, expect, it } from 'vitest'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { ordersFolder } from '../support/cli-orders.ts'
import {
  askValues,
  cli,
  ended,
  errorOf,
  expectedValues,
  makeFolder,
  makeOrders,
  ORDERS_YAML,
  type Order,
  runProcess,
  spawnCli,
  toLines,
  writeIn,
} from './harness.ts'

const { folder, definitions, newStore } = ordersFolder()
const orders = makeOrders(300)
const asOf = '2025-01-03T00:10:00Z'
const CUSTOMERS = ['ada', 'bob', 'cleo', 'nobody']

function toParquet(rows: ReturnType<typeof makeOrders>): Uint8Array {
  const columnData = [
    { name: 'at', data: rows.map((row) => BigInt(Date.parse(row.at))), type: 'INT64' as const },
    { name: 'customer', data: rows.map((row) => row.customer), type: 'STRING' as const },
    { name: 'amount', data: rows.map((row) => row.amount), type: 'DOUBLE' as const },
    { name: 'items', data: rows.map((row) => BigInt(row.items)), type: 'INT64' as const },
  ]
  return new Uint8Array(parquetWriteBuffer({ columnData, rowGroupSize: 70 }))
}

const ndjson = writeIn(folder, 'orders.ndjson', toLines(orders))
const parquet = writeIn(folder, 'orders.parquet', toParquet(orders))

function backfill(store: string, ...args: string[]) {
  const threads = args.includes('--threads') ? [] : ['--threads', '0']
  return cli(['backfill', ...args, '-f', definitions, '--store', store, ...threads])
}

describe('tilefold backfill', () => {
  it.each([
    ['JSON lines', ndjson],
    ['Parquet', parquet],
  ])('folds %s, so that every feature is what the events say', async (_format, file) => {
    const store = newStore()
    const { code, stdout } = await backfill(store, file, '-o', 'json')
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({
      finished: true,
      rows: orders.length,
      started_at: 0,
      unreadable: 0,
      put_aside: {},
      views: [{ view: 'orders_by_customer', consumed: orders.length, applied: orders.length, rejected: 0 }],
    })
    for (const customer of CUSTOMERS) {
      expect(await askValues(store, definitions, customer, asOf), customer).toEqual(
        expectedValues(orders, customer, asOf),
      )
    }
  })

  it('folds in worker threads, and takes folders and globs as one history in the order of their names', async () => {
    const parts = makeFolder()
    for (const [i, name] of ['b.ndjson', 'a.ndjson', 'c.ndjson'].entries()) {
      writeIn(parts, name, toLines(orders.slice(i * 100, i * 100 + 100)))
    }
    const store = newStore()
    const outcome = await cli([
      'backfill',
      join(parts, '*.ndjson'),
      '-f',
      definitions,
      '--store',
      store,
      '--threads',
      '2',
      '-o',
      'json',
    ])
    expect(outcome.stderr).not.toContain('error')
    expect(JSON.parse(outcome.stdout)).toMatchObject({
      files: ['a', 'b', 'c'].map((name) => join(parts, `${name}.ndjson`)),
      rows: 300,
    })
    expect(await askValues(store, definitions, 'ada', asOf)).toEqual(expectedValues(orders, 'ada', asOf))
  })

  it('has nothing to do when it is called again, and says so', async () => {
    const store = newStore()
    await backfill(store, ndjson)
    const again = await backfill(store, ndjson)
    expect(again.code).toBe(0)
    expect(again.stdout).toBe('orders_by_customer: history is complete, 300 rows; nothing to do\n')
  })

  it('does not mix two histories: other files are refused', async () => {
    const store = newStore()
    await backfill(store, ndjson)
    const outcome = await backfill(store, parquet, '-o', 'json')
    expect(outcome.code).toBe(1)
    expect(errorOf(outcome)).toMatchObject({ code: 'CONFIG_INVALID' })
    expect(errorOf(outcome).message).toContain('a complete history of others')
    expect(await askValues(store, definitions, 'ada', asOf)).toEqual(expectedValues(orders, 'ada', asOf))
  })

  it('adds the history of a view that came later, and leaves the others alone', async () => {
    const store = newStore()
    await backfill(store, ndjson)
    const more = writeIn(
      folder,
      'more.yaml',
      `${ORDERS_YAML}${ORDERS_YAML.split('views:\n')[1]!.replace('orders_by_customer', 'orders_again').replace('window', 'window')}`,
    )
    const outcome = await cli(['backfill', ndjson, '-f', more, '--store', store, '--threads', '0', '-o', 'json'])
    expect(outcome.code).toBe(0)
    expect((JSON.parse(outcome.stdout) as { views: { view: string }[] }).views.map((each) => each.view)).toEqual([
      'orders_again',
    ])
  })
})

describe('a backfill that is stopped', () => {
  it('stores what is folded, ends with 130, says how to go on, and goes on', async () => {
    const many = makeOrders(30_000, Date.UTC(2024, 0, 1))
    const file = writeIn(folder, 'many.ndjson', toLines(many))
    const late = instantBehind(many)
    const store = newStore()
    // The first line of progress comes with the first batch.
    let send: ((signal: 'SIGINT') => void) | undefined
    const stopped = await cli(['backfill', file, '-f', definitions, '--store', store, '--threads', '1'], {
      isTTY: true,
      onListening: (each) => {
        send = each
      },
      onStderr: () => {
        const once = send
        send = undefined
        once?.('SIGINT')
      },
    })
    expect(stopped.code).toBe(130)
    expect(stopped.stderr).toContain('call the same again to go on')

    // Nothing of it can be seen before all of it is there.
    const early = await cli([
      'get',
      'orders_by_customer',
      '--entity',
      'customer=ada',
      '-f',
      definitions,
      '--store',
      store,
      '-o',
      'json',
    ])
    expect(errorOf(early).code).toBe('VIEW_NOT_READY')

    const rest = await backfill(store, file, '-o', 'json')
    expect(rest.code).toBe(0)
    const summary = JSON.parse(rest.stdout) as { started_at: number; rows: number; views: { applied: number }[] }
    expect(summary.started_at).toBeGreaterThan(0)
    expect(summary.started_at + summary.rows).toBe(many.length)
    expect(summary.views[0]!.applied).toBe(many.length)
    for (const customer of CUSTOMERS.slice(0, 3)) {
      expect(await askValues(store, definitions, customer, late), customer).toEqual(
        expectedValues(many, customer, late),
      )
    }
  })

  it('loses and doubles nothing when its process is killed, again and again', async () => {
    const many = makeOrders(400_000, Date.UTC(2017, 0, 1))
    const file = writeIn(folder, 'large.ndjson', toLines(many))
    const late = instantBehind(many)
    const store = newStore()
    const args = ['backfill', file, '-f', definitions, '--store', store, '--threads', '1']
    const signals: (string | null)[] = []
    for (const waitMs of [0, 150, 300]) {
      const child = spawnCli(args, folder)
      const end = ended(child)
      while (!existsSync(join(store, 'data.mdb')) && child.exitCode === null) await delay(5)
      await delay(waitMs)
      child.kill('SIGKILL')
      signals.push((await end).signal)
    }
    // A machine may be fast, but the first is killed as soon as there is a store.
    expect(signals[0]).toBe('SIGKILL')
    const rest = await runProcess([...args, '-o', 'json'], folder)
    expect(rest.stderr).not.toContain('error')
    expect(JSON.parse(rest.stdout)).toMatchObject({ finished: true })
    for (const customer of CUSTOMERS.slice(0, 3)) {
      expect(await askValues(store, definitions, customer, late), customer).toEqual(
        expectedValues(many, customer, late),
      )
    }
  })

  it('stops at a signal as a process, too', async () => {
    const file = writeIn(folder, 'large.ndjson', toLines(makeOrders(400_000, Date.UTC(2017, 0, 1))))
    const store = newStore()
    const child = spawnCli(['backfill', file, '-f', definitions, '--store', store, '--threads', '1'], folder)
    const end = ended(child)
    while (!existsSync(join(store, 'data.mdb')) && child.exitCode === null) await delay(5)
    await delay(100)
    child.kill('SIGTERM')
    const { code, stdout, stderr } = await end
    expect(code, stderr).toBe(143)
    expect(stdout).toContain('orders_by_customer')
  })
})

function instantBehind(rows: readonly Order[]): string {
  return new Date(Date.parse(rows.at(-1)!.at) + 60_000).toISOString()
}

describe('bad input', () => {
  async function refused(store: string, ...args: string[]) {
    const outcome = await backfill(store, ...args, '-o', 'json')
    expect(outcome.stdout).toBe('')
    expect([1, 2]).toContain(outcome.code)
    return errorOf(outcome)
  }

  it('a file that is not there', async () => {
    const store = newStore()
    expect(await refused(store, join(folder, 'nowhere.parquet'))).toMatchObject({ code: 'SOURCE_NOT_FOUND' })
    expect(existsSync(store)).toBe(false)
  })

  it('a Parquet file that is cut off, or is none, leaves no trace in the store', async () => {
    const store = newStore()
    const cut = writeIn(folder, 'cut.parquet', toParquet(orders).subarray(0, 1500))
    expect(await refused(store, cut)).toMatchObject({ code: 'SOURCE_CORRUPT' })
    const text = writeIn(folder, 'text.parquet', 'this is no Parquet file at all')
    expect(await refused(store, text)).toMatchObject({ code: 'SOURCE_CORRUPT' })
    expect(existsSync(store)).toBe(false)
    // The right file is not held up by the wrong one.
    expect((await backfill(store, parquet)).code).toBe(0)
  })

  it('a Parquet file with a damaged page: the rest is kept out of sight', async () => {
    const bytes = Uint8Array.from(readFileSync(parquet))
    bytes.fill(0xff, Math.floor(bytes.length / 2), Math.floor(bytes.length / 2) + 200)
    const damaged = writeIn(folder, 'damaged.parquet', bytes)
    const store = newStore()
    const error = await refused(store, damaged)
    expect(error.code).toBe('SOURCE_CORRUPT')
    expect(error.message).toContain('damaged.parquet')
  })

  it('columns that are missing, with the name that was meant', async () => {
    const rows = orders.map(({ amount, ...rest }) => ({ ...rest, amont: amount }))
    const columnData = [
      { name: 'at', data: rows.map((row) => BigInt(Date.parse(row.at))), type: 'INT64' as const },
      { name: 'customer', data: rows.map((row) => row.customer), type: 'STRING' as const },
      { name: 'amont', data: rows.map((row) => row.amont), type: 'DOUBLE' as const },
      { name: 'items', data: rows.map((row) => BigInt(row.items)), type: 'INT64' as const },
    ]
    const file = writeIn(folder, 'misspelt.parquet', new Uint8Array(parquetWriteBuffer({ columnData })))
    const store = newStore()
    const error = await refused(store, file)
    expect(error).toMatchObject({ code: 'COLUMN_MISSING', details: { column: 'amount', suggestion: 'amont' } })
    expect(existsSync(store)).toBe(false)
  })

  it('a second file that lacks a column, before anything of the first is stored', async () => {
    const columnData = [
      { name: 'at', data: orders.map((row) => BigInt(Date.parse(row.at))), type: 'INT64' as const },
      { name: 'customer', data: orders.map((row) => row.customer), type: 'STRING' as const },
    ]
    const second = writeIn(folder, 'second.parquet', new Uint8Array(parquetWriteBuffer({ columnData })))
    const store = newStore()
    const error = await refused(store, parquet, second)
    expect(error).toMatchObject({ code: 'COLUMN_MISSING', details: { where: 'second.parquet' } })
    expect(existsSync(store)).toBe(false)
  })

  it('columns of another type', async () => {
    const columnData = [
      { name: 'at', data: orders.map((row) => BigInt(Date.parse(row.at))), type: 'INT64' as const },
      { name: 'customer', data: orders.map((row) => row.customer), type: 'STRING' as const },
      { name: 'amount', data: orders.map((row) => String(row.amount)), type: 'STRING' as const },
      { name: 'items', data: orders.map((row) => BigInt(row.items)), type: 'INT64' as const },
    ]
    const file = writeIn(folder, 'typed.parquet', new Uint8Array(parquetWriteBuffer({ columnData })))
    const error = await refused(newStore(), file)
    expect(error).toMatchObject({ code: 'COLUMN_TYPE', details: { column: 'amount' } })
    expect(error.message).toMatch(/got \S+, expected float64/)
  })

  it.each([
    ['seconds', 1 / 1000, 's'],
    ['microseconds', 1000, 'us'],
  ])('times in %s where milliseconds were declared, unless they are meant', async (_name, factor, unit) => {
    const rows = orders.map((order) => ({ ...order, at: Date.parse(order.at) * factor }))
    const file = writeIn(folder, `in-${unit}.ndjson`, toLines(rows))
    const store = newStore()
    const error = await refused(store, file)
    expect(error).toMatchObject({ code: 'COLUMN_TYPE', details: { column: 'at', declared: 'ms' } })
    expect(error.message).toContain(`is the unit ${unit}?`)
    expect(existsSync(store)).toBe(false)
    expect((await backfill(store, file, '--any-times')).code).toBe(0)
  })

  it('lines that are no records: each is told with its place, and the rest goes on', async () => {
    const lines = toLines(orders).split('\n')
    lines[10] = '{ "at": "2025-01-01T00:00:00Z", "customer": '
    lines[20] = '[1, 2]'
    lines[30] = JSON.stringify({ ...orders[30], amount: 'much' })
    lines[40] = JSON.stringify({ ...orders[40], customer: '' })
    const file = writeIn(folder, 'broken.ndjson', lines.join('\n'))
    const store = newStore()
    const outcome = await backfill(store, file, '-o', 'json')
    expect(outcome.code).toBe(0)
    expect(JSON.parse(outcome.stdout)).toMatchObject({
      unreadable: 3,
      put_aside: { rejected_key: 1 },
      views: [{ consumed: 297, applied: 296, rejected: 1, rejected_key: 1 }],
    })
    for (const place of ['broken.ndjson:11', 'broken.ndjson:21', 'broken.ndjson:31'])
      expect(outcome.stderr).toContain(place)
    const kept = orders.filter((_order, i) => ![10, 20, 30, 40].includes(i))
    expect(await askValues(store, definitions, 'ada', asOf)).toEqual(expectedValues(kept, 'ada', asOf))
  })

  it('a definition that was changed under existing rows: it says in what, and the rows stay', async () => {
    const store = newStore()
    await backfill(store, ndjson)
    const changed = writeIn(folder, 'changed.yaml', ORDERS_YAML.replace('time: at', 'time: at\n    filter: amount > 2'))
    for (const args of [
      ['backfill', ndjson, '--threads', '0'],
      ['push', ndjson, '--threads', '0'],
      ['get', 'orders_by_customer', '--entity', 'customer=ada'],
      ['inspect', 'orders_by_customer', '--entity', 'customer=ada'],
    ]) {
      const outcome = await cli([...args, '-f', changed, '--store', store, '-o', 'json'])
      expect(outcome.code, args[0]).toBe(1)
      const error = errorOf(outcome)
      expect(error.code, args[0]).toBe('DEFINITION_CHANGED')
      expect(error.message, args[0]).toContain('view orders_by_customer')
      expect(error.details.fields, args[0]).toEqual(['expressions'])
    }
    expect(await askValues(store, definitions, 'ada', asOf)).toEqual(expectedValues(orders, 'ada', asOf))
  })

  it('a new feature over the same state is no such change', async () => {
    const store = newStore()
    await backfill(store, ndjson)
    const wider = writeIn(folder, 'wider.yaml', `${ORDERS_YAML}      - { op: mean, column: amount, windows: [24h] }\n`)
    const ask = ['get', 'orders_by_customer:amount_mean_24h', '--entity', 'customer=ada', '--as-of', asOf]
    const outcome = await cli([...ask, '-f', wider, '--store', store, '-o', 'json'])
    expect(outcome.code, outcome.stderr).toBe(0)
    const [, count, sum] = expectedValues(orders, 'ada', asOf)
    expect(JSON.parse(outcome.stdout)).toMatchObject({ rows: [{ values: [sum! / count!], statuses: ['ok'] }] })
  })

  it('a second writer on one directory', async () => {
    const store = newStore()
    const mine = createLmdbStore({ path: store })
    try {
      const outcome = await runProcess(['backfill', ndjson, '-f', definitions, '--store', store, '-o', 'json'], folder)
      expect(outcome.code).toBe(1)
      expect(errorOf(outcome)).toMatchObject({ code: 'STORE_LOCKED' })
    } finally {
      await mine.close()
    }
    expect((await backfill(store, ndjson)).code).toBe(0)
  })

  it('files of several formats, of none, and bad options', async () => {
    const store = newStore()
    expect((await refused(store, ndjson, parquet)).message).toContain('ndjson and parquet')
    const unknown = writeIn(folder, 'orders.csv', 'at,customer')
    expect((await refused(store, unknown)).message).toContain('cannot tell the format')
    expect((await refused(store, ndjson, '--format', 'csv')).code).toBe('USAGE')
    expect((await refused(store, ndjson, '--threads', '-1')).code).toBe('USAGE')
    expect((await refused(store, ndjson, '--history-lanes', '0')).code).toBe('USAGE')
    expect((await refused(store, ndjson, '--complete-since', 'yesterday')).code).toBe('USAGE')
    expect((await refused(store, ndjson, '--source', 'order')).message).toContain('did you mean "orders"?')
    expect(existsSync(store)).toBe(false)
  })
})
