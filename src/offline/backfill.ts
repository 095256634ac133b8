/**
 * THE BACKFILL: files of history through the event walk, into the history lanes of a generation.
 *
 *   plan of files -> batches in order (decoded here) -> every view's shards (folded in the pool's threads) -> store
 *
 * Positions are row numbers of the plan of files, so a killed backfill goes on where its lanes' markers stand, and what it
 * has read twice is skipped. Readers see the generation only when every lane stands at the end.
 *
 * Several processes share a history by lanes, and an entity is in one lane: so each of them reads all rows, judges all of them, as the
 * clocks need, and folds its own. Whoever comes to the end last makes the history visible (registry/history.ts).
 */

import { Core } from '../engine/core.ts'
import { loadCore } from '../engine/module.ts'
import type { IngestSpec } from '../ingest/ingest.ts'
import { type IngestHandle, type IngestPool, type PoolBatch, shardsOf } from '../ingest/pool.ts'
import { sharesRows } from '../ingest/specs.ts'
import type { Counters } from '../model/counters.ts'
import { type TimeRange, takenTimes } from '../model/covers.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { historyLane } from '../model/view-layout.ts'
import { type ClaimOptions, HistoryClaim, type Share } from '../registry/claims.ts'
import { completeHistory, type HistoryStanding } from '../registry/history.ts'
import { type LayoutSeat, type OpenGeneration, openHistory } from '../registry/layouts.ts'
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
  /** The late clock to start with, by state hash, where the beginning of the log was left out (offline/prune.ts). */
  readonly startClocks?: ReadonlyMap<string, number>
  /** Of `count` processes that share the history, this one fills the lanes that are `index` modulo `count`. */
  readonly share?: Share
  /** Say in the store which lanes are being filled, and stay away from those that a living process fills: where there may be others. */
  readonly claim?: ClaimOptions
  /** Bytes of folded tiles that wait for a flush, per view and thread; 64 MiB unless told. */
  readonly deltaBytesMax?: number
  /** Memory of one view's core in one thread: above it everything is flushed and entities are forgotten. No bound unless told. */
  readonly coreBytesMax?: number
  /** Bytes of batches under way at once; one at least, and 8 batches at most. */
  readonly batchBytesMax?: number
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
  /** Every lane of every view is in. False where other shares are not done yet. */
  readonly isComplete: boolean
  /** Rows read by this call, and the row it started from. */
  readonly rows: number
  readonly startedAt: number
  readonly views: readonly BackfilledView[]
}

export interface BackfilledView extends HistoryStanding {
  readonly view: string
  /** Of all rows of the files, whatever the share: every share judges all of them. Not to be added up. */
  readonly counters: Counters
  /** Written by this call into this share's lanes. */
  readonly written: { readonly rows: number; readonly bytes: number }
  /** Lanes of this share. */
  readonly ownLanes: number
}

const BATCHES_AHEAD = 8
const DELTA_BYTES_MAX = 64 << 20
const HISTORY_LANES = 4

const WHOLE: Share = { index: 0, count: 1 }

/** Throws SOURCE_*, COLUMN_*, DEFINITION_CHANGED, CONFIG_INVALID, FENCED, STORE_UNAVAILABLE. */
export async function backfill(options: BackfillOptions): Promise<BackfillReport> {
  const claims: HistoryClaim[] = []
  try {
    const parts: Part[] = []
    for (const plan of options.plans) parts.push(await openPart(options, plan, parts, claims))
    return await fill(options, parts)
  } finally {
    await Promise.all(claims.map((claim) => claim.release()))
  }
}

/** A view, its generation, and what folds its lanes. */
interface Part extends OpenGeneration {
  readonly plan: Plan
  /** Views of one state share them. */
  readonly handles: readonly IngestHandle[]
  readonly ownLanes: number
}

