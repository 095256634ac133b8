/** Transactions of a real Apache Kafka: all or nothing, and one holder at a time, wherever the one before has got to. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type ErrorCode, TilefoldError } from '../../src/model/errors.ts'
import type { KafkaLogEntry } from '../../src/source/kafka.ts'
import { type KafkaTransactions, kafkaTransactions } from '../../src/source/kafka-transactions.ts'
import type { CommittedOffset, RoutedRecord, Transactions, TransactionsName } from '../../src/source/transactions.ts'
import { isForeignKafka, type KafkaCluster, startKafka, whyNoKafka } from '../support/kafka.ts'
import { until } from '../support/kafka-recorder.ts'
import { type Hold, holdRequests, type RequestKind } from '../support/kafka-wire.ts'
import { seededRandom } from '../support/random.ts'
import { codeOf, thrown } from './support.ts'

const absent = whyNoKafka()
const PARTITIONS = 3
const TRANSACTION_MS = 1_000

let kafka: KafkaCluster
const holds: Hold[] = []
let names = 0

describe.skipIf(absent !== undefined)('transactions of Kafka', () => {
  /** Two processes, as it were, and one whose transactions may not last. */
  let a: KafkaTransactions
  let b: KafkaTransactions
  let hasty: KafkaTransactions
  const logged: KafkaLogEntry[] = []

  beforeAll(async () => {
    kafka = await startKafka({ properties: { 'transaction.abort.timed.out.transaction.cleanup.interval.ms': '100' } })
    const log = (entry: KafkaLogEntry) => logged.push(entry)
    const { brokers } = kafka
    a = kafkaTransactions({ brokers, clientId: 'a', log })
    b = kafkaTransactions({ brokers, clientId: 'b', log })
    hasty = kafkaTransactions({ brokers, clientId: 'hasty', log }, { timeoutMs: TRANSACTION_MS })
  })
  afterEach(() => {
    for (const each of holds.splice(0)) each.release()
  })
  afterAll(async () => {
    await Promise.all([a?.close(), b?.close(), hasty?.close()])
    await kafka?.stop()
  })

  it('show records, offset and metadata together', async () => {
    const name = await router()
    const first = await a.open(name)
    expect(first.committed).toBeUndefined()
    await route(first, 0, 10)
    await route(first, 10, 11)
    await first.close()
    const next = await a.open(name)
    expect(next.committed).toEqual(behind(11))
    expect(await codeOf(() => route(first, 11, 12))).toBe('LOG_UNAVAILABLE')
    await next.close()
    expect(await read(name.topic)).toEqual(whole(11))
  })

  it('show nothing of one that was aborted, and end with it', async () => {
    const name = await router()
    const holder = await a.open(name)
    await route(holder, 0, 4)
    // The broker takes 4096 bytes, and the records have been sent by then.
    const error = await thrown(() => holder.commit(dealt(4, 8), 8, 'x'.repeat(5_000)))
    expect([error.code, error.message]).toEqual(['LOG_UNAVAILABLE', expect.stringMatching(/metadata/)])
    expect(await codeOf(() => route(holder, 4, 8))).toBe('LOG_UNAVAILABLE')
    expect(await read(name.topic)).toEqual(whole(4))
    expect(await read(name.topic, 'uncommitted')).toEqual(whole(8))
    const next = await a.open(name)
    expect(next.committed).toEqual(behind(4))
    await route(next, 4, 9)
    expect(await read(name.topic)).toEqual(whole(9))
  })

  it('take more than a message may hold, in order', async () => {
    const name = await router()
    const holder = await a.open(name)
    const values = Array.from({ length: 7 }, (_, i) => String(i).repeat(i === 3 ? 900_000 : 300_000))
    await holder.commit(
      values.map((value) => ({ partition: 1, value: Buffer.from(value) })),
      7,
      '',
    )
    const [, read1] = await read(name.topic)
    expect(read1!.map((value) => [value[0], value.length])).toEqual(values.map((value) => [value[0], value.length]))
  })

  it('follow each other at once, also where the offset is all there is', async () => {
    const name = await router()
    const holder = await a.open(name)
    const logs = logged.length
    const done = Array.from({ length: 12 }, (_, i) => (i % 2 === 0 ? route(holder, i / 2, i / 2 + 1) : idle(i)))
    async function idle(i: number) {
      await holder.commit([], (i + 1) / 2, 'idle')
    }
    await Promise.all(done)
    await holder.close()
    const next = await a.open(name)
    expect(next.committed).toEqual({ position: 6, metadata: 'idle' })
    expect(await read(name.topic)).toEqual(whole(6))
    expect(logged.slice(logs).filter(({ level }) => level === 'error')).toEqual([])
  })

  it('refuse an idle holder once another has taken the id', async () => {
    const name = await router()
    const zombie = await a.open(name)
    await route(zombie, 0, 5)
    const next = await b.open(name)
    expect(next.committed).toEqual(behind(5))
    expect(await codeOf(() => route(zombie, 5, 9))).toBe('FENCED')
    expect(await codeOf(() => route(zombie, 5, 9))).toBe('FENCED')
    await route(next, 5, 7)
    expect(await read(name.topic)).toEqual(whole(7))
  })

  const steps: RequestKind[] = ['AddPartitionsToTxn', 'Produce', 'AddOffsetsToTxn', 'TxnOffsetCommit', 'EndTxn']
  it.each(steps)('are taken over from a holder that stands before %s', async (step) => {
    const name = await router()
    const stopped = await a.open(name)
    await route(stopped, 0, 4)
    const hold = held('a', step)
    const fate = thrown(() => route(stopped, 4, 8))
    await hold.arrived
    const next = await b.open(name)
    expect(next.committed).toEqual(behind(4))
    hold.release()
    expect((await fate).code).toBe('FENCED')
    await route(next, 4, 6)
    expect(await read(name.topic)).toEqual(whole(6))
    const raw = await read(name.topic, 'uncommitted')
    expect(raw.flat().length).toBe(steps.indexOf(step) < 2 ? 6 : 10)
    const last = await b.open(name)
    expect(last.committed).toEqual(behind(6))
  })

  it('leave no doubt behind where the answer to a commit is lost', async () => {
    const name = await router()
    const holder = await a.open(name)
    const hold = held('a', 'EndTxn')
    const fate = codeOf(() => route(holder, 0, 4))
    await hold.arrived
    hold.releaseAndCut()
    expect(await fate).toBe('LOG_UNAVAILABLE')
    await holder.close()
    const next = await a.open(name)
    expect(next.committed).toEqual(behind(4))
    await route(next, 4, 6)
    expect(await read(name.topic)).toEqual(whole(6))
  })

  it.skipIf(isForeignKafka)('are not taken for fenced where they only took too long', async () => {
    const name = await router()
    const holder = await hasty.open(name)
    const hold = held('hasty', 'EndTxn')
    const fate = codeOf(() => route(holder, 0, 4))
    await hold.arrived
    await sleep(TRANSACTION_MS + 1_000)
    hold.release()
    expect(await fate).toBe('LOG_UNAVAILABLE')
    const next = await hasty.open(name)
    expect(next.committed).toBeUndefined()
  })

  describe('taken over while a commit is under way', () => {
    const ROUNDS = 25

    /** Takes the id over and over from a holder that commits; where the records are in the end, and how often it was fenced. */
    async function takeOver(goBy: 'committed' | 'early') {
      const name = await router()
      const random = seededRandom(7)
      let holder = await a.open(name)
      let position = 0
      let fenced = 0
      for (let round = 0; round < ROUNDS; round++) {
        const end = position + random.between(1, 9)
        const early = await fetchEarly(name)
        const [own, other] = round % 2 === 0 ? (['a', 'b'] as const) : (['b', 'a'] as const)
        const commit = held(own, random.chance(0.6) ? 'EndTxn' : random.pick(steps))
        const initialise = held(other, 'InitProducerId')
        const fating = outcome(route(holder, position, end))
        const taking = { a, b }[other].open(name)
        await Promise.all([commit.arrived, initialise.arrived])
        const [first, second] = random.chance(0.5) ? [commit, initialise] : [initialise, commit]
        first.release()
        await sleep(random.below(5))
        second.release()
        const [fate, next] = await Promise.all([fating, taking])
        if (fate === 'FENCED') fenced++
        if (goBy === 'committed') {
          // Rarely the broker itself stumbles over the race; nobody knows the fate then, but the one who takes over.
          const fates = { whole: [end], FENCED: [position], LOG_UNAVAILABLE: [position, end] }
          expect(fates[fate as keyof typeof fates]).toContain(next.committed?.position ?? 0)
        }
        await holder.close()
        holder = next
        position = goBy === 'early' ? early : (next.committed?.position ?? 0)
      }
      await route(holder, position, position + 3)
      await holder.close()
      return { values: await read(name.topic), position: position + 3, committed: await fetchEarly(name), fenced }
    }

    it('have each record once', async () => {
      const { values, position, committed, fenced } = await takeOver('committed')
      expect(committed).toBe(position)
      expect(values).toEqual(whole(position))
      process.stderr.write(`${ROUNDS} taken over, ${fenced} fenced, ${position} records\n`)
      expect(fenced).toBeGreaterThan(0)
      expect(fenced).toBeLessThan(ROUNDS)
    })

    it('would have some twice, had the offset been fetched first', async () => {
      const { values } = await takeOver('early')
      const all = values.flat()
      expect(new Set(all).size).toBeLessThan(all.length)
    })

    it.each(['committed', 'early'] as const)(
      'that lands before the id is taken, going by the %s offset',
      async (goBy) => {
        const name = await router()
        const before = await a.open(name)
        const hold = held('b', 'InitProducerId')
        const taking = b.open(name)
        await hold.arrived
        const early = await fetchEarly(name)
        await route(before, 0, 4)
        hold.release()
        const next = await taking
        expect(next.committed).toEqual(behind(4))
        await route(next, goBy === 'early' ? early : next.committed!.position, 7)
        const all = (await read(name.topic)).flat().sort()
        expect(all.join('')).toBe(goBy === 'early' ? '00112233456' : '0123456')
      },
    )
  })

  describe('their topic', () => {
    it('is made once, however many want it', async () => {
      const topic = `made-${names++}-${Date.now()}`
      const settings = { 'retention.ms': '86400000', 'max.message.bytes': '2000000' }
      const made = [a, b, a, b].map((each) => each.ensureTopic(topic, 5, settings))
      expect(await Promise.all(made)).toEqual([5, 5, 5, 5])
      expect(await a.ensureTopic(topic, 9)).toBe(5)
      const described = await kafka.admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: 2, name: topic, configNames: Object.keys(settings) }],
      })
      const entries = described.resources[0]!.configEntries
      expect(Object.fromEntries(entries.map(({ configName, configValue }) => [configName, configValue]))).toEqual(
        settings,
      )
    })

    it('cannot be made as it must not be', async () => {
      const error = await thrown(() => a.ensureTopic('made-wrong', 1, { 'retention.ms': 'soon' }))
      expect([error.code, error.message]).toEqual(['LOG_UNAVAILABLE', expect.stringMatching(/made-wrong.*config/i)])
    })
  })
})

