/** A backfill that was killed in the middle of a file goes on in the row group where its lanes stand, and looks at none before it. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parquetMetadata } from 'hyparquet'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { expect, it } from 'vitest'
import { type GenerationLayout, historyLane, type ViewLayout } from '../../src/model/view-layout.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { ordersFolder } from '../support/cli-orders.ts'
import { until } from '../support/redis.ts'
import { askValues, ended, expectedValues, makeOrders, runProcess, spawnCli, writeIn } from './harness.ts'

const ROWS = 80_000
const GROUP_ROWS = 5_000
const LANES = 4

it('re-reads no row group that lies before what was stored when it was killed', { timeout: 120_000 }, async () => {
  const { folder, definitions, newStore } = ordersFolder()
  const orders = makeOrders(ROWS, Date.UTC(2022, 0, 1)).map((order, i) => ({
    ...order,
    customer: `${(i * 7) % 75_001}`.padStart(200, 'customer'),
  }))
  const columnData = [
    { name: 'at', data: orders.map((row) => BigInt(Date.parse(row.at))), type: 'INT64' as const },
    { name: 'customer', data: orders.map((row) => row.customer), type: 'STRING' as const },
    { name: 'amount', data: orders.map((row) => row.amount), type: 'DOUBLE' as const },
    { name: 'items', data: orders.map((row) => BigInt(row.items)), type: 'INT64' as const },
  ]
  const file = writeIn(
    folder,
    'orders.parquet',
    new Uint8Array(parquetWriteBuffer({ columnData, rowGroupSize: GROUP_ROWS })),
  )
  const argsOf = (store: string) => [
    'backfill',
    file,
    '-f',
    definitions,
    '--store',
    store,
    '--threads',
    '1',
    '-o',
    'json',
  ]
  // Little memory: it stores what it has several times on the way; slowly, so that it is killed in between.
  const store = newStore()
  const little = ['--memory', '232MiB', '--history-lanes', `${LANES}`]
  const child = spawnCli([...argsOf(store), ...little, '--rate-limit', '20000rows/s'], folder)
  const end = ended(child)
  await until(() => existsSync(join(store, 'data.mdb')) || child.exitCode !== null)
  const seen = createLmdbStore({ path: store, readOnly: true })
  const markers = async () => {
    const layout = await seen.readLayout('shop', 'orders_by_customer')
    if (layout === undefined) return []
    const [{ stateHash, generation }] = (JSON.parse(layout) as ViewLayout).generations as [GenerationLayout]
    const lanes = Array.from({ length: LANES }, (_, i) => ({
      namespace: 'shop',
      stateHash,
      generation,
      lane: historyLane(i),
    }))
    return Promise.all(lanes.map(async (lane) => (await seen.readLane(lane))?.marker ?? -1))
  }
  await until(async () => {
    const found = await markers()
    return child.exitCode !== null || Math.min(...found, ...(found.length === 0 ? [-1] : [])) > 2 * GROUP_ROWS
  })
  child.kill('SIGKILL')
  const killed = await end
  expect(killed.signal, killed.stdout + killed.stderr).toBe('SIGKILL')
  const resumeFrom = Math.min(...(await markers())) + 1
  await seen.close()
  expect(resumeFrom).toBeLessThan(ROWS)

  // Whatever lies before is no longer readable, but for the first row group: whether the file is the right one is looked at first.
  const bytes = readFileSync(file)
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)
  const groups = parquetMetadata(buffer).row_groups
  const before = Math.floor(resumeFrom / GROUP_ROWS)
  for (const { columns } of groups.slice(1, before)) {
    for (const { meta_data } of columns) {
      const at = Number(meta_data!.dictionary_page_offset ?? meta_data!.data_page_offset)
      bytes.fill(0xff, at, at + Number(meta_data!.total_compressed_size))
    }
  }
  expect(before).toBeGreaterThan(1)
  writeFileSync(file, bytes)
  const rest = await runProcess([...argsOf(store), ...little], folder)
  expect(rest.code, rest.stderr).toBe(0)
  const summary = JSON.parse(rest.stdout) as { started_at: number; rows: number; complete: boolean; views: object[] }
  expect(summary).toMatchObject({ started_at: resumeFrom, rows: ROWS - resumeFrom, complete: true })
  expect(summary.views).toMatchObject([{ consumed: ROWS, applied: ROWS }])

  // One that has to read them says that it can't.
  const damaged = await runProcess(argsOf(newStore()), folder)
  expect(damaged.stderr).toContain('SOURCE_CORRUPT')

  const asOf = new Date(Date.parse(orders.at(-1)!.at) + 60_000).toISOString()
  // Of the first, the last and one that has rows on both sides of the crash.
  for (const { customer } of [orders[1]!, orders.at(-1)!, orders[ROWS - 5_000]!]) {
    expect(await askValues(store, definitions, customer, asOf)).toEqual(expectedValues(orders, customer, asOf))
  }
})
