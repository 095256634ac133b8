/** A small store with real rows: payments folded by the core into history and live lanes of two views, and read from. */

import { compileView } from '../../src/define/compile.ts'
import { count, decimal, defineView, float64, int64, last, mean, sum, timestamp, utf8 } from '../../src/define/dsl.ts'
import { Core } from '../../src/engine/core.ts'
import { loadCore } from '../../src/engine/module.ts'
import { LaneOwner } from '../../src/ingest/lane.ts'
import type { Plan } from '../../src/model/plan.ts'
import { type GenerationLayout, historyLane, liveLane, type ViewLayout } from '../../src/model/view-layout.ts'
import { createFeatureReader, type FeatureReader, type FeatureReaderOptions } from '../../src/serve/reader.ts'
import type { LaneName, Store } from '../../src/store/port.ts'
import type { NaiveEvent } from '../oracle/event.ts'
import { toBatches } from '../support/batches.ts'
import { seededRandom } from '../support/random.ts'
import { layoutOf } from './plans.ts'
import { WatchedStore } from './watched-store.ts'

export const NAMESPACE = 'shop'
/** When the log of payments ends: the reader's clock stands here unless a test moves it. */
export const NOON = Date.UTC(2026, 2, 1, 12)
export const MINUTE = 60_000
export const HOUR = 60 * MINUTE

const source = {
  name: 'payments',
  columns: {
    ts: timestamp('ms'),
    user: utf8(),
    shop: int64(),
    amount: float64(),
    points: int64(),
    price: decimal(18, 2),
    note: utf8(),
  },
}

export const spendView = defineView({
  name: 'spend',
  source,
  entity: 'user',
  time: 'ts',
  aggregations: [
    count({ windows: ['1h', '1d'] }),
    sum('amount', { windows: ['1h', '1d'] }),
    mean('amount', { windows: ['1h'], default: -1 }),
    sum('points', { windows: ['1d'] }),
    sum('price', { windows: ['1d'] }),
    last('note', { windows: ['1d'] }),
  ],
})

export const visitsView = defineView({
  name: 'visits',
  source,
  entity: ['shop', 'user'],
  time: 'ts',
  aggregations: [count({ windows: ['1d'] }), last('points', { windows: ['1d'], default: 7 })],
})

export interface Payment {
  readonly at: number
  readonly user: string
  readonly shop?: bigint
  readonly amount?: number | null
  readonly points?: bigint | null
  readonly cents?: bigint
  readonly note?: string | null
}

export interface LaneShape {
  readonly history?: number
  readonly logs?: readonly { readonly name: string; readonly shards: number }[]
}

export interface Shop {
  readonly store: WatchedStore
  readonly spend: Plan
  readonly visits: Plan
  readonly reader: FeatureReader
  /** The reader's clock. */
  nowMs: number
  newReader(options?: Partial<FeatureReaderOptions>): FeatureReader
  /** Folds payments into lanes of a view and stores the rows. */
  write(plan: Plan, lanes: readonly LaneName[], payments: readonly Payment[], options?: WriteOptions): Promise<void>
  setLayout(plan: Plan, layout: ViewLayout): Promise<void>
}

export interface WriteOptions {
  readonly generation?: number
  readonly layoutVersion?: number
  readonly completeSinceMs?: number
}

/** Both views with one live log `web` of one shard, whose rows hold the payments; in memory unless told. */
export async function openShop(payments: readonly Payment[] = PAYMENTS, inner?: Store): Promise<Shop> {
  const store = new WatchedStore(inner)
  const [spend, visits] = await Promise.all([compileView(spendView), compileView(visitsView)])
  const shop: Shop = {
    store,
    spend,
    visits,
    nowMs: NOON,
    reader: undefined as unknown as FeatureReader,
    newReader: (options = {}) =>
      createFeatureReader({
        store,
        namespace: NAMESPACE,
        plans: [spend, visits],
        core: loadCore(),
        clock: () => shop.nowMs,
        ...options,
      }),
    write: (plan, lanes, payments, options) => writePayments(store, plan, lanes, payments, options ?? {}),
    async setLayout(plan, layout) {
      const stored = await store.inner.readLayout(NAMESPACE, plan.view)
      await store.writeLayout(NAMESPACE, plan.view, stored, JSON.stringify(layout))
    },
  }
  for (const plan of [spend, visits]) {
    await shop.setLayout(plan, layoutOf(plan, lanesOf({ logs: [{ name: 'web', shards: 1 }] })))
    await shop.write(plan, liveLanes(plan, 'web', 1), payments)
  }
  return Object.assign(shop, { reader: shop.newReader() })
}

