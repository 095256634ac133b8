/** How a worker thread comes to the store of its pool: by the address alone, as neither store can be handed over. */
import type { WriteGuard } from '../store/guard.ts'
import type { LaneName, Store } from '../store/port.ts'
import type { RedisStoreOptions } from '../store/redis-options.ts'

/** Plain data. */
export interface RedisAddress {
  readonly options: Omit<RedisStoreOptions, 'expiryMs'>
  /** How long rows are kept, by state hash; for ever where it has none. */
  readonly expiriesMs?: ReadonlyMap<string, number>
}

export type StoreAddress = { readonly path: string } | { readonly redis: RedisAddress }

/** Throws what creating the store throws. */
export async function openThreadStore(address: StoreAddress, guard: WriteGuard): Promise<Store> {
  if ('path' in address) {
    const { createLmdbStore } = await import('../store/lmdb.ts')
    return createLmdbStore({ path: address.path, guard })
  }
  const { createRedisStore } = await import('../store/redis.ts')
  const { options, expiriesMs } = address.redis
  const expiryMs = expiriesMs && (({ stateHash }: LaneName) => expiriesMs.get(stateHash))
  return createRedisStore({ ...options, ...(expiryMs && { expiryMs }) })
}
