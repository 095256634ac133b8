/** The one trip to the store: rows go from the store's own buffers straight into the mergers. */
import { TilefoldError } from '../model/errors.ts'
import type { Store } from '../store/port.ts'
import type { Deadline } from './deadline.ts'
import type { MergerLease } from './merge.ts'
import type { ReadPlan } from './plan.ts'

export interface ReadTally {
  rows: number
  bytes: number
  /** Indexes into the plan's reads that found a row, ascending; only when asked for. */
  found?: number[]
}

/**
 * Reads every row of the plan, and in the same trip whatever `alongside` is waiting for.
 * Throws STORE_UNAVAILABLE, DEADLINE, CORE_MEMORY. After it threw, rows that still arrive are ignored by the lease.
 */
export async function readRows(
  store: Store,
  plan: ReadPlan,
  lease: MergerLease,
  deadline: Deadline,
  alongside: Promise<unknown> | undefined,
  withFound: boolean,
): Promise<ReadTally> {
  const tally: ReadTally = { rows: 0, bytes: 0, found: withFound ? [] : undefined }
  let failure: unknown
  let slot = 0
  const sink = (index: number, bytes: Uint8Array | undefined): void => {
    if (bytes === undefined || failure !== undefined) return
    while (slot + 1 < plan.slots.length && index >= plan.slots[slot + 1]!.firstRead) slot++
    tally.rows++
    tally.bytes += bytes.length
    tally.found?.push(index)
    try {
      lease.addRow(slot, plan.readers[index]!, bytes)
    } catch (cause) {
      // Kept for the reader: the store's own loop is not the place to fail.
      failure = cause
    }
  }
  try {
    const rows = store.readRows(plan.reads, sink)
    await deadline.race<unknown>(alongside === undefined ? rows : Promise.all([rows, alongside]))
  } catch (cause) {
    if (cause instanceof TilefoldError) throw cause
    throw new TilefoldError('STORE_UNAVAILABLE', 'cannot read rows: the store failed', {}, { cause })
  }
  if (failure !== undefined) throw failure
  return tally
}
