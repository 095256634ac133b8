/** Merging stored rows before anybody asks. */

import type { ServedView } from './catalog.ts'
import { Deadline } from './deadline.ts'
import type { MergerLease } from './merge.ts'
import type { Serving } from './serve.ts'
import type { ViewTarget } from './target.ts'

/** V8 replaces the core's first code by optimised code after some 10 to 20 calls of real size; 5 ms in all. */
const ROUNDS = 30
const ROWS_MAX = 64

export async function warmUp(serving: Serving): Promise<void> {
  const targets = await serving.layouts.read(serving.catalog.views)
  for (const [i, view] of serving.catalog.views.entries()) await warmView(serving, view, targets[i]!)
}

async function warmView(serving: Serving, view: ServedView, target: ViewTarget): Promise<void> {
  const lanes = target.groups.flatMap((group) => group.lanes)
  const rows = (await serving.store.sampleRows(lanes, ROWS_MAX)).map(({ bytes }) => bytes)
  const lease = await serving.mergers.lease([view], new Deadline())
  try {
    // As of where each row's data end, so that windows are full: as of now, old data would leave them empty.
    const asOfMs = new Float64Array(rows.length).fill(Math.floor(serving.clock()))
    mergeOnce(lease, rows, asOfMs)
    for (let i = 0; i < rows.length; i++) {
      const frontierMs = lease.mergers[0]!.newestFrontierMs(i)
      if (frontierMs > 0) asOfMs[i] = frontierMs
    }
    for (let round = 0; round < ROUNDS; round++) mergeOnce(lease, rows, asOfMs)
  } finally {
    lease.release()
  }
}

function mergeOnce(lease: MergerLease, rows: readonly Uint8Array[], asOfMs: Float64Array): void {
  lease.begin(rows.length, asOfMs)
  for (const [i, row] of rows.entries()) lease.addRow(0, i, row)
  lease.run()
}
