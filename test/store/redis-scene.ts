/** What tests of the Redis store open: stores, servers, proxies. Whatever a test opened is closed behind it, last first. */
import { afterEach } from 'vitest'
import { createRedisStore, type RedisStore, type RedisStoreOptions } from '../../src/store/redis.ts'
import { TcpProxy } from '../support/proxy.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'

const closers: (() => Promise<void>)[] = []

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

export function openStore(options: RedisStoreOptions): RedisStore {
  const store = createRedisStore(options)
  closers.push(() => store.close())
  return store
}

export async function startOwn(settings?: Readonly<Record<string, string>>): Promise<RedisServer> {
  const server = await startRedis(settings)
  closers.push(() => server.stop())
  return server
}

/** A store that reaches the server through a proxy. */
export async function openBehindProxy(server: RedisServer, options: Partial<RedisStoreOptions> = {}) {
  const proxy = await TcpProxy.start(server.port)
  closers.push(() => proxy.stop())
  return { proxy, store: openStore({ urls: `redis://127.0.0.1:${proxy.port}`, ...options }) }
}
