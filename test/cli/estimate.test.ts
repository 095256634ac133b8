/** `tilefold estimate`: what it calls measured is what a store holds, what it extrapolates is what more events really take. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { estimateEntity, steadyRow } from '../../src/define/estimate.ts'
import { parseDefinitions } from '../../src/define/yaml.ts'
import { surveyStates } from '../../src/registry/gc.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { ordersFolder } from '../support/cli-orders.ts'
import { type KafkaCluster, startKafka, whyNoKafka } from '../support/kafka.ts'
import { seededRandom } from '../support/random.ts'
import { startRedis, whyNoRedis } from '../support/redis.ts'
import { cli, errorOf, makeOrders, ORDERS_YAML, type Order, toLines, writeIn } from './harness.ts'

const SEED = Number(process.env.TILEFOLD_SEED ?? 1)
const { folder, definitions, newStore, fill } = ordersFolder()
const plan = await compileView(parseDefinitions(ORDERS_YAML, 'tilefold.yaml').views[0]!)

/** Orders by chance: `count` of them in `seconds`, spread over so many customers. */
function drawOrders(count: number, seconds: number, customers: number): Order[] {
  const random = seededRandom(SEED)
  const times = Array.from({ length: count }, () => Date.UTC(2025, 0, 1) + random.below(seconds * 1000))
  return times
    .sort((a, b) => a - b)
    .map((ms) => ({
      at: new Date(ms).toISOString(),
      customer: `customer-${random.below(customers)}`,
      amount: 1 + random.below(17) / 4,
      items: random.below(5),
    }))
}

async function estimate(...args: string[]) {
  const outcome = await cli(['estimate', definitions, ...args, '-o', 'json'])
  expect(outcome.code, outcome.stderr).toBe(0)
  return { ...outcome, told: JSON.parse(outcome.stdout) }
}

describe('tilefold estimate', () => {
  it('measures what a store then holds, to the byte', async () => {
    const orders = makeOrders(3_000)
    const file = writeIn(folder, 'orders.ndjson', toLines(orders))
    const { told } = await estimate('--sample', file)
    const path = newStore()
    await fill(path, orders)
    const store = createLmdbStore({ path, readOnly: true })
    const [state] = await surveyStates(store, 'shop')
    await store.close()
    const [view] = told.views
    expect(view).toMatchObject({ view: 'orders_by_customer', state_hash: plan.stateHash })
    expect(view.measured).toMatchObject({
      consumed: 3_000,
      applied: 3_000,
      first: '2025-01-01T00:00:00Z',
      entities: 3,
      hottest_share: 0.5,
      rows: state!.rows,
      bytes: state!.bytes,
      inspected: 3,
    })
    expect(view.assumed).toMatchObject({ entities: 3, flush_interval_ms: 1000 })
    expect(view.measured.fold_micros_per_event).toBeGreaterThan(0)
    expect(view.measured.flush_micros_per_row).toBeGreaterThan(0)
    expect(told.sample).toMatchObject({ events: 3_000, logs: 1, unreadable: 0, cut: false })
    expect(told.rules).toHaveLength(5)
  })

  it(`foretells the rows that ten times the entities take (seed ${SEED})`, async () => {
    // Longer than any tile is kept: both are in their steady state.
    const days = Math.max(...plan.state.ladder.map(({ keepMs }) => keepMs)) / 86_400_000 + 2
    const small = writeIn(folder, 'small.ndjson', toLines(drawOrders(4_000, days * 86_400, 50)))
    const large = writeIn(folder, 'large.ndjson', toLines(drawOrders(40_000, days * 86_400, 500)))
    const rate = `${40_000 / days}/d`
    const { told: foretold } = await estimate('--sample', small, '--rate', rate, '--entities', '500')
    const { told: seen } = await estimate('--sample', large)
    const { extrapolated } = foretold.views[0]
    const { measured } = seen.views[0]
    expect(extrapolated.rows).toBe(500)
    expect(measured.rows).toBe(500)
    expect(extrapolated.bytes / measured.bytes).toBeGreaterThan(0.8)
    expect(extrapolated.bytes / measured.bytes).toBeLessThan(1.25)
    // One event now and then: each is a flush of one row.
    const eventsPerSecond = 40_000 / days / 86_400
    expect(extrapolated.write_rows_per_second / eventsPerSecond).toBeCloseTo(1, 1)
    expect(extrapolated.write_bytes_per_second).toBeGreaterThanOrEqual(
      Math.floor(eventsPerSecond * measured.row_bytes.mean * 0.7),
    )
  })

  it('counts a row once in a flush, however many events touch it', async () => {
    const burst = Array.from({ length: 2_000 }, (_, i) => ({
      at: new Date(Date.UTC(2025, 0, 1) + i).toISOString(),
      customer: ['ada', 'bob'][i % 2]!,
      amount: 1,
      items: 1,
    }))
    const file = writeIn(folder, 'burst.ndjson', toLines(burst))
    const { told } = await estimate('--sample', file, '--rate', '1000/s', '--max-flush-interval', '1s')
    expect(told.views[0].extrapolated.write_rows_per_second).toBeCloseTo(2, 5)
    const { told: quick } = await estimate('--sample', file, '--rate', '1000/s', '--max-flush-interval', '2ms')
    expect(quick.views[0].extrapolated.write_rows_per_second).toBeCloseTo(1000, 5)
  })

  it('warns of a sample that shows too little', async () => {
    const short = writeIn(folder, 'short.ndjson', toLines(makeOrders(20)))
    expect((await estimate('--sample', short)).stderr).toMatch(/the sample spans 3h10m, its longest window 1d/)
    const instant = writeIn(folder, 'instant.ndjson', toLines(makeOrders(1)))
    const { stderr, told } = await estimate('--sample', instant)
    expect(stderr).toContain('all events have one time; give --rate')
    expect([told.views[0].extrapolated, told.total]).toEqual([undefined, null])
  })

  it('prints a table that says what is measured, what is extrapolated, and how', async () => {
    const file = writeIn(folder, 'table.ndjson', toLines(makeOrders(500)))
    const { stdout } = await cli(['estimate', definitions, '--sample', file, '--rate', '10/s', '--entities', '1000'])
    for (const part of ['MEASURED', 'EXTRAPOLATED to 10 events/s, 1,000 entities', 'memory of Redis', '\nhow\n']) {
      expect(stdout).toContain(part)
    }
  })

  it('needs one sample', async () => {
    for (const args of [[], ['--sample', 'a.ndjson', '--sample-topic', 'a']]) {
      const outcome = await cli(['estimate', definitions, ...args, '-o', 'json'])
      expect([outcome.code, errorOf(outcome).message]).toEqual([
        2,
        'cannot estimate: expected either --sample <files> or --sample-topic <topic>',
      ])
    }
  })

  it('bounds a steady row from below the most that it may take', () => {
    for (const rate of [1e-6, 1e-3, 1, 100]) {
      const steady = steadyRow(plan, rate, { tileBytes: [] })
      const most = estimateEntity(plan, rate)
      expect(steady.totalBytes).toBeLessThanOrEqual(most.totalBytes)
      if (rate >= 1) expect(steady.totalBytes).toBeGreaterThan(0.9 * most.totalBytes)
    }
  })
})

