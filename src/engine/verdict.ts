/** What the core decided about a row that it did not apply although it is data. */
import {
  VERDICT_ELSEWHERE,
  VERDICT_EXPIRED,
  VERDICT_LATE,
  VERDICT_REJECTED_FUTURE,
  VERDICT_REJECTED_KEY,
  VERDICT_REJECTED_TIME,
} from '../../assembly/layout.ts'

export type SideReason = 'late' | 'expired' | 'history' | 'rejected_key' | 'rejected_time' | 'rejected_future'

/** By verdict byte; what is missing was applied, a duplicate, filtered or delivered again. */
export const SIDE_REASONS: Readonly<Record<number, SideReason>> = {
  [VERDICT_LATE]: 'late',
  [VERDICT_EXPIRED]: 'expired',
  [VERDICT_ELSEWHERE]: 'history',
  [VERDICT_REJECTED_KEY]: 'rejected_key',
  [VERDICT_REJECTED_TIME]: 'rejected_time',
  [VERDICT_REJECTED_FUTURE]: 'rejected_future',
}
