import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { ordersFolder } from '../support/cli-orders.ts'
import { cli, errorOf, expectedValues, makeOrders } from './harness.ts'

const { folder, definitions, newStore, fill } = ordersFolder()
const store = newStore()
const orders = makeOrders(300)
const asOf = '2025-01-03T00:10:00Z'
const base = ['-f', definitions, '--store', store]
const FEATURES = ['count_1h', 'count_24h', 'amount_sum_24h', 'items_last_24h']

beforeAll(async () => {
  await fill(store, orders)
})

function get(...args: string[]) {
  return cli(['get', ...args, ...base])
}

describe('tilefold get', () => {
  it('prints a value and a status for each feature', async () => {
    const { code, stdout, stderr } = await get('orders_by_customer', '--entity', 'customer=ada', '--as-of', asOf)
    expect(code, stderr).toBe(0)
    const [first, , head, ...lines] = stdout.trimEnd().split('\n')
    expect(first).toBe('customer=ada  as of 2025-01-03T00:10:00Z')
    expect(head).toMatch(/^FEATURE +VALUE +STATUS$/)
    const values = expectedValues(orders, 'ada', asOf)
    expect(lines.map((line) => line.split(/ +/))).toEqual(FEATURES.map((name, i) => [name, String(values[i]), 'ok']))
  })

  it('answers several entities as the server does, as JSON and as YAML', async () => {
    const args = ['orders_by_customer:count_24h', 'orders_by_customer:amount_sum_24h', '--as-of', asOf]
    const entities = ['--entity', 'customer=bob', '--entity', '{"customer":"nobody"}']
    const json = await get(...args, ...entities, '-o', 'json')
    const [, count, sum] = expectedValues(orders, 'bob', asOf)
    const answer = JSON.parse(json.stdout)
    expect(answer.metadata.features.map((each: { name: string }) => each.name)).toEqual(['count_24h', 'amount_sum_24h'])
    expect(answer.rows).toEqual([
      { values: [count, sum], statuses: ['ok', 'ok'] },
      { values: [0, null], statuses: ['unknown_entity', 'unknown_entity'] },
    ])
    const yaml = await get(...args, ...entities, '-o', 'yaml')
    expect(parse(yaml.stdout)).toEqual(answer)
  })

  it('explains what it computed from', async () => {
    const { stdout } = await get('orders_by_customer', '--entity', 'customer=ada', '--as-of', asOf, '--explain')
    expect(stdout).toMatch(/row +lane h\d, [\d.]+ KiB, applied up to position 299/)
    expect(stdout).toMatch(/window 1h +2025-01-02T23:10:00Z until 2025-01-03T00:10:00Z, exclusively/)
    expect(stdout).toMatch(/merged +\d+ tiles, \d+ raw events/)
    const json = await get('orders_by_customer', '--entity', 'customer=ada', '--as-of', asOf, '-o', 'json')
    expect(JSON.parse(json.stdout).rows[0].explain).toBeUndefined()
  })

  it('says where the data end when every window lies behind them', async () => {
    const { code, stdout, stderr } = await get('orders_by_customer:count_1h', '--entity', 'customer=ada')
    expect(code).toBe(0)
    expect(stdout).toContain('empty')
    expect(stderr).toMatch(/^The data end at 2025-01-03T01:48:00Z; ask with --as-of/)
    const json = await get('orders_by_customer:count_1h', '--entity', 'customer=ada', '-o', 'json')
    expect(json.stderr).toBe('')
  })

  it('fails where a row cannot answer, and says from when on it can', async () => {
    const outcome = await get(
      'orders_by_customer:count_1h',
      '--entity',
      'customer=ada',
      '--as-of',
      '2025-01-01T05:00:01Z',
    )
    expect(outcome.code).toBe(1)
    expect(outcome.stdout).toContain('too_old')
    expect(outcome.stdout).toContain('AS_OF_TOO_OLD: ')
  })

  it('reads instants in milliseconds, too', async () => {
    const text = await get('orders_by_customer', '--entity', 'customer=ada', '--as-of', asOf, '-o', 'json')
    const number = await get(
      'orders_by_customer',
      '--entity',
      'customer=ada',
      '--as-of',
      String(Date.parse(asOf)),
      '-o',
      'json',
    )
    expect(number.stdout).toBe(text.stdout)
  })
})

describe('a request that cannot be answered', () => {
  it.each([
    [['order_by_customer', '--entity', 'customer=ada'], 'VIEW_UNKNOWN', 'did you mean "orders_by_customer"?', 1],
    [['orders_by_customer:count_1', '--entity', 'customer=ada'], 'FEATURE_UNKNOWN', 'did you mean "count_1h"?', 1],
    [['orders_by_customer', '--entity', 'custmer=ada'], 'USAGE', 'did you mean "customer"?', 2],
    [['orders_by_customer'], 'USAGE', 'expected --entity customer=…', 2],
    [['orders_by_customer', '--entity', 'customer='], 'REQUEST_INVALID', 'a non-empty string', 1],
    [['orders_by_customer', '--entity', 'customer=ada', '--as-of', 'yesterday'], 'USAGE', 'expected RFC 3339', 2],
    [['orders_by_customer', '--entity', 'customer=ada', '--as-of', '2025-01-03'], 'USAGE', 'expected RFC 3339', 2],
    [
      ['orders_by_customer', '--entity', 'customer=ada', '--namespace', 'other'],
      'LAYOUT_MISSING',
      'the store holds nothing of it yet',
      1,
    ],
    [
      ['orders_by_customer', '--entity', 'customer=ada', '--namespace', 'a/b'],
      'USAGE',
      'expected a name of letters',
      2,
    ],
  ])('%j', async (args, code, cause, exit) => {
    const outcome = await get(...args, '-o', 'json')
    expect(outcome.stdout).toBe('')
    expect(errorOf(outcome)).toMatchObject({ code })
    expect(errorOf(outcome).message).toContain(cause)
    expect(outcome.code).toBe(exit)
  })

  it('for want of a store', async () => {
    const outcome = await cli([
      'get',
      'orders_by_customer',
      '--entity',
      'customer=ada',
      '-f',
      definitions,
      '--store',
      join(folder, 'nowhere'),
    ])
    expect(outcome.code).toBe(1)
    expect(outcome.stderr).toMatch(
      /^error STORE_UNAVAILABLE: cannot open store \S+nowhere: there is none in this directory\n$/,
    )
  })
})
