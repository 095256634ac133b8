/** Forgetting while a group works: members die, sleep and wake up, and whoever owns a lane erases. */
import { describe, expect, it } from 'vitest'
import { loadCore } from '../../src/engine/module.ts'
import { type ForgetReport, forget } from '../../src/ingest/erase-request.ts'
import type { Plan } from '../../src/model/plan.ts'
import { createJsonDecoder } from '../../src/source/json-messages.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { Store } from '../../src/store/port.ts'
import { StreamJob } from '../../src/stream/job.ts'
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

const FILE = 'test/stream/forget.test.ts'
const HOUR_MS = 3_600_000
const CARD = 'card-0'
const plan = await paymentsView()

interface Member {
  readonly job: StreamJob
  readonly consumer: ScriptedConsumer
  readonly store: FaultyStore
}

async function joined(group: ScriptedGroup, inner: Store, of: Plan = plan): Promise<Member> {
  const store = new FaultyStore(inner)
  const consumer = new ScriptedConsumer(group)
  const job = await StreamJob.create({
    plans: [of],
    consumer,
    store,
    namespace: NAMESPACE,
    decoder: createJsonDecoder,
    flushMaxMs: HOUR_MS,
    clock: () => START_MS * 2,
  })
  await job.start()
  return { job, consumer, store }
}

function partitionsOf(payments: readonly Payment[], count: number, random: Random): StreamMessage[][] {
  const logs: StreamMessage[][] = Array.from({ length: count }, () => [])
  for (const payment of payments) {
    const log = random.pick(logs)
    log.push(messageOf(payment, log.length))
  }
  return logs
}

/** Asks for CARD to be forgotten as of an instant; owners are not waited for. */
function ask(
  store: Store,
  atMs: number,
  options: { takeSilent?: boolean; nudge?: () => Promise<void> } = {},
): Promise<ForgetReport> {
  return forget({
    seat: { store, namespace: NAMESPACE },
    plans: [plan],
    key: Buffer.from(CARD),
    clock: () => atMs,
    core: loadCore(),
    nonce: () => `asker-${nonces++}`,
    alone: false,
    waitMs: 0,
    ...options,
  })
}
let nonces = 0

/** The idle look of every partition, as the job's timer would have it. */
async function tick({ job }: Member): Promise<void> {
  for (const run of job.runs) await run.tick(Number.POSITIVE_INFINITY)
}

async function isDead(work: Promise<unknown>): Promise<boolean> {
  try {
    await work
    return false
  } catch (error) {
    for (let cause: unknown = error; cause !== undefined; cause = (cause as Error).cause) {
      if (cause instanceof Killed) return true
    }
    return true
  }
}

async function finish(group: ScriptedGroup, inner: Store): Promise<void> {
  const last = await joined(group, inner)
  for (let i = 0; i < group.logs.length; i++) await group.assign(i, last.consumer, false)
  for (let i = 0; i < group.logs.length; i++) while (await last.consumer.deliver(i, 1000));
  await tick(last)
  await last.job.stop()
}

/** Rows by card; of CARD only what is not empty. */
async function rowsOf(store: Store): Promise<Map<string, string>> {
  const rows = await storedRows(store, plan)
  const row = rows.get(CARD)
  if (row !== undefined && Buffer.from(row, 'hex').readUInt16LE(40) === 0) rows.delete(CARD)
  return rows
}

const others = (payments: readonly Payment[]) => payments.filter(({ card }) => card !== CARD)

