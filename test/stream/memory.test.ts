/** The memory budget: entities are forgotten when they are too many, and the rows come out the same. */
import { expect, it } from 'vitest'
import { createJsonDecoder } from '../../src/source/json-messages.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import { StreamJob } from '../../src/stream/job.ts'
import { seededRandom } from '../support/random.ts'
import { drawPayments, expectedRows, messageOf, NAMESPACE, paymentsView, START_MS, storedRows } from './payments.ts'
import { ScriptedConsumer, ScriptedGroup } from './scripted-group.ts'

const EVENTS = 20_000
const CARDS = 15_000
const PARTITIONS = 2

/** Runs all of the payments; returns the highest memory of the cores, and how often it fell. */
async function run(memoryBytes: number | undefined) {
  const plan = await paymentsView()
  const random = seededRandom(7)
  const payments = drawPayments(random, EVENTS, CARDS)
  const logs = Array.from({ length: PARTITIONS }, (_, partition) =>
    payments.filter((_, i) => i % PARTITIONS === partition).map((payment, i) => messageOf(payment, i)),
  )
  const group = new ScriptedGroup('payments', logs, random)
  const consumer = new ScriptedConsumer(group)
  const store = createMemoryStore()
  const job = await StreamJob.create({
    plans: [plan],
    consumer,
    store,
    namespace: NAMESPACE,
    decoder: createJsonDecoder,
    flushMaxMs: 3_600_000,
    clock: () => START_MS * 2,
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
  })
  await job.start()
  for (let i = 0; i < PARTITIONS; i++) await group.assign(i, consumer)
  let highest = 0
  let falls = 0
  let before = 0
  for (let open = true; open; ) {
    open = false
    for (let i = 0; i < PARTITIONS; i++) open = (await consumer.deliver(i, 1000)) || open
    const now = job.runs.reduce((sum, each) => sum + each.memoryBytes, 0)
    highest = Math.max(highest, now)
    if (now < before) falls++
    before = now
  }
  // Clocks and counters outlive what is forgotten.
  const clocks = job.runs.map(({ handles }) => handles.map(({ status }) => [status.watermarkMs, status.counters]))
  await job.stop()
  return { plan, payments, highest, falls, clocks, rows: await storedRows(store, plan) }
}

it('bounds what is resident, and changes no row', { timeout: 60_000 }, async () => {
  const budget = 4 << 20
  const free = await run(undefined)
  const bounded = await run(budget)
  expect(free.falls).toBe(0)
  expect(free.highest).toBeGreaterThan(2 * budget)
  expect(bounded.falls).toBeGreaterThan(1)
  expect(bounded.highest).toBeLessThan(1.25 * budget)
  expect(bounded.clocks).toEqual(free.clocks)
  expect(bounded.rows).toEqual(await expectedRows(bounded.plan, bounded.payments))
})
