/**
 * Which logged answer is a row of a spine about?
 *
 *   _request_id, and _request_row or the keys beside it   -> that answer
 *   keys and an instant                                   -> an answer for the entity as of that very instant
 *
 * The id goes first. Of several answers the one that was served first is taken: it is the one that somebody acted on. An id
 * alone is only enough where requests ask about one entity; where the log shows that one asked about more, nothing is guessed.
 */
import { hashAcceptance } from '../define/hash.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { type LoggedRow, readServedFile, servedFiles } from './served-files.ts'

/** What a row says of the answer it is about. */
export interface AskedRow {
  readonly requestId?: string
  readonly requestRow?: number
  /** Canonical. */
  readonly key?: Uint8Array
  readonly asOfMs?: number
}

export interface Matches {
  /** By row. */
  readonly rows: readonly (LoggedRow | undefined)[]
  /** Rows for which there were several answers. */
  readonly repeated: number
  /** Rows whose answer is of a view that counted other events: its positions may say something else. */
  readonly otherState: number
}

export interface MatchOptions {
  readonly directory: string
  readonly plan: Plan
  readonly asked: readonly AskedRow[]
  /** Take answers of every view of the name: for their values, not for their positions. */
  readonly anyState: boolean
  /** Number of the first row in its spine, for errors. */
  readonly firstRow: number
  readonly signal?: AbortSignal
}

/** Reads the whole log of the view. Throws SOURCE_*, COLUMN_*, and COLUMN_MISSING where an id is not enough. */
export async function matchServed(options: MatchOptions): Promise<Matches> {
  const { directory, plan, asked, signal } = options
  const byId = new Map<string, number[]>()
  const byInstant = new Map<string, number[]>()
  for (const [row, { requestId, key, asOfMs }] of asked.entries()) {
    if (requestId !== undefined) put(byId, requestId, row)
    if (key !== undefined && asOfMs !== undefined) put(byInstant, instantName(key, asOfMs), row)
  }
  const found = new Found(options)
  if (byId.size > 0 || byInstant.size > 0) {
    for (const file of await servedFiles(directory, plan.view)) {
      for await (const rows of readServedFile(file, plan, signal)) {
        for (let i = 0; i < rows.length; i++) {
          const named = byId.get(rows.requestId(i))
          const instant = byInstant.size === 0 ? undefined : byInstant.get(instantName(rows.key(i), rows.asOfMs(i)))
          if (named === undefined && instant === undefined) continue
          const logged = rows.read(i)
          for (const row of named ?? []) found.byId(row, logged)
          for (const row of instant ?? []) found.byInstant(row, logged)
        }
      }
    }
  }
  return found.matches()
}

interface Match {
  readonly logged: LoggedRow
  readonly isById: boolean
}

class Found {
  readonly #options: MatchOptions
  readonly #acceptanceHash: string
  readonly #matches: (Match | undefined)[]
  readonly #repeated = new Set<number>()
  readonly #otherState = new Set<number>()

  constructor(options: MatchOptions) {
    this.#options = options
    this.#acceptanceHash = hashAcceptance(options.plan.state)
    this.#matches = new Array(options.asked.length)
  }

  byId(row: number, logged: LoggedRow): void {
    const { requestRow, key } = this.#options.asked[row]!
    if (requestRow !== undefined && requestRow !== logged.requestRow) return
    if (key !== undefined && Buffer.compare(key, logged.key) !== 0) return
    // Nothing but the id, and the request was one for several entities: this may be another's answer.
    if (requestRow === undefined && key === undefined && logged.requestRow > 0) throw this.#ambiguous(row, logged)
    this.#take(row, { logged, isById: true })
  }

  byInstant(row: number, logged: LoggedRow): void {
    this.#take(row, { logged, isById: false })
  }

  #take(row: number, match: Match): void {
    if (!this.#options.anyState && !this.#isKin(match.logged)) {
      this.#otherState.add(row)
      return
    }
    const before = this.#matches[row]
    if (before === undefined) {
      this.#matches[row] = match
      return
    }
    if (before.isById !== match.isById) {
      if (match.isById) this.#matches[row] = match
      return
    }
    this.#repeated.add(row)
    if (match.logged.servedAtMs < before.logged.servedAtMs) this.#matches[row] = match
  }

  /** Its positions mean the same to the view as it is defined now. */
  #isKin({ stateHash, acceptanceHash }: LoggedRow): boolean {
    return stateHash === this.#options.plan.stateHash || acceptanceHash === this.#acceptanceHash
  }

  matches(): Matches {
    const rows = Array.from(this.#matches, (match) => match?.logged)
    const otherState = [...this.#otherState].filter((row) => rows[row] === undefined).length
    return { rows, repeated: this.#repeated.size, otherState }
  }

  #ambiguous(row: number, { requestId, requestRow }: LoggedRow): TilefoldError {
    const { plan, firstRow } = this.#options
    const number = firstRow + row
    return new TilefoldError(
      'COLUMN_MISSING',
      `cannot tell which answer row ${number} of the spine is about: request ${requestId} asked view ${plan.view} about several entities; got _request_id alone, expected _request_row or ${plan.state.entity.map(({ name }) => name).join(', ')} beside it`,
      { row: number, requestId, requestRow, view: plan.view },
    )
  }
}

function put(map: Map<string, number[]>, name: string, row: number): void {
  const rows = map.get(name)
  if (rows) rows.push(row)
  else map.set(name, [row])
}

function instantName(key: Uint8Array, asOfMs: number): string {
  return `${asOfMs}:${Buffer.from(key.buffer, key.byteOffset, key.length).toString('latin1')}`
}
