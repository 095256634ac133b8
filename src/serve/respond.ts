/** Merged windows become an answer: values, a status for each, and on demand what they were computed from. */
import type { Merger } from '../engine/merger.ts'
import type { ErrorCode } from '../model/errors.ts'
import type { FeatureStatus, FeatureValue } from '../model/plan.ts'
import { formatInstant } from '../model/time.ts'
import { asOfMsOf, type FeatureRequest } from './api.ts'
import type { FeatureInfo, ServedFeature } from './catalog.ts'
import type { AnswerExplanation, RowExplanation } from './explain.ts'
import type { MergerLease } from './merge.ts'
import { type ReadPlan, type SlotPlan, windowStartMs } from './plan.ts'

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
  /** True when a row was written under a newer layout than the store would show: lanes may be missing in the answer. */
  readonly partial: boolean
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
  /** Why statuses are `error` or `too_old`; absent where none is. */
  readonly errors?: readonly RowError[]
  readonly explain?: readonly RowExplanation[]
}

export interface RowError {
  readonly view: string
  readonly code: ErrorCode
  readonly message: string
}

/** The mergers have run and are still on loan; nothing of theirs is kept. */
export function respond(request: FeatureRequest, plan: ReadPlan, lease: MergerLease): FeatureAnswer {
  const rows = new Array<AnswerRow>(request.entities.length)
  const standings = plan.slots.map((): Standing => ({ stale: false, behind: false, sinceMs: 0 }))
  const allOk = new Array<FeatureStatus>(request.columns.length).fill('ok')
  const shares = plan.slots.map((_, slot) => shareOf(request, slot))
  let partial = false
  for (let entity = 0; entity < rows.length; entity++) {
    const asOfMs = asOfMsOf(request, entity)
    for (let slot = 0; slot < standings.length; slot++) {
      judge(standings[slot]!, plan.slots[slot]!, lease.mergers[slot]!, entity, asOfMs)
      partial ||= standings[slot]!.behind
    }
    const values = plainValues(request, lease, entity, asOfMs, standings, shares)
    rows[entity] = values ? { values, statuses: allOk } : answerRow(request, plan, lease, entity, asOfMs, standings)
  }
  return { metadata: metadataOf(request, plan, partial), rows }
}

/** How one entity stands in one view, whatever the window. */
interface Standing {
  /** The data end more than the view's ttl before as-of. */
  stale: boolean
  /** A row is newer than the layout: other lanes may hold the entity, too. */
  behind: boolean
  /** Windows that start before it are incomplete. */
  sinceMs: number
}

function judge(standing: Standing, slot: SlotPlan, merger: Merger, entity: number, asOfMs: number): void {
  const { ttlMs } = slot.view.plan
  standing.behind = merger.layoutVersion(entity) > slot.target.layout.version
  // History ends at its cut and live rows go on: the newest frontier tells how far the data go.
  standing.stale = ttlMs !== undefined && asOfMs - merger.newestFrontierMs(entity) > ttlMs
  // A row can only be complete for a shorter time than its generation; 0 stands for ever.
  const rowSinceMs = merger.completeSinceMs(entity)
  standing.sinceMs = slot.target.generation.completeSinceMs ?? Number.NEGATIVE_INFINITY
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
  const own = [...columns.keys()].filter((column) => columns[column]!.slot === slot)
  const spans = own.map((column) => {
    const { lengthMs, tailStepMs } = columns[column]!.feature.window
    return lengthMs + tailStepMs
  })
  return {
    columns: Int32Array.from(own),
    features: Int32Array.from(own, (column) => columns[column]!.feature.index),
    spanMs: Math.max(0, ...spans),
  }
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
    const { stale, behind, sinceMs } = standings[slot]!
    const { columns: own, features, spanMs } = shares[slot]!
    if (stale || behind || asOfMs - spanMs < sinceMs) return undefined
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
): AnswerRow {
  const { columns } = request
  const values = new Array<FeatureValue>(columns.length)
  const statuses = new Array<FeatureStatus>(columns.length)
  let failed = false
  for (let column = 0; column < columns.length; column++) {
    const { slot, feature } = columns[column]!
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
  return { values, statuses, errors: errorsOf(request, plan, lease, entity, asOfMs, statuses) }
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

/** One for each view that has a status `error` or `too_old` in the row. */
function errorsOf(
  request: FeatureRequest,
  plan: ReadPlan,
  lease: MergerLease,
  entity: number,
  asOfMs: number,
  statuses: readonly FeatureStatus[],
): RowError[] {
  const errors: RowError[] = []
  for (const [slot, { view }] of plan.slots.entries()) {
    const has = (status: FeatureStatus): boolean =>
      statuses.some((each, column) => each === status && request.columns[column]!.slot === slot)
    const { error, oldestAsOfMs } = lease.mergers[slot]!.entityInfo(entity)
    const name = view.plan.view
    if (has('error')) errors.push({ view: name, code: error?.code ?? 'ROW_CORRUPT', message: error?.message ?? '' })
    if (has('too_old')) errors.push(tooOld(name, asOfMs, oldestAsOfMs))
  }
  return errors
}

function tooOld(view: string, asOfMs: number, oldestAsOfMs: number): RowError {
  return {
    view,
    code: 'AS_OF_TOO_OLD',
    message:
      `cannot answer from view ${view} as of ${formatInstant(asOfMs)}: the stored row answers from ` +
      `${formatInstant(oldestAsOfMs)} on; build a training set for older instants`,
  }
}

function metadataOf(request: FeatureRequest, plan: ReadPlan, partial: boolean): AnswerMetadata {
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
  }
}