describe.skipIf(absent !== undefined || isForeignKafka)('transactions of three brokers', () => {
  let transactions: KafkaTransactions

  beforeAll(async () => {
    kafka = await startKafka({ brokers: 3 })
    transactions = kafkaTransactions({ brokers: kafka.brokers })
  })
  afterAll(async () => {
    await transactions?.close()
    await kafka?.stop()
  })

  it('have each record once while brokers die', { timeout: 400_000 }, async () => {
    const name = await router()
    const codes = new Set<ErrorCode | undefined>()
    let position = 0
    let isDone = false
    /** As a router does: what failed is closed, and taken again from the committed offset. */
    const work = async () => {
      while (!isDone) {
        const opening = transactions.open(name)
        try {
          const holder = await opening
          position = holder.committed?.position ?? 0
          while (!isDone) {
            await route(holder, position, position + 6)
            position += 6
          }
        } catch (error) {
          codes.add(error instanceof TilefoldError ? error.code : undefined)
          await sleep(100)
        } finally {
          await opening.then((holder) => holder.close()).catch(() => {})
        }
      }
    }
    const working = work()
    const grows = async (by: number) => {
      const before = position
      await until(() => position >= before + by)
    }
    await grows(60)
    for (const broker of [0, 1, 2]) {
      await kafka.kill9(broker)
      await grows(60)
      await kafka.restart(broker)
      await grows(60)
    }
    isDone = true
    await working
    expect([...codes].filter((code) => code !== 'LOG_UNAVAILABLE')).toEqual([])
    const last = await transactions.open(name)
    expect(last.committed).toEqual(behind(position))
    expect(await read(name.topic)).toEqual(whole(position))
    process.stderr.write(`three brokers killed: ${position} records, ${[...codes].join(', ') || 'no'} errors\n`)
  })
})

