/**
 * THE BACKFILL: files of history through the event walk, into the history lanes of a generation.
 *
 *   plan of files -> batches in order (decoded here) -> every view's shards (folded in the pool's threads) -> store
 *
 * Positions are row numbers of the plan of files, so a killed backfill goes on where its lanes' markers stand, and what it
 * has read twice is skipped. Readers see the generation only when every lane stands at the end.
 */

import { Core } from '../engine/core.ts'
import { loadCore } from '../engine/module.ts'
import type { IngestSpec } from '../ingest/ingest.ts'
import { type IngestHandle, type IngestPool, shardsOf } from '../ingest/pool.ts'
import type { Counters } from '../model/counters.ts'
import { type TimeRange, takenTimes } from '../model/covers.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { historyLane } from '../model/view-layout.ts'
import { finishHistory, type LayoutSeat, openHistory } from '../registry/layouts.ts'
import type { Source } from '../source/port.ts'

export interface BackfillOptions {
  readonly seat: LayoutSeat
  readonly plans: readonly Plan[]
  readonly source: Source
  readonly pool: IngestPool
  /** Milliseconds since the epoch; the creation instant of a new history. */
  readonly clock: () => number
  /** Lanes of the history, at least four times the masters it may ever be spread over; one that was begun with others is refused. */
  readonly historyLanes?: number
  /** Lanes of a new history where `historyLanes` is not told; 4 unless told. */
  readonly newHistoryLanes?: number
  /** Windows that start before this are incomplete; unless told, history is complete since ever. */
  readonly completeSinceMs?: number
  /** Event times that history is authoritative for; those its generation was begun with, or all, unless told. */
  readonly covers?: readonly TimeRange[] | undefined
  /** Bytes of folded tiles that wait for a flush, per view and thread; 64 MiB unless told. */
  readonly deltaBytesMax?: number
  readonly onProgress?: (progress: BackfillProgress) => void
  /** Aborted: flushes what is folded, leaves the generation unfinished and resumable, and resolves. */
  readonly signal?: AbortSignal
}

export interface BackfillProgress {
  readonly rowsDone: number
  readonly rowsTotal: number | undefined
  /** What is being read. */
  readonly origin: string
}

export interface BackfillReport {
  /** False when the signal stopped it: call again to go on. */
  readonly finished: boolean
  /** Rows read by this call, and the row it started from. */
  readonly rows: number
  readonly startedAt: number
  readonly views: readonly { readonly view: string; readonly counters: Counters }[]
}

/** Batches under way: enough to keep every thread busy, few enough to bound memory. */
const BATCHES_AHEAD = 8
const DELTA_BYTES_MAX = 64 << 20
const HISTORY_LANES = 4

/** Throws SOURCE_*, COLUMN_*, DEFINITION_CHANGED, CONFIG_INVALID, FENCED, STORE_UNAVAILABLE. */
export async function backfill(options: BackfillOptions): Promise<BackfillReport> {
  const { plans, source, pool, signal } = options
  const handles = await openHandles(options)
  const names = new Set(plans.flatMap((plan) => plan.state.inputs.map((input) => input.name)))
  const startedAt = Math.min(...handles.map((handle) => handle.status.resumeFrom))
  await lookAhead(options, handles)

  const ahead: Promise<unknown>[] = []
  let rows = 0
  // The source is not handed the signal: it would throw, and what is folded would be lost instead of flushed.
  for await (const { batch, origin, rowsDone, rowsTotal } of source.read(startedAt)) {
    const ready = pool.ready(batch, names)
    const folded = Promise.all(handles.map((handle) => handle.push(ready)))
    // A failure is met when the batch's turn comes; until then it must not count as unhandled.
    folded.catch(() => {})
    ahead.push(folded)
    if (ahead.length >= BATCHES_AHEAD) await ahead.shift()
    rows += batch.length
    options.onProgress?.({ rowsDone, rowsTotal, origin })
    if (signal?.aborted) break
  }
  await Promise.all(ahead)
  await Promise.all(handles.map((handle) => handle.flush()))
  // Who was asked to be forgotten meanwhile.
  await Promise.all(handles.map((handle) => handle.check()))
  const finished = !signal?.aborted
  if (finished) await finish(options, handles)
  const views = plans.map((plan) => ({
    view: plan.view,
    counters: handles.find((handle) => handle.spec.stateHash === plan.stateHash)!.status.counters,
  }))
  await Promise.all(handles.map((handle) => handle.drop()))
  return { finished, rows, startedAt, views }
}

