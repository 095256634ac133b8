import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { ordersFolder } from '../support/cli-orders.ts'
import { cli, errorOf, expectedValues, makeFolder, makeOrders, toLines, writeIn } from './harness.ts'

const DAY = 144

describe('tilefold backfill --from --to', () => {
  const { definitions, newStore } = ordersFolder()
  const orders = makeOrders(4 * DAY)
  const events = makeFolder()
  // Every day's file has one name and one size.
  for (let day = 0; day < 4; day++) {
    const folder = join(events, 'year=2025', 'month=1', `day=${day + 1}`)
    mkdirSync(folder, { recursive: true })
    writeIn(folder, 'part-0.ndjson', toLines(orders.slice(day * DAY, (day + 1) * DAY)))
  }

  function run(store: string, ...args: string[]) {
    return cli([...args, '-f', definitions, '--store', store, '-o', 'json'])
  }

  async function ask(store: string, asOf: string) {
    const { code, stdout, stderr } = await run(
      store,
      'get',
      'orders_by_customer',
      '--entity',
      'customer=ada',
      '--as-of',
      asOf,
    )
    expect(code, stderr).toBe(0)
    return (JSON.parse(stdout) as { rows: { values: unknown[]; statuses: string[] }[] }).rows[0]!
  }

  async function bytesOf(path: string): Promise<string[]> {
    const store = createLmdbStore({ path, readOnly: true })
    const rows: string[] = []
    for (const { lane } of await store.listLanes('shop')) {
      for await (const { key, bytes } of store.scanRows(lane)) {
        // Since when a row is complete stands in its header, as it was told.
        rows.push(`${lane.lane} ${Buffer.from(key).toString('hex')} ${bytes.length}`)
      }
    }
    await store.close()
    return rows.sort()
  }

  it('reads only the days asked for, and answers say since when they are complete', async () => {
    const store = newStore()
    const from = '2025-01-02T00:00:00Z'
    const args = ['backfill', events, '--threads', '0', '--from', from, '--to', '2025-01-04T00:00:00Z']
    const { code, stdout, stderr } = await run(store, ...args)
    expect(code, stderr).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ files_left_out: 2, rows: 2 * DAY, views: [{ applied: 2 * DAY }] })

    const kept = orders.slice(DAY, 3 * DAY)
    const late = '2025-01-03T23:59:00Z'
    const answer = await ask(store, late)
    expect(answer.values).toEqual(expectedValues(kept, 'ada', late))
    expect(answer.statuses).toEqual(['ok', 'ok', 'ok', 'ok'])
    // In the middle of a day: its file is read, and nobody can tell from it what came before.
    const short = newStore()
    await run(
      short,
      'backfill',
      events,
      '--threads',
      '0',
      '--from',
      '2025-01-03T12:00:00Z',
      '--to',
      '2025-01-04T00:00:00Z',
    )
    expect((await ask(short, late)).statuses).toEqual(['ok', 'incomplete', 'incomplete', 'incomplete'])

    const alone = newStore()
    const days = [2, 3].map((day) => join(events, 'year=2025', 'month=1', `day=${day}`))
    expect((await run(alone, 'backfill', ...days, '--threads', '0')).code).toBe(0)
    expect(await bytesOf(store)).toEqual(await bytesOf(alone))

    // The same again has nothing to do; another choice of equal files is another history.
    expect(JSON.parse((await run(store, ...args)).stdout)).toMatchObject({ finished: true, rows: 0 })
    const other = await run(store, 'backfill', events, '--from', '2025-01-03T00:00:00Z')
    expect(errorOf(other)).toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('history of others'),
    })
  })

  it('refuses files that do not say when they are of, and words that are no instant', async () => {
    const store = newStore()
    const plain = writeIn(makeFolder(), 'orders.ndjson', toLines(orders))
    const untold = await run(store, 'backfill', plain, '--from', '2025-01-02T00:00:00Z')
    expect(errorOf(untold)).toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('ds=2026-11-20/hour=03'),
    })
    expect(errorOf(await run(store, 'backfill', events, '--from', 'monday')).code).toBe('USAGE')
    expect(errorOf(await run(store, 'backfill', events, '--to', '2024-01-01T00:00:00Z')).message).toContain(
      'none of 4 files',
    )
  })
})
