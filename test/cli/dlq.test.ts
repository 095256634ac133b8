/** `tilefold dlq` on a real Kafka, and on files. */
import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { partitionHash } from '../../src/model/key.ts'
import { createDeadLetterFile, type DeadLetter, type DeadLetters } from '../../src/source/dead-letters.ts'
import { createKafkaConsumer } from '../../src/source/kafka-consumer.ts'
import { createKafkaDeadLetters } from '../../src/source/kafka-dead-letters.ts'
import { createKafkaProducer } from '../../src/source/kafka-producer.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { type KafkaCluster, startKafka, whyNoKafka } from '../support/kafka.ts'
import { Recorder } from '../support/kafka-recorder.ts'
import { until } from '../support/redis.ts'
import { cli, ended, errorOf, makeFolder, ORDERS_YAML, spawnCli, writeIn } from './harness.ts'

const START_MS = Date.UTC(2025, 0, 1)
const folder = makeFolder()

/** A record as a source topic held it; its bytes are no text, its time is its own. */
function letterAbout(topic: string, i: number, changes: Partial<DeadLetter> = {}): DeadLetter {
  return {
    topic,
    partition: i % 3,
    message: {
      key: i % 5 === 4 ? null : Buffer.from([0, 255, i]),
      value: Buffer.from([123, 200, i & 255, i >> 8]),
      timestamp: `${START_MS + i}`,
      offset: `${1000 + i}`,
      headers: { trace: [Buffer.from(`a${i}`), Buffer.from('b')], plain: Buffer.from([9, 8]) },
    },
    reason: i % 2 === 0 ? 'json' : 'cell',
    text: `offset ${1000 + i}: got "secret-${i}", expected a number`,
    ...changes,
  }
}

/** What one record is, wherever it stands. */
function faceOf({ key, value, timestamp, headers }: StreamMessage): string {
  return JSON.stringify([
    key?.toString('hex') ?? null,
    value?.toString('hex') ?? null,
    timestamp,
    Object.entries(headers ?? {}).map(([name, each]) => [name, [each].flat().map((one) => String(one))]),
  ])
}

describe('letters in a file', () => {
  async function written(name: string, letters: readonly DeadLetter[]): Promise<string> {
    const file = join(folder, name)
    const log = await createDeadLetterFile(file, () => START_MS)
    for (const letter of letters) log.add(letter)
    await log.close()
    return file
  }

  it('are counted by reason, view and source topic; keys and quoted bytes are not shown', async () => {
    const file = await written('counted.ndjson', [
      ...Array.from({ length: 7 }, (_, i) => letterAbout('clicks', i)),
      letterAbout('orders', 7, { reason: 'late', view: 'spend' }),
    ])
    appendFileSync(file, '{"half')
    const args = ['dlq', 'list', '--dead-letter-file', file]
    const { code, stdout, stderr } = await cli([...args, '--limit', '2', '-o', 'json'])
    expect(code, stderr).toBe(0)
    const listed = JSON.parse(stdout)
    const group = (reason: string, view: string | null, topic: string, letters: number) =>
      expect.objectContaining({ reason, view, topic, letters, sent: 0 })
    expect(listed).toMatchObject({ letters: 8, foreign: 1, missing: [] })
    expect(listed.groups).toEqual([
      group('json', null, 'clicks', 4),
      group('cell', null, 'clicks', 3),
      group('late', 'spend', 'orders', 1),
    ])
    expect(listed.groups[0]).toMatchObject({ oldest: '2025-01-01T00:00:00Z', newest: '2025-01-01T00:00:00.006Z' })
    expect(listed.newest).toEqual([
      expect.objectContaining({ at: { partition: 0, position: 8 }, topic: 'orders', offset: '1007', view: 'spend' }),
      expect.objectContaining({ at: { partition: 0, position: 7 }, topic: 'clicks', partition: 0, offset: '1006' }),
    ])
    expect(stdout).not.toMatch(/secret|key/)

    const revealed = await cli([...args, '--reveal', '-o', 'json'])
    expect(JSON.parse(revealed.stdout).newest[0]).toMatchObject({
      key: `base64:${Buffer.from([0, 255, 7]).toString('base64')}`,
      message: 'offset 1007: got "secret-7", expected a number',
    })
    const some = await cli([...args, '--reason', 'json', '--from', '3', '--until', '7', '-o', 'json'])
    expect(JSON.parse(some.stdout)).toMatchObject({ letters: 2, groups: [{ reason: 'json', letters: 2 }] })
    const table = await cli(args)
    expect(table.stdout).toMatch(/REASON +VIEW +SOURCE TOPIC +LETTERS/)
    expect(table.stdout).not.toContain('secret')
    expect(existsSync(`${file}.redriven`)).toBe(false)
  })

  it('must be named', async () => {
    const none = await cli(['dlq', 'list', '-o', 'json'])
    expect(errorOf(none)).toMatchObject({ code: 'CONFIG_INVALID' })
    expect(none.code).toBe(1)
    const missing = await cli(['dlq', 'list', '--dead-letter-file', join(folder, 'no-such'), '-o', 'json'])
    expect(errorOf(missing).message).toMatch(/^cannot read .*no-such: ENOENT/)
    const wrong = await cli(['dlq', 'eat', '-o', 'json'])
    expect([wrong.code, errorOf(wrong).message]).toEqual([
      2,
      'cannot do "eat" with dead letters: expected list or redrive',
    ])
  })
})

