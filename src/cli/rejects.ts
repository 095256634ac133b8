/** Records that could not be read, and records that the walk put aside: the first few are told, the rest is counted. */
import type { SideReason, SideRecord } from '../ingest/side.ts'
import type { RejectedRecord, SourceOptions } from '../source/port.ts'
import { formatCount } from './table.ts'

const TOLD_MAX = 5

export class Rejects {
  readonly #tell: (line: string) => void
  #unreadable = 0
  readonly #aside = new Map<SideReason, number>()

  constructor(tell: (line: string) => void) {
    this.#tell = tell
  }

  /** For the source that reads the records. */
  get sourceOptions(): Pick<SourceOptions, 'onReject' | 'onWarning'> {
    return {
      onReject: (record) => this.#addUnreadable(record),
      onWarning: (text) => this.#tell(`warning: ${text}`),
    }
  }

  get unreadable(): number {
    return this.#unreadable
  }

  /** By reason, over all views. */
  get aside(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#aside)
  }

  addAside(records: readonly SideRecord[]): void {
    for (const { view, position, reason } of records) {
      const count = (this.#aside.get(reason) ?? 0) + 1
      this.#aside.set(reason, count)
      if (count === 1) this.#tell(`warning: view ${view} put record ${position} aside: ${MEANINGS[reason]}`)
    }
  }

  /** Says how many were not told one by one. */
  finish(): void {
    if (this.#unreadable > TOLD_MAX) {
      this.#tell(`warning: ${formatCount(this.#unreadable)} records could not be read; the first ${TOLD_MAX} are above`)
    }
  }

  #addUnreadable(record: RejectedRecord): void {
    if (++this.#unreadable <= TOLD_MAX) this.#tell(`warning: left out: ${record.message}`)
  }
}

const MEANINGS: Record<SideReason, string> = {
  late: 'it is later than allowed',
  expired: 'it is older than the retention',
  history: 'history covers its time',
  rejected_key: 'its entity key is null, empty or too long',
  rejected_time: 'its event time is null or out of range',
  rejected_future: 'its event time lies too far in the future; are times in another unit than declared?',
}
