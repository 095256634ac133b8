/** How a Redis store is told where its servers are and what it may take for granted. */
import type { ConnectionOptions } from 'node:tls'
import { TilefoldError } from '../model/errors.ts'
import type { LaneName } from './port.ts'
import { parseRedisUrl, type RedisAddress } from './redis-url.ts'

export interface RedisStoreOptions {
  /** One server, or some nodes of a Cluster, or Sentinels; how they are written: redis-url.ts. */
  readonly urls: string | readonly string[]
  /** As the addresses say unless told: `sentinel` where they are of Sentinels, else `standalone`. */
  readonly mode?: 'standalone' | 'cluster' | 'sentinel'
  /** The name under which Sentinels know the server, where the addresses do not have it. */
  readonly sentinelName?: string
  readonly sentinelUsername?: string
  readonly sentinelPassword?: string
  /** Instead of those in the addresses. */
  readonly username?: string
  readonly password?: string
  /** `ca`, `cert`, `key`, `servername`: implies TLS, whatever the addresses say. */
  readonly tls?: ConnectionOptions
  /** How long a call may take with all its attempts; 5,000 unless told. */
  readonly deadlineMs?: number
  /** A connection that is silent for so long while an answer is due is given up; 2,000 unless told. */
  readonly silenceMs?: number
  /**
   * How long a lane's rows are kept after they were last written, by the server's clock: retention and slack; undefined =
   * for ever. The slack has to cover how far event times may lie in the future.
   */
  readonly expiryMs?: (lane: LaneName) => number | undefined
  /** Use a server that may evict rows, or does not tell. Features are then silently wrong when it does. */
  readonly allowEviction?: boolean
  /** Where the nodes of a Cluster are to be found instead of where they say. */
  readonly nodeAddresses?: Readonly<Record<string, { readonly host: string; readonly port: number }>>
}

export interface RedisPlace {
  readonly mode: 'standalone' | 'cluster' | 'sentinel'
  readonly addresses: readonly RedisAddress[]
  readonly sentinelName: string
}

/** Throws CONFIG_INVALID for addresses that nobody can read, or that do not fit together. */
export function placeOf(options: RedisStoreOptions): RedisPlace {
  const texts = typeof options.urls === 'string' ? [options.urls] : options.urls
  const addresses = texts.map((url) => parseRedisUrl(url, options.mode === 'sentinel' ? 26379 : undefined))
  const names = new Set(addresses.map((address) => address.sentinelName ?? options.sentinelName))
  const isOfSentinels = addresses.some((address) => address.sentinelName !== undefined)
  const mode = options.mode ?? (isOfSentinels ? 'sentinel' : 'standalone')
  const [sentinelName = ''] = names
  if (addresses.length === 0 || (addresses.length > 1 && mode === 'standalone')) {
    throw refused(`got ${addresses.length} addresses, expected one, or the mode "cluster" or "sentinel"`)
  }
  if (isOfSentinels && mode !== 'sentinel') throw refused(`got addresses of Sentinels for the mode "${mode}"`)
  if (mode === 'sentinel' && sentinelName === '') throw refused('Sentinels need the name of the server')
  if (mode === 'sentinel' && names.size > 1) {
    throw refused(
      `got ${[...names].map((name) => name ?? 'none').join(', ')}, expected one name in all addresses of Sentinels`,
    )
  }
  return { mode, addresses, sentinelName }
}

function refused(cause: string): TilefoldError {
  return new TilefoldError('CONFIG_INVALID', `cannot connect to Redis: ${cause}`)
}
