/** Any failure as a status and a JSON body: what a caller may know of it, and no more. */
import { TilefoldError } from '../model/errors.ts'

export interface Fault {
  readonly status: number
  readonly body: string
  /** Nobody foresaw it: the caller is told nothing, so the log must have it. */
  readonly unexpected: boolean
}

export function faultOf(cause: unknown): Fault {
  const known = cause instanceof TilefoldError ? cause : fromFramework(cause)
  const error =
    known ?? new TilefoldError('INTERNAL', 'cannot answer: an unexpected fault; the log of the server has its details')
  const { code, message, details } = error
  return {
    status: error.status,
    body: JSON.stringify({ error: { code, message, details } }, exactDigits),
    unexpected: !known,
  }
}

/** The HTTP layer's own refusals carry a status; only those that are the caller's doing are told. */
function fromFramework(cause: unknown): TilefoldError | undefined {
  const { statusCode, code, message } = (cause ?? {}) as { statusCode?: unknown; code?: unknown; message?: unknown }
  if (code === 'HPE_HEADER_OVERFLOW') {
    return new TilefoldError('REQUEST_TOO_LARGE', 'cannot read the request: its header is over the limit')
  }
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return new TilefoldError('REQUEST_TIMEOUT', 'cannot read the request: it did not arrive in time')
  }
  if (typeof code === 'string' && code.startsWith('HPE_')) {
    return new TilefoldError('REQUEST_INVALID', 'cannot read the request: it is not HTTP/1.1')
  }
  if (typeof statusCode !== 'number' || statusCode < 400 || statusCode > 499) return undefined
  if (statusCode === 413)
    return new TilefoldError('REQUEST_TOO_LARGE', 'cannot read the request: its body is over the limit')
  if (statusCode === 415) {
    return new TilefoldError('MEDIA_TYPE', 'cannot read the request: expected a body of content type application/json')
  }
  return new TilefoldError('REQUEST_INVALID', `cannot read the request: ${String(message)}`)
}

function exactDigits(_name: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value
}
