/** Generations of which one or both are routed: compared by what they hold of the topic itself, listed, collected, begun in the right order. */
import { beforeAll, describe, expect, it } from 'vitest'
import type { Plan } from '../../src/model/plan.ts'
import { collectStates, surveyStates } from '../../src/registry/gc.ts'
import { beginGeneration, dropGeneration, readOffsets, switchGeneration } from '../../src/registry/generations.ts'
import { openHistory, openLog } from '../../src/registry/layouts.ts'
import { createJsonDecoder } from '../../src/source/json-messages.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { Store } from '../../src/store/port.ts'
import { StreamJob } from '../../src/stream/job.ts'
import { openViewRoute } from '../../src/stream/route-job.ts'
import { drawPayments, NAMESPACE, type Payment, paymentsView, START_MS, storedRows } from '../stream/payments.ts'
import { RoutedScene, scatterInto } from '../stream/routed-scene.ts'
import { ScriptedConsumer, ScriptedGroup } from '../stream/scripted-group.ts'
import { type Random, seededRandom } from '../support/random.ts'

const NOT_READY = { code: 'VIEW_NOT_READY' }

describe('a routed generation', () => {
  let plan: Plan
  let random: Random
  let payments: Payment[]
  let nowMs = START_MS * 2
  const clock = () => nowMs
  beforeAll(async () => {
    plan = await paymentsView()
    random = seededRandom(11)
    payments = drawPayments(random, 400, 20)
  })

  const seatOf = (store: Store) => ({ store, namespace: NAMESPACE })

  /** Lanes of the topic's own partitions. */
  async function readDirectly(store: Store, logs: readonly StreamMessage[][], generation?: number): Promise<void> {
    const consumer = new ScriptedConsumer(new ScriptedGroup('payments', logs, random))
    const options = { plans: [plan], consumer, ...seatOf(store), decoder: createJsonDecoder, clock }
    const job = await StreamJob.create({ ...options, ...(generation !== undefined && { generation }) })
    await job.start()
    for (const partition of logs.keys()) {
      await consumer.gain(partition)
      while (await consumer.deliver(partition, 60));
    }
    await job.stop()
  }

  function newLogs(count: number): StreamMessage[][] {
    const logs: StreamMessage[][] = [[], []]
    scatterInto(logs, payments.slice(0, count), random)
    return logs
  }

  it('is switched to from one that reads the topic itself when each of its lanes has as much of it', async () => {
    const store = createMemoryStore()
    const seat = seatOf(store)
    const logs = newLogs(200)
    await readDirectly(store, logs)
    await beginGeneration(seat, plan)
    await expect(switchGeneration(seat, plan, 2)).rejects.toMatchObject(NOT_READY)
    const scene = await RoutedScene.create({ store, plan, logs, random, clock, generation: 2 })
    await expect(switchGeneration(seat, plan, 2)).rejects.toMatchObject(NOT_READY)
    await scene.routeAll()
    await expect(switchGeneration(seat, plan, 2)).rejects.toMatchObject(NOT_READY)
    // A lane that was not folded.
    await scene.foldAll([0, 1])
    await expect(switchGeneration(seat, plan, 2)).rejects.toMatchObject(NOT_READY)
    nowMs += 2_000
    await scene.foldAll()
    const before = await storedRows(store, plan)
    await switchGeneration(seat, plan, 2)
    expect(await storedRows(store, plan)).toEqual(before)
    await scene.stop()
  })

  it('is not switched to while the one before it has read a record more', async () => {
    const store = createMemoryStore()
    const seat = seatOf(store)
    const logs = newLogs(200)
    await readDirectly(store, logs)
    await beginGeneration(seat, plan)
    const scene = await RoutedScene.create({ store, plan, logs, random, clock, generation: 2 })
    await scene.routeAll()
    await scene.foldAll()
    scatterInto(logs, payments.slice(200, 201), random)
    await readDirectly(store, logs, 1)
    await expect(switchGeneration(seat, plan, 2)).rejects.toMatchObject({
      ...NOT_READY,
      message: expect.stringMatching(/1 lanes are behind.* in payments\.\d\.0, expected/),
    })
    await switchGeneration(seat, plan, 2, { maxLag: 2 })
    await scene.stop()
  })

  it('is left for one that reads the topic itself, or another route, once it is noted what readers see', async () => {
    for (const isRouted of [false, true]) {
      const store = createMemoryStore()
      const seat = seatOf(store)
      const logs = newLogs(200)
      const served = await RoutedScene.create({ store, plan, logs, random, clock })
      await served.routeAll()
      await served.foldAll()
      await beginGeneration(seat, plan)
      await expect(switchGeneration(seat, plan, 2)).rejects.toMatchObject(NOT_READY)
      const other =
        isRouted && (await RoutedScene.create({ store, plan, logs, random, clock, lanes: 5, generation: 2 }))
      const fill = async () => {
        if (!other) return readDirectly(store, logs, 2)
        await other.routeAll()
        await other.foldAll()
      }
      await fill()
      // Flushed, and its checkpoint is not due: the rows are ahead of what is noted.
      scatterInto(logs, payments.slice(200, 300), random)
      await served.routeAll()
      await served.foldAll()
      await expect(switchGeneration(seat, plan, 2)).rejects.toMatchObject({
        ...NOT_READY,
        message: expect.stringContaining('is not noted yet'),
      })
      nowMs += 2_000
      scatterInto(logs, payments.slice(300, 400), random)
      const switched = switchGeneration(seat, plan, 2, { waitMs: 20_000 })
      await new Promise((wake) => setTimeout(wake, 250))
      await served.routeAll()
      await served.foldAll()
      await new Promise((wake) => setTimeout(wake, 250))
      expect((await readOffsets(seat, plan)).generations.find(({ isCurrent }) => isCurrent)?.generation).toBe(1)
      nowMs += 2_000
      await fill()
      await switched
      const rows = await storedRows(store, plan, NAMESPACE, 1)
      expect(await storedRows(store, plan)).toEqual(rows)
      await served.stop()
      if (other) await other.stop()
    }
  })

  it('lists its lanes, what they have of the topic, and those of its router', async () => {
    const store = createMemoryStore()
    const logs = newLogs(200)
    const scene = await RoutedScene.create({ store, plan, logs, random, clock, lanes: 2 })
    await scene.routeAll()
    await scene.foldAll()
    await scene.stop()
    const { topic } = scene.route
    const ends = logs.map((log) => Number(log.at(-1)!.offset))
    const sources = new Map(ends.map((end, partition) => [`payments.${partition}`, end]))
    const lastOf = (lane: number) => Number(scene.internal.logs[lane]!.at(-1)!.offset)
    expect((await readOffsets(seatOf(store), plan)).lanes).toMatchObject([
      { lane: `${topic}.0.0`, from: 'route', marker: lastOf(0), sources },
      { lane: `${topic}.1.0`, from: 'route', marker: lastOf(1), sources },
      { lane: 'route.spend.payments.0', from: 'router', marker: ends[0] },
      { lane: 'route.spend.payments.1', from: 'router', marker: ends[1] },
    ])
  })

  it('is no garbage while a layout names it, and all of it is behind that', async () => {
    const store = createMemoryStore()
    const seat = seatOf(store)
    const scene = await RoutedScene.create({ store, plan, logs: newLogs(200), random, clock, lanes: 2 })
    await scene.routeAll()
    await scene.foldAll()
    await scene.stop()
    const [current] = await surveyStates(store, NAMESPACE)
    expect(current!.standing).toBe('current')
    const routers = ['route.spend.payments.0', 'route.spend.payments.1']
    expect(current!.lanes.map(({ lane }) => lane.lane)).toEqual(expect.arrayContaining(routers))
    const base = { store, namespace: NAMESPACE, quietMs: 0, sleep: async () => {}, nonce: 'gc' }
    await expect(collectStates({ ...base, states: [current!] })).rejects.toMatchObject({ code: 'STATE_IN_USE' })

    await beginGeneration(seat, plan)
    await switchGeneration(seat, plan, 2, { allowBehind: true })
    await dropGeneration(seat, plan, { stateHash: plan.stateHash, generation: 1 })
    const [retired] = await surveyStates(store, NAMESPACE)
    expect(retired!.standing).toBe('retired')
    expect(await collectStates({ ...base, states: [retired!] })).toMatchObject({ lanes: 4, finished: true })
    expect(await surveyStates(store, NAMESPACE)).toEqual([])
  })

  it('has its history first, or ranges that keep both apart', async () => {
    const store = createMemoryStore()
    const seat = seatOf(store)
    const history = { lanes: 2, log: 'files', notAfterMs: 0 }
    await openViewRoute(seat, plan, 'payments', 2)
    await expect(openHistory(seat, plan, history)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('already has live events of topic payments; history comes first'),
    })
    const covers = [{ fromMs: 0, toMs: START_MS }]
    await expect(openHistory(seat, plan, { ...history, covers })).rejects.toMatchObject({ code: 'CONFIG_INVALID' })

    await beginGeneration(seat, plan, { replace: covers })
    await openViewRoute({ ...seat, generation: 2 }, plan, 'payments', 2)
    const opened = await openHistory({ ...seat, generation: 2 }, plan, history)
    expect(opened.generation).toMatchObject({ covers, history: { lanes: 2 }, route: { lanes: 2 } })
  })

  it('takes no log that is named like a partition of the topic', async () => {
    const seat = seatOf(createMemoryStore())
    await openViewRoute(seat, plan, 'payments', 2)
    const log = { name: 'payments.0', shards: 1, notAfterMs: 0 }
    await expect(openLog(seat, plan, log)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/cannot read log payments\.0 into view spend.*its events would count twice/),
    })
    await openLog(seat, plan, { ...log, name: 'refunds.0' })
  })
})