async function fill(options: BackfillOptions, parts: readonly Part[]): Promise<BackfillReport> {
  const { plans, source, pool, signal } = options
  const handles = [...new Set(parts.flatMap((part) => part.handles))]
  const names = new Set(plans.flatMap((plan) => plan.state.inputs.map((input) => input.name)))
  const startedAt = Math.min(...handles.map((handle) => handle.status.resumeFrom))
  await lookAhead(options, handles, startedAt)

  const ahead = new BatchesAhead(options.batchBytesMax)
  let rows = 0
  // The source is not handed the signal: it would throw, and what is folded would be lost instead of flushed.
  for await (const { batch, origin, rowsDone, rowsTotal } of source.read(startedAt)) {
    const ready = pool.ready(batch, names)
    await ahead.add(
      bytesOf(ready),
      handles.map((handle) => push(handle, ready, options.coreBytesMax)),
    )
    rows += batch.length
    options.onProgress?.({ rowsDone, rowsTotal, origin })
    if (signal?.aborted) break
  }
  await ahead.all()
  await Promise.all(handles.map((handle) => handle.flush()))
  // Who was asked to be forgotten meanwhile.
  await Promise.all(handles.map((handle) => handle.check()))
  const finished = !signal?.aborted
  const views: BackfilledView[] = []
  for (const part of parts) views.push(await finish(options, part, finished))
  await Promise.all(handles.map((handle) => handle.drop()))
  return { finished, isComplete: finished && views.every((view) => view.isComplete), rows, startedAt, views }
}

/** A core that has grown beyond its share writes what it has, and starts again with what it must know. */
async function push(handle: IngestHandle, ready: PoolBatch, coreBytesMax = Number.POSITIVE_INFINITY): Promise<void> {
  await handle.push(ready)
  const { memoryBytes, spareBytes } = handle.status
  // What cannot be given back, such as dedupe ids, isn't asked for again and again.
  if (memoryBytes <= coreBytesMax || spareBytes < coreBytesMax / 4) return
  await handle.flush()
  await handle.renew()
}

/** Batches that are being folded: enough to keep every thread busy, few enough to bound memory. */
class BatchesAhead {
  readonly #bytesMax: number
  readonly #waiting: { readonly bytes: number; readonly folded: Promise<unknown> }[] = []
  #bytes = 0

  constructor(bytesMax = Number.POSITIVE_INFINITY) {
    this.#bytesMax = bytesMax
  }

  async add(bytes: number, pushes: readonly Promise<unknown>[]): Promise<void> {
    const folded = Promise.all(pushes)
    // A failure is met when the batch's turn comes; until then it must not count as unhandled.
    folded.catch(() => {})
    this.#waiting.push({ bytes, folded })
    this.#bytes += bytes
    while (this.#waiting.length >= BATCHES_AHEAD || (this.#bytes > this.#bytesMax && this.#waiting.length > 0)) {
      await this.#first()
    }
  }

  async all(): Promise<void> {
    while (this.#waiting.length > 0) await this.#first()
  }

  async #first(): Promise<void> {
    const { bytes, folded } = this.#waiting.shift()!
    await folded
    this.#bytes -= bytes
  }
}

function bytesOf(ready: PoolBatch): number {
  if ('packed' in ready) return ready.packed.buffer.byteLength
  return ready.local.columns.reduce(
    (sum, { values, offsets }) => sum + values.byteLength + (offsets?.byteLength ?? 0),
    0,
  )
}

