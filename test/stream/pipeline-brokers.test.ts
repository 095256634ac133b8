/**
 * The pipeline over three brokers. One dies: leaders move, the group's coordinator moves, and both come back. Or nobody dies, and leaders
 * are sent elsewhere, as operators and brokers themselves do it all the time.
 *
 * TILEFOLD_LONG=1 does it to each broker in turn.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isForeignKafka, type KafkaCluster, startKafka, whyNoKafka } from '../support/kafka.ts'
import { seededRandom } from '../support/random.ts'
import { anyRedis, until, whyNoRedis } from '../support/redis.ts'
import { drawPayments, expectedRows } from './payments.ts'
import { Pipeline, SEED } from './pipeline.ts'
import { Recovery } from './recovery.ts'

const LONG = process.env.TILEFOLD_LONG !== undefined
const PATIENCE_MS = 45_000
const OFFSETS = '__consumer_offsets'
/** Preferred leaders take over at once, and not when the controller looks every five minutes. */
const EAGER = { 'leader.imbalance.check.interval.seconds': '1', 'leader.imbalance.per.broker.percentage': '0' }
const missing = whyNoKafka() ?? whyNoRedis() ?? (isForeignKafka ? 'brokers of our own' : undefined)

describe.skipIf(missing !== undefined)('the pipeline and its brokers', { timeout: 400_000 }, () => {
  let kafka: KafkaCluster
  let redis: Awaited<ReturnType<typeof anyRedis>>
  let pipeline: Pipeline

  beforeAll(async () => {
    ;[kafka, redis] = await Promise.all([startKafka({ brokers: 3, properties: EAGER }), anyRedis()])
    pipeline = new Pipeline(kafka, [redis.url])
  }, 120_000)

  afterAll(async () => {
    await pipeline?.close()
    await Promise.all([kafka?.stop(), redis?.stop()])
  }, 60_000)

  /** A group's coordinator leads the partition of its offsets that Java's hash of its name chooses. */
  async function coordinatorOf(group: string): Promise<number> {
    const hash = Buffer.from(group).reduce((sum, byte) => (Math.imul(sum, 31) + byte) | 0, 0)
    const all = await kafka.leaders(OFFSETS)
    return all[Math.abs(hash) % all.length]!
  }

  it('comes out the same though the broker that leads the group and some partitions is killed and comes back', async () => {
    const stream = await pipeline.stream('moving', 6)
    const payments = drawPayments(seededRandom(SEED), 6_000, 150)
    const expected = await expectedRows(stream.plan, payments)
    const team = [pipeline.start(stream), pipeline.start(stream)]
    for (const worker of team) await pipeline.logged(worker, '"reading ')
    const first = await coordinatorOf(stream.namespace)
    const victims = LONG ? [first, (first + 1) % 3, (first + 2) % 3] : [first]
    const producing = pipeline.produceSlowly(stream, payments, 20 * victims.length, 12_000 * victims.length)
    producing.catch(() => {})
    const recovery = new Recovery(kafka, stream)
    for (const victim of victims) {
      await sleep(1_500)
      expect(await kafka.leaders(stream.topic)).toContain(victim)
      await kafka.kill9(victim)
      // How long two brokers take to agree who leads now is theirs; the broker comes back in any case.
      const isOver = await Promise.race([recovery.disturbed().then(() => true), sleep(PATIENCE_MS, false)])
      if (isOver) expect(await coordinatorOf(stream.namespace)).not.toBe(victim)
      else process.stderr.write(`pipeline: the brokers have not moved on after ${PATIENCE_MS} ms\n`)
      await kafka.restart(victim)
    }
    await producing
    await pipeline.settles(stream, expected, `${victims.length} of 3 brokers killed and back`)
    process.stderr.write(`pipeline: brokers killed: ${await recovery.report()}\n`)
    await pipeline.finish(...team)
    await pipeline.expectSame(stream, expected)
  })

  /** Puts the next broker first among the replicas of each partition; resolves when all of them lead. */
  async function moveLeaders(...topics: string[]): Promise<void> {
    const { topics: found } = await kafka.admin.fetchTopicMetadata({ topics })
    const moved = found.map(({ name, partitions }) => ({
      topic: name,
      partitionAssignment: partitions
        .sort((a, b) => a.partitionId - b.partitionId)
        .map(({ partitionId, replicas: [first, ...others] }) => ({
          partition: partitionId,
          replicas: [...others, first!],
        })),
    }))
    await kafka.admin.alterPartitionReassignments({ topics: moved })
    for (const { topic, partitionAssignment } of moved) {
      const wanted = partitionAssignment.map(({ replicas }) => replicas[0]).join()
      await until(async () => (await kafka.leaders(topic)).join() === wanted)
    }
  }

  it('comes out the same while every leader is sent to another broker and on to the next, the coordinator as well', async () => {
    const stream = await pipeline.stream('sent', 6)
    const payments = drawPayments(seededRandom(SEED), 6_000, 150)
    const expected = await expectedRows(stream.plan, payments)
    const team = [pipeline.start(stream), pipeline.start(stream)]
    for (const worker of team) await pipeline.logged(worker, '"reading ')
    const recovery = new Recovery(kafka, stream)
    let isOver = false
    const producing = pipeline.produceSlowly(stream, payments, 20, 8_000).finally(() => (isOver = true))
    producing.catch(() => {})
    const home = await kafka.leaders(stream.topic)
    let moves = 0
    for (; moves < 2 || !isOver; moves++) {
      await sleep(500)
      await moveLeaders(stream.topic, OFFSETS)
      if (moves === 0)
        for (const [i, leader] of (await kafka.leaders(stream.topic)).entries()) expect(leader).not.toBe(home[i])
      void recovery.disturbed()
    }
    await producing
    await pipeline.settles(stream, expected, `all leaders moved ${moves} times`)
    process.stderr.write(`pipeline: leaders moved: ${await recovery.report()}\n`)
    await pipeline.finish(...team)
    await pipeline.expectSame(stream, expected)
  })
})
