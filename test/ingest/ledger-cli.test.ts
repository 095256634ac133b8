import { join } from 'node:path'
import { expect, it } from 'vitest'
import { parseDefinitions } from '../../src/define/yaml.ts'
import { createEngine } from '../../src/embed/engine.ts'
import { cli, errorOf, makeFolder, makeOrders, ORDERS_YAML, writeIn } from '../cli/harness.ts'

const folder = makeFolder()
const definitions = writeIn(folder, 'tilefold.yaml', ORDERS_YAML)
const store = join(folder, 'store')

function ledger(...args: string[]) {
  return cli(['ledger', 'orders_by_customer', ...args, '-f', definitions, '--store', store])
}

it('tells which position was readable when', async () => {
  const { namespace, views } = parseDefinitions(Buffer.from(ORDERS_YAML), 'tilefold.yaml')
  const startMs = Date.UTC(2025, 2, 1)
  let nowMs = startMs
  const clock = () => nowMs
  const engine = await createEngine({
    views,
    store,
    namespace,
    threads: 0,
    flushIntervalMs: 0,
    ledgerMs: 86_400_000,
    clock,
  })
  const orders = makeOrders(30).map((order) => ({ ...order, at: Date.parse(order.at) }))
  for (let i = 0; i < 30; i += 10) {
    nowMs = startMs + (i + 10) * 1_000
    await engine.push(orders.slice(i, i + 10), { log: 'live', offset: i })
    await engine.flush()
  }
  await engine.close()

  const at = (ms: number) => ledger('--at', new Date(ms).toISOString(), '-o', 'json')
  const lanes = async (ms: number) => JSON.parse((await at(ms)).stdout).lanes as Record<string, unknown>[]
  expect(await lanes(startMs)).toMatchObject([{ lane: 'live.0', entries: 3, at_least: -1, at_most: 9 }])
  expect(await lanes(startMs + 15_000)).toMatchObject([{ at_least: 9, at_most: 19 }])
  const [last] = await lanes(startMs + 40_000)
  expect(last).toMatchObject({ at_least: 29, first: { position: 9 }, last: { position: 29 } })
  expect(last).not.toHaveProperty('at_most')
  const { stdout } = await ledger()
  expect(stdout).toMatch(/LANE +ENTRIES +BYTES +SINCE +LAST +POSITION\nlive\.0 +3 .* 29\n/)
  expect(errorOf(await ledger('--at', 'noon', '-o', 'json'))).toMatchObject({ code: 'USAGE' })
})
