/** `tilefold lag`, `offsets` and `doctor` about a view whose topic is routed, against a real Kafka. */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { drawPayments, paymentsView, paymentsYaml, START_MS } from '../stream/payments.ts'
import { type KafkaCluster, startKafka, whyNoKafka } from '../support/kafka.ts'
import { seededRandom } from '../support/random.ts'
import { until } from '../support/redis.ts'
import { cli, makeFolder, writeIn } from './harness.ts'

const PARTITIONS = 2
const LANES = 3

interface Lag {
  readonly partitions: readonly {
    readonly stage: string
    readonly topic: string
    readonly partition: number
    lag: number
  }[]
  readonly missing: readonly string[]
}

interface Finding {
  readonly part: string
  readonly verdict: string
  readonly text: string
}

describe.skipIf(whyNoKafka() !== undefined)('a routed view', { timeout: 180_000 }, () => {
  const folder = makeFolder()
  const store = join(folder, 'store')
  let kafka: KafkaCluster
  let topic: string
  let internal: string
  let flags: string[]
  let sent = 0

  beforeAll(async () => {
    kafka = await startKafka()
    internal = `lagging.spend.${(await paymentsView()).stateHash}.1`
    topic = await kafka.createTopic('scattered', PARTITIONS)
    const file = writeIn(folder, 'tilefold.yaml', `namespace: lagging\n${paymentsYaml()}`)
    flags = ['-f', file, '--store', store, '-o', 'json']
  }, 120_000)

  afterAll(async () => {
    await kafka?.stop()
  }, 60_000)

  async function ask<Answer>(command: string, ...args: string[]): Promise<{ code: number; answer: Answer }> {
    const ofKafka = ['--topic', `payments=${topic}`, '--kafka-brokers', kafka.brokers.join(',')]
    const more = command === 'offsets' ? [] : ofKafka
    const { code, stdout, stderr } = await cli([command, ...args, ...flags, ...more], { nowMs: START_MS * 2 })
    expect(stdout, stderr).not.toBe('')
    return { code, answer: JSON.parse(stdout) as Answer }
  }

  /** A command that goes on until it is told to stop, up to where the group has committed so much of each partition. */
  async function runUntil(args: readonly string[], groupId: string, of: string, partitions: number, least: number) {
    let stop = () => {}
    const ofKafka = ['--topic', `payments=${topic}`, '--kafka-brokers', kafka.brokers.join(',')]
    const all = [...args, ...flags.slice(0, 4), ...ofKafka]
    const onListening = (send: (signal: 'SIGTERM') => void) => {
      stop = () => send('SIGTERM')
    }
    const ended = cli(all, { nowMs: START_MS * 2, onListening })
    await until(async () => {
      const [found] = await kafka.admin.fetchOffsets({ groupId, topics: [of] }).catch(() => [])
      const offsets = found?.partitions.map(({ offset }) => Number(offset)) ?? []
      return offsets.length === partitions && offsets.every((offset) => offset >= least)
    })
    stop()
    const { code, stderr } = await ended
    expect(code, stderr).toBe(0)
  }

  async function produce(count: number): Promise<void> {
    const random = seededRandom(sent + 1)
    const producer = kafka.client.producer()
    await producer.connect()
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const messages = drawPayments(random, count, 9).map((each) => ({
        key: null,
        value: JSON.stringify(each),
        timestamp: `${each.at}`,
      }))
      await producer.send({ topic, acks: -1, messages: messages.map((each) => ({ ...each, partition })) })
    }
    sent += count
    await producer.disconnect()
  }

  const stages = ({ partitions }: Lag, stage: string) =>
    partitions.filter((each) => each.stage === stage).map(({ topic: of, partition, lag }) => [of, partition, lag])

  it('lags in two stages: from the topic to the router, and from the internal topic into rows', async () => {
    await produce(100)
    await runUntil(['route', 'spend', '--lanes', `${LANES}`], `${internal}.router`, topic, PARTITIONS, 100)
    await produce(30)
    const routed = await ask<Lag>('lag')
    expect(routed.code).toBe(0)
    expect(stages(routed.answer, 'route')).toEqual([0, 1].map((partition) => [topic, partition, 30]))
    const waiting = stages(routed.answer, 'fold')
    expect(waiting.map(([of, partition]) => [of, partition])).toEqual([0, 1, 2].map((lane) => [internal, lane]))
    for (const [, , lag] of waiting) expect(lag).toBeGreaterThan(0)

    await runUntil(
      ['run', '--flush-interval', '1s', '--max-flush-interval', '2s'],
      'tilefold-lagging',
      internal,
      LANES,
      1,
    )
    const folded = await ask<Lag>('lag')
    expect(stages(folded.answer, 'route')).toEqual([0, 1].map((partition) => [topic, partition, 30]))
    expect(stages(folded.answer, 'fold')).toEqual([0, 1, 2].map((lane) => [internal, lane, 0]))
  })

  it('shows where its lanes stand in the topic itself, and where its router does', async () => {
    const { answer } = await ask<{ lanes: { lane: string; from: string; sources?: object }[] }>('offsets', 'spend')
    const lanes = answer.lanes.map(({ lane, from, sources }) => ({ lane, from, sources }))
    const sources = { [`${topic}.0`]: 99, [`${topic}.1`]: 99 }
    expect(lanes).toEqual([
      ...[0, 1, 2].map((lane) => ({ lane: `${internal}.${lane}.0`, from: 'route', sources })),
      ...[0, 1].map((partition) => ({ lane: `route.spend.${topic}.${partition}`, from: 'router', sources: undefined })),
    ])
  })

  it('says at the beginning of another generation that a route is to be begun, too', async () => {
    const begin = ['generation', 'begin', 'spend', ...flags.slice(0, 4)]
    const { stderr } = await cli(begin, { nowMs: START_MS * 2 })
    expect(stderr).toContain('(tilefold route spend --generation 2)')
  })

  it('is looked at by the doctor with its internal topic and the log of transactions', async () => {
    const about = async (part: string) => {
      const { answer } = await ask<{ findings: Finding[] }>('doctor')
      return answer.findings.filter((each) => each.part === part).map(({ verdict, text }) => `${verdict} ${text}`)
    }
    expect(await about(`topic ${internal}`)).toEqual([
      expect.stringMatching(/^ok 3 partitions, 1 replicas, kept -?\d+ ms$/),
      'warning one replica: a lost disk loses records',
    ])
    expect(await about('topic __transaction_state')).toEqual([expect.stringMatching(/^warning one replica/)])

    await kafka.admin.createPartitions({ topicPartitions: [{ topic: internal, count: LANES + 1 }] })
    await until(async () => (await about(`topic ${internal}`))[0]!.startsWith('ok 4'))
    expect(await about(`topic ${internal}`)).toContainEqual(
      expect.stringMatching(/^failure 4 partitions, expected the 3 lanes of view spend, generation 1/),
    )
    await kafka.admin.deleteTopics({ topics: [internal] })
    await until(async () => !(await kafka.admin.listTopics()).includes(internal))
    expect(await about(`topic ${internal}`)).toEqual([expect.stringMatching(/^failure there is no such topic/)])
    const { code, answer } = await ask<Lag>('lag')
    expect([code, answer.missing]).toEqual([1, [internal]])
  })
})
