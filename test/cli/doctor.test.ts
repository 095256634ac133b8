/** `tilefold doctor` against a real Redis and a real Kafka, fit and unfit. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type KafkaCluster, startKafka, whyNoKafka } from '../support/kafka.ts'
import { startRedis, until, whyNoRedis } from '../support/redis.ts'
import { cli, makeFolder, ORDERS_YAML, type Outcome, runProcess, writeIn } from './harness.ts'

const folder = makeFolder()

interface Finding {
  readonly part: string
  readonly verdict: string
  readonly text: string
}

function findingsOf({ stdout }: Outcome): Finding[] {
  return (JSON.parse(stdout) as { findings: Finding[] }).findings
}

const finding = (part: string, verdict: string, text: RegExp) => ({ part, verdict, text: expect.stringMatching(text) })

describe.skipIf(whyNoRedis() !== undefined)('tilefold doctor and Redis', { timeout: 60_000 }, () => {
  it('finds a server fit that evicts nothing, keeps a log and has our time', async () => {
    const redis = await startRedis({ appendonly: 'yes' })
    try {
      const outcome = await runProcess(['doctor', '--redis-url', redis.url, '-o', 'json'], folder)
      expect(outcome.code, outcome.stderr).toBe(0)
      expect(findingsOf(outcome)).toEqual([
        finding('host', 'ok', /^Node /),
        finding('redis', 'ok', /^version \d.*master; scripts are allowed$/),
        finding('redis', 'ok', /^maxmemory-policy noeviction$/),
        finding('redis', 'ok', /^a crash of the machine loses up to 2 seconds; a failover may lose/),
        finding('redis', 'ok', /^its clock and ours agree$/),
      ])
    } finally {
      await redis.stop()
    }
  })

  it('says what may vanish, what a restart loses, and that clocks differ', async () => {
    const redis = await startRedis({ 'maxmemory-policy': 'allkeys-lru' })
    try {
      // The clock of commands in this process stands still.
      const outcome = await cli(['doctor', '--redis-url', redis.url, '-o', 'json'])
      expect(outcome.code).toBe(1)
      expect(findingsOf(outcome).slice(2)).toEqual([
        finding('redis', 'failure', /^maxmemory-policy allkeys-lru, expected noeviction: rows may vanish/),
        finding('redis', 'warning', /^a restart loses everything: neither append-only file nor snapshots/),
        finding('redis', 'warning', /^its clock is \d+ s ahead of ours: rows expire by it/),
      ])
    } finally {
      await redis.stop()
    }
  })
})

describe.skipIf(whyNoKafka() !== undefined)('tilefold doctor and Kafka', { timeout: 120_000 }, () => {
  let kafka: KafkaCluster

  beforeAll(async () => {
    kafka = await startKafka()
    // A coordinator that has just come up sends everybody away for a moment.
    const isUp = () =>
      kafka.admin.fetchOffsets({ groupId: 'tilefold-shop' }).then(
        () => true,
        () => false,
      )
    await until(isUp)
  }, 120_000)

  afterAll(async () => {
    await kafka?.stop()
  }, 60_000)

  async function doctor(topic: string): Promise<Outcome> {
    const file = writeIn(folder, `${topic}.yaml`, ORDERS_YAML)
    const brokers = kafka.brokers.join(',')
    return cli(['doctor', '-f', file, '--topic', `orders=${topic}`, '--kafka-brokers', brokers, '-o', 'json'])
  }

  it('finds a topic fit that is stamped by its brokers', async () => {
    const topic = await kafka.createTopic('fit', 3, { 'message.timestamp.type': 'LogAppendTime' })
    const outcome = await doctor(topic)
    expect(outcome.code, outcome.stderr).toBe(0)
    expect(findingsOf(outcome).slice(1)).toEqual([
      finding('kafka', 'ok', /^\d brokers$/),
      finding(`topic ${topic}`, 'ok', /^3 partitions, \d replicas, kept -?\d+ ms$/),
      finding(`topic ${topic}`, 'warning', /^one replica: a lost disk loses records$/),
    ])
  })

  it('says what of a topic cannot be relied on', async () => {
    const config = {
      'unclean.leader.election.enable': 'true',
      'cleanup.policy': 'compact',
      'message.timestamp.after.max.ms': '9223372036854775807',
    }
    const outcome = await doctor(await kafka.createTopic('unfit', 1, config))
    expect(outcome.code).toBe(1)
    const texts = findingsOf(outcome).map(({ verdict, text }) => `${verdict} ${text}`)
    expect(texts).toContainEqual(expect.stringMatching(/^failure unclean leader election is on/))
    expect(texts).toContainEqual(expect.stringMatching(/^warning producers may set any record time/))
    expect(texts).toContainEqual(expect.stringMatching(/^warning compacted/))
    expect(findingsOf(await doctor('no-such')).at(-1)).toEqual(
      finding('topic no-such', 'failure', /^there is no such topic$/),
    )
  })
})