/** One ingest per view and shard; a history that is finished already is left alone. */
async function openHandles(options: BackfillOptions): Promise<IngestHandle[]> {
  const { seat, plans, source, pool, clock } = options
  const handles: IngestHandle[] = []
  for (const plan of plans) {
    const { layout, generation } = await openHistory(seat, plan, {
      lanes: options.historyLanes ?? options.newHistoryLanes ?? HISTORY_LANES,
      log: source.log,
      notAfterMs: clock(),
      completeSinceMs: options.completeSinceMs,
      covers: options.covers,
    })
    if (generation.history.endPosition !== undefined) {
      throw new TilefoldError(
        'CONFIG_INVALID',
        `cannot backfill view ${plan.view}: its history of ${source.log} is complete, ${generation.history.endPosition + 1} rows`,
        { endPosition: generation.history.endPosition },
      )
    }
    if (options.historyLanes !== undefined && options.historyLanes !== generation.history.lanes) {
      throw new TilefoldError(
        'CONFIG_INVALID',
        `cannot backfill view ${plan.view} into ${options.historyLanes} lanes: its history was begun with ${generation.history.lanes}; go on with those, or begin a generation of its own`,
        { view: plan.view, got: options.historyLanes, expected: generation.history.lanes },
      )
    }
    // Views of one state share its rows: their lanes have one owner.
    if (handles.some((handle) => handle.spec.stateHash === plan.stateHash)) continue
    const lanes = Array.from({ length: generation.history.lanes }, (_, i) => historyLane(i))
    const shards = shardsOf(pool.threads, plans.length, lanes.length)
    for (let shard = 0; shard < shards; shard++) {
      const spec: IngestSpec = {
        view: plan.view,
        state: plan.state,
        stateHash: plan.stateHash,
        namespace: seat.namespace,
        generation: generation.generation,
        log: source.log,
        lanes,
        shard,
        shards,
        notAfterMs: generation.history.notAfterMs ?? clock(),
        completeSinceMs: generation.completeSinceMs ?? 0,
        layoutVersion: layout.version,
        deltaBytesMax: options.deltaBytesMax ?? DELTA_BYTES_MAX,
        isHistory: true,
        takes: takenTimes(generation.covers, true),
      }
      handles.push(await pool.open(spec))
    }
  }
  return handles
}

/** Rows at the end of the plan of files that the scout reads. */
const SCOUT_ROWS = 65_536

/**
 * Moves the watermark to where the last rows of the log will bring it. What is old by then is folded straight into the tiles
 * that outlive it, and what outlives nothing isn't folded at all: the rows come out the same, for a fraction of the work.
 * The late clock, which decides what is accepted, isn't touched.
 */
async function lookAhead(options: BackfillOptions, handles: readonly IngestHandle[]): Promise<void> {
  const total = await options.source.rowsTotal()
  if (total === undefined || total < 2 * SCOUT_ROWS) return
  const core = loadCore()
  const scouts = new Map<string, Core>()
  for (const { spec } of handles) {
    if (scouts.has(spec.view)) continue
    const shares = { lanes: 1, shard: 0, shards: 1, completeSinceMs: 0, layoutVersion: 0 }
    scouts.set(spec.view, new Core(core, spec.state, shares, spec.notAfterMs))
  }
  for await (const { batch } of options.source.read(total - SCOUT_ROWS)) {
    if (options.signal?.aborted) return
    for (const scout of scouts.values()) scout.prepare(batch)
  }
  for (const handle of handles) {
    const { lateClockMs, state } = scouts.get(handle.spec.view)!
    if (lateClockMs >= 0) await handle.advance(lateClockMs - state.disorderMs)
  }
}

async function finish(options: BackfillOptions, handles: readonly IngestHandle[]): Promise<void> {
  for (const plan of options.plans) {
    const own = handles.filter((handle) => handle.spec.stateHash === plan.stateHash)
    const position = Math.max(...own.map((handle) => handle.status.applied))
    const sequences: number[] = []
    for (const handle of own) for (const [lane, sequence] of handle.status.sequences) sequences[lane] = sequence
    await finishHistory(options.seat, plan, { position, sequences })
  }
}
