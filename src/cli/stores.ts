/** Which store the settings mean: Redis where there is an address, else the directory of this machine. */

import type { RedisAddress } from '../ingest/thread-store.ts'
import type { Plan } from '../model/plan.ts'
import type { LaneName, SweptStore } from '../store/port.ts'
import type { RedisStoreOptions } from '../store/redis.ts'
import type { Settings } from './settings.ts'

export interface OpenStore {
  readonly store: SweptStore
  /** For people: `redis.example:6379`, `.tilefold`. */
  readonly where: string
  /** Directory that worker threads open for themselves; a shared store has none. */
  readonly path?: string
  /** The shared store, as worker threads open it for themselves. */
  readonly redis?: RedisAddress
}

export interface StoreUse {
  readonly readOnly: boolean
  /** Rows of their states expire behind their retention, where the store can do that. */
  readonly plans: readonly Plan[]
}

/** Throws STORE_LOCKED, STORE_FORMAT, STORE_UNAVAILABLE, STORE_UNSAFE, CONFIG_INVALID. */
export async function openStore(settings: Settings, { readOnly, plans }: StoreUse): Promise<OpenStore> {
  const urls = settings.list('redis_url')
  if (urls.length > 0) return openRedis(settings, readOnly ? [] : plans)
  const { createLmdbStore } = await import('../store/lmdb.ts')
  const path = settings.text('store')!
  return { store: createLmdbStore({ path, readOnly }), where: path, path }
}

async function openRedis(settings: Settings, plans: readonly Plan[]): Promise<OpenStore> {
  const { createRedisStore } = await import('../store/redis.ts')
  const options = redisOptionsOf(settings)
  const expiriesMs = new Map(plans.map(({ stateHash, state }) => [stateHash, retentionOf(state)]))
  const store = createRedisStore({
    ...options,
    ...(plans.length === 0 ? {} : { expiryMs: ({ stateHash }: LaneName) => expiriesMs.get(stateHash) }),
  })
  try {
    // Before anything is trusted to it: scripts allowed, no eviction.
    await store.checkServer()
  } catch (error) {
    await store.close()
    throw error
  }
  return { store, where: settings.shown('redis_url')!, redis: { options, expiriesMs } }
}

/** Address, user and transport; nothing is connected yet. */
export function redisOptionsOf(settings: Settings): RedisStoreOptions {
  return {
    urls: settings.list('redis_url'),
    mode: settings.isOn('redis_cluster') ? 'cluster' : undefined,
    sentinelUsername: settings.text('redis_sentinel_username'),
    sentinelPassword: settings.text('redis_sentinel_password'),
    username: settings.text('redis_username'),
    password: settings.text('redis_password'),
    tls: settings.certificates('redis') ?? (settings.isOn('redis_tls') ? {} : undefined),
  }
}

/** A row is kept for its retention and a day: event times may lie ahead of the server's clock, and flushes behind. */
function retentionOf({ retentionMs, maxFutureMs }: Plan['state']): number {
  return retentionMs + maxFutureMs + DAY_MS
}

const DAY_MS = 86_400_000
