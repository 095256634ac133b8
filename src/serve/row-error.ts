/** Why a row of an answer lacks values: what a caller may know of it. */
import type { ErrorCode } from '../model/errors.ts'
import type { FeatureStatus } from '../model/plan.ts'
import { formatInstant } from '../model/time.ts'
import type { FeatureRequest } from './api.ts'
import type { MergerLease } from './merge.ts'
import type { Unavailable } from './missing.ts'
import type { ReadPlan } from './plan.ts'

export interface RowError {
  readonly view: string
  readonly code: ErrorCode
  readonly message: string
}

/** One for each view that has a status `error`, `too_old` or `unavailable` in the row. */
export function errorsOf(
  request: FeatureRequest,
  plan: ReadPlan,
  lease: MergerLease,
  entity: number,
  asOfMs: number,
  statuses: readonly FeatureStatus[],
  unavailable: Unavailable,
): RowError[] {
  const errors: RowError[] = []
  for (const [slot, { view }] of plan.slots.entries()) {
    const has = (status: FeatureStatus): boolean =>
      statuses.some((each, column) => each === status && request.columns[column]!.slot === slot)
    const name = view.plan.view
    const cause = unavailable[slot]?.get(entity)
    if (cause !== undefined) {
      // The code alone: the text names servers.
      errors.push({ view: name, code: cause.code, message: `cannot answer from view ${name}: ${UNAVAILABLE}` })
      continue
    }
    const { error, oldestAsOfMs } = lease.mergers[slot]!.entityInfo(entity)
    if (has('error')) errors.push({ view: name, code: error?.code ?? 'ROW_CORRUPT', message: error?.message ?? '' })
    if (has('too_old')) errors.push(tooOld(name, asOfMs, oldestAsOfMs))
  }
  return errors
}

const UNAVAILABLE = 'the part of the store that holds this entity did not answer'

function tooOld(view: string, asOfMs: number, oldestAsOfMs: number): RowError {
  return {
    view,
    code: 'AS_OF_TOO_OLD',
    message:
      `cannot answer from view ${view} as of ${formatInstant(asOfMs)}: the stored row answers from ` +
      `${formatInstant(oldestAsOfMs)} on; build a training set for older instants`,
  }
}
