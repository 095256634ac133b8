/**
 * A topic that is not keyed by the view's entity, through real transactions: routers and workers as processes, killed in turn. The rows
 * are those of a run that nobody disturbed.
 *
 * TILEFOLD_KILLS=200 kills so often (6 unless told); TILEFOLD_SEED draws other events and other moments.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadCore } from '../../src/engine/module.ts'
import { saltKey, type ViewLayout } from '../../src/model/view-layout.ts'
import { createFeatureReader } from '../../src/serve/reader.ts'
import { type KafkaCluster, startKafka, whyNoKafka } from '../support/kafka.ts'
import { seededRandom } from '../support/random.ts'
import { anyRedis, whyNoRedis } from '../support/redis.ts'
import { drawPayments, expectedRows, type Payment, START_MS } from './payments.ts'
import { Pipeline, SEED, type Stream, type Worker } from './pipeline.ts'

const KILLS = Number(process.env.TILEFOLD_KILLS ?? 6)
const KILL_EVERY_MS = 1500
const PARTITIONS = 3
const missing = whyNoKafka() ?? whyNoRedis()

describe.skipIf(missing !== undefined)('a routed pipeline', { timeout: 300_000 + KILLS * 10_000 }, () => {
  let kafka: KafkaCluster
  let redis: Awaited<ReturnType<typeof anyRedis>>
  let pipeline: Pipeline

  beforeAll(async () => {
    ;[kafka, redis] = await Promise.all([startKafka(), anyRedis()])
    pipeline = new Pipeline(kafka, [redis.url])
  }, 120_000)

  afterAll(async () => {
    await pipeline?.close()
    await Promise.all([kafka?.stop(), redis?.stop()])
  }, 60_000)

  it(`gives the rows of an undisturbed run after ${KILLS} times kill -9 of routers and workers`, async () => {
    const random = seededRandom(SEED)
    const stream = await pipeline.stream('scattered', PARTITIONS)
    // One card is most of it: it is spread on the way.
    const drawn = drawPayments(random, 90_000, 300)
    const payments = drawn.map((each) => (random.chance(0.7) ? { ...each, card: 'card-7' } : each))
    const expected = await expectedRows(stream.plan, payments)
    const route = (...more: string[]) => routerOf(pipeline, stream, ...more)
    const team: [start: () => Worker, worker: Worker][] = []
    const join = (start: () => Worker) => team.push([start, start()])
    join(() => route('--lanes', '4'))
    await pipeline.logged(team[0]![1], '"reading ')
    join(route)
    join(() => pipeline.start(stream))
    join(() => pipeline.start(stream))
    const producing = produceScattered(kafka, stream, payments, KILLS * KILL_EVERY_MS, random)
    for (let kill = 0; kill < KILLS; kill++) {
      await sleep(KILL_EVERY_MS * (0.4 + 1.2 * random.fraction()))
      const member = team[kill % team.length]!
      member[1].child.kill('SIGKILL')
      member[1] = member[0]()
    }
    await producing
    await pipeline.settles(stream, expected, `${KILLS} kills of routers and workers`, 120)

    // A reader looks into every lane that has something of the card.
    const { store } = pipeline
    const { generations } = JSON.parse((await store.readLayout(stream.namespace, stream.plan.view))!) as ViewLayout
    expect(generations[0]!.salts).toMatchObject([{ key: saltKey(Buffer.from('card-7')), width: 4 }])
    const clock = () => START_MS
    const { namespace, plan } = stream
    const reader = createFeatureReader({ store, namespace, plans: [plan], core: loadCore(), clock })
    const asOfMs = START_MS + 24 * 3_600_000
    const { rows, metadata } = await reader.getFeatures({
      view: plan.view,
      entities: [{ card: 'card-7' }],
      asOf: asOfMs,
    })
    const counted = rows[0]!.values[metadata.features.findIndex(({ name }) => name === 'count_24h')]
    expect(Number(counted)).toBe(payments.filter(({ card }) => card === 'card-7').length)

    await pipeline.finish(...team.map(([, worker]) => worker))
    await pipeline.expectSame(stream, expected)
  })
})

function routerOf(pipeline: Pipeline, stream: Stream, ...flags: string[]): Worker {
  const brokers = ['--kafka-brokers', pipeline.kafka.brokers.join(',')]
  return pipeline.spawn(stream, 'route', stream.plan.view, '--session-timeout', '6s', ...brokers, ...flags)
}

/** Each payment into any partition, over some time. */
async function produceScattered(
  { client }: KafkaCluster,
  { topic }: Stream,
  payments: readonly Payment[],
  overMs: number,
  random: ReturnType<typeof seededRandom>,
): Promise<void> {
  const producer = client.producer({ idempotent: true })
  await producer.connect()
  const parts = 60
  const size = Math.ceil(payments.length / parts)
  for (let part = 0; part < parts; part++) {
    const own = payments.slice(part * size, (part + 1) * size)
    const logs: Payment[][] = Array.from({ length: PARTITIONS }, () => [])
    for (const payment of own) random.pick(logs).push(payment)
    for (const [partition, log] of logs.entries()) {
      const messages = log.map((payment) => ({
        key: null,
        value: JSON.stringify(payment),
        timestamp: `${payment.at}`,
        partition,
      }))
      if (messages.length > 0) await producer.send({ topic, messages, acks: -1 })
    }
    await sleep(overMs / parts)
  }
  await producer.disconnect()
}