const missing = whyNoKafka()

describe.skipIf(missing !== undefined)('letters and a real Kafka', { timeout: 180_000 }, () => {
  let kafka: KafkaCluster
  let base: string[]
  let groups = 0

  beforeAll(async () => {
    kafka = await startKafka()
    base = ['--kafka-brokers', kafka.brokers.join(',')]
  }, 120_000)

  afterAll(async () => {
    await kafka?.stop()
  }, 60_000)

  async function setUp(letters: (topic: string) => readonly DeadLetter[]) {
    const topic = await kafka.createTopic(`clicks-${groups}`, 3)
    // Brokers that stamp what they take: the records' own times must come back all the same.
    const dead = await kafka.createTopic(`dead-${groups}`, 2, { 'message.timestamp.type': 'LogAppendTime' })
    const group = `g${groups++}-${dead}`
    const add = async (more: readonly DeadLetter[]) => {
      const log: DeadLetters = await createKafkaDeadLetters(createKafkaProducer({ brokers: kafka.brokers }), dead)
      for (const letter of more) log.add(letter)
      await log.close()
    }
    const all = letters(topic)
    await add(all)
    const dlq = (...args: string[]) =>
      cli(['dlq', ...args, '--dead-letter-topic', dead, '--kafka-group', group, ...base, '-o', 'json'])
    return { topic, dead, group, letters: all, add, dlq }
  }

  /** Faces of the records of each partition, in their order. */
  async function facesIn(topic: string): Promise<string[][]> {
    const ends = (await kafka.admin.fetchTopicOffsets(topic)).sort((one, other) => one.partition - other.partition)
    // A group may take its time on a busy machine; then another one is asked.
    for (let attempt = 1; ; attempt++) {
      const messages: StreamMessage[][] = ends.map(() => [])
      const recorder = new Recorder()
      recorder.before = (partition, batch) => {
        messages[partition]!.push(...batch)
      }
      const groupId = `look-${attempt}-${Math.random()}`
      const consumer = createKafkaConsumer({ brokers: kafka.brokers, groupId, topics: [topic] })
      await consumer.start(recorder)
      const outcome = await until(() => ends.every(({ high }, i) => messages[i]!.length >= Number(high))).catch(
        (error: unknown) => error,
      )
      await consumer.stop()
      if (outcome !== undefined) {
        const told = messages.map((each, i) => `${each.length} of ${ends[i]!.high}`)
        process.stderr.write(`${topic}, attempt ${attempt}: ${told}; ${JSON.stringify(recorder.bounds)}\n`)
      }
      if (outcome === undefined) return messages.map((each) => each.map(faceOf))
      if (attempt === 3) throw outcome
    }
  }

  function facesOf(letters: readonly DeadLetter[], partitions = 3): string[][] {
    return Array.from({ length: partitions }, (_, partition) =>
      letters.filter((letter) => letter.partition === partition).map(({ message }) => faceOf(message)),
    )
  }

  it('are all sent, whenever the process is killed', async () => {
    const { topic, dead, group, letters } = await setUp((name) =>
      Array.from({ length: 6_000 }, (_, i) => letterAbout(name, i)),
    )
    const args = ['dlq', 'redrive', '--dead-letter-topic', dead, '--kafka-group', group, ...base]
    const child = spawnCli(args, folder)
    const sent = async () => {
      const ends = await kafka.admin.fetchTopicOffsets(topic)
      return ends.reduce((sum, { high }) => sum + Number(high), 0)
    }
    await until(async () => child.exitCode !== null || (await sent()) > 0)
    child.kill('SIGKILL')
    await ended(child)
    const before = await sent()
    const { stdout } = await cli([...args, '-o', 'json'])
    expect(JSON.parse(stdout).missing).toEqual([])
    const found = await facesIn(topic)
    for (const [partition, faces] of facesOf(letters).entries()) {
      expect([...new Set(found[partition])].sort()).toEqual(faces.sort())
    }
    const repeated = found.flat().length - letters.length
    process.stderr.write(`killed after ${before} of ${letters.length} records; ${repeated} came twice\n`)
    expect(repeated).toBeLessThanOrEqual(500)
  })

  it('go back as they were, to the partition they came from, once; late ones when told', async () => {
    const { topic, letters, add, dlq } = await setUp((name) => [
      ...Array.from({ length: 40 }, (_, i) => letterAbout(name, i)),
      // Two views put one record aside.
      letterAbout(name, 41, { reason: 'late', view: 'spend' }),
      letterAbout(name, 41, { reason: 'expired', view: 'visits' }),
    ])
    const json = letters.filter(({ reason }) => reason === 'json')
    const cell = letters.filter(({ reason }) => reason === 'cell')

    const dry = await dlq('redrive', '--dry-run')
    expect(dry.code, dry.stderr).toBe(0)
    expect(JSON.parse(dry.stdout)).toMatchObject({ dry_run: true, sent: 0, would_send: 40, left: { put_aside: 2 } })
    expect((await facesIn(topic)).flat()).toEqual([])

    const first = await dlq('redrive', '--reason', 'json')
    expect(first.code, first.stderr).toBe(0)
    expect(JSON.parse(first.stdout)).toMatchObject({ sent: 20, left: { sent_before: 0, put_aside: 0 } })
    expect(await facesIn(topic)).toEqual(facesOf(json))

    const again = await dlq('redrive', '--reason', 'json')
    expect(JSON.parse(again.stdout)).toMatchObject({ sent: 0, left: { sent_before: 20 } })

    const rest = await dlq('redrive')
    expect(JSON.parse(rest.stdout)).toMatchObject({ sent: 20, left: { sent_before: 20, put_aside: 2 } })
    expect(await facesIn(topic)).toEqual(facesOf([...json, ...cell]))

    const late = await dlq('redrive', '--put-aside')
    expect(JSON.parse(late.stdout)).toMatchObject({ sent: 1, left: { sent_before: 40, repeated: 1 } })
    // A worker that was killed writes letters again; a new one comes behind.
    await add([letters[0]!, letterAbout(topic, 60)])
    const last = await dlq('redrive', '--put-aside')
    expect(JSON.parse(last.stdout)).toMatchObject({ sent: 1, left: { sent_before: 42, repeated: 1 } })
    expect(await facesIn(topic)).toEqual(facesOf([...json, ...cell, letters[40]!, letterAbout(topic, 60)]))

    const listed = JSON.parse((await dlq('list')).stdout)
    expect(listed.letters).toBe(44)
    expect(listed.groups.map(({ letters: count, sent }: { letters: number; sent: number }) => sent === count)).toEqual(
      listed.groups.map(() => true),
    )
  })

  it('go to another topic by their keys', async () => {
    const { letters, dlq } = await setUp((name) => Array.from({ length: 20 }, (_, i) => letterAbout(name, i)))
    const other = await kafka.createTopic('other', 4)
    const { stdout } = await dlq('redrive', '--to', other, '--limit', '15')
    expect(JSON.parse(stdout)).toMatchObject({ sent: 15, to: other })
    expect(JSON.parse((await dlq('redrive', '--to', other)).stdout)).toMatchObject({
      sent: 5,
      left: { sent_before: 15 },
    })
    const expected = letters.map(({ partition, message }) => {
      return `${(message.key === null ? partition : partitionHash(message.key)) % 4} ${faceOf(message)}`
    })
    const found = (await facesIn(other)).flatMap((faces, partition) => faces.map((face) => `${partition} ${face}`))
    expect(found.sort()).toEqual(expected.sort())
  })

  it('are refused where their partition is gone, and told where their value is missing', async () => {
    const { topic, dlq } = await setUp((name) => [letterAbout(name, 1, { partition: 7 })])
    const outcome = await dlq('redrive')
    expect([outcome.code, errorOf(outcome).code]).toEqual([1, 'LOG_CHANGED'])
    expect(errorOf(outcome).message).toContain(`${topic}/7: the topic has 3 partitions now`)

    const dead = await kafka.createTopic('narrow', 1, { 'max.message.bytes': '20000' })
    const log = await createKafkaDeadLetters(createKafkaProducer({ brokers: kafka.brokers }), dead)
    const { message, ...rest } = letterAbout(topic, 1)
    log.add({ ...rest, message: { ...message, value: Buffer.alloc(30_000) } })
    await log.close()
    const args = ['--dead-letter-topic', dead, '--kafka-group', dead, ...base, '-o', 'json']
    const { stdout, stderr } = await cli(['dlq', 'redrive', ...args])
    expect(JSON.parse(stdout), stderr).toMatchObject({ sent: 0, left: { without_value: 1 }, missing: [] })
    const listed = JSON.parse((await cli(['dlq', 'list', ...args])).stdout)
    expect(listed.newest).toEqual([expect.objectContaining({ bytes: 30_000, left_out: true, sent: false })])
  })

  it('of a file are noted beside it', async () => {
    const topic = await kafka.createTopic('of-file', 3)
    const letters = Array.from({ length: 9 }, (_, i) => letterAbout(topic, i))
    const file = join(folder, 'letters.ndjson')
    const log = await createDeadLetterFile(file, () => START_MS)
    for (const letter of letters) log.add(letter)
    await log.close()
    const args = ['dlq', 'redrive', '--dead-letter-file', file, ...base, '-o', 'json']
    expect(JSON.parse((await cli([...args, '--until', '6'])).stdout)).toMatchObject({ sent: 5 })
    // Torn by a crash: what is left of the line is another record's name.
    const side = `${file}.redriven`
    appendFileSync(side, `${topic}/2/1005/${START_MS}`)
    expect(JSON.parse((await cli(args)).stdout)).toMatchObject({ sent: 4, left: { sent_before: 5 } })
    expect(JSON.parse((await cli(args)).stdout)).toMatchObject({ sent: 0, left: { sent_before: 9 } })
    expect(readFileSync(side, 'utf8').split('\n')).toHaveLength(10)
    expect(await facesIn(topic)).toEqual(facesOf(letters))
  })

  it('say what a record meets that is sent again', async () => {
    const { topic, dlq } = await setUp((name) => [letterAbout(name, 0)])
    const definitions = writeIn(
      folder,
      'late.yaml',
      ORDERS_YAML.replace('time: at', 'time: at\n    lateness: { allowed: 1h, policy: drop }'),
    )
    const flags = ['-f', definitions, '--topic', `orders=${topic}`]
    const { stdout, stderr, code } = await dlq('redrive', '--dry-run', ...flags)
    expect(code, stderr).toBe(0)
    expect(JSON.parse(stdout).views).toEqual([
      expect.objectContaining({
        view: 'orders_by_customer',
        topic,
        late_policy: 'drop',
        allowed_lateness: '1h',
        dedupe: null,
      }),
    ])
  })
})
