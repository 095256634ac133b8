/** Merged windows become an answer: values, a status for each, and on demand what they were computed from. */
import type { Merger } from '../engine/merger.ts'
import type { FeatureStatus, FeatureValue } from '../model/plan.ts'
import { completeSinceOf } from '../model/view-layout.ts'
import { asOfMsOf, type FeatureRequest } from './api.ts'
import type { FeatureInfo, ServedFeature } from './catalog.ts'
import type { AnswerExplanation, RowExplanation } from './explain.ts'
import type { MergerLease } from './merge.ts'
import { type Unavailable, unavailableOf } from './missing.ts'
import { type ReadPlan, type SlotPlan, windowStartMs } from './plan.ts'
import type { ReadTally } from './read.ts'
import { errorsOf, type RowError } from './row-error.ts'

export interface FeatureAnswer {
  readonly metadata: AnswerMetadata
  /** In the order of the request's entities. */
  readonly rows: readonly AnswerRow[]
  readonly explain?: AnswerExplanation
}

export interface AnswerMetadata {
  /** The columns: `rows[i].values[j]` is a value of `features[j]`. */
  readonly features: readonly FeatureInfo[]
  /** One for all, or one per row. */
  readonly asOfMs: number | Float64Array
  readonly versions: readonly AnsweredView[]
  /**
   * True when rows could not be read in time (their values are `unavailable`), and when a row was written under a newer layout than
   * the store would show, or the layout could not be read again: lanes may be missing then (`incomplete`).
   */
  readonly partial: boolean
  /** Rows may have been read so long before the request; absent where every one was read for it. */
  readonly rowMaxAgeMs?: number
}

/** Exactly what a view was answered from. */
export interface AnsweredView {
  readonly view: string
  readonly definitionHash: string
  readonly stateHash: string
  readonly generation: number
  readonly layoutVersion: number
  /** Windows that start before this are `incomplete`. */
  readonly completeSinceMs?: number
}

export interface AnswerRow {
  readonly values: readonly FeatureValue[]
  readonly statuses: readonly FeatureStatus[]
  /** Why statuses are `error`, `too_old` or `unavailable`; absent where none is. */
  readonly errors?: readonly RowError[]
  readonly explain?: readonly RowExplanation[]
}

/** The mergers have run and are still on loan; nothing of theirs is kept. */
export function respond(request: FeatureRequest, plan: ReadPlan, lease: MergerLease, tally: ReadTally): FeatureAnswer {
  const rows = new Array<AnswerRow>(request.entities.length)
  const unavailable = unavailableOf(plan, tally)
  const standings = plan.slots.map(
    ({ view }): Standing => ({
      unavailable: false,
      stale: false,
      unconfirmed: tally.unconfirmed.has(view),
      behind: false,
      sinceMs: 0,
    }),
  )
  const allOk = new Array<FeatureStatus>(request.columns.length).fill('ok')
  const shares = plan.slots.map((_, slot) => shareOf(request, slot))
  let partial = tally.missing.size > 0 || tally.unconfirmed.size > 0
  for (let entity = 0; entity < rows.length; entity++) {
    const asOfMs = asOfMsOf(request, entity)
    for (let slot = 0; slot < standings.length; slot++) {
      const standing = standings[slot]!
      judge(standing, plan.slots[slot]!, lease.mergers[slot]!, entity, asOfMs)
      standing.unavailable = unavailable[slot]?.has(entity) ?? false
      partial ||= standing.behind
    }
    const values = plainValues(request, lease, entity, asOfMs, standings, shares)
    rows[entity] = values
      ? { values, statuses: allOk }
      : answerRow(request, plan, lease, entity, asOfMs, standings, unavailable)
  }
  return { metadata: metadataOf(request, plan, partial, tally.rowMaxAgeMs), rows }
}

/** How one entity stands in one view, whatever the window. */
interface Standing {
  /** A row of it could not be read. */
  unavailable: boolean
  /** Its layout could not be read again: lanes may have come since. */
  readonly unconfirmed: boolean
  /** The data end more than the view's ttl before as-of. */
  stale: boolean
  /** A row is newer than the layout, or that is not known: other lanes may hold the entity, too. */
  behind: boolean
  /** Windows that start before it are incomplete. */
  sinceMs: number
}

