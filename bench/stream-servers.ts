/** What the parts of the claim `stream` share: the servers, what to read them with, and the check that all events counted. */
import { loadCore } from '../src/engine/module.ts'
import { createFeatureReader, type FeatureReader } from '../src/serve/reader.ts'
import type { Store } from '../src/store/port.ts'
import type { KafkaCluster } from '../test/support/kafka.ts'
import type { Settings } from './claim.ts'
import { streamPlan } from './stream-events.ts'

export interface Servers {
  readonly kafka: KafkaCluster
  readonly redisUrl: string
  /** Of this process, on `redisUrl`. */
  readonly store: Store
  readonly settings: Settings
  /** A round lasts seconds: no part takes more. */
  readonly rounds: number
}

/** Nothing is dropped while the claim runs, whatever the events' times are. */
export const TOPIC_SETTINGS = { 'retention.ms': '-1' }

export const ENTITIES_PER_REQUEST = 100

export async function openReader(store: Store, namespace: string): Promise<FeatureReader> {
  const plans = [await streamPlan()]
  const reader = createFeatureReader({ store, namespace, plans, core: loadCore(), clock: Date.now })
  await reader.checkReady()
  return reader
}

/** Every event is in exactly one row's count. */
export async function checkCounted(
  { store }: Servers,
  namespace: string,
  keys: readonly string[],
  events: number,
): Promise<void> {
  const reader = await openReader(store, namespace)
  let counted = 0
  for (let first = 0; first < keys.length; first += ENTITIES_PER_REQUEST) {
    const entities = keys.slice(first, first + ENTITIES_PER_REQUEST).map((key) => ({ key }))
    const { metadata, rows } = await reader.getFeatures({ view: 'bench', entities })
    const column = metadata.features.findIndex(({ name }) => name === 'count_27d')
    for (const { values } of rows) counted += Number(values[column] ?? 0)
  }
  if (counted !== events) throw new Error(`cannot time the stream: counted ${counted} events, expected ${events}`)
}

export function quantileOf(values: readonly number[], quantile: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * quantile))]!
}
