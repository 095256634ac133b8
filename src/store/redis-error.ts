/** What Redis and its client answer when they cannot: which of it passes, and which needs a person. */
import { TilefoldError } from '../model/errors.ts'

/**
 * - `passing`: a failover, a slot that moves, a restart, a cut connection; the same call may work in a moment
 * - `refused`: it will be the same in a moment: rights, certificates, memory
 * - `ours`: neither the server's nor the network's
 */
export type Trouble = 'passing' | 'refused' | 'ours'

const PASSING_ANSWERS =
  /\b(LOADING|BUSY|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|READONLY|NOREPLICAS|MOVED|ASK|UNBLOCKED)\b|Cluster redirections|max number of clients/
const REFUSED_ANSWERS =
  /^(?:Sentinels: )?(NOPERM|NOAUTH|WRONGPASS|OOM|MISCONF|CROSSSLOT)\b|can't run this command|can't access|^ERR (AUTH|Client sent AUTH|invalid password|unknown command|DB index|Cluster support disabled|This instance has cluster support disabled)|command not allowed when used memory/i
const CERTIFICATES = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|UNABLE_TO_GET|ERR_TLS|ERR_SSL/
/** What ioredis says of a connection that is not there, or no longer. */
const CONNECTIONS =
  /Connection is closed|Connection is in|Reached the max retries|max retries per request|isn't writeable|isn't ready|None of startup nodes|Failed to refresh slots cache|Cluster is ended|Command aborted|Command timed out|Socket timeout|connect ETIMEDOUT|^Sentinels: |Stream/i
const CLOSED = /Connection is closed/

export function troubleOf(error: unknown): Trouble {
  if (!(error instanceof Error) || error instanceof TilefoldError) return 'ours'
  const { code, syscall } = error as NodeJS.ErrnoException
  const text = textOf(error)
  if (typeof code === 'string' && CERTIFICATES.test(code)) return 'refused'
  if (REFUSED_ANSWERS.test(text)) return 'refused'
  if (PASSING_ANSWERS.test(text) || CONNECTIONS.test(text)) return 'passing'
  if (typeof code === 'string' || syscall !== undefined) return 'passing'
  return error.name === 'ReplyError' || 'command' in error ? 'refused' : 'ours'
}

/** The reply, or what was the matter with the last node or Sentinel that was tried. */
export function textOf(error: Error): string {
  const last = (error as { lastNodeError?: Error }).lastNodeError
  const text = last?.message ?? error.message
  const [ofSentinels, why] = /^All sentinels are unreachable.*?(?: Last error: (.*))?$/s.exec(text) ?? []
  if (ofSentinels !== undefined) return `Sentinels: ${!why || CLOSED.test(why) ? 'none can be reached' : why}`
  return text || `${(error as NodeJS.ErrnoException).code}`
}

export function unavailable(verb: string, where: string, why: string, cause?: unknown): TilefoldError {
  return new TilefoldError('STORE_UNAVAILABLE', `cannot ${verb} in Redis ${where}: ${why}`, { where }, { cause })
}

/** The error for an answer that will not change by itself. */
export function refusal(error: Error, verb: string, where: string): TilefoldError {
  const text = textOf(error)
  if (/WRONGTYPE/.test(text)) {
    return new TilefoldError('STORE_FORMAT', `cannot ${verb} in Redis ${where}: ${text}`, { where }, { cause: error })
  }
  return unavailable(verb, where, `${text}${hintOf(text, (error as NodeJS.ErrnoException).code)}`, error)
}

function hintOf(text: string, code: string | undefined): string {
  if (/NOPERM|can't run this command|can't access/.test(text)) {
    return '; the user needs EVAL, EVALSHA, MGET, GET, HMGET, HGETALL, SCAN, INFO (on a Cluster CLUSTER SLOTS and NODES) and what the scripts run, on keys tf:*'
  }
  if (/WRONGPASS|NOAUTH|AUTH/.test(text)) return '; check the user and the password'
  if (/used memory|OOM/.test(text)) return '; nothing was written; give the server more memory, or shorten retention'
  if (code !== undefined && CERTIFICATES.test(code)) return `; check the server's certificate and "tls" (${code})`
  return ''
}
