/** What we write to a real Apache Kafka of three brokers: nothing acknowledged is missing, whoever dies. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { DeadLetter } from '../../src/source/dead-letters.ts'
import type { RecordMetadata } from '../../src/source/kafka.ts'
import { createKafkaConsumer } from '../../src/source/kafka-consumer.ts'
import { createKafkaDeadLetters } from '../../src/source/kafka-dead-letters.ts'
import { checkAnswer, createKafkaProducer, type KafkaProducer } from '../../src/source/kafka-producer.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { isForeignKafka, type KafkaCluster, startKafka, whyNoKafka } from '../support/kafka.ts'
import { Recorder, until } from '../support/kafka-recorder.ts'
import { codeOf, thrown } from './support.ts'

const absent = whyNoKafka()
const PARTITIONS = 6

describe('an answer', () => {
  const entry = (partition: number, errorCode = 0) =>
    ({ topicName: 't', partition, errorCode, baseOffset: '7' }) as RecordMetadata

  it('acknowledges its own partition alone', async () => {
    expect(checkAnswer('t', 1, [entry(1)])).toBe(7)
    for (const answer of [[], [entry(2)], [entry(1), entry(2)], [entry(1, 6)], [{ ...entry(1), topicName: 'u' }]]) {
      expect(await codeOf(() => checkAnswer('t', 1, answer))).toBe('LOG_UNAVAILABLE')
    }
  })
})

describe.skipIf(absent !== undefined)('Kafka of three brokers', () => {
  let kafka: KafkaCluster
  let producer: KafkaProducer
  let groups = 0

  beforeAll(async () => {
    kafka = await startKafka({ brokers: 3 })
    producer = createKafkaProducer({ brokers: kafka.brokers })
  })
  afterAll(async () => {
    await producer?.close()
    await kafka?.stop()
  })

  /** Everything in `topic`, through the consumer. */
  async function readAll(topic: string, partitions: number): Promise<{ messages: StreamMessage[][]; taken: Recorder }> {
    const ends = await Promise.all(Array.from({ length: partitions }, (_, each) => kafka.topicEnd(topic, each)))
    const messages: StreamMessage[][] = Array.from({ length: partitions }, () => [])
    const taken = new Recorder()
    taken.before = (partition, batch) => {
      messages[partition]!.push(...batch)
    }
    const isWhole = () =>
      ends.every((end, partition) => end === 0 || Number(messages[partition]!.at(-1)?.offset) === end - 1)
    const consumer = createKafkaConsumer({ brokers: kafka.brokers, groupId: `check-${groups++}`, topics: [topic] })
    await consumer.start(taken)
    await until(isWhole, () => [ends, messages.map((each) => each.at(-1)?.offset)])
    await consumer.stop()
    return { messages, taken }
  }

  it('keeps calls for one partition in order, and says where the messages lie', async () => {
    const topic = await kafka.createTopic('ordered', 2)
    expect(await producer.partitions(topic)).toBe(2)
    const bytes = (text: string) => Buffer.from(text)
    const offsets = await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        producer.send(topic, i % 2, [
          { key: null, value: bytes(`a${i}`) },
          { key: bytes('k'), value: bytes(`b${i}`) },
        ]),
      ),
    )
    const { taken } = await readAll(topic, 2)
    for (const [i, offset] of offsets.entries()) {
      const own = taken.of(i % 2).filter((each) => each.offset === offset || each.offset === offset + 1)
      expect(own.map(({ key, value }) => [key, value])).toEqual([
        [undefined, `a${i}`],
        ['k', `b${i}`],
      ])
      expect(offset).toBe(Math.floor(i / 2) * 2)
    }
  })

  it.skipIf(isForeignKafka)('has everything that was acknowledged while a leader died', async () => {
    const topic = await kafka.createTopic('killed', PARTITIONS)
    const acknowledged: { readonly partition: number; readonly offset: number; readonly value: string }[] = []
    let sent = 0
    let failed = 0
    let isDone = false
    const write = async (partition: number) => {
      while (!isDone) {
        const values = Array.from({ length: 10 }, () => `${partition}:${sent++}`)
        try {
          const messages = values.map((value) => ({ key: null, value: Buffer.from(value) }))
          const offset = await producer.send(topic, partition, messages)
          for (const [i, value] of values.entries()) acknowledged.push({ partition, offset: offset + i, value })
        } catch {
          failed++
        }
      }
    }
    const writers = Array.from({ length: PARTITIONS }, (_, partition) => write(partition))
    const grows = async (by: number) => {
      const before = acknowledged.length
      await until(() => acknowledged.length >= before + by)
    }
    await grows(2_000)
    const leader = (await kafka.leaders(topic))[0]!
    await kafka.kill9(leader)
    // Of every partition something must come through again.
    const since = acknowledged.length
    await until(() => new Set(acknowledged.slice(since + 200).map((each) => each.partition)).size === PARTITIONS)
    await grows(2_000)
    await kafka.restart(leader)
    await grows(1_000)
    isDone = true
    await Promise.all(writers)
    const { messages } = await readAll(topic, PARTITIONS)
    const log = messages.map((each) => new Map(each.map(({ offset, value }) => [Number(offset), value!.toString()])))
    const missing = acknowledged.filter(({ partition, offset, value }) => log[partition]!.get(offset) !== value)
    process.stderr.write(
      `broker ${leader} killed: ${acknowledged.length} acknowledged, ${failed} calls failed, ${missing.length} missing\n`,
    )
    expect(missing).toEqual([])
  })

  describe('dead letters', () => {
    const letter = (offset: number, value: Buffer | null, extra: Partial<DeadLetter> = {}): DeadLetter => ({
      topic: 'clicks',
      partition: 5,
      message: {
        key: Buffer.from([0, 255]),
        value,
        timestamp: '1600000000123',
        offset: String(offset),
        headers: { trace: 'x' },
      },
      reason: 'json',
      text: 'got "{", expected a JSON object',
      ...extra,
    })
    const headersOf = ({ headers }: StreamMessage) =>
      Object.fromEntries(Object.entries(headers!).map(([name, value]) => [name, String(value)]))

    it('come as they were, and say what was wrong as Kafka Connect does', async () => {
      const topic = await kafka.createTopic('dead', 3)
      const letters = await createKafkaDeadLetters(createKafkaProducer({ brokers: kafka.brokers }), topic)
      letters.add(letter(17, Buffer.from([123, 200, 0])))
      letters.add(letter(18, null, { reason: 'late', view: 'spend', text: 'too late' }))
      await letters.flush()
      await letters.flush()
      letters.add(letter(19, Buffer.from('{'), { partition: 1 }))
      await letters.close()
      const { messages } = await readAll(topic, 3)
      expect(messages.map((each) => each.length)).toEqual([0, 1, 2])
      const [first, second] = messages[2]!
      expect([first!.key, first!.value]).toEqual([Buffer.from([0, 255]), Buffer.from([123, 200, 0])])
      // Not the record's: a topic that keeps its letters for a week would delete those of older records unread.
      expect(Date.now() - Number(first!.timestamp)).toBeLessThan(3_600_000)
      expect(headersOf(first!)).toEqual({
        trace: 'x',
        '__connect.errors.topic': 'clicks',
        '__connect.errors.partition': '5',
        '__connect.errors.offset': '17',
        '__connect.errors.connector.name': 'tilefold',
        '__connect.errors.stage': 'VALUE_CONVERTER',
        '__connect.errors.exception.class.name': 'json',
        '__connect.errors.exception.message': 'got "{", expected a JSON object',
        'tilefold.record.timestamp': '1600000000123',
      })
      expect(second!.value).toBeNull()
      expect(headersOf(second!)).toMatchObject({
        '__connect.errors.offset': '18',
        '__connect.errors.connector.name': 'tilefold:spend',
        '__connect.errors.exception.class.name': 'late',
      })
    })

    it('leave out the value that the topic does not take', async () => {
      const topic = await kafka.createTopic('narrow', 1, { 'max.message.bytes': '20000' })
      const letters = await createKafkaDeadLetters(createKafkaProducer({ brokers: kafka.brokers }), topic)
      for (const [offset, bytes] of [10, 30_000, 15_000, 15_000].entries())
        letters.add(letter(offset, Buffer.alloc(bytes, 'x')))
      await letters.close()
      const { messages } = await readAll(topic, 1)
      expect(messages[0]!.map(({ value }) => value?.length)).toEqual([10, undefined, 15_000, 15_000])
      expect(headersOf(messages[0]![1]!)).toMatchObject({ 'tilefold.value.left.out.bytes': '30000' })
    })

    it('need their topic', async () => {
      const error = await thrown(() =>
        createKafkaDeadLetters(createKafkaProducer({ brokers: kafka.brokers }), 'no-such'),
      )
      expect([error.code, error.message]).toEqual(['DEAD_LETTERS_UNAVAILABLE', expect.stringMatching(/no-such/)])
    })

    it.skipIf(isForeignKafka)('are kept while they cannot be written', { timeout: 300_000 }, async () => {
      const topic = await kafka.createTopic('kept', 1, { 'min.insync.replicas': '3' })
      // One that gives up soon: every flush fails until the broker is back.
      const hasty = { initialRetryTime: 100, maxRetryTime: 400, retries: 5 }
      const letters = await createKafkaDeadLetters(createKafkaProducer({ brokers: kafka.brokers }, hasty), topic)
      await kafka.kill9(2)
      letters.add(letter(1, Buffer.from('a')))
      const refused = codeOf(() => letters.flush())
      await sleep(1_000)
      letters.add(letter(2, Buffer.from('b')))
      expect(await refused).toBe('DEAD_LETTERS_UNAVAILABLE')
      await kafka.restart(2)
      // A broker that comes back into the replicas in sync may take its time.
      const untilMs = Date.now() + 240_000
      while (
        (await letters.flush().then(
          () => 'ok',
          () => 'refused',
        )) !== 'ok' &&
        Date.now() < untilMs
      )
        await sleep(200)
      await letters.close()
      // If need be more than once: the flush that was refused had left the first one where it was.
      const { messages } = await readAll(topic, 1)
      const offsets = messages[0]!.map((each) => headersOf(each)['__connect.errors.offset'])
      expect([...new Set(offsets)]).toEqual(['1', '2'])
    })
  })
})
