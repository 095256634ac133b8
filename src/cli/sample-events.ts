/** What `init` gives to play with: two days of orders, the same everywhere. */

import type { Proposal } from './propose.ts'
import { formatTime } from './table.ts'

const CUSTOMERS = ['ada', 'bob', 'ada', 'cleo', 'ada', 'bob']
const START_MS = Date.UTC(2025, 0, 1)
const ORDERS = 64
const STEP_MS = 34 * 60_000

/** JSON lines, in order of their time. */
export function sampleEvents(): string {
  const lines = Array.from({ length: ORDERS }, (_, i) => {
    const at = formatTime(START_MS + i * STEP_MS)
    const amount = 4 + ((i * 7) % 40) / 4
    return JSON.stringify({ at, customer: CUSTOMERS[i % CUSTOMERS.length], amount, items: 1 + ((i * 5) % 4) })
  })
  return lines.map((line) => `${line}\n`).join('')
}

export const SAMPLE_PROPOSAL: Proposal = {
  source: 'orders',
  view: 'orders_by_customer',
  columns: [
    { name: 'at', type: 'timestamp[ms]' },
    { name: 'customer', type: 'utf8' },
    { name: 'amount', type: 'float64' },
    { name: 'items', type: 'int64' },
  ],
  entity: 'customer',
  otherEntities: [],
  time: 'at',
  aggregations: [
    { op: 'count' },
    { op: 'sum', column: 'amount' },
    { op: 'mean', column: 'amount' },
    { op: 'max', column: 'amount' },
    { op: 'last', column: 'items' },
  ],
  windows: ['1h', '24h', '7d'],
  skipped: [],
  example: { key: 'ada', asOfMs: Date.UTC(2025, 0, 2, 12) },
}