describe('a group that is asked to forget', () => {
  it('forgets in every partition, whoever dies, sleeps or wakes up on the way', async () => {
    const seeds = await eachSeed(FILE, 0, 25, async (seed) => {
      const random = seededRandom(seed)
      const payments = drawPayments(random, random.between(80, 300), random.between(2, 12))
      const group = new ScriptedGroup('payments', partitionsOf(payments, random.between(1, 3), random), random)
      const inner = createMemoryStore({ writeBytesMax: 2_000 })
      let members = [await joined(group, inner)]
      const askedAt = random.below(40)
      for (let step = 0; step < 50; step++) {
        const member = random.pick(members)
        const partition = random.below(group.logs.length)
        // Later than every event: nothing of the card may be left, whenever a lane comes to it.
        if (step === askedAt) await ask(inner, START_MS + 48 * HOUR_MS, { takeSilent: random.chance(0.3) })
        const act = random.below(10)
        if (act <= 3) await member.consumer.deliver(partition, random.between(1, 60))
        else if (act === 4) await isDead(Promise.all(member.job.runs.map((run) => run.flush())))
        else if (act === 5) await isDead(tick(member))
        else if (act === 6) await group.assign(partition, member.consumer, random.chance(0.5))
        else if (act === 7 && members.length < 4) members.push(await joined(group, inner))
        else if (act === 8) await member.consumer.retry()
        else if (act === 9 && members.length > 1) {
          member.store.plan(random.below(8), random.pick(['before', 'after'] as const))
          await isDead(tick(member))
          await isDead(Promise.all(member.job.runs.map((run) => run.flush())))
          members = members.filter((each) => each !== member)
          for (const [i, owner] of group.owners.entries()) if (owner === member.consumer) group.owners[i] = undefined
        }
      }
      await finish(group, inner)
      const expected = await expectedRows(plan, others(payments))
      expect(await rowsOf(inner)).toEqual(expected)
    })
    expect(seeds).toBeGreaterThan(0)
  }, 120_000)

  it('counts what comes from after the instant, and says lane by lane what is done', async () => {
    const random = seededRandom(5)
    const payments = drawPayments(random, 300, 4)
    const lineMs = START_MS + 4 * HOUR_MS
    const group = new ScriptedGroup('payments', partitionsOf(payments, 2, random), random)
    const inner = createMemoryStore()
    const member = await joined(group, inner)
    await group.assign(0, member.consumer)
    await group.assign(1, member.consumer)
    // Up to the instant, but not beyond: each partition then goes on with later ones alone.
    for (const [i, log] of group.logs.entries()) {
      const before = log.findIndex((message) => Number(message.timestamp) >= lineMs)
      await member.consumer.deliver(i, before)
    }
    const waiting = await ask(inner, lineMs)
    expect(waiting.lanes.map(({ outcome }) => outcome)).toEqual(['waiting', 'waiting'])
    const done = await ask(inner, lineMs, { nudge: () => tick(member) })
    expect(done.lanes.map(({ name, outcome }) => [name.lane, outcome])).toEqual([
      ['payments.0.0', 'erased'],
      ['payments.1.0', 'erased'],
    ])
    await finish(group, inner)
    const left = payments.filter(({ card, at }) => card !== CARD || at >= lineMs)
    expect(left.some(({ card }) => card === CARD)).toBe(true)
    expect(await rowsOf(inner)).toEqual(await expectedRows(plan, left))
  })

  it('has lanes without an owner taken when told to, and the worker that lives on comes back', async () => {
    const random = seededRandom(6)
    const payments = drawPayments(random, 100, 4)
    const group = new ScriptedGroup('payments', partitionsOf(payments, 1, random), random)
    const inner = createMemoryStore()
    const member = await joined(group, inner)
    await group.assign(0, member.consumer)
    await member.consumer.deliver(0, 60)
    await Promise.all(member.job.runs.map((run) => run.flush()))
    const { lanes } = await ask(inner, START_MS + 48 * HOUR_MS, { takeSilent: true })
    expect(lanes.map(({ outcome }) => outcome)).toEqual(['erased'])
    // The owner finds that it is fenced, and is given its partition again.
    await member.consumer.deliver(0, 10)
    await isDead(Promise.all(member.job.runs.map((run) => run.flush())))
    await finish(group, inner)
    expect(await rowsOf(inner)).toEqual(await expectedRows(plan, others(payments)))
  })
})
