/**
 * An answer as JSON text. int64 values are exact digits, decimals strings, float64 values the shortest text that reads back
 * as the same double; instants are RFC 3339. Always valid JSON: what is not a number (there should be none) is null.
 */
import type { FeatureValue } from '../model/plan.ts'
import { formatInstant } from '../model/time.ts'
import type { AnswerExplanation, RowExplanation } from './explain.ts'
import type { AnsweredView, AnswerMetadata, AnswerRow, FeatureAnswer } from './respond.ts'

export function answerJson(answer: FeatureAnswer): string {
  const { asOfMs } = answer.metadata
  let text = `{"metadata":${metadataJson(answer.metadata)},"rows":[`
  for (let i = 0; i < answer.rows.length; i++) {
    if (i > 0) text += ','
    text += rowJson(answer.rows[i]!, typeof asOfMs === 'number' ? undefined : asOfMs[i]!)
  }
  text += ']'
  if (answer.explain !== undefined) text += `,"explain":${JSON.stringify(explanationJson(answer.explain))}`
  return `${text}}`
}

function metadataJson(metadata: AnswerMetadata): string {
  const { features, asOfMs, versions, partial, rowMaxAgeMs } = metadata
  return JSON.stringify({
    features,
    as_of: typeof asOfMs === 'number' ? formatInstant(asOfMs) : undefined,
    definition_versions: Object.fromEntries(versions.map((each) => [each.view, each.definitionHash])),
    views: versions.map(viewJson),
    partial: partial ? true : undefined,
    row_max_age_ms: rowMaxAgeMs,
  })
}

function viewJson(view: AnsweredView): object {
  return {
    view: view.view,
    definition_hash: view.definitionHash,
    state_hash: view.stateHash,
    generation: view.generation,
    layout_version: view.layoutVersion,
    complete_since: view.completeSinceMs === undefined ? undefined : formatInstant(view.completeSinceMs),
  }
}

function rowJson(row: AnswerRow, asOfMs: number | undefined): string {
  let text = '{"values":['
  for (let i = 0; i < row.values.length; i++) {
    if (i > 0) text += ','
    text += valueJson(row.values[i]!)
  }
  // Statuses are words of ours: nothing in them needs escaping.
  text += `],"statuses":["${row.statuses.join('","')}"]`
  if (asOfMs !== undefined) text += `,"as_of":"${formatInstant(asOfMs)}"`
  if (row.errors !== undefined) text += `,"errors":${JSON.stringify(row.errors)}`
  if (row.explain !== undefined) text += `,"explain":${JSON.stringify(row.explain.map(rowExplanationJson))}`
  return `${text}}`
}

/** One value; shared by every JSON this product prints values in. */
export function valueJson(value: FeatureValue): string {
  if (typeof value === 'number') return Number.isFinite(value) ? String(value) : 'null'
  if (typeof value === 'bigint') return value.toString()
  return JSON.stringify(value)
}

function rowExplanationJson(row: RowExplanation): object {
  return {
    view: row.view,
    rows: row.rows,
    lanes_without: row.lanesWithout,
    complete_through: instantJson(row.completeThroughMs),
    freshness_ms: row.freshnessMs,
    oldest_as_of: instantJson(row.oldestAsOfMs),
    layout_version: row.layoutVersion,
    windows: row.windows.map((each) => ({
      window: each.window,
      start: formatInstant(each.startMs),
      end: formatInstant(each.endMs),
    })),
    tiles_read: row.tilesRead,
    raw_events_read: row.rawEventsRead,
  }
}

function explanationJson(explanation: AnswerExplanation): object {
  const { timings } = explanation
  return {
    timings_ms: {
      parse: timings.parseMs,
      plan: timings.planMs,
      read: timings.readMs,
      merge: timings.mergeMs,
      respond: timings.respondMs,
    },
    rows_read: explanation.rowsRead,
    bytes_read: explanation.bytesRead,
    trips: explanation.trips,
  }
}

function instantJson(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : formatInstant(ms)
}