/** The view's generation, its lanes claimed and its ingests opened; a history that is finished already is left alone. */
async function openPart(
  options: BackfillOptions,
  plan: Plan,
  before: readonly Part[],
  claims: HistoryClaim[],
): Promise<Part> {
  const { seat, plans, source, pool, clock, share = WHOLE } = options
  const opened = await openHistory(seat, plan, {
    lanes: options.historyLanes ?? options.newHistoryLanes ?? HISTORY_LANES,
    log: source.log,
    notAfterMs: clock(),
    completeSinceMs: options.completeSinceMs,
    covers: options.covers,
  })
  const { layout, generation } = opened
  const { history } = generation
  if (history.endPosition !== undefined) {
    throw new TilefoldError(
      'CONFIG_INVALID',
      `cannot backfill view ${plan.view}: its history of ${source.log} is complete, ${history.endPosition + 1} rows`,
      { endPosition: history.endPosition },
    )
  }
  if (options.historyLanes !== undefined && options.historyLanes !== history.lanes) {
    throw new TilefoldError(
      'CONFIG_INVALID',
      `cannot backfill view ${plan.view} into ${options.historyLanes} lanes: its history was begun with ${history.lanes}; go on with those, or begin a generation of its own`,
      { view: plan.view, got: options.historyLanes, expected: history.lanes },
    )
  }
  const ownLanes = Math.ceil((history.lanes - share.index) / share.count)
  if (ownLanes < 1) {
    throw new TilefoldError(
      'CONFIG_INVALID',
      `cannot take shard ${share.index}/${share.count} of view ${plan.view}: none of its ${history.lanes} history lanes is in it; got ${share.count} shards, expected at most ${history.lanes}`,
      { view: plan.view, got: share.count, expected: history.lanes },
    )
  }
  // Views of one state share its rows: their lanes have one owner.
  const same = before.find((part) => sharesRows(part.generation, generation))
  if (same) return { plan, ...opened, handles: same.handles, ownLanes }
  if (options.claim) claims.push(await HistoryClaim.take(seat, generation, share, options.claim))
  const lanes = Array.from({ length: history.lanes }, (_, i) => historyLane(i))
  const threads = shardsOf(pool.threads, plans.length, ownLanes)
  const startClockMs = options.startClocks?.get(plan.stateHash)
  const handles: IngestHandle[] = []
  for (let thread = 0; thread < threads; thread++) {
    const spec: IngestSpec = {
      view: plan.view,
      state: plan.state,
      stateHash: plan.stateHash,
      namespace: seat.namespace,
      generation: generation.generation,
      log: source.log,
      lanes,
      // Lanes that are `index` modulo `count`, and of those every `threads`-th.
      shard: share.index + thread * share.count,
      shards: share.count * threads,
      notAfterMs: history.notAfterMs ?? clock(),
      completeSinceMs: generation.completeSinceMs ?? 0,
      layoutVersion: layout.version,
      deltaBytesMax: options.deltaBytesMax ?? DELTA_BYTES_MAX,
      isHistory: true,
      takes: takenTimes(generation.covers, true),
      ...(startClockMs === undefined ? {} : { startClockMs }),
      ...(thread > 0 ? { isEcho: true } : {}),
    }
    handles.push(await pool.open(spec))
  }
  return { plan, ...opened, handles, ownLanes }
}

/** Rows at the end of the plan of files that the scout reads. */
const SCOUT_ROWS = 65_536

/**
 * Moves the watermark to where the last rows of the log will bring it. What is old by then is folded straight into the tiles
 * that outlive it, and what outlives nothing isn't folded at all: the rows come out the same, for a fraction of the work.
 * The late clock, which decides what is accepted, isn't touched.
 */
async function lookAhead(options: BackfillOptions, handles: readonly IngestHandle[], startedAt: number): Promise<void> {
  const total = await options.source.rowsTotal()
  if (total === undefined || total < 2 * SCOUT_ROWS || startedAt >= total) return
  const core = loadCore()
  const scouts = new Map<string, Core>()
  for (const { spec } of handles) {
    if (scouts.has(spec.view)) continue
    const shares = { lanes: 1, shard: 0, shards: 1, completeSinceMs: 0, layoutVersion: 0 }
    scouts.set(spec.view, new Core(core, spec.state, shares, spec.notAfterMs))
  }
  for await (const { batch } of options.source.read(Math.max(startedAt, total - SCOUT_ROWS))) {
    if (options.signal?.aborted) return
    for (const scout of scouts.values()) scout.prepare(batch)
  }
  for (const handle of handles) {
    const { lateClockMs, state } = scouts.get(handle.spec.view)!
    if (lateClockMs >= 0) await handle.advance(lateClockMs - state.disorderMs)
  }
}

async function finish({ seat }: BackfillOptions, part: Part, finished: boolean): Promise<BackfilledView> {
  const { plan, generation, handles, ownLanes } = part
  const written = { rows: 0, bytes: 0 }
  for (const { status } of handles) {
    written.rows += status.written.rows
    written.bytes += status.written.bytes
  }
  const { lanes } = generation.history
  const position = Math.max(...handles.map((handle) => handle.status.applied))
  const standing = finished
    ? await completeHistory(seat, plan, generation, position)
    : { isComplete: false, lanes, lanesDone: 0 }
  return { view: plan.view, counters: handles[0]!.status.counters, written, ownLanes, ...standing }
}
