/** Who may ask: this machine alone, or who shows the token. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { TilefoldError } from '../model/errors.ts'

/** Shorter tokens can be guessed. */
const TOKEN_CHARS_MIN = 16

export class Access {
  readonly #digest: Buffer | undefined

  /** Throws CONFIG_INVALID for an address other machines can reach without a token, and for a token that is too short. */
  constructor(host: string, token: string | undefined) {
    if (token === undefined && !isLoopback(host)) {
      throw new TilefoldError(
        'CONFIG_INVALID',
        `cannot serve on ${host}: other machines can reach it; got no token, expected one (or a loopback address like 127.0.0.1)`,
      )
    }
    if (token !== undefined && token.length < TOKEN_CHARS_MIN) {
      throw new TilefoldError(
        'CONFIG_INVALID',
        `cannot serve with this token: got ${token.length} characters, expected at least ${TOKEN_CHARS_MIN}`,
      )
    }
    this.#digest = token === undefined ? undefined : digest(token)
  }

  /** Throws UNAUTHORIZED, HOST_REFUSED. */
  check(authorization: string | undefined, hostHeader: string | undefined): void {
    if (this.#digest !== undefined) this.#checkToken(this.#digest, authorization)
    // A page in a browser can make its own host name point here; the name it then asks for gives it away.
    else if (hostHeader !== undefined && !isLoopback(hostOf(hostHeader))) {
      throw new TilefoldError(
        'HOST_REFUSED',
        'cannot answer: the request has no token and names a host that is not this machine; expected localhost or a loopback address',
      )
    }
  }

  #checkToken(expected: Buffer, authorization: string | undefined): void {
    const [, token] = /^bearer +(\S+) *$/i.exec(authorization ?? '') ?? []
    // Digests have one length, so the comparison takes one time whatever was sent.
    if (!timingSafeEqual(digest(token ?? ''), expected)) {
      throw new TilefoldError(
        'UNAUTHORIZED',
        `cannot answer: the bearer token is ${token === undefined ? 'missing' : 'wrong'}; expected the header "Authorization: Bearer <token>"`,
      )
    }
  }
}

function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

/** A host header without its port, an IPv6 address without its brackets. */
function hostOf(header: string): string {
  const bracketed = /^\[([^\]]*)\](?::\d*)?$/.exec(header)
  return bracketed?.[1] ?? header.replace(/:\d*$/, '')
}

export function isLoopback(host: string): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|::1)$/i.test(host)
}
