import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeEach, describe, expect, it } from 'vitest'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import {
  askValues,
  cli,
  ended,
  errorOf,
  makeFolder,
  makeOrders,
  NOW,
  ORDERS_YAML,
  spawnCli,
  toLines,
  writeIn,
} from './harness.ts'

const folder = makeFolder()
const definitions = writeIn(folder, 'tilefold.yaml', ORDERS_YAML)
const orders = makeOrders(300)
const AS_OF = orders.at(-1)!.at
let store = ''
let stores = 0

beforeEach(async () => {
  store = join(folder, `store-${stores++}`)
  const file = writeIn(folder, 'orders.ndjson', toLines(orders.slice(0, 200)))
  expect((await run('backfill', file, '--threads', '0')).code).toBe(0)
  const live = writeIn(folder, 'live.ndjson', toLines(orders.slice(200)))
  expect((await run('push', live, '--threads', '0')).code).toBe(0)
})

function run(...args: string[]) {
  return cli([...args, '-f', definitions, '--store', store])
}

function forget(...args: string[]) {
  return run('forget', ...args, '-o', 'json')
}

const valuesOf = (customer: string) => askValues(store, definitions, customer, AS_OF)

interface Told {
  readonly done: boolean
  readonly requests: {
    readonly number: number
    readonly at: string
    readonly views: readonly string[]
    readonly lanes: readonly { readonly lane: string; readonly outcome: string }[]
  }[]
}

describe('tilefold forget', () => {
  it('erases an entity in history and in live lanes, and nobody else', async () => {
    const bob = await valuesOf('bob')
    expect((await valuesOf('ada'))[1]).toBeGreaterThan(0)
    const { code, stdout, stderr } = await forget('orders_by_customer', '--entity', 'customer=ada')
    expect(code, stderr).toBe(0)
    const told = JSON.parse(stdout) as Told
    expect(told).toMatchObject({
      done: true,
      requests: [{ number: 1, at: new Date(NOW).toISOString(), views: ['orders_by_customer'] }],
    })
    expect(told.requests[0]!.lanes).toEqual([
      expect.objectContaining({ lane: expect.stringMatching(/^h\d$/), outcome: 'erased' }),
      expect.objectContaining({ lane: 'live.0', outcome: 'erased' }),
    ])
    expect(await valuesOf('ada')).toEqual([0, 0, null, null])
    expect(await valuesOf('bob')).toEqual(bob)
  })

  it('keeps older events out of a log that goes on, and lets newer ones in', async () => {
    await forget('--all', '--entity', 'customer=ada')
    const old = makeOrders(8)
    const fresh = makeOrders(2, NOW + 60_000)
    const more = writeIn(folder, 'more.ndjson', toLines([...orders.slice(200), ...old, ...fresh]))
    const pushed = await run('push', more, '--threads', '0', '-o', 'json')
    expect(pushed.code, pushed.stderr).toBe(0)
    const asOf = new Date(NOW + 3_600_000).toISOString()
    expect((await askValues(store, definitions, 'ada', asOf))[1]).toBe(1)
  })

  it('is heeded by a backfill of another store of the same list', async () => {
    // A namespace that has only the list: asked before anything was built.
    store = join(folder, 'asked-first')
    const asked = await forget('--all', '--entity', 'customer=ada')
    expect(JSON.parse(asked.stdout) as Told).toMatchObject({ done: true, requests: [{ lanes: [] }] })
    const file = writeIn(folder, 'orders.ndjson', toLines(orders))
    const filled = await run('backfill', file, '--threads', '0', '-o', 'json')
    expect(filled.code, filled.stderr).toBe(0)
    expect(await valuesOf('ada')).toEqual([null, null, null, null].map((_, i) => (i < 2 ? 0 : null)))
    expect((await valuesOf('bob'))[1]).toBeGreaterThan(0)
  })

  it('comes out the same when it is killed on the way and asked again', async () => {
    const bob = await valuesOf('bob')
    for (let i = 0; i < 5; i++) {
      const child = spawnCli(
        ['forget', '--all', '--entity', 'customer=ada', '-f', definitions, '--store', store],
        folder,
      )
      const end = once(child, 'exit')
      await Promise.race([sleep(150 + 90 * i), end])
      child.kill('SIGKILL')
      await end
    }
    const last = spawnCli(['forget', '--all', '--entity', 'customer=ada', '-f', definitions, '--store', store], folder)
    const { code, stdout, stderr } = await ended(last)
    expect(code, stderr).toBe(0)
    expect(stdout).toContain('erased')
    expect(await valuesOf('ada')).toEqual([0, 0, null, null])
    expect(await valuesOf('bob')).toEqual(bob)
  }, 60_000)

  it('refuses what it cannot tell, and a directory that somebody writes to', async () => {
    expect(errorOf(await forget('--entity', 'customer=ada'))).toMatchObject({ code: 'USAGE' })
    expect(errorOf(await forget('orders_by_customer', '--all', '--entity', 'customer=a'))).toMatchObject({
      code: 'USAGE',
    })
    expect(errorOf(await forget('orders_by_customer'))).toMatchObject({ code: 'USAGE' })
    expect(errorOf(await forget('orders_by_customer', '--entity', 'card=4711'))).toMatchObject({ code: 'USAGE' })
    expect(errorOf(await forget('orders', '--entity', 'customer=ada'))).toMatchObject({ code: 'VIEW_UNKNOWN' })
    const child = spawnCli(['push', '-', '--format', 'ndjson', '-f', definitions, '--store', store], folder)
    const exit = once(child, 'exit')
    try {
      // Its first row can be read: it writes here. Earlier it would find us in the store, and give up.
      child.stdin!.write(toLines(makeOrders(1, Date.parse(AS_OF)).map((order) => ({ ...order, customer: 'zoe' }))))
      const later = new Date(Date.parse(AS_OF) + 60_000).toISOString()
      while ((await askValues(store, definitions, 'zoe', later))[0] !== 1) {
        expect(child.exitCode).toBeNull()
        await sleep(50)
      }
      expect(errorOf(await forget('--all', '--entity', 'customer=ada'))).toMatchObject({ code: 'STORE_LOCKED' })
    } finally {
      child.kill('SIGKILL')
      await exit
    }
  }, 60_000)

  it('leaves a list that a store can be asked about', async () => {
    await forget('--all', '--entity', 'customer=ada')
    const opened = createLmdbStore({ path: store, readOnly: true })
    expect(JSON.parse((await opened.readLayout('shop', '~erase'))!)).toEqual({ format: 1, generations: [], last: 1 })
    await opened.close()
  })
})
