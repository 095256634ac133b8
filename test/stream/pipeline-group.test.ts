/**
 * What a consumer group, its topic and what lies in it may do to the real pipeline: members that come and go all the time,
 * partitions added, offsets set back, records that are none, and a second engine that believes the rows are its own.
 *
 * TILEFOLD_LONG=1 storms for a minute, and waits for running workers to find new partitions by themselves.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadCore } from '../../src/engine/module.ts'
import type { ViewLayout } from '../../src/model/view-layout.ts'
import { createFeatureReader } from '../../src/serve/reader.ts'
import { createKafkaConsumer } from '../../src/source/kafka-consumer.ts'
import { type KafkaCluster, startKafka, whyNoKafka } from '../support/kafka.ts'
import { seededRandom } from '../support/random.ts'
import { anyRedis, whyNoRedis } from '../support/redis.ts'
import { drawPayments, expectedRows, type Payment, START_MS } from './payments.ts'
import { Pipeline, SEED, type Stream } from './pipeline.ts'
import { Recovery } from './recovery.ts'

const LONG = process.env.TILEFOLD_LONG !== undefined
const STORM_MS = LONG ? 60_000 : 8_000
const missing = whyNoKafka() ?? whyNoRedis()

describe.skipIf(missing !== undefined)('the pipeline and its group', { timeout: 240_000 }, () => {
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

  /** In the order in which they are read, each partition by itself; what a reader answers must be what was paid. */
  async function expectCounts({ namespace, plan }: Stream, payments: readonly Payment[]): Promise<void> {
    const { store } = pipeline
    const reader = createFeatureReader({ store, namespace, plans: [plan], core: loadCore(), clock: Date.now })
    const asOf = START_MS + 9 * 3_600_000
    const cards = [...new Set(payments.map(({ card }) => card))]
    const answer = await reader.getFeatures({ view: plan.view, entities: cards.map((card) => ({ card })), asOf })
    const count24h = answer.metadata.features.findIndex(({ name }) => name === 'count_24h')
    const paid = cards.map((card) => payments.filter((each) => each.card === card && each.at < asOf).length)
    expect(answer.rows.map(({ values }) => values[count24h])).toEqual(paid)
  }

  it('comes out the same while a member joins or leaves several times a second', async () => {
    const random = seededRandom(SEED)
    const stream = await pipeline.stream('storm', 6)
    const payments = drawPayments(random, 6_000, 200)
    const expected = await expectedRows(stream.plan, payments)
    const recovery = new Recovery(kafka, stream)
    const team = [pipeline.start(stream), pipeline.start(stream)]
    for (const worker of team) await pipeline.logged(worker, '"reading ')
    const producing = pipeline.produceSlowly(stream, payments, 30, STORM_MS)
    // Guests take partitions, read them, fold nothing, commit nothing, and are gone.
    const guests: { stop(): Promise<void> }[] = []
    const leaving: Promise<void>[] = []
    let [joins, leaves] = [0, 0]
    for (const untilMs = Date.now() + STORM_MS; Date.now() < untilMs; ) {
      await sleep(200 + 800 * random.fraction())
      if (guests.length === 3 || (guests.length > 0 && random.chance(0.5))) {
        leaving.push(guests.shift()!.stop())
        leaves++
        continue
      }
      const guest = createKafkaConsumer({ brokers: kafka.brokers, groupId: stream.namespace, topics: [stream.topic] })
      const handler = {
        assigned: async (_topic: string, _partition: number, { first }: { first: number }) => first,
        messages: async () => {},
        revoked: async () => {},
      }
      const joined = guest.start(handler)
      joined.catch(() => {})
      guests.push({ stop: () => joined.catch(() => {}).then(() => guest.stop()) })
      joins++
    }
    await Promise.all([...leaving, ...guests.map((guest) => guest.stop()), producing])
    void recovery.disturbed()
    await pipeline.settles(stream, expected, `${joins} joins and ${leaves} leaves in ${STORM_MS} ms`)
    process.stderr.write(`pipeline: after the storm: ${await recovery.report()}\n`)
    await pipeline.finish(...team)
    await pipeline.expectSame(stream, expected)
  })

  it('follows a keyed topic that grows: both counts are known, and a card is read from both of its partitions', async () => {
    const stream = await pipeline.stream('growing', 2)
    const payments = drawPayments(seededRandom(SEED), 2_000, 100)
    const expected = await expectedRows(stream.plan, payments)
    const start = () => pipeline.start(stream, '--keyed', stream.topic)
    let worker = start()
    await pipeline.produce(stream, payments.slice(0, 1_000))
    await pipeline.settles(stream, await expectedRows(stream.plan, payments.slice(0, 1_000)), 'two partitions')
    await kafka.admin.createPartitions({ topicPartitions: [{ topic: stream.topic, count: 5 }] })
    await pipeline.produce(stream, payments.slice(1_000), 5)
    // Otherwise the one that runs finds them when it next looks, within half a minute.
    if (!LONG) {
      worker.child.kill('SIGKILL')
      worker = start()
    }
    await pipeline.settles(stream, expected, 'five partitions')
    const layout = JSON.parse((await pipeline.store.readLayout(stream.namespace, stream.plan.view))!) as ViewLayout
    expect(layout.generations[0]!.topics).toEqual([{ name: stream.topic, partitioner: 'murmur2', partitions: [2, 5] }])
    await expectCounts(stream, payments)
    await pipeline.finish(worker)
  })

  it('goes by its rows where the group is set back to the start, and folds nothing twice', async () => {
    const random = seededRandom(SEED)
    const stream = await pipeline.stream('replayed', 3)
    const sorted = drawPayments(random, 3_000, 80)
    // Out of order over some minutes: another order makes no other row.
    const payments = sorted
      .map((payment) => ({ payment, at: payment.at + random.below(600_000) }))
      .sort((a, b) => a.at - b.at)
      .map(({ payment }) => payment)
    const expected = await expectedRows(stream.plan, sorted)
    const first = pipeline.start(stream)
    await pipeline.produce(stream, payments)
    await pipeline.settles(stream, expected, 'shuffled')
    await pipeline.finish(first)
    const partitions = [0, 1, 2].map((partition) => ({ partition, offset: '0' }))
    await kafka.admin.setOffsets({ groupId: stream.namespace, topic: stream.topic, partitions })
    const again = pipeline.start(stream)
    await pipeline.logged(again, '"reading ')
    await pipeline.produce(stream, [{ card: 'one-more', at: sorted[0]!.at, amount: 1 }])
    const more = [...sorted, { card: 'one-more', at: sorted[0]!.at, amount: 1 }]
    await pipeline.settles(stream, await expectedRows(stream.plan, more), 'offsets set to 0')
    await pipeline.finish(again)
    // And the whole log once more, by a group and into rows that are new.
    const copy = { ...stream, namespace: `${stream.namespace}-copy` }
    const other = pipeline.start(copy)
    await pipeline.settles(copy, await expectedRows(stream.plan, more), 'read again from offset 0')
    await pipeline.finish(other)
  })

  it('passes tombstones, poison and a giant in the middle of the stream', async () => {
    const stream = await pipeline.stream('mixed', 2)
    const { topic } = stream
    const letters = await kafka.createTopic('mixed-dead', 2, { 'max.message.bytes': '1000000' })
    const limit = { type: 2, name: topic, configEntries: [{ name: 'max.message.bytes', value: '8000000' }] }
    await kafka.admin.alterConfigs({ validateOnly: false, resources: [limit] })
    const payments = drawPayments(seededRandom(SEED), 2_000, 60)
    const worker = pipeline.start(stream, '--dead-letter-topic', letters, '--max-dead-ratio', '0.1')
    const producer = kafka.client.producer()
    await producer.connect()
    for (let part = 0; part < 4; part++) {
      await pipeline.produce(stream, payments.slice(part * 500, (part + 1) * 500))
      const giant = JSON.stringify({ ...payments[0], note: 'x'.repeat(3_000_000) })
      const deep = `{"card":"deep","at":1,"amount":1,"note":${'['.repeat(10_000)}${']'.repeat(10_000)}}`
      const values = [null, '{"card":', giant, deep, null, Buffer.from([0xff, 0xfe]), '{"card":"x","at":"never"}']
      const messages = values.map((value) => ({ key: 'odd', value, partition: part % 2 }))
      for (const message of messages) await producer.send({ topic, messages: [message] })
    }
    await producer.disconnect()
    await pipeline.settles(stream, await expectedRows(stream.plan, payments), 'tombstones, poison and giants')
    // Each of them but the tombstones is there, the giants without their text; a replay may write one twice, none is lost.
    const ends = async () => (await kafka.topicEnd(letters, 0)) + (await kafka.topicEnd(letters, 1))
    for (let i = 0; i < 100 && (await ends()) < 20; i++) await sleep(100)
    expect(await ends()).toBe(20)
    await pipeline.finish(worker)
  })

  it('comes out right though a second engine of another group writes into the same namespace', async () => {
    const stream = await pipeline.stream('rivals', 2)
    const payments = drawPayments(seededRandom(SEED), 3_000, 80)
    const expected = await expectedRows(stream.plan, payments)
    const one = pipeline.start(stream)
    await pipeline.logged(one, '"reading ')
    const producing = pipeline.produceSlowly(stream, payments, 20, 7_000)
    await sleep(1_500)
    const rival = pipeline.start(stream, '--kafka-group', `${stream.namespace}-rival`)
    await pipeline.logged(one, '"FENCED"')
    await producing
    await pipeline.settles(stream, expected, 'two engines')
    rival.child.kill('SIGKILL')
    await pipeline.expectSame(stream, expected)
    const more = [...payments, { card: 'after', at: payments[0]!.at, amount: 2 }]
    await pipeline.produce(stream, more.slice(-1))
    await pipeline.settles(stream, await expectedRows(stream.plan, more), 'one of them is gone')
    await pipeline.finish(one)
  })
})
