import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { ordersFolder } from '../support/cli-orders.ts'
import { anyRedis, freshNamespace, whyNoRedis } from '../support/redis.ts'
import { cli, errorOf, makeOrders, toLines, writeIn } from './harness.ts'

const { folder, definitions, newStore, fill } = ordersFolder()
const store = newStore()
const orders = makeOrders(300)
const own = orders.filter((order) => order.customer === 'ada')

beforeAll(async () => {
  await fill(store, orders.slice(0, 200))
  const live = writeIn(folder, 'live.ndjson', toLines(orders.slice(200)))
  await cli(['push', live, '-f', definitions, '--store', store, '--threads', '0'])
})

function inspect(...args: string[]) {
  return cli(['inspect', ...args, '-f', definitions, '--store', store])
}

interface InspectedRow {
  readonly lane: string
  readonly bytes: number
  readonly applied: number
  readonly events: { time: string; cells: Record<string, unknown> }[]
  readonly levels: {
    step: string
    compacted: string
    tiles: { start: string; rows: number; partials: { sum?: string }[] }[]
  }[]
  readonly parts: { bytes: number; count: number; bytes_each: number }[]
}

async function rowsOf(...args: string[]): Promise<InspectedRow[]> {
  const { stdout, stderr, code } = await inspect(
    'orders_by_customer',
    '--entity',
    'customer=ada',
    ...args,
    '-o',
    'json',
  )
  expect(code, stderr).toBe(0)
  return (JSON.parse(stdout) as { rows: InspectedRow[] }).rows
}

describe('tilefold inspect', () => {
  it('shows the row of each lane, which together hold every event', async () => {
    const rows = await rowsOf()
    expect(rows.map((row) => row.lane)).toEqual([expect.stringMatching(/^h\d$/), 'live.0'])
    expect(rows.map((row) => row.applied)).toEqual([199, 99])

    // The coarsest level and everything newer than it, in each row.
    let count = 0
    let sum = 0
    for (const row of rows) {
      let fromMs = 0
      for (const level of [...row.levels].reverse()) {
        const inside = level.tiles.filter((tile) => Date.parse(tile.start) >= fromMs)
        count += inside.reduce((total, tile) => total + tile.rows, 0)
        sum += inside.reduce((total, tile) => total + Number(tile.partials[0]!.sum), 0)
        fromMs = Date.parse(level.compacted)
      }
      count += row.events.length
      sum += row.events.reduce((total, event) => total + (event.cells.amount as number), 0)
    }
    expect(count).toBe(own.length)
    expect(sum).toBe(own.reduce((total, order) => total + order.amount, 0))
  })

  it.skipIf(whyNoRedis() !== undefined)('shows the same of Redis', async () => {
    const redis = await anyRedis()
    try {
      const place = ['-f', definitions, '--redis-url', redis.url, '--namespace', freshNamespace()]
      const file = writeIn(folder, 'live.ndjson', toLines(orders.slice(200)))
      expect((await cli(['push', file, ...place])).code).toBe(0)
      const asked = ['inspect', 'orders_by_customer', '--entity', 'customer=ada', '-o', 'json']
      const { stdout, code, stderr } = await cli([...asked, ...place])
      expect(code, stderr).toBe(0)
      const [row] = (JSON.parse(stdout) as { rows: InspectedRow[] }).rows
      const live = (await rowsOf()).find(({ lane }) => lane === 'live.0')!
      expect({ ...row, applied: 0 }).toMatchObject({ lane: 'live.0', bytes: live.bytes, levels: live.levels })
    } finally {
      await redis.stop()
    }
  })

  it('tells what each byte is for', async () => {
    const plain = await rowsOf()
    const sized = await rowsOf('--size')
    expect(sized.length).toBe(plain.length)
    for (const [i, row] of sized.entries()) {
      expect(row.bytes).toBe(plain[i]!.bytes)
      expect(row.parts.reduce((sum, part) => sum + part.count * part.bytes_each, 0)).toBe(row.bytes)
      expect(row.parts.reduce((sum, part) => sum + part.bytes, 0)).toBe(row.bytes)
    }
  })

  it('prints tables for people', async () => {
    const row = await inspect('orders_by_customer', '--entity', 'customer=ada')
    expect(row.stdout).toMatch(
      /^orders_by_customer {2}customer=ada {2}generation 1 of state [0-9a-f]{16}, lanes h\d, live\.0\n/,
    )
    expect(row.stdout).toContain('applied up to position 199')
    expect(row.stdout).toMatch(/START +ROWS +count\(amount\) +sum\(amount\) +last\(items\)/)
    expect(row.stdout).toMatch(/\d+ older tiles before these; --all shows them/)
    const all = await inspect('orders_by_customer', '--entity', 'customer=ada', '--all')
    expect(all.stdout.split('\n').length).toBeGreaterThan(row.stdout.split('\n').length)
    expect(all.stdout).not.toContain('--all')
    const size = await inspect('orders_by_customer', '--entity', 'customer=ada', '--size')
    expect(size.stdout).toMatch(/total +[\d,]+ +100\.0 %/)
  })

  it('says that nothing is there', async () => {
    const { code, stdout } = await inspect('orders_by_customer', '--entity', 'customer=nobody')
    expect(code).toBe(0)
    expect(stdout).toContain('No row: the store has no event of this entity.')
  })

  it('shows the other rows beside one that is damaged', async () => {
    const damaged = join(folder, 'damaged')
    for (const [command, file] of [
      ['backfill', 'orders.ndjson'],
      ['push', 'live.ndjson'],
    ] as const) {
      await cli([command, join(folder, file), '-f', definitions, '--store', damaged, '--threads', '0'])
    }
    const args = ['inspect', 'orders_by_customer', '--entity', 'customer=ada', '-f', definitions, '--store', damaged]
    const { state_hash: stateHash, key } = JSON.parse((await cli([...args, '-o', 'json'])).stdout) as {
      state_hash: string
      key: string
    }

    const lane = { namespace: 'shop', stateHash, generation: 1, lane: 'live.0' }
    const writer = createLmdbStore({ path: damaged })
    const { token, sequence } = await writer.takeLane(lane, 'test')
    const bytes = new Uint8Array(200).fill(7)
    await writer.write(lane, token, sequence, { rows: [{ key: Buffer.from(key, 'hex'), bytes }] })
    await writer.close()

    const outcome = await cli(args)
    expect(outcome.code).toBe(1)
    expect(outcome.stdout).toMatch(/lane h\d: [\d,]+ bytes/)
    expect(outcome.stdout).toContain(
      'lane live.0: ROW_CORRUPT: cannot use the stored row: it does not start with the row magic',
    )
  })

  it.each([
    [['orders_by_customr', '--entity', 'customer=ada'], 'VIEW_UNKNOWN'],
    [['orders_by_customer'], 'USAGE'],
    [['orders_by_customer', '--entity', 'costumer=ada'], 'USAGE'],
    [['orders_by_customer', '--entity', 'customer=ada', '--namespace', 'other'], 'LAYOUT_MISSING'],
  ])('refuses %j', async (args, code) => {
    expect(errorOf(await inspect(...args, '-o', 'json'))).toMatchObject({ code })
  })
})
