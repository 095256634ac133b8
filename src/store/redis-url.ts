/**
 * Addresses of Redis: `redis://[user[:password]@]host[:port][/database]`, `rediss://` for TLS. Behind Sentinels the address of one
 * of them with the name under which they know the server: `redis+sentinel://[user[:password]@]host[:port]/name[/database]`. User
 * and password are always the server's.
 */
import { TilefoldError } from '../model/errors.ts'

export interface RedisAddress {
  readonly host: string
  readonly port: number
  readonly username: string | undefined
  readonly password: string | undefined
  readonly database: number
  readonly tls: boolean
  /** Of the server behind the Sentinel whose address this is. */
  readonly sentinelName: string | undefined
}

/** Throws CONFIG_INVALID; the message shows no password. */
export function parseRedisUrl(text: string, defaultPort?: number): RedisAddress {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const [, tls, sentinel] = /^redis(s?)(\+sentinel)?:$/.exec(url?.protocol ?? '') ?? []
  const path = url?.pathname.replace(/^\//, '') ?? ''
  const [, sentinelName, database] = (sentinel ? /^([^/]+)(?:\/(\d{1,5}))?$/ : /^()(\d{0,5})$/).exec(path) ?? []
  if (url === undefined || tls === undefined || url.hostname === '' || sentinelName === undefined) {
    throw new TilefoldError(
      'CONFIG_INVALID',
      `cannot read address of Redis: got ${JSON.stringify(text.replace(/\/\/.*@/, '//***@'))}, expected "redis://[user:password@]host[:port][/database]", "rediss://..." or "redis+sentinel://[user:password@]host[:port]/name"`,
    )
  }
  return {
    // An IPv6 address stands in brackets.
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? (defaultPort ?? (sentinel ? 26379 : 6379)) : Number(url.port),
    username: textOf(url.username),
    password: textOf(url.password),
    database: Number(database ?? 0),
    tls: tls === 's',
    sentinelName: textOf(sentinelName),
  }
}

function textOf(part: string): string | undefined {
  return part === '' ? undefined : decodeURIComponent(part)
}
