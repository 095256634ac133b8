/** The stream job over a scripted group: members die, sleep and come back, stores lose replies, and the rows are the same. */
import { describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { count, defineView, timestamp, utf8 } from '../../src/define/dsl.ts'
import type { Plan } from '../../src/model/plan.ts'
import { NO_WORKER_METRICS } from '../../src/observe/port.ts'
import { rowsToBatch } from '../../src/source/rows.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import { StreamJob, type StreamJobOptions, type StreamReport } from '../../src/stream/job.ts'
import type { DecoderOptions, MessageDecoder } from '../../src/stream/partition.ts'
import { eachSeed } from '../fuzz/effort.ts'
import { FaultyStore, Killed } from '../laws/faulty-store.ts'
import { type Random, seededRandom } from '../support/random.ts'
import {
  drawPayments,
  expectedRows,
  messageOf,
  NAMESPACE,
  type Payment,
  paymentsView,
  START_MS,
  storedRows,
} from './payments.ts'
import { ScriptedConsumer, ScriptedGroup } from './scripted-group.ts'

const FILE = 'test/stream/job.test.ts'

/** JSON rows; `poison` in the text makes a record unreadable. */
function decoderOf({ inputs, onReject }: DecoderOptions): MessageDecoder {
  return {
    decode(messages) {
      const good: { message: StreamMessage; row: Record<string, unknown> }[] = []
      for (const message of messages) {
        const text = message.value?.toString() ?? ''
        if (text.includes('poison')) {
          const position = Number(message.offset)
          onReject({ position, origin: `offset ${position}`, reason: 'json', message: 'it is poison' })
        } else good.push({ message, row: JSON.parse(text) })
      }
      const positions = Float64Array.from(good, ({ message }) => Number(message.offset))
      const batch = rowsToBatch(
        good.map(({ row }) => row),
        inputs,
        positions,
      )
      const recordTimes = Float64Array.from(good, ({ message }) => Number(message.timestamp))
      return { ...batch, positions, recordTimes }
    },
  }
}

/** Of the same topic, and another state. */
function otherView(): Promise<Plan> {
  return compileView(
    defineView({
      name: 'other',
      source: { name: 'payments', columns: { card: utf8(), at: timestamp('ms') } },
      entity: 'card',
      time: 'at',
      aggregations: [count({ windows: ['1h'] })],
    }),
  )
}

function partitionsOf(payments: readonly Payment[], count: number, random: Random): StreamMessage[][] {
  const logs: StreamMessage[][] = Array.from({ length: count }, () => [])
  const next = logs.map(() => 0)
  for (const payment of payments) {
    const partition = random.below(count)
    // Transactions leave holes.
    next[partition]! += random.chance(0.05) ? 3 : 1
    logs[partition]!.push(messageOf(payment, next[partition]!))
  }
  return logs
}

function optionsOf(
  plan: Plan,
  consumer: ScriptedConsumer,
  store: StreamJobOptions['store'],
  reports: StreamReport[] = [],
): StreamJobOptions {
  return {
    plans: [plan],
    consumer,
    store,
    namespace: NAMESPACE,
    decoder: decoderOf,
    flushMaxMs: 3_600_000,
    clock: () => START_MS * 2,
    report: (report) => reports.push(report),
  }
}

describe('the stream job', () => {
  it('gives the rows of an uninterrupted run, whoever dies, sleeps or wakes up on the way', {
    timeout: 120_000,
  }, async () => {
    const plan = await paymentsView()
    const seeds = await eachSeed(FILE, 0, 40, async (seed) => {
      const random = seededRandom(seed)
      const payments = drawPayments(random, random.between(50, 400), random.between(1, 30))
      const group = new ScriptedGroup('payments', partitionsOf(payments, random.between(1, 3), random), random)
      const inner = createMemoryStore()
      let members: Member[] = []
      const join = async () => {
        const store = new FaultyStore(inner)
        const consumer = new ScriptedConsumer(group)
        const job = await StreamJob.create(optionsOf(plan, consumer, store))
        await job.start()
        members.push({ job, consumer, store })
      }
      await join()
      for (let step = 0; step < 60; step++) {
        const act = random.below(10)
        const member = random.pick(members)
        const partition = random.below(group.logs.length)
        if (act <= 4) await member.consumer.deliver(partition, random.between(1, 60))
        else if (act === 5) await flushOf(member, random)
        else if (act === 6) await group.assign(partition, member.consumer, random.chance(0.5))
        else if (act === 7 && members.length < 4) await join()
        else if (act === 8) await member.consumer.retry()
        else if (act === 9 && members.length > 1) {
          // Dies without a word, perhaps in the middle of a flush.
          member.store.plan(random.below(6), random.pick(['before', 'after'] as const))
          await flushOf(member, random, true)
          members = members.filter((each) => each !== member)
          for (const [i, owner] of group.owners.entries()) if (owner === member.consumer) group.owners[i] = undefined
        }
      }
      // In the end one member has everything, and nothing fails any more.
      await join()
      const last = members.at(-1)!
      for (let i = 0; i < group.logs.length; i++) await group.assign(i, last.consumer, false)
      for (let i = 0; i < group.logs.length; i++) while (await last.consumer.deliver(i, 1000));
      await last.job.stop()
      expect(await storedRows(inner, plan)).toEqual(await expectedRows(plan, payments))
    })
    expect(seeds).toBeGreaterThan(0)
  })

  it('stops a partition whose topic was made anew, and no other', async () => {
    const plan = await paymentsView()
    const random = seededRandom(1)
    const payments = drawPayments(random, 20, 3)
    const logs = [payments.map(messageOf), payments.map(messageOf)]
    const store = createMemoryStore()
    const first = await run(plan, store, logs)
    expect(first.reports.filter(({ event }) => event === 'stopped')).toEqual([])
    // The same topic name, other records at the same offsets.
    const others = drawPayments(seededRandom(2), 30, 3).map(messageOf)
    const second = await run(plan, store, [others, logs[1]!])
    expect(second.reports.filter(({ event }) => event === 'stopped')).toMatchObject([
      { log: 'payments.0', code: 'LOG_CHANGED' },
    ])
  })

  it.each([
    ['LOG_GAP', (log: StreamMessage[]) => [...log, ...payAgain(log, 10)].slice(15)],
    ['LOG_CHANGED', (log: StreamMessage[]) => log.slice(0, 3)],
  ] as const)('stops with %s where records are gone', async (code, change) => {
    const plan = await paymentsView()
    const log = drawPayments(seededRandom(3), 10, 3).map(messageOf)
    const store = createMemoryStore()
    await run(plan, store, [log])
    const { reports } = await run(plan, store, [change(log)])
    expect(reports.filter(({ event }) => event === 'stopped')).toMatchObject([{ log: 'payments.0', code }])
  })

  it('takes a hole at its marker for ordinary in a compacted topic alone', async () => {
    const plan = await paymentsView()
    const log = drawPayments(seededRandom(8), 12, 3).map(messageOf)
    // The record at the marker was replaced by a later one of its key.
    const after = [...log.slice(0, 9), ...log.slice(10)]
    for (const compacted of [false, true]) {
      const store = createMemoryStore()
      await run(plan, store, [log.slice(0, 10)])
      const group = new ScriptedGroup('payments', [after], seededRandom(0))
      group.compacted = compacted
      const consumer = new ScriptedConsumer(group)
      const reports: StreamReport[] = []
      const job = await StreamJob.create(optionsOf(plan, consumer, store, reports))
      await job.start()
      await group.assign(0, consumer)
      while (await consumer.deliver(0, 5));
      await job.stop()
      expect(reports.filter(({ event }) => event === 'stopped').map(({ code }) => code)).toEqual(
        compacted ? [] : ['LOG_CHANGED'],
      )
      if (!compacted) continue
      const payments = drawPayments(seededRandom(8), 12, 3)
      expect(await storedRows(store, plan)).toEqual(await expectedRows(plan, payments))
    }
  })

  it('decodes a message once for all views of its topic, and counts the offsets that no message has', async () => {
    const plans = [await paymentsView(), await paymentsView('payments', 'again'), await otherView()]
    const payments = drawPayments(seededRandom(9), 60, 5)
    const log = payments.map((payment, i) => messageOf(payment, i + 2 * Math.floor(i / 10)))
    let [decoded, holes] = [0, 0]
    const store = createMemoryStore()
    await run(plans[0]!, store, [log], undefined, {
      plans,
      decoder: (options) => {
        const inner = decoderOf(options)
        return {
          decode: (messages) => {
            decoded += messages.length
            return inner.decode(messages)
          },
        }
      },
      metrics: { ...NO_WORKER_METRICS, offsetHoles: (_topic, count) => (holes += count) },
    })
    expect(decoded).toBe(60)
    expect(holes).toBe(10)
    for (const plan of plans) {
      expect(await storedRows(store, plan)).toEqual(await expectedRows(plan, payments))
    }
  })

  it('tells an emptied store from a new one by what the group has committed', async () => {
    const plan = await paymentsView()
    const log = drawPayments(seededRandom(4), 10, 3).map(messageOf)
    const { group } = await run(plan, createMemoryStore(), [log])
    expect(group.committed[0]).toMatchObject({ position: 10 })
    const { reports } = await run(plan, createMemoryStore(), [log], group.committed)
    expect(reports.filter(({ event }) => event === 'stopped')).toMatchObject([{ code: 'STORE_LOST' }])
  })

  it('tells the group where a partition stands that its owner before could not tell of', async () => {
    const plan = await paymentsView()
    const log = drawPayments(seededRandom(4), 10, 3).map(messageOf)
    const store = createMemoryStore()
    await run(plan, store, [log])
    // Nothing new comes.
    const { group } = await run(plan, store, [log], [{ position: 4, metadata: '' }])
    expect(group.committed[0]).toMatchObject({ position: 10 })
    const ahead = await run(plan, store, [log], [{ position: 12, metadata: 'x' }])
    expect(ahead.group.committed[0]).toEqual({ position: 12, metadata: 'x' })
  })

  it('puts poison away and goes on, and stops where it is too much', async () => {
    const plan = await paymentsView()
    const payments = drawPayments(seededRandom(5), 2_000, 5)
    const poisoned = (share: number) =>
      payments.map((payment, i) =>
        i % 100 < share ? { ...messageOf(payment, i), value: Buffer.from('poison') } : messageOf(payment, i),
      )
    const letters: unknown[] = []
    const deadLetters = { add: (letter: unknown) => letters.push(letter), flush: async () => {}, close: async () => {} }
    const store = createMemoryStore()
    const some = await run(plan, store, [poisoned(5)], undefined, { deadLetters, maxDeadRatio: 0.1 })
    expect(some.reports.filter(({ event }) => event === 'stopped')).toEqual([])
    expect(letters).toHaveLength(100)
    expect(letters[0]).toMatchObject({ topic: 'payments', partition: 0, reason: 'json', text: 'it is poison' })
    expect(await storedRows(store, plan)).toEqual(
      await expectedRows(
        plan,
        payments.filter((_, i) => i % 100 >= 5),
      ),
    )
    const many = await run(plan, createMemoryStore(), [poisoned(20)], undefined, { maxDeadRatio: 0.1 })
    expect(many.reports.filter(({ event }) => event === 'stopped')).toMatchObject([{ code: 'DEAD_LETTERS' }])
  })

  it('refuses a topic that is not keyed as it was declared', async () => {
    const plan = await paymentsView()
    const payments = drawPayments(seededRandom(6), 200, 40)
    const logs = partitionsOf(payments, 3, seededRandom(7))
    const { reports } = await run(plan, createMemoryStore(), logs, undefined, { keyed: new Set(['payments']) })
    expect(new Set(reports.filter(({ event }) => event === 'stopped').map(({ code }) => code))).toEqual(
      new Set(['PARTITIONER_MISMATCH']),
    )
  })
})

interface Member {
  readonly job: StreamJob
  readonly consumer: ScriptedConsumer
  readonly store: FaultyStore
}

/** Flushes what a member has; `dies`: its store call never comes back. */
async function flushOf({ job, store }: Member, random: Random, dies = false): Promise<void> {
  if (!dies && random.chance(0.3)) store.plan(random.below(6), 'lose_reply')
  for (const run of job.runs) {
    const outcome = run.flush().catch((error: unknown) => {
      if (!(error instanceof Error)) throw error
      return error
    })
    const killed = new Promise((resolve) => setTimeout(resolve, 5))
    const error = await (dies ? Promise.race([outcome, killed]) : outcome)
    if (error instanceof Killed) return
  }
}

async function run(
  plan: Plan,
  store: StreamJobOptions['store'],
  logs: StreamMessage[][],
  committed: ScriptedGroup['committed'] = [],
  more: Partial<StreamJobOptions> = {},
) {
  const group = new ScriptedGroup('payments', logs, seededRandom(0))
  for (const [i, each] of committed.entries()) group.committed[i] = each
  const consumer = new ScriptedConsumer(group)
  const reports: StreamReport[] = []
  const job = await StreamJob.create({ ...optionsOf(plan, consumer, store, reports), ...more })
  await job.start()
  for (let i = 0; i < logs.length; i++) {
    await group.assign(i, consumer)
    while (await consumer.deliver(i, 700));
  }
  await job.stop()
  return { group, reports }
}

function payAgain(log: readonly StreamMessage[], count: number): StreamMessage[] {
  return log.slice(0, count).map((message, i) => ({ ...message, offset: String(Number(log.at(-1)!.offset) + 1 + i) }))
}
