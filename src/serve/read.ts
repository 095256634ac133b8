/**
 * The one trip to the store: rows go from the store's own buffers straight into the mergers, as they come. At the deadline the
 * rows that are there are the answer's: what is missing then, or was refused before, is told read by read.
 */
import { TilefoldError } from '../model/errors.ts'
import type { ReadOptions, Store } from '../store/port.ts'
import type { ServedView } from './catalog.ts'
import type { Deadline } from './deadline.ts'
import type { LayoutRefresh } from './layouts.ts'
import type { MergerLease } from './merge.ts'
import type { ReadPlan } from './plan.ts'

/** The store, or what remembers rows of it. */
export type RowReader = Pick<Store, 'readRows'> & { readonly maxAgeMs?: number }

export interface ReadTally {
  rows: number
  bytes: number
  /** Indexes into the plan's reads that found a row, as they came; only when asked for. */
  found?: number[]
  /** Why reads have no answer, by their index into the plan's; empty in a whole answer. */
  missing: ReadonlyMap<number, TilefoldError>
  /** Views whose layout should have been read again and could not be: lanes may have come since. */
  unconfirmed: ReadonlySet<ServedView>
  /** How long before the request a row may have been read; absent: none was. */
  readonly rowMaxAgeMs?: number
}

const NOTHING_MISSING: ReadTally['missing'] = new Map()
const ALL_CONFIRMED: ReadTally['unconfirmed'] = new Set()

/** The store gives up so long after the request did: it is the request that says whether it was too late or refused. */
const AFTERWARDS_MS = 10

/**
 * Reads every row of the plan, and in the same trip whatever `refresh` is waiting for. Throws STORE_UNAVAILABLE or DEADLINE where
 * nothing was answered, CORE_MEMORY. Rows that arrive later are ignored.
 */
export async function readRows(
  store: RowReader,
  plan: ReadPlan,
  lease: MergerLease,
  deadline: Deadline,
  refresh: LayoutRefresh | undefined,
  withFound: boolean,
): Promise<ReadTally> {
  const tally: ReadTally = {
    rows: 0,
    bytes: 0,
    found: withFound ? [] : undefined,
    missing: NOTHING_MISSING,
    unconfirmed: ALL_CONFIRMED,
    rowMaxAgeMs: store.maxAgeMs,
  }
  const { reads, readers, slots } = plan
  const lastSlot = slots.length - 1
  const isAnswered = new Uint8Array(reads.length)
  const missing = new Map<number, TilefoldError>()
  let [answered, hasEnded] = [0, false]
  let failure: unknown
  const sink = (index: number, bytes: Uint8Array | undefined): void => {
    if (hasEnded) return
    isAnswered[index] = 1
    answered++
    if (bytes === undefined || failure !== undefined) return
    let slot = lastSlot
    while (slots[slot]!.firstRead > index) slot--
    tally.rows++
    tally.bytes += bytes.length
    tally.found?.push(index)
    try {
      lease.addRow(slot, readers[index]!, bytes)
    } catch (cause) {
      // Kept for the reader: the store's own loop is not the place to fail.
      failure = cause
    }
  }
  const options: ReadOptions = {
    deadlineMs: deadline.leftMs === undefined ? undefined : deadline.leftMs + AFTERWARDS_MS,
    onMissing(index, cause) {
      if (!hasEnded) missing.set(index, coded(cause))
    },
  }

  let ended: unknown
  try {
    const rows = store.readRows(reads, sink, options)
    await deadline.race<unknown>(refresh === undefined ? rows : Promise.all([rows, refresh.done]))
  } catch (cause) {
    if (refresh?.refusal !== undefined) throw refresh.refusal
    ended = coded(cause)
  }
  hasEnded = true
  if (failure !== undefined) throw failure
  if (refresh !== undefined && refresh.unread.size > 0) tally.unconfirmed = new Set(refresh.unread)
  if (answered === reads.length) return tally

  for (let i = 0; i < reads.length; i++) {
    if (isAnswered[i] === 0 && !missing.has(i)) missing.set(i, ended as TilefoldError)
  }
  if (answered === 0) throw ended ?? missing.values().next().value
  tally.missing = missing
  return tally
}

function coded(cause: unknown): TilefoldError {
  if (cause instanceof TilefoldError) return cause
  return new TilefoldError('STORE_UNAVAILABLE', 'cannot read rows: the store failed', {}, { cause })
}
