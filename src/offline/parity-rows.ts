/** A stored row and the same row out of the log: are they the same, and where not, field by field. */
import { inspectRow } from '../engine/inspect.ts'
import { loadCore } from '../engine/module.ts'
import type { RowDescription } from '../engine/row-description.ts'
import { RowNormaliser } from '../engine/rows.ts'
import { TilefoldError } from '../model/errors.ts'
import type { StatePlan } from '../model/plan.ts'
import { formatDuration } from '../model/time.ts'

export type RowVerdict = 'equal' | 'mismatched' | 'missing' | 'extra'

export interface FieldDifference {
  /** `5m 2026-01-05T00:05:00.000Z numeric amount.sum` */
  readonly field: string
  /** Absent where the row has no such tile or event. */
  readonly stored?: string
  readonly recomputed?: string
}

export interface RowComparison {
  readonly verdict: RowVerdict
  /** Why a stored row can't be read. */
  readonly error?: TilefoldError
  readonly fields: readonly FieldDifference[]
  /** At one frontier, where they could be brought there; as they lie, where not. */
  readonly stored?: Uint8Array
  readonly recomputed?: Uint8Array
}

const EQUAL: RowComparison = { verdict: 'equal', fields: [] }

export class RowComparer {
  readonly #state: StatePlan
  readonly #normaliser: RowNormaliser

  constructor(state: StatePlan) {
    this.#state = state
    this.#normaliser = new RowNormaliser(loadCore(), state)
  }

  /**
   * Both brought to one frontier, `frontierMs` or the higher of their own; a row that holds nothing there, a tombstone or one
   * that has outlived its events, is as good as none.
   */
  compare(stored: Uint8Array | undefined, recomputed: Uint8Array | undefined, frontierMs: number): RowComparison {
    let [left, right]: (Uint8Array | undefined)[] = []
    try {
      const own = [stored, recomputed].map((row) => (row ? inspectRow(row, this.#state).headFrontierMs : 0))
      const frontier = Math.max(frontierMs, ...own)
      left = stored && this.#normaliser.normalise([stored], frontier)
      right = recomputed && this.#normaliser.normalise([recomputed], frontier)
    } catch (error) {
      if (!(error instanceof TilefoldError) || error.code !== 'ROW_CORRUPT') throw error
      return { verdict: 'mismatched', error, fields: [], ...sides(stored, recomputed) }
    }
    if (left && right && Buffer.compare(left, right) === 0) return EQUAL
    const [was, is] = [left, right].map((row) => (row ? fieldsOf(inspectRow(row, this.#state)) : new Map()))
    if (was!.size === 0 && is!.size === 0) return EQUAL
    const verdict = was!.size === 0 ? 'missing' : is!.size === 0 ? 'extra' : 'mismatched'
    return {
      verdict,
      fields: differences(was!, is!),
      ...sides(verdict === 'missing' ? undefined : left, verdict === 'extra' ? undefined : right),
    }
  }
}

function sides(stored: Uint8Array | undefined, recomputed: Uint8Array | undefined) {
  return { ...(stored && { stored }), ...(recomputed && { recomputed }) }
}

/** What the row holds of events, by the name of each field; frontiers are those of both rows. */
function fieldsOf({ events, levels }: RowDescription): Map<string, string> {
  const fields = new Map<string, string>()
  const seen = new Map<string, number>()
  for (const { timeMs, cells } of events) {
    const at = `head ${isoOf(timeMs)}`
    const nth = seen.get(at) ?? 0
    seen.set(at, nth + 1)
    fields.set(nth === 0 ? at : `${at} #${nth + 1}`, cells.map(({ column, value }) => `${column}=${value}`).join(' '))
  }
  for (const { stepMs, tiles } of levels) {
    for (const { startMs, rows, partials } of tiles) {
      const at = `${formatDuration(stepMs)} ${isoOf(startMs)}`
      fields.set(`${at} rows`, String(rows))
      for (const { kind, column, ...cells } of partials) {
        for (const [cell, value] of Object.entries(cells)) {
          fields.set(`${at} ${kind} ${column}.${cell}`, typeof value === 'object' ? JSON.stringify(value) : `${value}`)
        }
      }
    }
  }
  return fields
}

function differences(stored: ReadonlyMap<string, string>, recomputed: ReadonlyMap<string, string>): FieldDifference[] {
  return [...new Set([...stored.keys(), ...recomputed.keys()])]
    .filter((field) => stored.get(field) !== recomputed.get(field))
    .map((field) => {
      const [was, is] = [stored.get(field), recomputed.get(field)]
      return { field, ...(was === undefined ? {} : { stored: was }), ...(is === undefined ? {} : { recomputed: is }) }
    })
}

function isoOf(ms: number): string {
  return new Date(ms).toISOString()
}