/** Some payments of ann and bob in the hours before noon. */
export const PAYMENTS: readonly Payment[] = [
  { at: NOON - 20 * HOUR, user: 'ann', shop: 1n, amount: 64, points: 2n ** 53n, cents: 1000n, note: 'old' },
  { at: NOON - 50 * MINUTE, user: 'ann', shop: 1n, amount: 0.5, points: 1n, cents: 25n, note: 'é "quoted"\n' },
  { at: NOON - 30 * MINUTE, user: 'bob', shop: 2n ** 60n, amount: 3, points: 5n, cents: 10n },
  { at: NOON - 10 * MINUTE, user: 'ann', shop: 2n, amount: 0.25, points: null, cents: -5n, note: null },
  { at: NOON, user: 'ann', shop: 1n, amount: 1000, points: 1000n, cents: 100_000n, note: 'being scored' },
]

export function lanesOf(shape: LaneShape): Partial<GenerationLayout> {
  return {
    history: { lanes: shape.history ?? 0 },
    logs: (shape.logs ?? []).map((log) => ({ ...log, notAfterMs: NOON })),
  }
}

export function historyLanes(plan: Plan, lanes: number, generation = 1): LaneName[] {
  return Array.from({ length: lanes }, (_, i) => laneName(plan, historyLane(i), generation))
}

export function liveLanes(plan: Plan, log: string, shards: number, generation = 1): LaneName[] {
  return Array.from({ length: shards }, (_, i) => laneName(plan, liveLane(log, i), generation))
}

function laneName(plan: Plan, lane: string, generation: number): LaneName {
  return { namespace: NAMESPACE, stateHash: plan.stateHash, generation, lane }
}

async function writePayments(
  store: Store,
  plan: Plan,
  lanes: readonly LaneName[],
  payments: readonly Payment[],
  options: WriteOptions,
): Promise<void> {
  const { layoutVersion = 1, completeSinceMs = 0 } = options
  const core = new Core(
    loadCore(),
    plan.state,
    { lanes: lanes.length, shard: 0, shards: 1, completeSinceMs, layoutVersion },
    NOON,
  )
  const events = payments.map((payment, position) => eventOf(plan, payment, position))
  for (const batch of toBatches(events, plan.state, seededRandom(1))) {
    core.prepare(batch)
    core.fold(Number.POSITIVE_INFINITY, false)
  }
  const rows = lanes.map((): { key: Uint8Array; bytes: Uint8Array }[] => [])
  for (const chunk of core.beginFlush(1000)) {
    const keys = core.keysOf(chunk)
    const none = keys.map(() => undefined)
    for (const [i, bytes] of core.writeRows(chunk, none, core.position).entries()) {
      rows[chunk.lane]!.push({ key: keys[i]!, bytes })
    }
  }
  core.endFlush()
  for (const [i, lane] of lanes.entries()) {
    const owner = await LaneOwner.acquire({ store, lane, nonce: `writer of ${lane.lane}`, layoutVersion })
    owner.beginFlush(core.position)
    await owner.writeRows(rows[i]!)
    await owner.endFlush(core.position, '')
  }
}

/** What the oracle calls an event. */
export function eventOf(plan: Plan, payment: Payment, position: number): NaiveEvent {
  const { at, user, shop = 1n, amount = null, points = null, cents, note = null } = payment
  const parts = { user, shop }
  return {
    position,
    time: at,
    key: plan.state.entity.map((part) => parts[part.name as keyof typeof parts]),
    cells: { amount, points, price: cents === undefined ? null : { dec: cents }, note },
    keep: true,
  }
}