describe.skipIf(whyNoRedis() !== undefined)('the memory that Redis takes', () => {
  it('is within a fifth of what was foretold', { timeout: 60_000 }, async () => {
    const orders = drawOrders(20_000, 3 * 86_400, 4_000)
    const file = writeIn(folder, 'many.ndjson', toLines(orders))
    const { told } = await estimate('--sample', file)
    const { measured } = told.views[0]
    const redis = await startRedis()
    try {
      const usedBytes = async () => Number(/used_memory:(\d+)/.exec(await redis.client.info('memory'))![1])
      const before = await usedBytes()
      const filled = await cli(['backfill', file, '-f', definitions, '--redis-url', redis.url, '--threads', '0'])
      expect(filled.code, filled.stderr).toBe(0)
      const perRow = ((await usedBytes()) - before) / measured.rows
      // Of rows of this size, as the report reckons it.
      const { told: same } = await estimate('--sample', file, '--entities', `${measured.rows}`)
      const { redis_bytes, bytes, rows } = same.views[0].extrapolated
      const foretold = measured.row_bytes.mean + (redis_bytes - bytes) / rows
      expect(foretold / perRow).toBeGreaterThan(0.8)
      expect(foretold / perRow).toBeLessThan(1.25)
    } finally {
      await redis.stop()
    }
  })
})

describe.skipIf(whyNoKafka() !== undefined)('a sample from a topic', { timeout: 120_000 }, () => {
  let kafka: KafkaCluster

  beforeAll(async () => {
    kafka = await startKafka()
  }, 120_000)

  afterAll(async () => {
    await kafka?.stop()
  }, 60_000)

  it('is its newest records, with a row of an entity in each partition that holds it', async () => {
    const topic = await kafka.createTopic('orders', 2)
    const producer = kafka.client.producer()
    await producer.connect()
    // Spread without a key: every customer is in both partitions.
    const orders = makeOrders(400)
    for (const partition of [0, 1]) {
      const own = orders.filter((_, i) => (i >> 2) % 2 === partition)
      await producer.send({ topic, messages: own.map((order) => ({ partition, value: JSON.stringify(order) })) })
    }
    await producer.send({ topic, messages: [{ partition: 0, value: '{' }] })
    await producer.disconnect()
    const args = ['--sample-topic', topic, '--kafka-brokers', kafka.brokers.join(',')]
    const { told } = await estimate(...args)
    expect(told.sample).toMatchObject({ events: 400, logs: 2, unreadable: 1 })
    expect(told.views[0].measured).toMatchObject({ applied: 400, entities: 3, rows: 6 })
    expect(told.views[0].extrapolated.rows).toBe(6)
    const { told: some } = await estimate(...args, '--sample-rows', '100')
    expect(some.sample.events).toBe(99)
    const empty = await kafka.createTopic('nothing', 1)
    const outcome = await cli(['estimate', definitions, '--sample-topic', empty, ...args.slice(2), '-o', 'json'])
    expect(errorOf(outcome)).toMatchObject({ code: 'SOURCE_NOT_FOUND' })
  })
})
