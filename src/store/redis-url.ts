/** Addresses of Redis: `redis://[user[:password]@]host[:port][/database]`, `rediss://` for TLS. */
import { TilefoldError } from '../model/errors.ts'

export interface RedisAddress {
  readonly host: string
  readonly port: number
  readonly username: string | undefined
  readonly password: string | undefined
  readonly database: number
  readonly tls: boolean
}

/** Throws CONFIG_INVALID; the message shows no password. */
export function parseRedisUrl(text: string, defaultPort = 6379): RedisAddress {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const database = url?.pathname.replace(/^\//, '') ?? ''
  if (url === undefined || !/^rediss?:$/.test(url.protocol) || url.hostname === '' || !/^\d{0,5}$/.test(database)) {
    throw new TilefoldError(
      'CONFIG_INVALID',
      `cannot read address of Redis: got ${JSON.stringify(text.replace(/\/\/.*@/, '//***@'))}, expected "redis://[user:password@]host[:port][/database]" or "rediss://..."`,
    )
  }
  return {
    // An IPv6 address stands in brackets.
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? defaultPort : Number(url.port),
    username: textOf(url.username),
    password: textOf(url.password),
    database: Number(database),
    tls: url.protocol === 'rediss:',
  }
}

function textOf(part: string): string | undefined {
  return part === '' ? undefined : decodeURIComponent(part)
}
