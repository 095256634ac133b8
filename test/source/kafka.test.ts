/** The consumer against a real Apache Kafka: whatever the group and the log do, the handler's word counts and nothing is missing. */
import { setTimeout as sleep } from 'node:timers/promises'
import kafkajs, { type Message } from 'kafkajs'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { partitionHash } from '../../src/model/key.ts'
import type { KafkaLogEntry } from '../../src/source/kafka.ts'
import { createKafkaConsumer, type KafkaConsumerOptions } from '../../src/source/kafka-consumer.ts'
import type { StreamConsumer } from '../../src/source/stream.ts'
import { isForeignKafka, type KafkaCluster, startKafka, whyNoKafka } from '../support/kafka.ts'
import { Recorder, until } from '../support/kafka-recorder.ts'
import { thrown } from './support.ts'

const absent = whyNoKafka()

describe.skipIf(absent !== undefined)('Kafka', () => {
  let kafka: KafkaCluster
  const open: StreamConsumer[] = []
  let groups = 0

  beforeAll(async () => {
    kafka = await startKafka({ secure: true })
  })
  afterEach(async () => {
    await Promise.all(open.splice(0).map((each) => each.stop()))
  })
  afterAll(async () => {
    await kafka?.stop()
  })

  function consumer(topic: string, options: Partial<KafkaConsumerOptions> = {}): StreamConsumer {
    const made = createKafkaConsumer({
      brokers: kafka.brokers,
      groupId: `group-${groups++}`,
      topics: [topic],
      ...options,
    })
    open.push(made)
    return made
  }

  async function produce(topic: string, messages: readonly Message[], compression = 0): Promise<void> {
    const producer = kafka.client.producer({ allowAutoTopicCreation: false })
    await producer.connect()
    // One partition per call: anything else may lose messages.
    for (const partition of new Set(messages.map((message) => message.partition ?? 0))) {
      const own = messages.filter((message) => (message.partition ?? 0) === partition)
      await producer.send({ topic, compression, messages: own.map((message) => ({ ...message, partition })) })
    }
    await producer.disconnect()
  }

  const numbered = (count: number, partition = 0, from = 0): Message[] =>
    Array.from({ length: count }, (_, i) => ({ partition, key: `k${from + i}`, value: `v${from + i}` }))

  const offsets = (recorder: Recorder, partition = 0) => recorder.of(partition).map(({ offset }) => offset)
  const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

  it('reads every partition from where the handler says, in order and whole', async () => {
    const topic = await kafka.createTopic('plain', 3)
    await produce(topic, [...numbered(500, 0), ...numbered(700, 1), ...numbered(3, 2)])
    const recorder = new Recorder()
    recorder.start = (partition) => partition
    const reader = consumer(topic)
    await reader.start(recorder)
    await until(
      () => recorder.taken.length === 500 + 699 + 1,
      () => recorder.taken.length,
    )
    expect(offsets(recorder, 0)).toEqual(range(0, 500))
    expect(offsets(recorder, 1)).toEqual(range(1, 700))
    expect(recorder.of(2)).toEqual([{ partition: 2, offset: 2, key: 'k2', value: 'v2' }])
    expect(recorder.bounds.map(({ partition, bounds }) => [partition, bounds]).sort()).toEqual(
      [500, 700, 3].map((next, partition) => [partition, { first: 0, next, compacted: false, partitions: 3 }]),
    )
    await produce(topic, numbered(2, 0, 500))
    await until(() => recorder.of(0).length === 502)
  })

  it('shows what the group committed, and reads from elsewhere all the same', async () => {
    const topic = await kafka.createTopic('hint')
    await produce(topic, numbered(10))
    const first = consumer(topic, { groupId: 'hint' })
    const recorder = new Recorder()
    await first.start(recorder)
    await until(() => recorder.taken.length === 10)
    await first.commit(topic, 0, 7, 'state 1')
    await first.commit(topic, 5, 7, 'not ours')
    await first.stop()
    const second = new Recorder()
    second.start = () => 2
    await consumer(topic, { groupId: 'hint' }).start(second)
    await until(() => second.taken.length === 8)
    expect(second.bounds[0]!.bounds.committed).toEqual({ position: 7, metadata: 'state 1' })
    expect(offsets(second)).toEqual(range(2, 10))
  })

  it('parks a partition that fails, reads the others on, and asks again when told', async () => {
    const topic = await kafka.createTopic('parked', 3)
    await produce(
      topic,
      [0, 1, 2].flatMap((partition) => numbered(50, partition)),
    )
    const recorder = new Recorder()
    const log: KafkaLogEntry[] = []
    let refuses = true
    recorder.start = (partition) => {
      if (partition === 0 && refuses) throw new Error('no checkpoint')
      return 0
    }
    recorder.before = (partition) => {
      if (partition === 1 && refuses) throw new Error('cannot fold')
    }
    const reader = consumer(topic, { log: (entry) => log.push(entry) })
    await reader.start(recorder)
    await until(() => recorder.of(2).length === 50)
    await produce(
      topic,
      [0, 1, 2].flatMap((partition) => numbered(50, partition, 50)),
    )
    await until(() => recorder.of(2).length === 100)
    expect(recorder.taken).toEqual(recorder.of(2))
    const parked = log.filter((entry) => entry.level === 'error').map((entry) => entry.message)
    expect(parked.sort()).toEqual([
      expect.stringMatching(/^partition parked-\w+\/0 is parked: no checkpoint$/),
      expect.stringMatching(/^partition parked-\w+\/1 is parked: cannot fold$/),
    ])
    refuses = false
    reader.restart(topic, 0, 0)
    reader.restart(topic, 1, 100)
    await until(() => recorder.taken.length === 300)
    expect(offsets(recorder, 0)).toEqual(range(0, 100))
    expect(offsets(recorder, 1)).toEqual(range(0, 100))
  })

  it('drops what was under way when a partition starts over', async () => {
    const topic = await kafka.createTopic('over')
    await produce(topic, numbered(20))
    const recorder = new Recorder()
    const reader = consumer(topic)
    let isFirst = true
    recorder.before = async () => {
      if (!isFirst) return
      isFirst = false
      reader.restart(topic, 0, 0)
      await sleep(300)
    }
    recorder.start = () => 5
    await reader.start(recorder)
    await until(() => recorder.taken.length === 30)
    expect(offsets(recorder)).toEqual([...range(5, 20), ...range(5, 20)])
    expect(recorder.bounds).toHaveLength(2)
  })

  it('keeps the session while the handler works longer than its timeout', async () => {
    const topic = await kafka.createTopic('slow', 2)
    await produce(topic, [...numbered(10, 0), ...numbered(10, 1)])
    const recorder = new Recorder()
    recorder.start = async (partition) => {
      if (partition === 1) await sleep(2_500)
      return 0
    }
    recorder.before = () => sleep(2_500)
    const log: KafkaLogEntry[] = []
    await consumer(topic, { sessionTimeoutMs: 1_500, log: (entry) => log.push(entry) }).start(recorder)
    await until(() => recorder.taken.length === 20)
    expect(log.filter((entry) => entry.message.includes('has joined the group'))).toHaveLength(1)
    expect(recorder.bounds).toHaveLength(2)
    expect(recorder.revokedOnes).toEqual([])
  })

  it('gives partitions away and takes them back: each message is taken once', async () => {
    const topic = await kafka.createTopic('shared', 6)
    const positions = new Map<string, number>()
    const [one, two] = [new Recorder(positions), new Recorder(positions)]
    const options = { groupId: 'shared', sessionTimeoutMs: 3_000 }
    await consumer(topic, options).start(one)
    await until(() => one.bounds.length === 6)
    let sent = 0
    const send = async () => {
      await produce(
        topic,
        [0, 1, 2, 3, 4, 5].flatMap((partition) => numbered(50, partition, sent)),
      )
      sent += 50
    }
    await send()
    const other = consumer(topic, options)
    const joining = other.start(two)
    await send()
    await joining
    await send()
    await until(
      () => one.taken.length + two.taken.length === 6 * sent,
      () => [one.taken.length, two.taken.length, sent],
    )
    await other.stop()
    await send()
    await until(
      () => one.taken.length + two.taken.length === 6 * sent,
      () => [one.taken.length, two.taken.length, sent],
    )
    expect(two.taken.length).toBeGreaterThan(0)
    expect(one.revokedOnes).toHaveLength(3)
    for (const partition of range(0, 6)) {
      const both = [...offsets(one, partition), ...offsets(two, partition)].sort((a, b) => a - b)
      expect(both).toEqual(range(0, sent))
    }
  })

  it('finds new partitions', async () => {
    const topic = await kafka.createTopic('growing', 1)
    const recorder = new Recorder()
    await consumer(topic, { metadataMaxAgeMs: 300 }).start(recorder)
    await produce(topic, numbered(5))
    await until(() => recorder.taken.length === 5)
    await kafka.admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] })
    await until(() => recorder.bounds.length === 3)
    await produce(topic, [...numbered(5, 1), ...numbered(5, 2), ...numbered(5, 0, 5)])
    await until(() => recorder.taken.length === 20)
    expect(offsets(recorder, 0)).toEqual(range(0, 10))
    expect(recorder.bounds.at(-1)!.bounds.partitions).toBe(3)
  })

  it('hands out tombstones, empty values and the holes of a compacted topic', async () => {
    const topic = await kafka.createTopic('compacted', 1, {
      'cleanup.policy': 'compact',
      'min.cleanable.dirty.ratio': '0.01',
      'segment.ms': '200',
      'max.compaction.lag.ms': '200',
      'delete.retention.ms': '600000',
    })
    for (let round = 0; round < 3; round++) {
      const value = round < 2 ? `v${round}` : null
      await produce(
        topic,
        [0, 1, 2].map((key) => ({ key: `k${key}`, value })),
      )
      await sleep(300)
    }
    await produce(topic, [{ key: 'last', value: '' }])
    let recorder = new Recorder()
    // The cleaner runs when it runs.
    await until(async () => {
      recorder = new Recorder()
      const reader = consumer(topic)
      await reader.start(recorder)
      await until(() => recorder.taken.at(-1)?.offset === 9)
      await reader.stop()
      return recorder.taken.length === 4
    })
    expect(recorder.taken).toEqual([
      { partition: 0, offset: 6, key: 'k0', value: null },
      { partition: 0, offset: 7, key: 'k1', value: null },
      { partition: 0, offset: 8, key: 'k2', value: null },
      { partition: 0, offset: 9, key: 'last', value: '' },
    ])
    expect(recorder.bounds[0]!.bounds).toMatchObject({ first: 0, next: 10, compacted: true })
  })

  it('sees committed transactions alone, and goes on behind markers and aborted ones', async () => {
    const topic = await kafka.createTopic('transactions')
    const recorder = new Recorder()
    const reader = consumer(topic)
    await reader.start(recorder)
    const producer = kafka.client.producer({ transactionalId: topic, idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    for (let i = 0; i < 8; i++) {
      const transaction = await producer.transaction()
      await transaction.send({ topic, messages: numbered(2, 0, i * 2) })
      await (i % 2 === 0 ? transaction.commit() : transaction.abort())
    }
    await until(() => recorder.taken.length === 8)
    const transaction = await producer.transaction()
    await transaction.send({ topic, messages: numbered(1, 0, 100) })
    await sleep(500)
    expect(recorder.taken.map(({ value }) => value)).toEqual([0, 1, 4, 5, 8, 9, 12, 13].map((i) => `v${i}`))
    await transaction.commit()
    await until(() => recorder.taken.length === 9)
    await producer.disconnect()
    expect(offsets(recorder)).toEqual([0, 1, 6, 7, 12, 13, 18, 19, 24])
    // Asked once: what kafkajs skips by itself is no reason to start over.
    expect(recorder.bounds).toHaveLength(1)
  })

  it('asks again when the log has lost the position, instead of going on elsewhere', async () => {
    const topic = await kafka.createTopic('gap')
    await produce(topic, numbered(100))
    const recorder = new Recorder()
    let isHeld = true
    recorder.before = async () => {
      while (isHeld) await sleep(20)
    }
    recorder.start = (_, bounds) => {
      if (bounds.first > 0) throw new Error(`gap: the log starts at ${bounds.first}`)
      return 10
    }
    const log: KafkaLogEntry[] = []
    const reader = consumer(topic, { fetchBytesMax: 1, log: (entry) => log.push(entry) })
    await reader.start(recorder)
    await until(() => recorder.bounds.length === 1)
    await produce(topic, numbered(100, 0, 100))
    // kafkajs finds the partition's leader only after another question about the topic.
    expect(await kafka.topicEnd(topic, 0)).toBe(200)
    await kafka.admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '150' }] })
    isHeld = false
    await until(() => recorder.bounds.length === 2)
    await until(() => log.some((entry) => entry.message.includes('gap: the log starts at 150')))
    expect(Math.max(...offsets(recorder))).toBeLessThan(150)
  })

  it('refuses an answer outside the log', async () => {
    const topic = await kafka.createTopic('outside')
    await produce(topic, numbered(5))
    const log: KafkaLogEntry[] = []
    const recorder = new Recorder()
    recorder.start = () => 6
    await consumer(topic, { log: (entry) => log.push(entry) }).start(recorder)
    const line = /is parked: cannot read outside-\w+\/0 from offset 6: the log holds 0 to 5$/
    await until(() => log.some((entry) => line.test(entry.message)))
    expect(recorder.taken).toEqual([])
  })

  it('takes a message larger than a fetch', async () => {
    const topic = await kafka.createTopic('giant', 1, { 'max.message.bytes': '20000000' })
    await produce(topic, [{ value: 'x'.repeat(12_000_000) }, { value: 'behind' }])
    const recorder = new Recorder()
    await consumer(topic).start(recorder)
    await until(() => recorder.taken.length === 2)
    expect(recorder.taken.map(({ value }) => value!.length)).toEqual([12_000_000, 6])
  })

  it.each(['none', 'gzip', 'snappy', 'lz4', 'zstd'])("reads what Java's client packs with %s", async (codec) => {
    const topic = await kafka.createTopic(`codec-${codec}`, 3)
    const records = Array.from({ length: 3000 }, (_, i): [string, string] => {
      const text =
        i % 10 === 0 ? 'abc'.repeat(i + 1) : `{"user":"u${i % 17}","amount":${(i * 7919) % 1000},"t":${1e12 + i}}`
      return [`user-${i}`, text]
    })
    records.push(['big', Array.from({ length: 80_000 }, (_, i) => `${(i * 2654435761) % 4294967296}`).join()])
    const base64 = (text: string) => Buffer.from(text).toString('base64')
    const lines = records.map(([key, value]) => `${base64(key)}\t${base64(value)}\n`)
    kafka.java('KafkaForeign.java', [topic, codec], lines.join(''))
    const recorder = new Recorder()
    await consumer(topic).start(recorder)
    await until(
      () => recorder.taken.length === records.length,
      () => recorder.taken.length,
    )
    const found = new Map(recorder.taken.map(({ key, value }) => [key, value]))
    expect(records.filter(([key, value]) => found.get(key) !== value).map(([key]) => key)).toEqual([])
    // Java's own choice of the partition.
    expect(recorder.taken.filter(({ key, partition }) => partitionHash(Buffer.from(key!)) % 3 !== partition)).toEqual(
      [],
    )
  })

  describe('with TLS and SASL', () => {
    const secure = (password: string, mechanism: 'plain' | 'scram-sha-256' = 'scram-sha-256') => ({
      brokers: kafka.secureBrokers,
      tls: { ca: kafka.certificate },
      sasl: { mechanism, username: 'alice', password },
    })

    it.skipIf(isForeignKafka).each(['plain', 'scram-sha-256'] as const)('logs in by %s', async (mechanism) => {
      const topic = await kafka.createTopic(`secure-${mechanism}`)
      await produce(topic, numbered(5))
      const recorder = new Recorder()
      await consumer(topic, secure('alice-secret', mechanism)).start(recorder)
      await until(() => recorder.taken.length === 5)
    })

    it.skipIf(isForeignKafka)('fails with one line that names neither password nor stack', async () => {
      const topic = await kafka.createTopic('refused')
      for (const mechanism of ['plain', 'scram-sha-256'] as const) {
        const error = await thrown(() => consumer(topic, secure('wrong-secret', mechanism)).start(new Recorder()))
        expect(error.code).toBe('LOG_UNAVAILABLE')
        expect(error.message).toMatch(
          /^cannot join group "group-\d+" \(Kafka at 127\.0\.0\.1:\d+\): .*[Aa]uthentication/,
        )
        expect(error.message).not.toMatch(/wrong-secret|\n/)
      }
      const untrusted = await thrown(() =>
        consumer(topic, { ...secure('alice-secret'), tls: true }).start(new Recorder()),
      )
      expect(untrusted.message).toMatch(/self-signed certificate/)
    })
  })

  it('ends when the cause will stay', async () => {
    const topic = await kafka.createTopic('damaged')
    const recorder = new Recorder()
    const reader = consumer(topic)
    const ended = thrown(() => reader.ended)
    await reader.start(recorder)
    const codecs = kafkajs.CompressionCodecs as Record<number, () => { decompress(bytes: Buffer): Promise<Buffer> }>
    const whole = codecs[kafkajs.CompressionTypes.Snappy]!
    codecs[kafkajs.CompressionTypes.Snappy] = () => ({
      decompress: (bytes) => whole().decompress(bytes.subarray(0, -1)),
    })
    kafka.java('KafkaForeign.java', [topic, 'snappy'], 'YQ==\tYWFhYWFhYWFhYWFhYWFhYWFhYWFh\n')
    const error = await ended
    expect(error.code).toBe('SOURCE_CORRUPT')
    expect(error.message).toMatch(/^cannot unpack a record batch as snappy: /)
    expect(recorder.taken).toEqual([])
  })

  it('says which topic is not there, and that nobody answers', async () => {
    const missing = await thrown(() => consumer('no-such').start(new Recorder()))
    expect(missing.message).toMatch(/it has no topic "no-such", or not for this user$/)
    const nobody = await thrown(() => consumer('x', { brokers: ['127.0.0.1:1'] }).start(new Recorder()))
    expect([nobody.code, nobody.message]).toEqual(['LOG_UNAVAILABLE', expect.stringMatching(/ECONNREFUSED/)])
  })

  it.skipIf(isForeignKafka)('goes on after the broker was killed and came back', async () => {
    const topic = await kafka.createTopic('restart', 2)
    await produce(topic, [...numbered(100, 0), ...numbered(100, 1)])
    const recorder = new Recorder()
    const log: KafkaLogEntry[] = []
    const reader = consumer(topic, { sessionTimeoutMs: 3_000, log: (entry) => log.push(entry) })
    let hasEnded = false
    reader.ended.catch(() => {
      hasEnded = true
    })
    await reader.start(recorder)
    await until(() => recorder.taken.length === 200)
    await kafka.kill9(0)
    // Long enough that kafkajs gives up.
    await until(() => log.some((entry) => entry.message.startsWith('the consumer starts anew')))
    await kafka.restart(0)
    await produce(topic, [...numbered(100, 0, 100), ...numbered(100, 1, 100)])
    await until(
      () => recorder.taken.length >= 400,
      () => recorder.taken.length,
    )
    expect(offsets(recorder, 0)).toEqual(range(0, 200))
    expect(offsets(recorder, 1)).toEqual(range(0, 200))
    expect(hasEnded).toBe(false)
  })
})
