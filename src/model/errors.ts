/**
 * One table of every coded error. A code is a promise: tools and alerts match on it, so it never changes its meaning.
 *
 * Messages read `cannot <verb> <thing>: <cause>; got X, expected Y`.
 */
export const ERRORS = {
  // Definitions
  DEFINITION_INVALID: { status: 400, means: 'a definition breaks a rule; the message names file, line and column' },
  DEFINITION_SYNTAX: { status: 400, means: 'a definition file is not the YAML it should be' },
  DEFINITION_CHANGED: { status: 409, means: 'the definition needs other state than the one the store holds' },
  EXPRESSION_INVALID: {
    status: 400,
    means: 'a SQL expression is malformed, badly typed or uses an unsupported operation',
  },
  // Input
  SOURCE_NOT_FOUND: { status: 404, means: 'a file or directory of the source is not there' },
  SOURCE_CORRUPT: { status: 422, means: 'a file of the source cannot be read as what it claims to be' },
  COLUMN_MISSING: { status: 422, means: 'the source lacks a column the definition needs' },
  COLUMN_TYPE: { status: 422, means: 'a column of the source has another type than the definition says' },
  BATCH_INVALID: { status: 400, means: 'a pushed batch is malformed' },
  POSITION_INVALID: { status: 400, means: 'a pushed batch has positions that are not whole numbers in log order' },
  OUTPUT_FAILED: { status: 500, means: 'a file cannot be written; what was there before is still there' },
  // Engine
  CORE_TRAP: { status: 500, means: 'the core stopped on a broken invariant; its lanes must restart' },
  CORE_MEMORY: { status: 500, means: 'the core reached its memory limit' },
  CORE_BUILD: { status: 500, means: 'TILEFOLD_CORE names no build of the core' },
  CORE_ABI: { status: 500, means: 'the WebAssembly module does not match this host' },
  ROW_CORRUPT: { status: 500, means: 'a stored row is damaged or of an unknown version' },
  ENGINE_CLOSED: { status: 503, means: 'the engine is closed or its worker is gone' },
  // Store and lanes
  STORE_UNAVAILABLE: { status: 503, means: 'the store cannot be read or written now' },
  STORE_LOCKED: { status: 409, means: 'another process writes to this directory' },
  STORE_UNSAFE: { status: 500, means: 'the server may drop stored rows by itself' },
  STORE_FORMAT: { status: 500, means: 'a record of the store has an unknown format' },
  FENCED: { status: 409, means: 'another owner has taken the lane' },
  REGRESSED: { status: 409, means: 'the store went back in time; the lane restarts from its checkpoint' },
  CHECKPOINT_MISSING: { status: 500, means: 'a lane has no valid checkpoint at or before its marker' },
  LOG_GAP: { status: 409, means: 'the log starts behind the next position the lane needs' },
  LOG_CHANGED: { status: 409, means: 'the log holds another record at the marker: it was recreated or truncated' },
  PARTITIONER_MISMATCH: {
    status: 409,
    means: 'a topic is not keyed as it was declared: repartition it, or read every partition',
  },
  ROUTE_BROKEN: {
    status: 409,
    means: 'a routed log and its internal topic no longer fit together: a record is missing or there twice',
  },
  LOG_UNAVAILABLE: { status: 503, means: 'the log did not answer' },
  STORE_LOST: { status: 409, means: 'the log knows of a lane that the store has forgotten' },
  DEAD_LETTERS: { status: 422, means: 'too many records of a log cannot be read' },
  DEAD_LETTERS_UNAVAILABLE: { status: 503, means: 'dead letters cannot be written' },
  MIRROR_UNAVAILABLE: { status: 503, means: "a mirror's directory cannot be written now" },
  MIRROR_INVALID: {
    status: 409,
    means: "a mirror's files and its manifest do not agree: missing, overlapping, changed",
  },
  LAYOUT_MISSING: { status: 404, means: 'the store holds no layout for this view' },
  STATE_IN_USE: { status: 409, means: 'a stored state is to be deleted that a layout names or an owner writes' },
  VIEW_NOT_READY: { status: 503, means: 'no generation of this view is complete enough to be answered from yet' },
  // Requests
  REQUEST_INVALID: { status: 400, means: 'a request is malformed' },
  VIEW_UNKNOWN: { status: 404, means: 'no such feature view' },
  FEATURE_UNKNOWN: { status: 404, means: 'no such feature in the view' },
  REQUEST_TOO_LARGE: { status: 413, means: 'a request is over a limit' },
  REQUEST_TIMEOUT: { status: 408, means: 'a request did not arrive in time' },
  MEDIA_TYPE: { status: 415, means: 'a body is sent in a form the server does not read' },
  ROUTE_UNKNOWN: { status: 404, means: 'the server has no such address, or not for this method' },
  HOST_REFUSED: { status: 403, means: 'a request without a token names a host that is not this machine' },
  AS_OF_TOO_OLD: { status: 422, means: 'as-of lies before the oldest instant the stored row can answer' },
  UNAUTHORIZED: { status: 401, means: 'the bearer token is missing or wrong' },
  OVERLOADED: { status: 429, means: 'too many requests are under way' },
  DEADLINE: { status: 504, means: 'the request was not done within its deadline' },
  INTERNAL: { status: 500, means: 'an unexpected fault; the log of the process has its details' },
  // Command line
  USAGE: { status: 400, means: 'a command was called with wrong arguments' },
  CONFIG_INVALID: { status: 400, means: 'a configuration value is malformed' },
} as const

export type ErrorCode = keyof typeof ERRORS

/** An error a user can act on: a stable code, one sentence, and the facts as data. */
export class TilefoldError extends Error {
  readonly code: ErrorCode
  readonly details: Readonly<Record<string, unknown>>

  constructor(code: ErrorCode, message: string, details: Record<string, unknown> = {}, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'TilefoldError'
    this.code = code
    this.details = details
  }

  get status(): number {
    return ERRORS[this.code].status
  }
}