/** A router's names, and topics of its own. */
async function router(): Promise<TransactionsName> {
  const id = `router-${names++}`
  const sourceTopic = await kafka.createTopic(`${id}-source`, 2)
  const topic = await kafka.createTopic(`${id}-internal`, PARTITIONS)
  return { groupId: sourceTopic, transactionalId: `${sourceTopic}-1`, sourceTopic, sourcePartition: 1, topic }
}

/** Everything in `topic` that a reader gets, by partition. */
async function read(topic: string, isolation: 'committed' | 'uncommitted' = 'committed'): Promise<string[][]> {
  const end = `end-${names++}`
  const producer = kafka.client.producer()
  await producer.connect()
  const messages = Array.from({ length: PARTITIONS }, (_, partition) => ({ partition, value: end }))
  await producer.send({ topic, messages })
  await producer.disconnect()
  const values: string[][] = Array.from({ length: PARTITIONS }, () => [])
  const consumer = kafka.client.consumer({
    groupId: end,
    readUncommitted: isolation === 'uncommitted',
    maxWaitTimeInMs: 50,
  })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    eachMessage: async ({ partition, message }) => {
      values[partition]!.push(message.value!.toString())
    },
  })
  await until(
    () => values.every((each) => each.includes(end)),
    () => values,
  )
  await consumer.disconnect()
  return values.map((each) => each.filter((value) => !value.startsWith('end-')))
}

