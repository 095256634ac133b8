/** What speaks of a mirror's positions is refused for a routed view, or leaves its lanes out: never quietly wrong. */
import { beforeAll, describe, expect, it } from 'vitest'
import { loadCore } from '../../src/engine/module.ts'
import { IngestPool } from '../../src/ingest/pool.ts'
import { encodeKey } from '../../src/model/key.ts'
import type { Plan } from '../../src/model/plan.ts'
import type { ViewLayout } from '../../src/model/view-layout.ts'
import { compareWithMirror } from '../../src/offline/parity.ts'
import { findLogs } from '../../src/offline/parity-logs.ts'
import { rebuild } from '../../src/offline/rebuild.ts'
import { answersOfLayouts } from '../../src/offline/served-lanes.ts'
import { VisiblePositions } from '../../src/offline/served-ledger.ts'
import { createFeatureReader } from '../../src/serve/reader.ts'
import type { ServedRow } from '../../src/serve/served.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { Store } from '../../src/store/port.ts'
import { drawPayments, NAMESPACE, type Payment, paymentsView, START_MS, storedRows } from '../stream/payments.ts'
import { RoutedScene, scatterInto } from '../stream/routed-scene.ts'
import { seededRandom } from '../support/random.ts'
import { makeFolder, ScriptedGroup, startMirror } from './mirror-scene.ts'

const clock = () => START_MS * 2
const ASKED = START_MS + 3 * 3_600_000

describe('a routed view', () => {
  const random = seededRandom(21)
  let plan: Plan
  let payments: Payment[]
  let dir: string
  let store: Store
  let seat: { store: Store; namespace: string }

  beforeAll(async () => {
    plan = await paymentsView()
    payments = drawPayments(random, 300, 12, 3)
    const logs: StreamMessage[][] = [[], []]
    scatterInto(logs, payments, random)
    store = createMemoryStore()
    seat = { store, namespace: NAMESPACE }
    const scene = await RoutedScene.create({ store, plan, logs, random, clock })
    await scene.routeAll()
    await scene.foldAll()
    await scene.stop()
    dir = makeFolder()
    const group = new ScriptedGroup('payments', logs, random)
    const { consumer, mirror } = startMirror(group, { dir, plans: [plan], clock })
    await mirror.start()
    for (const partition of logs.keys()) {
      await group.assign(partition, consumer)
      while (await consumer.deliver(partition, 90));
    }
    await mirror.stop()
  })

  it('is not rebuilt from a mirror, whatever its topic is called, and nothing of it is touched', async () => {
    const before = await storedRows(store, plan)
    const layout = await store.readLayout(NAMESPACE, plan.view)
    for (const topics of [new Map<string, string>(), new Map([['payments', 'mirrored.payments']])]) {
      const pool = new IngestPool({ threads: 0, store, clock })
      await expect(rebuild({ seat, plans: [plan], dir, topics, pool, clock })).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
        message: expect.stringMatching(/cannot rebuild view spend.*by way of stream\.spend\..*would count twice/),
      })
      await pool.close()
    }
    expect(await store.readLayout(NAMESPACE, plan.view)).toBe(layout)
    expect(await storedRows(store, plan)).toEqual(before)
  })

  it('is left out where other views are rebuilt', async () => {
    const other = await paymentsView('payments', 'twin')
    const seat = { store, namespace: NAMESPACE }
    const pool = new IngestPool({ threads: 0, store, clock })
    const before = await storedRows(store, plan)
    const report = await rebuild({ seat, plans: [plan, other], dir, pool, clock })
    await pool.close()
    expect(report).toMatchObject({
      finished: true,
      records: payments.length,
      leftOut: ['spend'],
      views: [{ view: 'twin' }],
    })
    expect(await storedRows(store, plan)).toEqual(before)
    // From the topic itself or by way of a router: the rows are the same.
    expect(await storedRows(store, other)).toEqual(before)
  })

  it('is not compared with a mirror', async () => {
    await expect(compareWithMirror({ seat, plan, dir, clock, core: loadCore() })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/cannot compare view spend with a mirror.*applied up to offsets of that topic/),
    })
  })

  it('has its history compared alone where files are given', async () => {
    const { generations } = JSON.parse((await store.readLayout(NAMESPACE, plan.view))!) as ViewLayout
    const source = { log: 'files', rowsTotal: async () => 0, read: async function* () {} }
    const generation = { ...generations[0]!, history: { lanes: 1, log: 'files' } }
    const wanted = { plan, mirror: dir, history: { source, notAfterMs: 0 } }
    const { logs, unchecked } = await findLogs(wanted, generation)
    expect(logs.map(({ lanes }) => lanes)).toEqual([['h0']])
    expect(unchecked).toEqual(generation.logs.map(({ name }) => `${name}.0`))
    await expect(findLogs({ plan, mirror: dir }, generation)).rejects.toMatchObject({
      message: expect.stringContaining('its history can be compared alone (--history)'),
    })
  })

  it('does not recompute what it served, but for answers that came from no row', async () => {
    const rows: ServedRow[] = []
    const log = { share: 1, take: (some: readonly ServedRow[]) => void rows.push(...some) }
    const reader = createFeatureReader({ store, namespace: NAMESPACE, plans: [plan], core: loadCore(), clock, log })
    await reader.getFeatures({ view: plan.view, entities: [{ card: 'card-1' }, { card: 'nobody' }], asOf: ASKED })
    const vectors = rows.map(({ keys, asOfMs, applied, generation: { state: _, ...layout } }) => ({
      key: encodeKey(plan.state.entity, keys),
      asOfMs,
      applied,
      layout: JSON.stringify(layout),
    }))
    expect(vectors.map(({ applied }) => applied.length)).toEqual([1, 0])
    await expect(answersOfLayouts({ plan, mirror: dir, vectors })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/cannot recompute what view spend served.*--from-log/),
    })
    expect(await answersOfLayouts({ plan, mirror: dir, vectors: vectors.slice(1) })).toMatchObject([{ missing: [] }])
  })

  it('has no ledger that a mirror could be read by', async () => {
    await expect(VisiblePositions.open(seat, plan, dir)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/cannot ask the flush ledger of view spend.*a log of answers/),
    })
  })
})
