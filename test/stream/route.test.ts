/** The router over a scripted group and scripted transactions, and the workers behind it: the rows are those of a topic that was keyed. */
import { describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { count, defineView, float64, last, sum, timestamp, utf8 } from '../../src/define/dsl.ts'
import { loadCore } from '../../src/engine/module.ts'
import type { Plan } from '../../src/model/plan.ts'
import { saltKey, type ViewLayout } from '../../src/model/view-layout.ts'
import { openSalts } from '../../src/registry/routes.ts'
import { createFeatureReader, type FeatureReader } from '../../src/serve/reader.ts'
import { createJsonDecoder } from '../../src/source/json-messages.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { Store } from '../../src/store/port.ts'
import { StreamJob, type StreamReport } from '../../src/stream/job.ts'
import { type OpenRoute, openViewRoute, RouteJob } from '../../src/stream/route-job.ts'
import { eachSeed } from '../fuzz/effort.ts'
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
import { type Fate, ScriptedTopic } from './scripted-transactions.ts'

const FILE = 'test/stream/route.test.ts'
const FATES: readonly (Fate | undefined)[] = [undefined, 'lost', 'unheard', 'undecided']
const NOW_MS = START_MS * 2
const DAY_MS = 24 * 3_600_000

/** Each payment in any partition: cards are everywhere. */
function scatter(payments: readonly Payment[], partitions: number, random: Random): StreamMessage[][] {
  const logs: StreamMessage[][] = Array.from({ length: partitions }, () => [])
  for (const payment of payments) {
    const log = random.pick(logs)
    log.push(messageOf(payment, log.length === 0 ? random.below(2) : Number(log.at(-1)!.offset) + 1 + random.below(2)))
  }
  return logs
}

class Scene {
  readonly store: Store = createMemoryStore()
  readonly source: ScriptedGroup
  readonly internal: ScriptedTopic
  readonly lanes: ScriptedGroup
  readonly reports: StreamReport[] = []
  nowMs = NOW_MS
  readonly clock = () => this.nowMs

  private constructor(
    readonly plan: Plan,
    readonly route: OpenRoute,
    store: Store,
    logs: StreamMessage[][],
    random: Random,
  ) {
    this.store = store
    this.source = new ScriptedGroup('payments', logs, random)
    this.internal = new ScriptedTopic(route.lanes, random)
    this.lanes = new ScriptedGroup(route.topic, this.internal.logs, random)
  }

  static async create(
    logs: StreamMessage[][],
    lanes: number,
    random: Random,
    view?: Plan,
    store: Store = createMemoryStore(),
  ): Promise<Scene> {
    const plan = view ?? (await paymentsView())
    const route = await openViewRoute({ store, namespace: NAMESPACE }, plan, 'payments', lanes)
    return new Scene(plan, route, store, logs, random)
  }

  async router(): Promise<{ job: RouteJob; consumer: ScriptedConsumer }> {
    const consumer = new ScriptedConsumer(this.source)
    const job = new RouteJob({
      route: this.route,
      consumer,
      store: this.store,
      namespace: NAMESPACE,
      core: loadCore(),
      openTransactions: this.internal.open,
      decoder: createJsonDecoder,
      lingerMs: 3_600_000,
      clock: this.clock,
      report: (report) => this.reports.push(report),
    })
    await job.start()
    return { job, consumer }
  }

  async worker(): Promise<{ job: StreamJob; consumer: ScriptedConsumer }> {
    const consumer = new ScriptedConsumer(this.lanes)
    const job = await StreamJob.create({
      plans: [this.plan],
      routes: new Map([[this.plan.view, this.route.topic]]),
      consumer,
      store: this.store,
      namespace: NAMESPACE,
      decoder: createJsonDecoder,
      flushMaxMs: 3_600_000,
      clock: this.clock,
      report: (report) => this.reports.push(report),
    })
    await job.start()
    return { job, consumer }
  }

  reader(): FeatureReader {
    const { store, plan, clock } = this
    return createFeatureReader({ store, namespace: NAMESPACE, plans: [plan], core: loadCore(), clock })
  }

  /** Somebody spreads an entity. */
  async salt(card: string, active: number): Promise<void> {
    const key = saltKey(Buffer.from(card))
    await openSalts({ store: this.store, namespace: NAMESPACE }, this.plan, [{ key, active }])
  }

  /** One router and one worker take everything there is. */
  async finish(): Promise<void> {
    this.internal.fate = undefined
    const router = await this.router()
    for (let i = 0; i < this.source.logs.length; i++) {
      await this.source.assign(i, router.consumer, false)
      while (await router.consumer.deliver(i, 1000));
    }
    await router.job.stop()
    const worker = await this.worker()
    for (let i = 0; i < this.lanes.logs.length; i++) {
      await this.lanes.assign(i, worker.consumer, false)
      while (await worker.consumer.deliver(i, 1000));
    }
    await worker.job.stop()
  }
}

/** What a reader counts of every card. */
async function countsOf(reader: FeatureReader, payments: readonly Payment[]): Promise<Map<string, number>> {
  const cards = [...new Set(payments.map(({ card }) => card))]
  const entities = cards.map((card) => ({ card }))
  const { rows, metadata } = await reader.getFeatures({ view: 'spend', entities, asOf: START_MS + DAY_MS })
  const column = metadata.features.findIndex(({ name }) => name === 'count_24h')
  return new Map(cards.map((card, i) => [card, Number(rows[i]!.values[column])]))
}

function countByCard(payments: readonly Payment[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { card } of payments) counts.set(card, (counts.get(card) ?? 0) + 1)
  return counts
}

/** A view whose verdicts depend on the order of each log. */
function strictView(): Promise<Plan> {
  return compileView(
    defineView({
      name: 'strict',
      source: { name: 'payments', columns: { card: utf8(), at: timestamp('ms'), amount: float64(), id: utf8() } },
      entity: 'card',
      time: 'at',
      filter: 'amount > 200',
      lateness: { allowed: '10m', policy: 'drop' },
      dedupe: { id: 'id', within: '1h' },
      aggregations: [
        count({ windows: ['1h', '24h'] }),
        sum('amount', { windows: ['24h'] }),
        last('amount', { windows: ['24h'] }),
      ],
    }),
  )
}

/** Some come twice, some half an hour late, some cannot be read. */
function strictLogs(random: Random): StreamMessage[][] {
  const payments = drawPayments(random, random.between(100, 400), random.between(2, 20), 4).map((payment, i) => ({
    ...payment,
    at: payment.at - (random.chance(0.1) ? 1_800_000 : 0),
    id: `id-${random.chance(0.2) ? random.below(i + 1) : i}`,
  }))
  const logs = scatter(payments, random.between(1, 3), random)
  return logs.map((log) => log.map((each) => (random.chance(0.02) ? { ...each, value: Buffer.from('poison') } : each)))
}

describe('a routed topic', () => {
  it('gives the rows of one that was keyed, whoever dies, sleeps or wakes up, and whatever becomes of a commit', {
    timeout: 120_000,
  }, async () => {
    const seeds = await eachSeed(FILE, 0, 40, async (seed) => {
      const random = seededRandom(seed)
      const payments = drawPayments(random, random.between(50, 400), random.between(1, 30))
      const scene = await Scene.create(scatter(payments, random.between(1, 3), random), random.between(1, 5), random)
      const routers = [await scene.router()]
      const workers = [await scene.worker()]
      for (let step = 0; step < 80; step++) {
        const act = random.below(12)
        const router = random.pick(routers)
        const worker = random.pick(workers)
        const partition = random.below(scene.source.logs.length)
        const lane = random.below(scene.lanes.logs.length)
        if (act <= 2) await router.consumer.deliver(partition, random.between(1, 60))
        else if (act === 3) {
          scene.internal.fate = random.pick(FATES)
          // The linger is over.
          for (const run of router.job.runs) await run.tick(random.chance(0.2) ? 0 : 60_000).catch(() => {})
          scene.internal.fate = undefined
        } else if (act === 4) await scene.source.assign(partition, router.consumer, random.chance(0.5))
        else if (act === 5 && routers.length < 3) routers.push(await scene.router())
        else if (act === 6) await scene.lanes.assign(lane, worker.consumer, random.chance(0.5))
        else if (act === 7 && workers.length < 3) workers.push(await scene.worker())
        else if (act === 10) await scene.salt(`card-${random.below(30)}`, random.between(1, scene.route.lanes))
        else if (act === 11) {
          await router.job.lookAtSalts()
          scene.nowMs += random.pick([1_000, 3_000])
          await router.job.lookAtSalts()
        } else if (act === 8) await worker.consumer.deliver(lane, random.between(1, 5))
        else {
          await random
            .pick(worker.job.runs.length > 0 ? worker.job.runs : [undefined])
            ?.flush()
            .catch(() => {})
          await router.consumer.retry()
          await worker.consumer.retry()
        }
      }
      await scene.finish()
      expect(scene.reports.filter(({ event }) => event === 'stopped')).toEqual([])
      expect(await storedRows(scene.store, scene.plan)).toEqual(await expectedRows(scene.plan, payments))
      expect(await countsOf(scene.reader(), payments)).toEqual(countByCard(payments))
    })
    expect(seeds).toBeGreaterThan(0)
  })

  it('takes the same verdicts as a lane that reads the topic itself: late, double, filtered and unreadable events', async () => {
    const plan = await strictView()
    const seeds = await eachSeed(FILE, 1, 20, async (seed) => {
      const random = seededRandom(seed)
      const logs = strictLogs(random)
      const scene = await Scene.create(logs, random.between(1, 4), random, plan)
      for (let step = 0; step < 12; step++) {
        const { job, consumer } = await scene.router()
        for (let i = 0; i < logs.length; i++) await scene.source.assign(i, consumer, false)
        await consumer.deliver(random.below(logs.length), random.between(1, 60))
        scene.internal.fate = random.pick(FATES)
        for (const run of job.runs) await run.tick(60_000).catch(() => {})
      }
      await scene.finish()
      expect(scene.reports.filter(({ event }) => event === 'stopped')).toEqual([])

      const store = createMemoryStore()
      const consumer = new ScriptedConsumer(new ScriptedGroup('payments', logs, random))
      const direct = {
        plans: [plan],
        consumer,
        store,
        namespace: NAMESPACE,
        decoder: createJsonDecoder,
        clock: () => NOW_MS,
      }
      const job = await StreamJob.create({ ...direct, flushMaxMs: 3_600_000 })
      await job.start()
      for (let i = 0; i < logs.length; i++) {
        await consumer.gain(i)
        while (await consumer.deliver(i, 1000));
      }
      await job.stop()
      expect(await storedRows(scene.store, plan)).toEqual(await storedRows(store, plan))
    })
    expect(seeds).toBeGreaterThan(0)
  })

  it('finds an entity that is most of the topic, spreads it, and gathers it again; readers never miss a part', async () => {
    const random = seededRandom(7)
    const drawn = drawPayments(random, 220_000, 40)
    const payments = drawn.map((each, i) => (i < 40_000 && random.chance(0.9) ? { ...each, card: 'hot' } : each))
    const parts = [payments.slice(0, 20_000), payments.slice(20_000, 40_000), payments.slice(40_000)]
    const scene = await Scene.create([payments.map(messageOf)], 4, random)
    const reader = scene.reader()
    const { job, consumer } = await scene.router()
    await scene.source.assign(0, consumer, false)
    const worker = await scene.worker()
    for (let lane = 0; lane < 4; lane++) await scene.lanes.assign(lane, worker.consumer, false)
    const rowsOf = (from: readonly number[]) =>
      scene.internal.logs.map((log, lane) =>
        log.slice(from[lane]).reduce((sum, { value }) => sum + value!.readUInt32LE(4), 0),
      )
    let done: readonly Payment[] = []
    const rows: number[][] = []
    for (const part of parts) {
      const before = scene.internal.logs.map((log) => log.length)
      await consumer.deliver(0, part.length)
      await job.runs[0]!.tick(60_000)
      rows.push(rowsOf(before))
      done = [...done, ...part]
      for (let lane = 0; lane < 4; lane++) while (await worker.consumer.deliver(lane, 100));
      for (const run of worker.job.runs) await run.flush()
      expect(await countsOf(reader, done)).toEqual(countByCard(done))
      await job.lookAtSalts()
      scene.nowMs += 3_001
      await job.lookAtSalts()
    }
    expect(Math.max(...rows[0]!) / 20_000).toBeGreaterThan(0.85)
    expect(Math.max(...rows[1]!) / 20_000).toBeLessThan(0.3)
    const { generations } = JSON.parse((await scene.store.readLayout(NAMESPACE, 'spend'))!) as ViewLayout
    expect(generations[0]!.salts).toEqual([{ key: saltKey(Buffer.from('hot')), width: 4, active: 1 }])
    expect(scene.reports.filter(({ event }) => event === 'salts').map(({ message }) => message)).toEqual([
      expect.stringMatching(/^the entity of hash [0-9a-f]{12} goes to 4 of 4 lanes in 3 s$/),
      expect.stringMatching(/goes to 1 of 4 lanes/),
    ])
    expect(await storedRows(scene.store, scene.plan)).toEqual(await expectedRows(scene.plan, payments))
  }, 60_000)

  it('spreads nothing before every reader can know, and rows then say which layout they need', async () => {
    const random = seededRandom(8)
    const payments = drawPayments(random, 300, 1)
    const scene = await Scene.create([payments.map(messageOf)], 4, random)
    const { job, consumer } = await scene.router()
    await scene.source.assign(0, consumer, false)
    const worker = await scene.worker()
    for (let lane = 0; lane < 4; lane++) await scene.lanes.assign(lane, worker.consumer, false)
    await job.lookAtSalts()
    await scene.salt('card-0', 4)
    const used = async () => {
      const before = scene.internal.logs.map((log) => log.length)
      await consumer.deliver(0, 100)
      await job.runs[0]!.tick(60_000)
      const rows = scene.internal.logs.map((log, lane) =>
        log.slice(before[lane]).some(({ value }) => value!.readUInt32LE(4) > 0),
      )
      return rows.filter((each) => each).length
    }
    await job.lookAtSalts()
    expect(await used()).toBe(1)
    scene.nowMs += 2_999
    await job.lookAtSalts()
    expect(await used()).toBe(1)
    scene.nowMs += 1
    await job.lookAtSalts()
    expect(await used()).toBe(4)
    for (let lane = 0; lane < 4; lane++) while (await worker.consumer.deliver(lane, 100));
    await worker.job.stop()
    const { version } = JSON.parse((await scene.store.readLayout(NAMESPACE, 'spend'))!) as ViewLayout
    const answer = await scene.reader().getFeatures({ view: 'spend', entities: [{ card: 'card-0' }], explain: true })
    expect(answer.rows[0]!.explain![0]!.layoutVersion).toBe(version)
  })

  it.each([
    ['missing', (log: StreamMessage[]) => log.splice(1, 1)],
    ['there twice', (log: StreamMessage[]) => log.push({ ...log[1]!, offset: `${Number(log.at(-1)!.offset) + 1}` })],
  ])('stops a lane whose record is %s', async (what, damage) => {
    const random = seededRandom(4)
    const scene = await Scene.create(scatter(drawPayments(random, 300, 20), 1, random), 1, random)
    const { job, consumer } = await scene.router()
    await scene.source.assign(0, consumer, false)
    while (await consumer.deliver(0, 50)) await job.runs[0]!.tick(60_000)
    await job.stop()
    expect(scene.internal.logs[0]!.length).toBeGreaterThan(3)
    damage(scene.internal.logs[0]!)
    const worker = await scene.worker()
    await scene.lanes.assign(0, worker.consumer, false)
    while (await worker.consumer.deliver(0, 1));
    expect(scene.reports.filter(({ event }) => event === 'stopped')).toMatchObject([
      { code: 'ROUTE_BROKEN', message: expect.stringContaining(what) },
    ])
  })

  it.each([
    ['is gone', undefined],
    ['was set back', { position: 3, metadata: '1 0' }],
    ['was set by hand', { position: 200, metadata: '' }],
  ])('stops where the offset of its group %s', async (_, committed) => {
    const random = seededRandom(5)
    const scene = await Scene.create(scatter(drawPayments(random, 300, 20), 1, random), 1, random)
    const first = await scene.router()
    await scene.source.assign(0, first.consumer, false)
    await first.consumer.deliver(0, 100)
    await first.job.stop()
    scene.internal.setCommitted(committed)
    const second = await scene.router()
    await scene.source.assign(0, second.consumer, false)
    expect(scene.reports.filter(({ event }) => event === 'stopped')).toMatchObject([{ code: 'ROUTE_BROKEN' }])
  })

  it('is routed for each of two views of one state by itself', async () => {
    const random = seededRandom(9)
    const payments = drawPayments(random, 200, 10)
    const logs = scatter(payments, 2, random)
    const store = createMemoryStore()
    for (const name of ['spend', 'again']) {
      const scene = await Scene.create(logs, 2, random, await paymentsView('payments', name), store)
      await scene.finish()
      expect(scene.reports.filter(({ event }) => event === 'stopped')).toEqual([])
      expect(await storedRows(store, scene.plan)).toEqual(await expectedRows(scene.plan, payments))
    }
  })

  it('is not read beside its route, nor routed where it is read', async () => {
    const plan = await paymentsView()
    const seat = { store: createMemoryStore(), namespace: NAMESPACE }
    const random = seededRandom(6)
    const logs = scatter(drawPayments(random, 30, 5), 1, random)
    const read = async (topic: string) => {
      const consumer = new ScriptedConsumer(new ScriptedGroup(topic, logs, random))
      const reports: StreamReport[] = []
      const job = await StreamJob.create({
        ...seat,
        plans: [plan],
        consumer,
        decoder: createJsonDecoder,
        clock: () => NOW_MS,
        report: (report) => reports.push(report),
      })
      await job.start()
      await consumer.gain(0)
      await job.stop()
      return reports.filter(({ event }) => event === 'stopped')
    }
    const route = await openViewRoute(seat, plan, 'payments')
    expect(route).toMatchObject({ source: 'payments', lanes: 16 })
    expect(await openViewRoute(seat, plan, 'payments')).toEqual(route)
    await expect(openViewRoute(seat, plan, 'payments', 8)).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
    expect(await read('payments')).toMatchObject([{ code: 'CONFIG_INVALID' }])

    seat.store = createMemoryStore()
    expect(await read('payments')).toEqual([])
    await expect(openViewRoute(seat, plan, 'payments')).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
  })
})
