/**
 * What the walk did not apply although it is data: late, expired and rejected records, by position, so that whoever holds
 * the log can look them up, correct them and send them again. At least once: a replay reports them again.
 */
import {
  VERDICT_EXPIRED,
  VERDICT_LATE,
  VERDICT_REJECTED_FUTURE,
  VERDICT_REJECTED_KEY,
  VERDICT_REJECTED_TIME,
} from '../../assembly/layout.ts'
import type { ColumnBatch } from '../model/columns.ts'

export type SideReason = 'late' | 'expired' | 'rejected_key' | 'rejected_time' | 'rejected_future'

export interface SideRecord {
  readonly view: string
  readonly log: string
  readonly position: number
  readonly reason: SideReason
}

const REASONS: Record<number, SideReason> = {
  [VERDICT_LATE]: 'late',
  [VERDICT_EXPIRED]: 'expired',
  [VERDICT_REJECTED_KEY]: 'rejected_key',
  [VERDICT_REJECTED_TIME]: 'rejected_time',
  [VERDICT_REJECTED_FUTURE]: 'rejected_future',
}

/** `drop` means that a late event is counted and nothing more; retention and rejects are always reported. */
export function sideRecords(
  spec: { view: string; log: string; state: { lateness: { policy: string } } },
  batch: ColumnBatch,
  verdicts: Uint8Array,
): SideRecord[] {
  const records: SideRecord[] = []
  for (let row = 0; row < verdicts.length; row++) {
    const reason = REASONS[verdicts[row]!]
    if (reason === undefined || (reason === 'late' && spec.state.lateness.policy === 'drop')) continue
    const position = typeof batch.positions === 'number' ? batch.positions + row : batch.positions[row]!
    records.push({ view: spec.view, log: spec.log, position, reason })
  }
  return records
}