function judge(standing: Standing, slot: SlotPlan, merger: Merger, entity: number, asOfMs: number): void {
  const { ttlMs } = slot.view.plan
  standing.behind = standing.unconfirmed || merger.layoutVersion(entity) > slot.target.layout.version
  // History ends at its cut and live rows go on: the newest frontier tells how far the data go.
  standing.stale = ttlMs !== undefined && asOfMs - merger.newestFrontierMs(entity) > ttlMs
  // A row can only be complete for a shorter time than its generation; 0 stands for ever.
  const rowSinceMs = merger.completeSinceMs(entity)
  standing.sinceMs = completeSinceOf(slot.target.generation)
  if (rowSinceMs > 0 && rowSinceMs > standing.sinceMs) standing.sinceMs = rowSinceMs
}

/** A view's part of the columns. */
interface Share {
  readonly columns: Int32Array
  readonly features: Int32Array
  /** How far before as-of a window of them can start. */
  readonly spanMs: number
}

function shareOf({ columns }: FeatureRequest, slot: number): Share {
  const own = new Int32Array(columns.length)
  const features = new Int32Array(columns.length)
  let [count, spanMs] = [0, 0]
  for (let column = 0; column < columns.length; column++) {
    const { slot: home, feature } = columns[column]!
    if (home !== slot) continue
    own[count] = column
    features[count++] = feature.index
    spanMs = Math.max(spanMs, feature.window.lengthMs + feature.window.tailStepMs)
  }
  return { columns: own.subarray(0, count), features: features.subarray(0, count), spanMs }
}

/** The usual row: numbers, all of them `ok`; undefined when the row is any other. */
function plainValues(
  { columns }: FeatureRequest,
  lease: MergerLease,
  entity: number,
  asOfMs: number,
  standings: readonly Standing[],
  shares: readonly Share[],
): number[] | undefined {
  const values = new Array<number>(columns.length)
  for (let slot = 0; slot < shares.length; slot++) {
    const { unavailable, stale, behind, sinceMs } = standings[slot]!
    const { columns: own, features, spanMs } = shares[slot]!
    if (unavailable || stale || behind || asOfMs - spanMs < sinceMs) return undefined
    if (!lease.mergers[slot]!.takeNumbers(entity, features, own, values)) return undefined
  }
  return values
}

function answerRow(
  request: FeatureRequest,
  plan: ReadPlan,
  lease: MergerLease,
  entity: number,
  asOfMs: number,
  standings: readonly Standing[],
  unavailable: Unavailable,
): AnswerRow {
  const { columns } = request
  const values = new Array<FeatureValue>(columns.length)
  const statuses = new Array<FeatureStatus>(columns.length)
  let failed = false
  for (let column = 0; column < columns.length; column++) {
    const { slot, feature } = columns[column]!
    if (standings[slot]!.unavailable) {
      values[column] = null
      statuses[column] = 'unavailable'
      failed = true
      continue
    }
    const merger = lease.mergers[slot]!
    const status = merger.status(entity, feature.index)
    values[column] = merger.value(entity, feature.index)
    if (status === 'ok' || status === 'empty') statuses[column] = qualify(status, standings[slot]!, feature, asOfMs)
    else {
      statuses[column] = status
      failed ||= status === 'error' || status === 'too_old'
    }
  }
  if (!failed) return { values, statuses }
  return { values, statuses, errors: errorsOf(request, plan, lease, entity, asOfMs, statuses, unavailable) }
}

/** The merger judges what it was given; whether that is all of it, and new enough, is judged here. */
function qualify(status: FeatureStatus, standing: Standing, feature: ServedFeature, asOfMs: number): FeatureStatus {
  if (standing.stale) return 'stale'
  if (standing.behind || isBefore(feature, asOfMs, standing.sinceMs)) return 'incomplete'
  return status
}

function isBefore(feature: ServedFeature, asOfMs: number, sinceMs: number): boolean {
  // Mostly decided without the floor: it moves the start by less than one step.
  if (asOfMs - feature.window.lengthMs - feature.window.tailStepMs >= sinceMs) return false
  return windowStartMs(feature.window, asOfMs) < sinceMs
}

function metadataOf(
  request: FeatureRequest,
  plan: ReadPlan,
  partial: boolean,
  rowMaxAgeMs: number | undefined,
): AnswerMetadata {
  return {
    features: request.columns.map((column) => column.feature.info),
    asOfMs: request.asOfMs,
    versions: plan.slots.map(({ view, target }) => ({
      view: view.plan.view,
      definitionHash: view.plan.definitionHash,
      stateHash: view.plan.stateHash,
      generation: target.generation.generation,
      layoutVersion: target.layout.version,
      ...(target.generation.completeSinceMs === undefined
        ? {}
        : { completeSinceMs: target.generation.completeSinceMs }),
    })),
    partial,
    ...(rowMaxAgeMs === undefined ? {} : { rowMaxAgeMs }),
  }
}
