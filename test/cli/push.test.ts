import { appendFileSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { ordersFolder } from '../support/cli-orders.ts'
import {
  askValues,
  bytesOf,
  cli,
  ended,
  errorOf,
  expectedValues,
  makeFolder,
  makeOrders,
  ORDERS_YAML,
  spawnCli,
  toLines,
  writeIn,
} from './harness.ts'

const { folder, definitions, newStore } = ordersFolder()
const orders = makeOrders(120)
const asOf = '2025-01-01T19:00:00Z'

function push(store: string, args: readonly string[], stdin?: ReturnType<typeof bytesOf>) {
  return cli(['push', ...args, '-f', definitions, '--store', store, '--threads', '0', '-o', 'json'], { stdin })
}

describe('tilefold push', () => {
  it('folds a file, and again what was added to it', async () => {
    const store = newStore()
    const file = writeIn(folder, 'today.ndjson', toLines(orders.slice(0, 100)))
    const first = await push(store, [file])
    expect(first.code, first.stderr).toBe(0)
    expect(JSON.parse(first.stdout)).toMatchObject({ log: 'today', rows: 100, applied: 99 })
    expect(await askValues(store, definitions, 'ada', asOf)).toEqual(expectedValues(orders.slice(0, 100), 'ada', asOf))

    const again = await push(store, [file])
    expect(JSON.parse(again.stdout)).toMatchObject({ rows: 0, applied: 99 })
    appendFileSync(file, toLines(orders.slice(100)))
    const grown = await push(store, [file])
    expect(JSON.parse(grown.stdout)).toMatchObject({
      rows: 20,
      applied: 119,
      views: [{ applied: 120, redelivered: 0 }],
    })
    expect(grown.stderr).toContain('log today is stored up to position 99')
    expect(await askValues(store, definitions, 'ada', asOf)).toEqual(expectedValues(orders, 'ada', asOf))
  })

  it('goes on behind history, with no gap and no overlap', async () => {
    const store = newStore()
    const history = writeIn(folder, 'history.ndjson', toLines(orders.slice(0, 60)))
    await cli(['backfill', history, '-f', definitions, '--store', store, '--threads', '0'])
    await push(store, [writeIn(folder, 'live.ndjson', toLines(orders.slice(60)))])
    for (const customer of ['ada', 'bob', 'cleo']) {
      expect(await askValues(store, definitions, customer, asOf), customer).toEqual(
        expectedValues(orders, customer, asOf),
      )
    }
  })

  it('numbers several files as one log with --append', async () => {
    const store = newStore()
    for (const [i, name] of ['monday.ndjson', 'tuesday.ndjson'].entries()) {
      const file = writeIn(folder, name, toLines(orders.slice(i * 60, i * 60 + 60)))
      const outcome = await push(store, [file, '--log', 'days', '--append'])
      expect(JSON.parse(outcome.stdout)).toMatchObject({ log: 'days', rows: 60, applied: i * 60 + 59 })
    }
    expect(await askValues(store, definitions, 'ada', asOf)).toEqual(expectedValues(orders, 'ada', asOf))
  })

  it('reads standard input, and numbers it on', async () => {
    const store = newStore()
    const lines = toLines(orders)
    const cut = lines.indexOf('"items"', 5000)
    const first = await push(store, ['-'], bytesOf(lines.slice(0, cut), lines.slice(cut)))
    expect(first.code, first.stderr).toBe(0)
    expect(JSON.parse(first.stdout)).toMatchObject({ log: 'stdin', rows: 120, applied: 119 })
    const more = await push(store, ['-'], bytesOf(toLines(makeOrders(1, Date.UTC(2025, 0, 1, 18, 59)))))
    expect(JSON.parse(more.stdout)).toMatchObject({ rows: 1, applied: 120 })
    const all = [...orders, ...makeOrders(1, Date.UTC(2025, 0, 1, 18, 59))]
    expect(await askValues(store, definitions, 'ada', asOf)).toEqual(expectedValues(all, 'ada', asOf))
  })

  it('folds what comes, while the stream is still open; a signal ends it with everything stored', async () => {
    const here = makeFolder()
    writeIn(here, 'tilefold.yaml', ORDERS_YAML)
    const child = spawnCli(['push', '-', '--threads', '1'], here)
    const end = ended(child)
    child.stdin!.write(toLines(orders.slice(0, 7)))
    const file = join(here, 'tilefold.yaml')
    const expected = expectedValues(orders.slice(0, 7), 'ada', asOf)
    let values: unknown[] = []
    for (let tries = 0; tries < 200 && JSON.stringify(values) !== JSON.stringify(expected); tries++) {
      await delay(50)
      values = await askValues(join(here, '.tilefold'), file, 'ada', asOf).catch(() => [])
    }
    expect(values).toEqual(expected)

    child.stdin!.write(toLines(orders.slice(7, 40)))
    await delay(200)
    child.kill('SIGINT')
    const { code, stdout, stderr } = await end
    expect(code, stderr).toBe(130)
    expect(stdout).toContain('40 rows into log stdin')
    expect(stderr).toContain('everything that was read is stored')
    expect(await askValues(join(here, '.tilefold'), file, 'ada', asOf)).toEqual(
      expectedValues(orders.slice(0, 40), 'ada', asOf),
    )
  })

  it('lets each view have its share of one log, and others alone', async () => {
    const store = newStore()
    const two = writeIn(
      folder,
      'two.yaml',
      `${ORDERS_YAML}  - name: clicks_by_user
    source: { name: clicks, columns: { at: 'timestamp[ms]', user: utf8 } }
    entity: user
    time: at
    aggregations: [{ op: count, windows: [1h] }]
`,
    )
    const file = writeIn(folder, 'clicks.ndjson', toLines([{ at: '2025-01-01T00:00:00Z', user: 'ada' }]))
    const unsure = await cli(['push', file, '-f', two, '--store', store, '-o', 'json'])
    expect(unsure.code).toBe(2)
    expect(errorOf(unsure).message).toContain('orders, clicks')
    expect(existsSync(store)).toBe(false)
    const sure = await cli([
      'push',
      file,
      '--source',
      'clicks',
      '-f',
      two,
      '--store',
      store,
      '--threads',
      '0',
      '-o',
      'json',
    ])
    expect(JSON.parse(sure.stdout)).toMatchObject({ rows: 1, views: [{ view: 'clicks_by_user', applied: 1 }] })
  })
})

describe('bad input', () => {
  it.each([
    [['nowhere.ndjson'], 'SOURCE_NOT_FOUND', 1],
    [['-', '--format', 'parquet'], 'USAGE', 2],
    [['-', '--format', 'csv'], 'USAGE', 2],
    [['-', '--log', 'a/b'], 'REQUEST_INVALID', 1],
  ])('%j', async (args, code, exit) => {
    const outcome = await push(newStore(), args)
    expect(errorOf(outcome)).toMatchObject({ code })
    expect(outcome.code).toBe(exit)
  })

  it('history does not come behind live events', async () => {
    const store = newStore()
    const file = writeIn(folder, 'first.ndjson', toLines(orders))
    await push(store, [file])
    const outcome = await cli(['backfill', file, '-f', definitions, '--store', store, '--threads', '0', '-o', 'json'])
    expect(errorOf(outcome)).toMatchObject({ code: 'CONFIG_INVALID' })
    expect(errorOf(outcome).message).toContain('history comes first')
  })

  it('events that are all turned away are worth a warning', async () => {
    const file = writeIn(folder, 'nobody.ndjson', toLines(orders.map((order) => ({ ...order, customer: null }))))
    const outcome = await push(newStore(), [file])
    expect(outcome.code).toBe(0)
    expect(outcome.stderr).toContain('view orders_by_customer has applied none of 120 events')
    expect(JSON.parse(outcome.stdout)).toMatchObject({ put_aside: { rejected_key: 120 } })
  })
})
