/** How records ended, view by view: every one that was consumed has one end. */
import type { Counters } from '../model/counters.ts'
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

/** The same for scripts, under names as every other output has them. */
export function countersData(views: readonly { view: string; counters: Counters }[]): object[] {
  return views.map(({ view, counters }) => ({
    view,
    ...Object.fromEntries(Object.entries(counters).map(([name, count]) => [snakeCase(name), count])),
  }))
}

/** Everything was turned away: that is hardly what was wanted. */
export function warnOfNothing(views: readonly { view: string; counters: Counters }[], printer: Printer): void {
  for (const { view, counters } of views) {
    if (counters.consumed === 0 || counters.applied > 0) continue
    printer.warn(`view ${view} has applied none of ${formatCount(counters.consumed)} events`)
  }
}

function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}
