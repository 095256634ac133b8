/** How many values of an answer have which status. */
import type { FeatureStatus } from '../model/plan.ts'
import type { ServerMetrics } from '../observe/port.ts'
import type { AnswerRow } from './respond.ts'

/** Rows without anything to say share one list of statuses: those are not looked through one by one. */
export function tellStatuses(rows: readonly AnswerRow[], metrics: Pick<ServerMetrics, 'values'>): void {
  const lists = new Map<readonly FeatureStatus[], number>()
  for (const { statuses } of rows) lists.set(statuses, (lists.get(statuses) ?? 0) + 1)
  const values = new Map<FeatureStatus, number>()
  for (const [statuses, times] of lists) {
    for (const status of statuses) values.set(status, (values.get(status) ?? 0) + times)
  }
  for (const [status, count] of values) metrics.values(status, count)
}
