/** A small log and a request to forget in the middle of it, for every way in which its owners may die. */
import { compileView } from '../../src/define/compile.ts'
import { count, defineView, float64, last, min, sum, timestamp, utf8 } from '../../src/define/dsl.ts'
import { loadCore } from '../../src/engine/module.ts'
import { RowNormaliser } from '../../src/engine/rows.ts'
import { Ingest, type IngestSpec } from '../../src/ingest/ingest.ts'
import { type ColumnBatch, sliceBatch } from '../../src/model/columns.ts'
import type { Plan } from '../../src/model/plan.ts'
import { requestErase } from '../../src/registry/erase.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { LaneName, Store } from '../../src/store/port.ts'
import { event } from '../engine/folding.ts'
import type { NaiveEvent } from '../oracle/naive.ts'
import { TIME_INPUT, toBatches } from '../support/batches.ts'
import { seededRandom } from '../support/random.ts'

export const START_MS = Date.UTC(2001, 5, 17, 9)
export const MINUTE_MS = 60_000
const NAMESPACE = 'forget'
const FAR_MS = START_MS + 24 * 60 * MINUTE_MS

export const plan: Plan = await compileView(
  defineView({
    name: 'clicks',
    source: { name: 'events', columns: { key: utf8(), value: float64(), [TIME_INPUT]: timestamp('ms') } },
    entity: 'key',
    time: TIME_INPUT,
    aggregations: [
      count({ windows: ['1h', '1d'] }),
      sum('value', { windows: ['1h', '1d'] }),
      min('value', { windows: ['1d'] }),
      last('value', { windows: ['1d'] }),
    ],
  }),
)

export const LANES = ['log.0', 'log.1']

export function specOf(changes: Partial<IngestSpec> = {}): IngestSpec {
  const { view, state, stateHash } = plan
  const share = { lanes: LANES, shard: 0, shards: 1, notAfterMs: FAR_MS, completeSinceMs: 0, layoutVersion: 1 }
  const whole = { view, state, stateHash, namespace: NAMESPACE, generation: 1, log: 'log', ...share }
  return { ...whole, deltaBytesMax: 1 << 30, isHistory: false, ...changes }
}

let takers = 0

export function openIngest(store: Store, changes: Partial<IngestSpec> = {}, clock = () => FAR_MS): Promise<Ingest> {
  return Ingest.open(specOf(changes), { store, core: loadCore(), clock, nonce: `taker-${takers++}` })
}

export function laneName(lane: string): LaneName {
  return { namespace: NAMESPACE, stateHash: plan.stateHash, generation: 1, lane }
}

export function at(minutes: number, key: string, value = 1): NaiveEvent {
  return event(START_MS + minutes * MINUTE_MS, { value }, [key])
}

export const seatOf = (store: Store) => ({ store, namespace: NAMESPACE })

/** Asks for `key` to be forgotten, as of a minute. */
export function request(store: Store, key: string, minutes: number) {
  const hex = Buffer.from(key).toString('hex')
  const atMs = START_MS + minutes * MINUTE_MS
  return requestErase(seatOf(store), { views: [plan.view], states: [plan.stateHash], key: hex, atMs })
}

const batches = new WeakMap<readonly NaiveEvent[], ColumnBatch>()

/** Pushes events [from, to) of a log. */
export function push(ingest: Ingest, events: readonly NaiveEvent[], from = 0, to = events.length): Promise<void> {
  const batch =
    batches.get(events) ??
    toBatches(
      events.map((each, position) => ({ ...each, position })),
      plan.state,
      seededRandom(0),
      { positionArrays: false },
    )[0]!
  batches.set(events, batch)
  return ingest.push(sliceBatch(batch, from, to))
}

const normaliser = new RowNormaliser(loadCore(), plan.state)

/** Rows of all lanes by key, in hex, at one stage; of rows without an event only their key. */
export async function rowsIn(store: Store, lanes = LANES): Promise<Map<string, string>> {
  const byKey = new Map<string, Uint8Array[]>()
  for (const lane of lanes) {
    for await (const { key, bytes } of store.scanRows(laneName(lane))) {
      const name = Buffer.from(key).toString()
      byKey.set(name, [...(byKey.get(name) ?? []), bytes.slice()])
    }
  }
  const rows = [...byKey].map(([key, parts]): [string, string] => {
    const row = normaliser.normalise(parts, FAR_MS)
    return [key, isTombstone(row) ? '' : Buffer.from(row).toString('hex')]
  })
  return new Map(rows.sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** Runs in the header: a tombstone has none. */
export function isTombstone(row: Uint8Array): boolean {
  return new DataView(row.buffer, row.byteOffset).getUint16(40, true) === 0
}

/** What an undisturbed owner, who was asked nothing, makes of the events. */
export async function rowsOfEvents(events: readonly NaiveEvent[]): Promise<Map<string, string>> {
  const store = createMemoryStore()
  const ingest = await openIngest(store)
  if (events.length > 0) await push(ingest, events)
  await ingest.flush()
  return rowsIn(store)
}
