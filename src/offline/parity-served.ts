/**
 * PARITY of what was served: is what was answered what the mirror says it should have been?
 *
 *   log of answers ── sampled rows ──> positions ──> the mirror through the walk again   as-served.ts
 *         └── values and statuses ──────────────────── the same, bit for bit? ──┘
 *
 * Nothing is tolerated. A status that says how the answer stood (stale, incomplete) depends on more than the events: its value is
 * compared, and what was answered without a value is counted and left. Rows ahead of the mirror are counted, too: it
 * will have their records later.
 *
 * The log is read in parts of 50,000 sampled rows, the mirror once for each.
 */
import type { FeatureStatus, Plan } from '../model/plan.ts'
import type { AsServedAnswer } from './as-served.ts'
import type { LogsWanted } from './parity-logs.ts'
import { isSampled, type Sample } from './parity-sample.ts'
import { type LoggedAnswer, type LoggedRow, readServedFile, servedFiles } from './served-files.ts'
import { answersOfLayouts } from './served-lanes.ts'

export interface ServedParityOptions extends LogsWanted {
  readonly plan: Plan
  /** Directory of the log of answers. */
  readonly servedLog: string
  /** Which entities; all unless told. */
  readonly sample?: Sample
  /** Only this request. */
  readonly requestId?: string
  readonly onRows?: (rows: number) => void
  readonly onDifference?: (difference: ServedDifference) => void
  readonly signal?: AbortSignal
}

export interface ServedDifference {
  /** `missing`: the mirror lacks records that the answer was computed from. */
  readonly kind: 'mismatched' | 'missing'
  readonly row: LoggedRow
  /** Lanes that are missing something. */
  readonly lanes: readonly string[]
  readonly features: readonly {
    readonly feature: string
    readonly served: LoggedAnswer
    readonly expected: LoggedAnswer
  }[]
}

/** Rows of the log, which are entities of requests; and values in them. */
export interface ServedParityReport {
  readonly view: string
  readonly compared: number
  readonly equal: number
  readonly mismatched: number
  readonly missing: number
  /** Ahead of the mirror, or of a log that was not given. */
  readonly unverified: number
  /** Answered without a value. */
  readonly unanswered: number
  /** Answered by another definition of the view. */
  readonly otherDefinition: number
  readonly values: number
}

const PART_ROWS = 50_000

/** Throws SOURCE_*, MIRROR_INVALID, COLUMN_*. */
export async function compareServed(options: ServedParityOptions): Promise<ServedParityReport> {
  const { plan, servedLog, sample, requestId, signal } = options
  const comparison = new Comparison(options)
  let part: LoggedRow[] = []
  let read = 0
  for (const file of await servedFiles(servedLog, plan.view)) {
    for await (const rows of readServedFile(file, plan, signal)) {
      for (let i = 0; i < rows.length; i++) {
        if (requestId !== undefined && rows.requestId(i) !== requestId) continue
        if (sample !== undefined && !isSampled(sample, rows.key(i))) continue
        part.push(rows.read(i))
      }
      read += rows.length
      options.onRows?.(read)
      if (part.length < PART_ROWS) continue
      await comparison.take(part)
      part = []
    }
  }
  await comparison.take(part)
  return comparison.report()
}

class Comparison {
  readonly #options: ServedParityOptions
  readonly #counts = {
    compared: 0,
    equal: 0,
    mismatched: 0,
    missing: 0,
    unverified: 0,
    unanswered: 0,
    otherDefinition: 0,
    values: 0,
  }

  constructor(options: ServedParityOptions) {
    this.#options = options
  }

  report(): ServedParityReport {
    return { view: this.#options.plan.view, ...this.#counts }
  }

  async take(part: readonly LoggedRow[]): Promise<void> {
    const { plan, mirror, topics, history, signal, onDifference } = this.#options
    const rows = part.filter((row) => this.#isComparable(row))
    if (rows.length === 0) return
    const answers = await answersOfLayouts({
      plan,
      vectors: rows,
      ...(mirror === undefined ? {} : { mirror }),
      ...(topics && { topics }),
      ...(history && { history }),
      ...(signal && { signal }),
    })
    for (const [i, answer] of answers.entries()) {
      const difference = this.#compare(rows[i]!, answer)
      if (difference) onDifference?.(difference)
    }
  }

  #isComparable(row: LoggedRow): boolean {
    if (row.definitionHash !== this.#options.plan.definitionHash) {
      this.#counts.otherDefinition++
      return false
    }
    if ([...row.answers.values()].some(({ status }) => !NO_VALUE.has(status))) return true
    this.#counts.unanswered++
    return false
  }

  #compare(row: LoggedRow, { values, statuses, missing, absent }: AsServedAnswer): ServedDifference | undefined {
    if (missing.length > 0) {
      this.#counts.unverified++
      return undefined
    }
    this.#counts.compared++
    if (absent.length > 0) {
      this.#counts.missing++
      return { kind: 'missing', row, lanes: absent, features: [] }
    }
    const features: ServedDifference['features'][number][] = []
    for (const [feature, served] of row.answers) {
      if (NO_VALUE.has(served.status)) continue
      this.#counts.values++
      const expected = { value: values[feature]!, status: statuses[feature]! }
      if (isSame(served, expected)) continue
      features.push({ feature: this.#options.plan.features[feature]!.name, served, expected })
    }
    if (features.length === 0) {
      this.#counts.equal++
      return undefined
    }
    this.#counts.mismatched++
    return { kind: 'mismatched', row, lanes: [], features }
  }
}

const NO_VALUE: ReadonlySet<FeatureStatus> = new Set(['too_old', 'error', 'unavailable'])
/** What the layout and the clock say of an answer, and its events do not. */
const STANDING: ReadonlySet<FeatureStatus> = new Set(['stale', 'incomplete'])

function isSame(served: LoggedAnswer, expected: LoggedAnswer): boolean {
  if (!Object.is(served.value, expected.value)) return false
  if (served.status === expected.status) return true
  return STANDING.has(served.status) && (expected.status === 'ok' || expected.status === 'empty')
}
