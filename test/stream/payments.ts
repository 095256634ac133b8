/** The stream tests' view and events, and what must come out of them whatever happens on the way. */
import { compileView } from '../../src/define/compile.ts'
import { count, defineView, float64, last, max, sum, timestamp, utf8 } from '../../src/define/dsl.ts'
import { loadCore } from '../../src/engine/module.ts'
import { RowNormaliser } from '../../src/engine/rows.ts'
import { Ingest } from '../../src/ingest/ingest.ts'
import type { Plan } from '../../src/model/plan.ts'
import { generationOf, laneGroups, type ViewLayout } from '../../src/model/view-layout.ts'
import { rowsToBatch } from '../../src/source/rows.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { Store } from '../../src/store/port.ts'
import type { Random } from '../support/random.ts'

export interface Payment {
  readonly card: string
  readonly at: number
  readonly amount: number
}

export const NAMESPACE = 'stream'
export const START_MS = Date.UTC(2026, 0, 5)
const HOUR_MS = 3_600_000

/** `topic`: views name their kind of events, and the topic is named like it. */
export function paymentsView(topic = 'payments', name = 'spend'): Promise<Plan> {
  return compileView(
    defineView({
      name,
      source: { name: topic, columns: { card: utf8(), at: timestamp('ms'), amount: float64() } },
      entity: 'card',
      time: 'at',
      aggregations: [
        count({ windows: ['1h', '24h'] }),
        sum('amount', { windows: ['1h', '24h'] }),
        max('amount', { windows: ['24h'] }),
        last('amount', { windows: ['24h'] }),
      ],
    }),
  )
}

/** The same as a definition file. */
export function paymentsYaml(topic = 'payments'): string {
  return `views:
  - name: spend
    source: { name: ${topic}, columns: { card: utf8, at: 'timestamp[ms]', amount: float64 } }
    entity: card
    time: at
    aggregations:
      - { op: count, windows: [1h, 24h] }
      - { op: sum, column: amount, windows: [1h, 24h] }
      - { op: max, column: amount, windows: [24h] }
      - { op: last, column: amount, windows: [24h] }
`
}

/** Payments over `hours`, a little out of order. */
export function drawPayments(random: Random, events: number, cards: number, hours = 8): Payment[] {
  return Array.from({ length: events }, (_, i) => ({
    card: `card-${random.below(cards)}`,
    at: START_MS + Math.floor((i / events) * hours * HOUR_MS) + random.below(120_000),
    amount: random.below(100_000) / 64,
  }))
}

export function messageOf(payment: Payment, position: number): StreamMessage {
  return {
    key: Buffer.from(payment.card),
    value: Buffer.from(JSON.stringify(payment)),
    timestamp: String(payment.at),
    offset: String(position),
  }
}

/** Rows by card, normalised and in hex: what an uninterrupted run makes of the events. */
export async function expectedRows(plan: Plan, payments: readonly Payment[]): Promise<Map<string, string>> {
  const store = createMemoryStore()
  const lane = { namespace: NAMESPACE, stateHash: plan.stateHash, generation: 1, lane: 'all.0' }
  const { view, state, stateHash } = plan
  const spec = {
    view,
    state,
    stateHash,
    namespace: NAMESPACE,
    generation: 1,
    log: 'all',
    lanes: ['all.0'],
    shard: 0,
    shards: 1,
  }
  const bounds = {
    notAfterMs: START_MS * 2,
    completeSinceMs: 0,
    layoutVersion: 1,
    deltaBytesMax: 1 << 30,
    isHistory: false,
  }
  const clock = () => START_MS * 2
  const ingest = await Ingest.open({ ...spec, ...bounds }, { store, core: loadCore(), clock, nonce: 'expected' })
  const rows = payments.map((payment) => ({ ...payment }))
  if (rows.length > 0) await ingest.push(rowsToBatch(rows, plan.state.inputs, 0))
  await ingest.flush()
  const found: [string, Uint8Array][] = []
  for await (const { key, bytes } of store.scanRows(lane)) found.push([Buffer.from(key).toString(), bytes.slice()])
  return normalised(plan, found)
}

/** The same of everything that a generation of the view holds, the current one unless told. */
export async function storedRows(
  store: Store,
  plan: Plan,
  namespace = NAMESPACE,
  number?: number,
): Promise<Map<string, string>> {
  const text = await store.readLayout(namespace, plan.view)
  if (text === undefined) return new Map()
  const layout = JSON.parse(text) as ViewLayout
  const generation = generationOf(layout, plan.stateHash, number ?? layout.current!.generation)!
  const lanes = new Set(laneGroups(generation).flatMap((group) => group.lanes))
  const found: [string, Uint8Array][] = []
  for (const lane of lanes) {
    const name = { namespace, stateHash: plan.stateHash, generation: generation.generation, lane }
    for await (const { key, bytes } of store.scanRows(name)) found.push([Buffer.from(key).toString(), bytes.slice()])
  }
  return normalised(plan, found)
}

function normalised(plan: Plan, found: readonly (readonly [string, Uint8Array])[]): Map<string, string> {
  const byKey = new Map<string, Uint8Array[]>()
  for (const [key, row] of found) byKey.set(key, [...(byKey.get(key) ?? []), row])
  const normaliser = new RowNormaliser(loadCore(), plan.state)
  const rows = [...byKey].map(([key, parts]): [string, string] => [
    key,
    // One frontier for all, behind whatever any clock has reached.
    Buffer.from(normaliser.normalise(parts, FRONTIER_MS)).toString('hex'),
  ])
  return new Map(rows.sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** A day behind the first event: every event is in tiles then, and none is evicted. */
const FRONTIER_MS = START_MS + 24 * HOUR_MS
