/** How records ended, view by view: every one that was consumed has one end. */
import type { Counters } from '../engine/core.ts'
import type { Printer } from './printer.ts'
import { formatCount, renderTable, type TableColumn } from './table.ts'

const SHOWN = ['consumed', 'applied', 'duplicate', 'late', 'filtered', 'rejected'] as const

export function countersTable(views: readonly { view: string; counters: Counters }[], printer: Printer): string {
  const columns: TableColumn[] = [
    { title: 'VIEW' },
    ...SHOWN.map((name) => ({ title: name.toUpperCase(), align: 'right' as const })),
  ]
  const rows = views.map(({ view, counters }) => [view, ...SHOWN.map((name) => formatCount(counters[name]))])
  return renderTable(columns, rows, (text) => printer.style('bold', text))
}
