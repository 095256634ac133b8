/** Several processes fill one history: together they write what one writes, byte for byte, and it is seen when all of it is there. */
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { loadCore } from '../../src/engine/module.ts'
import type { Plan } from '../../src/model/plan.ts'
import { historyLane } from '../../src/model/view-layout.ts'
import { HistoryClaim } from '../../src/registry/claims.ts'
import { beginGeneration, switchGeneration } from '../../src/registry/generations.ts'
import { checkHistory } from '../../src/registry/history.ts'
import { createFeatureReader } from '../../src/serve/reader.ts'
import { createJsonDecoder } from '../../src/source/json-messages.ts'
import { createMemoryStore, type MemoryStore } from '../../src/store/memory.ts'
import { StreamJob, type StreamReport } from '../../src/stream/job.ts'
import { ScriptedConsumer, ScriptedGroup } from '../stream/scripted-group.ts'
import { seededRandom } from '../support/random.ts'
import {
  BASE_MS,
  clock,
  drawSpends,
  HOUR_MS,
  historyRows,
  layoutOf,
  runBackfill,
  spendView,
  writeSpends,
} from './backfill-scene.ts'

const SEED = Number(process.env.TILEFOLD_SEED ?? 1)
const LANES = 7

describe('a history that several processes share', () => {
  const spends = drawSpends(SEED, 6_000, 90)
  const path = writeSpends(spends, 1_000)
  let plan: Plan
  let whole: Map<string, string>
  let counters: object

  beforeAll(async () => {
    plan = await spendView()
    const store = createMemoryStore()
    const report = await runBackfill(store, [plan], path, { historyLanes: LANES })
    expect(report).toMatchObject({ finished: true, isComplete: true, rows: spends.length })
    counters = report.views[0]!.counters
    whole = await historyRows(store, plan)
    expect(whole.size).toBe(new Set(spends.flatMap(({ card }) => card ?? [])).size)
  })

  const visible = async (store: MemoryStore) => (await layoutOf(store, plan))?.current !== undefined

  it.each([2, 3, LANES])('is what one process writes, by %s that start at once', async (count) => {
    const store = createMemoryStore()
    const reports = await Promise.all(
      Array.from({ length: count }, (_, index) =>
        // Each would have its own number of lanes, and an instant of its own.
        runBackfill(store, [plan], path, {
          share: { index, count },
          newHistoryLanes: LANES,
          claim: { beatMs: 20, silenceMs: 200 },
          clock: () => clock() + index,
        }),
      ),
    )
    expect(await visible(store)).toBe(true)
    expect(await historyRows(store, plan)).toEqual(whole)
    expect(reports.filter((report) => report.isComplete).length).toBeGreaterThanOrEqual(1)
    const views = reports.map((report) => report.views[0]!)
    // All judge all rows; what they write adds up.
    for (const view of views) expect(view.counters).toEqual(counters)
    expect(views.reduce((sum, view) => sum + view.written.rows, 0)).toBe(whole.size)
    expect(views.reduce((sum, view) => sum + view.ownLanes, 0)).toBe(LANES)
  })

  it.each([1, 400_000])(
    'is the same where cores may take %s bytes, and start again and again',
    async (coreBytesMax) => {
      const store = createMemoryStore()
      const report = await runBackfill(store, [plan], path, { historyLanes: LANES, coreBytesMax, batchBytesMax: 1 })
      expect(report).toMatchObject({ isComplete: true, views: [{ counters }] })
      // Rows were written, and read again, more than once.
      if (coreBytesMax === 1) expect(report.views[0]!.written.rows).toBeGreaterThan(2 * whole.size)
      expect(await historyRows(store, plan)).toEqual(whole)
    },
  )

  it('is seen when the last one is done, and not before', async () => {
    const store = createMemoryStore()
    for (const index of [2, 0]) {
      const report = await runBackfill(store, [plan], path, { share: { index, count: 3 }, newHistoryLanes: LANES })
      expect(report).toMatchObject({ finished: true, isComplete: false })
      expect(await visible(store)).toBe(false)
    }
    // Lanes 2 and 5, 0, 3 and 6: five of seven.
    const again = await runBackfill(store, [plan], path, { share: { index: 0, count: 3 }, newHistoryLanes: LANES })
    expect(again.views[0]).toMatchObject({ lanesDone: 5, lanes: 7, ownLanes: 3 })
    expect(again).toMatchObject({ rows: 0, startedAt: spends.length })
    const last = await runBackfill(store, [plan], path, { share: { index: 1, count: 3 } })
    expect(last.isComplete).toBe(true)
    expect(await visible(store)).toBe(true)
    expect(await historyRows(store, plan)).toEqual(whole)
  })

  it('is finished by a call without a share, whoever has died', async () => {
    const store = createMemoryStore()
    for (const index of [0, 1, 2]) {
      const abort = new AbortController()
      const onProgress = () => index === 1 && abort.abort()
      const share = { index, count: 3 }
      await runBackfill(store, [plan], path, { share, newHistoryLanes: LANES, signal: abort.signal, onProgress })
    }
    expect(await visible(store)).toBe(false)
    const report = await runBackfill(store, [plan], path)
    expect(report).toMatchObject({ isComplete: true, views: [{ counters }] })
    expect(await historyRows(store, plan)).toEqual(whole)
  })

  it('refuses more shards than there are lanes', async () => {
    const store = createMemoryStore()
    await runBackfill(store, [plan], path, { share: { index: 0, count: 2 }, newHistoryLanes: 2 })
    await expect(runBackfill(store, [plan], path, { share: { index: 2, count: 3 } })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      details: { got: 3, expected: 2 },
    })
  })

  it('is not mixed by two that take one share: the first loses its lanes and says so', async () => {
    const store = createMemoryStore()
    const share = { index: 0, count: 2 }
    let second: Promise<unknown> | undefined
    const first = runBackfill(store, [plan], path, {
      share,
      newHistoryLanes: LANES,
      deltaBytesMax: 1,
      onProgress: () => {
        second ??= runBackfill(store, [plan], path, { share, deltaBytesMax: 1 })
      },
    })
    await expect(first).rejects.toMatchObject({ code: 'FENCED' })
    await second
    await runBackfill(store, [plan], path, { share: { index: 1, count: 2 } })
    expect(await historyRows(store, plan)).toEqual(whole)
  })

  describe('claims', () => {
    const claim = { beatMs: 20, silenceMs: 150 }

    it('keep a second one away from lanes that are being filled, and the first goes on', async () => {
      const store = createMemoryStore()
      let second: Promise<unknown> | undefined
      const first = runBackfill(store, [plan], path, {
        historyLanes: LANES,
        claim,
        onProgress: () => {
          second ??= runBackfill(store, [plan], path, { share: { index: 1, count: 5 }, claim }).catch((error) => error)
        },
        // A file is read in less time than a claim is watched.
        pool: { store: slowed(store) },
      })
      expect(await first).toMatchObject({ isComplete: true })
      expect(await second).toMatchObject({
        code: 'FENCED',
        message: expect.stringMatching(/another backfill is filling them, shard 0\/1; got 1\/5/),
      })
      expect(await historyRows(store, plan)).toEqual(whole)
    })

    it('of the dead are passed over after a while, those that are given back at once, others never', async () => {
      const store = createMemoryStore()
      const seat = { store, namespace: 'history' }
      const told: string[] = []
      const watched = { ...claim, onWait: (text: string) => told.push(text) }
      await runBackfill(store, [plan], path, { share: { index: 0, count: 2 }, newHistoryLanes: LANES, claim: watched })
      const { generations } = (await layoutOf(store, plan))!
      // It dies without a word: no beat comes.
      await HistoryClaim.take(seat, generations[0]!, { index: 0, count: 2 }, { ...claim, beatMs: 60_000 })
      const beside = await HistoryClaim.take(seat, generations[0]!, { index: 1, count: 2 }, watched)
      expect(told).toEqual([])
      const after = await HistoryClaim.take(seat, generations[0]!, { index: 2, count: 4 }, watched)
      expect(told).toHaveLength(1)
      await beside.release()
      await after.release()
      await runBackfill(store, [plan], path, { claim: watched })
      expect(told).toHaveLength(1)
      expect(await visible(store)).toBe(true)
    })
  })

  it('is open again once a failover took a part of it back: answers say so until it is done anew', async () => {
    const store = createMemoryStore({ history: true })
    await runBackfill(store, [plan], path, { historyLanes: LANES, deltaBytesMax: 50_000 })
    const seat = { store, namespace: 'history' }
    const reader = () =>
      createFeatureReader({ ...seat, plans: [plan], core: loadCore(), clock: () => BASE_MS + 66 * HOUR_MS })
    const ask = async () => {
      const answer = await reader().getFeatures({
        view: plan.view,
        entities: [{ card: 'card-1' }],
        asOf: BASE_MS + 66 * HOUR_MS,
      })
      return answer.rows[0]!
    }
    const before = await ask()
    expect(before.statuses).toContain('ok')
    expect(await checkHistory(seat, plan)).toBeUndefined()

    const lane = { namespace: 'history', stateHash: plan.stateHash, generation: 1, lane: historyLane(3) }
    store.regress(lane, 2)
    expect(await checkHistory(seat, plan)).toMatchObject({ code: 'REGRESSED', details: { lanes: ['h3'] } })
    expect((await ask()).statuses.every((status) => status === 'incomplete')).toBe(true)
    // Told once; nothing more is known until it is done anew.
    expect(await checkHistory(seat, plan)).toBeUndefined()

    expect(await runBackfill(store, [plan], path)).toMatchObject({ isComplete: true })
    expect(await historyRows(store, plan)).toEqual(whole)
    expect(await ask()).toEqual(before)
    expect(await checkHistory(seat, plan)).toBeUndefined()
  })

  it('is looked after by whoever streams into the same view', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    try {
      const store = createMemoryStore({ history: true })
      await runBackfill(store, [plan], path, { historyLanes: LANES })
      const reports: StreamReport[] = []
      const group = new ScriptedGroup('payments', [[]], seededRandom(SEED))
      const consumer = new ScriptedConsumer(group)
      const report = (each: StreamReport) => reports.push(each)
      const job = await StreamJob.create({
        plans: [plan],
        consumer,
        store,
        namespace: 'history',
        decoder: createJsonDecoder,
        clock,
        report,
      })
      await job.start()
      store.regress({ namespace: 'history', stateHash: plan.stateHash, generation: 1, lane: historyLane(5) }, 1)
      await vi.advanceTimersByTimeAsync(60_000)
      await job.stop()
      expect(reports).toMatchObject([{ level: 'error', event: 'history_lost', log: plan.view, code: 'REGRESSED' }])
      expect((await layoutOf(store, plan))!.generations).toMatchObject([{ history: { isReopened: true } }])
    } finally {
      vi.useRealTimers()
    }
  })

  it('of a generation beside another is switched to when all of it is there', async () => {
    const store = createMemoryStore()
    const seat = { store, namespace: 'history' }
    await runBackfill(store, [plan], path, { historyLanes: 2 })
    const { generation } = await beginGeneration(seat, plan)
    const beside = { seat: { ...seat, generation: generation.generation }, newHistoryLanes: LANES }
    await runBackfill(store, [plan], path, { ...beside, share: { index: 0, count: 2 } })
    await expect(switchGeneration(seat, plan, 2)).rejects.toMatchObject({ code: 'VIEW_NOT_READY' })
    expect(await runBackfill(store, [plan], path, { ...beside, share: { index: 1, count: 2 } })).toMatchObject({
      isComplete: true,
    })
    expect((await layoutOf(store, plan))!.current).toMatchObject({ generation: 1 })
    await switchGeneration(seat, plan, 2)
    expect((await layoutOf(store, plan))!.current).toMatchObject({ generation: 2 })
  })
})

/** Every write takes a while. */
function slowed(store: MemoryStore): MemoryStore {
  return new Proxy(store, {
    get(target, name) {
      const member = Reflect.get(target, name) as unknown
      if (typeof member !== 'function') return member
      return async (...args: unknown[]) => {
        if (name === 'write') await sleep(30)
        return (member as (...all: unknown[]) => unknown).apply(target, args)
      }
    },
  })
}
