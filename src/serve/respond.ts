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
  const health = plan.slots.map((): SlotHealth => ({ stale: false, behind: false }))
  let partial = false
  for (let entity = 0; entity < rows.length; entity++) {
    const asOfMs = asOfMsOf(request, entity)
    let errors: RowError[] | undefined
    for (let slot = 0; slot < plan.slots.length; slot++) {
      const error = judgeSlot(plan.slots[slot]!, lease.mergers[slot]!, entity, asOfMs, health[slot]!)
      if (error !== undefined) errors = errors === undefined ? [error] : [...errors, error]
      partial ||= health[slot]!.behind
    }
    rows[entity] = answerRow(request, plan, lease, entity, asOfMs, health, errors)
  }
  return { metadata: metadataOf(request, plan, partial), rows }
}

/** What holds for all windows of one entity in one view. */
interface SlotHealth {
  /** The newest row ends more than the view's ttl before as-of. */
  stale: boolean
  /** A row is newer than the layout: other lanes may hold the entity, too. */
  behind: boolean
}

/** Fills `health`; an error is why statuses of this entity are `error` or `too_old`. */
function judgeSlot(
  slot: SlotPlan,
  merger: Merger,
  entity: number,
  asOfMs: number,
  health: SlotHealth,
): RowError | undefined {
  const info = merger.entityInfo(entity)
  const { plan } = slot.view
  health.behind = info.layoutVersion > slot.target.layout.version
  health.stale = plan.ttlMs !== undefined && info.rows > 0 && asOfMs - info.completeThroughMs > plan.ttlMs
  if (info.error !== undefined) return { view: plan.view, code: info.error.code, message: info.error.message }
  if (info.rows > 0 && asOfMs < info.oldestAsOfMs) return tooOld(plan.view, asOfMs, info.oldestAsOfMs)
  return undefined
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

function answerRow(
  request: FeatureRequest,
  plan: ReadPlan,
  lease: MergerLease,
  entity: number,
  asOfMs: number,
  health: readonly SlotHealth[],
  errors: RowError[] | undefined,
): AnswerRow {
  const { columns } = request
  const values = new Array<FeatureValue>(columns.length)
  const statuses = new Array<FeatureStatus>(columns.length)
  for (let column = 0; column < columns.length; column++) {
    const { slot, feature } = columns[column]!
    const merger = lease.mergers[slot]!
    const status = merger.status(entity, feature.index)
    let value = merger.value(entity, feature.index)
    if (value === null && (status === 'empty' || status === 'unknown_entity')) value = feature.default ?? null
    values[column] = value
    statuses[column] = qualify(status, plan.slots[slot]!, feature, asOfMs, health[slot]!)
  }
  return errors === undefined ? { values, statuses } : { values, statuses, errors }
}

/** The merger judges what it was given; whether that is all of it, and new enough, is judged here. */
function qualify(
  status: FeatureStatus,
  slot: SlotPlan,
  feature: ServedFeature,
  asOfMs: number,
  health: SlotHealth,
): FeatureStatus {
  if (status !== 'ok' && status !== 'empty') return status
  if (health.stale) return 'stale'
  const sinceMs = slot.target.generation.completeSinceMs
  if (health.behind || (sinceMs !== undefined && windowStartMs(feature.window, asOfMs) < sinceMs)) return 'incomplete'
  return status
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
