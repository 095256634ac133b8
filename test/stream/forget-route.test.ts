/** Forgetting in a routed view: the one lane that has the entity erases it, and what the router still sends of before is filtered. */
import { beforeAll, describe, expect, it } from 'vitest'
import { loadCore } from '../../src/engine/module.ts'
import { type ForgetOptions, type ForgetReport, forget } from '../../src/ingest/erase-request.ts'
import type { Plan } from '../../src/model/plan.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { Store } from '../../src/store/port.ts'
import { seededRandom } from '../support/random.ts'
import { drawPayments, expectedRows, NAMESPACE, paymentsView, START_MS, storedRows } from './payments.ts'
import { RoutedScene, scatterInto } from './routed-scene.ts'

const HOUR_MS = 3_600_000
const CARD = 'card-0'
const LINE_MS = START_MS + 4 * HOUR_MS

describe('a routed view that is asked to forget', () => {
  let plan: Plan
  beforeAll(async () => {
    plan = await paymentsView()
  })

  function ask(store: Store, options: Partial<ForgetOptions>): Promise<ForgetReport> {
    return forget({
      seat: { store, namespace: NAMESPACE },
      plans: [plan],
      key: Buffer.from(CARD),
      clock: () => LINE_MS,
      core: loadCore(),
      nonce: () => `asker-${nonces++}`,
      alone: false,
      waitMs: 0,
      ...options,
    })
  }
  let nonces = 0

  it.each([
    ['by the owner of its lane', false],
    ['in a lane without an owner, which goes on behind it', true],
  ])('erases the entity %s, and filters what comes of before the instant', async (_, isTaken) => {
    const random = seededRandom(31)
    const payments = drawPayments(random, 300, 5)
    const logs: StreamMessage[][] = [[], []]
    const store = createMemoryStore()
    const options = { store, plan, logs, random }
    let scene = await RoutedScene.create(options)
    scatterInto(logs, payments.slice(0, 120), random)
    await scene.routeAll()
    await scene.foldAll()
    // Routed before the request, folded behind it.
    scatterInto(logs, payments.slice(120, 200), random)
    await scene.routeAll()
    let report: ForgetReport
    if (isTaken) {
      await scene.stop()
      report = await ask(store, { alone: true })
      scene = await RoutedScene.create({ ...options, internal: scene.internal })
      await scene.foldAll()
    } else report = await ask(store, { nudge: () => scene.tick() })
    expect(report.lanes.map(({ name, outcome }) => [name.lane, outcome])).toEqual([
      [expect.stringMatching(/^stream\.spend\.[0-9a-f]+\.1\.\d\.0$/), 'erased'],
    ])
    await scene.foldAll()
    scatterInto(logs, payments.slice(200), random)
    await scene.routeAll()
    await scene.foldAll()
    await scene.stop()
    const left = payments.filter(({ card, at }) => card !== CARD || at >= LINE_MS)
    expect(left.filter(({ card }) => card === CARD).length).toBeGreaterThan(0)
    expect(payments.slice(120, 200).some(({ card, at }) => card === CARD && at < LINE_MS)).toBe(true)
    expect(await storedRows(store, plan)).toEqual(await expectedRows(plan, left))
  })
})
