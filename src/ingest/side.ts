/**
 * What the walk did not apply although it is data: late, expired and rejected records, and those whose time history covers, by
 * position, so that whoever holds the log can look them up, correct them and send them again. At least once: a replay reports
 * them again.
 */
import { SIDE_REASONS, type SideReason } from '../engine/verdict.ts'
import type { ColumnBatch } from '../model/columns.ts'
import type { TakenTimes } from '../model/covers.ts'

export type { SideReason } from '../engine/verdict.ts'

export interface SideRecord {
  readonly view: string
  readonly log: string
  readonly position: number
  readonly reason: SideReason
}

/**
 * `drop` means that a late event is counted and nothing more; retention and rejects are always reported. Files are not: they are
 * given whole, so what they hold of other times than history's was never meant for it, and counts.
 */
export function sideRecords(
  spec: { view: string; log: string; state: { lateness: { policy: string } }; takes?: TakenTimes | undefined },
  batch: ColumnBatch,
  verdicts: Uint8Array,
): SideRecord[] {
  const records: SideRecord[] = []
  for (let row = 0; row < verdicts.length; row++) {
    const reason = SIDE_REASONS[verdicts[row]!]
    if (reason === undefined || (reason === 'late' && spec.state.lateness.policy === 'drop')) continue
    if (reason === 'history' && spec.takes?.inside) continue
    const position = typeof batch.positions === 'number' ? batch.positions + row : batch.positions[row]!
    records.push({ view: spec.view, log: spec.log, position, reason })
  }
  return records
}