/** Let go after the test, if not before. */
function held(clientId: string, kind: RequestKind): Hold {
  const hold = holdRequests(clientId, kind)
  holds.push(hold)
  return hold
}

/** Source records [from, to), dealt out over the partitions. */
function route(holder: Transactions, from: number, to: number): Promise<void> {
  return holder.commit(dealt(from, to), to, `behind ${to}`)
}

function dealt(from: number, to: number): RoutedRecord[] {
  return Array.from({ length: to - from }, (_, i) => ({
    partition: (from + i) % PARTITIONS,
    value: Buffer.from(String(from + i)),
  }))
}

/** What a reader must get of source records [0, to): each once, in order. */
function whole(to: number): string[][] {
  const values: string[][] = Array.from({ length: PARTITIONS }, () => [])
  for (let i = 0; i < to; i++) values[i % PARTITIONS]!.push(String(i))
  return values
}

function outcome(committing: Promise<void>): Promise<'whole' | ErrorCode | undefined> {
  return committing.then(
    () => 'whole' as const,
    (error: unknown) => (error instanceof TilefoldError ? error.code : undefined),
  )
}

const behind = (position: number): CommittedOffset => ({ position, metadata: `behind ${position}` })

/** What a router would go by that does not wait for its predecessor. */
async function fetchEarly({ groupId, sourceTopic, sourcePartition }: TransactionsName): Promise<number> {
  const [topic] = await kafka.admin.fetchOffsets({ groupId, topics: [sourceTopic] })
  return Math.max(0, Number(topic!.partitions.find(({ partition }) => partition === sourcePartition)!.offset))
}
