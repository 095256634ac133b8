/** A view built beside itself: readers see all of the old or all of the new, whatever dies, and the bytes are those of the stream. */
import { beforeAll, describe, expect, it } from 'vitest'
import { IngestPool } from '../../src/ingest/pool.ts'
import type { Plan } from '../../src/model/plan.ts'
import type { ViewLayout } from '../../src/model/view-layout.ts'
import { rebuild } from '../../src/offline/rebuild.ts'
import { surveyStates } from '../../src/registry/gc.ts'
import { beginGeneration, dropGeneration, readOffsets, switchGeneration } from '../../src/registry/generations.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { Store } from '../../src/store/port.ts'
import { eachSeed } from '../fuzz/effort.ts'
import { FaultyStore, Killed } from '../laws/faulty-store.ts'
import { NAMESPACE, paymentsView, START_MS, storedRows } from '../stream/payments.ts'
import { seededRandom } from '../support/random.ts'
import { drawLog, makeFolder, mirrorLogs, streamLogs } from './mirror-scene.ts'

const FILE = 'test/offline/generations.test.ts'
const clock = () => START_MS * 2

describe('a generation beside another', () => {
  let plan: Plan
  let twin: Plan
  beforeAll(async () => {
    plan = await paymentsView()
    twin = await paymentsView('payments', 'twin')
  })

  const stream = (store: Store, logs: readonly StreamMessage[][], plans = [plan]) =>
    streamLogs(store, plans, logs, { maxDeadRatio: 1 })

  const mirrored = (logs: readonly StreamMessage[][]) => mirrorLogs(makeFolder(), [plan], 'payments', logs)

  async function fill(store: Store, dir: string, generation: number): Promise<void> {
    const pool = new IngestPool({ threads: 0, store, clock })
    const seat = { store, namespace: NAMESPACE, generation }
    await rebuild({ seat, plans: [plan], dir, pool, clock, deltaBytesMax: 1 }).finally(() => pool.close())
  }

  const layoutOf = async (store: Store) =>
    JSON.parse((await store.readLayout(NAMESPACE, plan.view)) ?? '{}') as ViewLayout

  it('is not seen before the switch, wherever it dies; then the stream goes on in it to the bytes of a stream alone', async () => {
    const seeds = await eachSeed(FILE, 0, 4, async (seed) => {
      const random = seededRandom(seed)
      const logs = Array.from({ length: 2 }, () => drawLog(random, random.between(80, 240), random.below(20)))
      const undisturbed = createMemoryStore()
      await stream(undisturbed, logs)
      const half = logs.map((log) => log.slice(0, random.between(50, log.length - 5)))
      const early = half.map((log) => log.slice(0, 30))
      const inner = createMemoryStore()
      await stream(inner, half)
      const before = await storedRows(inner, plan)
      const seat = { store: inner, namespace: NAMESPACE }
      await beginGeneration(seat, plan)
      // Half of the way first: it is behind.
      await fill(inner, await mirrored(early), 2)
      expect(await storedRows(inner, plan)).toEqual(before)
      await expect(switchGeneration(seat, plan, 2)).rejects.toMatchObject({ code: 'VIEW_NOT_READY' })
      const dir = await mirrored(half)
      let isAsked = false
      // One step later each time, lost before or behind it, until nothing is: every step of fill and switch has been the last.
      for (let at = 0, done = false; !done && at < 400; at++) {
        const store = new FaultyStore(inner)
        store.plan(at, random.pick(['before', 'after'] as const))
        try {
          await fill(store, dir, 2)
          if (!isAsked) expect((await layoutOf(inner)).current?.generation).toBe(1)
          isAsked = true
          expect(await storedRows(inner, plan)).toEqual(before)
          await switchGeneration({ store, namespace: NAMESPACE }, plan, 2)
          done = true
        } catch (error) {
          if (!(error instanceof Killed) && !/killed|dead/.test((error as Error).message)) throw error
          // Old or new, and whole.
          expect(await storedRows(inner, plan)).toEqual(before)
        }
      }
      expect((await layoutOf(inner)).current).toMatchObject({ generation: 2 })
      expect(await storedRows(inner, plan)).toEqual(before)
      await stream(
        inner,
        logs.map((log, i) => log.slice(half[i]!.length - 1 - Math.min(10, half[i]!.length - 1))),
      )
      expect(await storedRows(inner, plan)).toEqual(await storedRows(undisturbed, plan))
    })
    expect(seeds).toBeGreaterThan(0)
  }, 60_000)

  it('can be gone back to, dropped when nobody sees it, and its number is not used again', async () => {
    const log = drawLog(seededRandom(5), 120, 0)
    const store = createMemoryStore()
    const seat = { store, namespace: NAMESPACE }
    await stream(store, [log.slice(0, 80)])
    const { generation } = await beginGeneration(seat, plan)
    expect(generation.generation).toBe(2)
    await fill(store, await mirrored([log.slice(0, 80)]), 2)
    await switchGeneration(seat, plan, 2)
    const first = (await storedRows(store, plan)).size
    await stream(store, [log])
    const { lanes: offsets } = await readOffsets(seat, plan)
    const [old, now] = [1, 2].map((number) => offsets.find((each) => each.generation === number)!)
    expect(old!.marker).toBeLessThan(now!.marker)
    expect([old!.isCurrent, now!.isCurrent]).toEqual([false, true])
    // The old one stood still meanwhile.
    await expect(switchGeneration(seat, plan, 1)).rejects.toMatchObject({ code: 'VIEW_NOT_READY' })
    await switchGeneration(seat, plan, 1, { allowBehind: true })
    expect((await storedRows(store, plan)).size).toBe(first)
    const { stateHash } = plan
    await expect(dropGeneration(seat, plan, { stateHash, generation: 1 })).rejects.toMatchObject({
      code: 'STATE_IN_USE',
    })
    await dropGeneration(seat, plan, { stateHash, generation: 2 })
    const states = await surveyStates(store, NAMESPACE)
    expect(states.map(({ generation: number, standing }) => [number, standing])).toEqual([
      [1, 'current'],
      [2, 'retired'],
    ])
    expect((await beginGeneration(seat, plan)).generation.generation).toBe(3)
    await expect(switchGeneration(seat, plan, 9)).rejects.toMatchObject({ code: 'LAYOUT_MISSING' })
  })

  it('of one of two views that share a state leaves the rows of the other to itself', async () => {
    const log = drawLog(seededRandom(6), 160, 0)
    const store = createMemoryStore()
    const seat = { store, namespace: NAMESPACE }
    expect(twin.stateHash).toBe(plan.stateHash)
    await stream(store, [log.slice(0, 60)], [plan, twin])
    await beginGeneration(seat, plan)
    await fill(store, await mirrored([log.slice(0, 60)]), 2)
    await switchGeneration(seat, plan, 2)
    await stream(store, [log], [plan, twin])
    const undisturbed = createMemoryStore()
    await stream(undisturbed, [log])
    const expected = await storedRows(undisturbed, plan)
    expect(await storedRows(store, plan)).toEqual(expected)
    expect(await storedRows(store, twin)).toEqual(expected)
  })
})
