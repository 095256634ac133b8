/**
 * The embedded engine: both walks inside another program. Events are pushed in, features are asked for; between the two
 * lies only the store, which other processes may read at the same time.
 *
 * The program keeps the log. After a crash it asks `applied(log)` (or opens the log) and pushes again from the next
 * position; what rows hold already is skipped, record by record.
 */
import { randomUUID } from 'node:crypto'
import { cpus } from 'node:os'
import { compileView } from '../define/compile.ts'
import type { FeatureView } from '../define/dsl.ts'
import type { ViewDefinition } from '../define/view.ts'
import { type CoreModule, loadCore } from '../engine/module.ts'
import { type ForgetReport, forget } from '../ingest/erase-request.ts'
import { type IngestHandle, IngestPool, shardsOf } from '../ingest/pool.ts'
import type { SideRecord } from '../ingest/side.ts'
import { liveSpecs } from '../ingest/specs.ts'
import type { Column, ColumnBatch } from '../model/columns.ts'
import type { Counters } from '../model/counters.ts'
import { TilefoldError } from '../model/errors.ts'
import { encodeKey, type KeyPart } from '../model/key.ts'
import type { InputColumn, Plan } from '../model/plan.ts'
import { type LayoutSeat, type OpenGeneration, openGeneration, openLog } from '../registry/layouts.ts'
import type { FeatureQuery } from '../serve/api.ts'
import { createFeatureReader, type FeatureReader } from '../serve/reader.ts'
import type { FeatureAnswer } from '../serve/respond.ts'
import { columnsToBatch, type Positions, type PushedColumn, type PushedRow, rowsToBatch } from '../source/rows.ts'
import { createLmdbStore } from '../store/lmdb.ts'
import type { Store } from '../store/port.ts'

export interface EngineOptions {
  readonly views: readonly (ViewDefinition | FeatureView | Plan)[]
  /** Directory of the embedded store, or a store of one's own (then the walk runs in this thread). */
  readonly store: string | Store
  readonly namespace?: string
  /** Worker threads for the event walk; 0 runs it in this thread. One less than the cores unless told, at most 4. */
  readonly threads?: number
  /** Lanes of a new log; as many as threads unless told. Fixed at the log's creation. */
  readonly shards?: number
  /** Folded events are readable at the latest after this; 1,000 ms unless told, 0 = only by `flush()`. */
  readonly flushIntervalMs?: number
  /** Bytes of folded tiles that wait for a flush, per view and shard; 64 MiB unless told. */
  readonly deltaBytesMax?: number
  /** Keep a flush ledger of every log for so long; none unless told. See ingest/ledger.ts. */
  readonly ledgerMs?: number
  readonly clock?: () => number
  /** Late, expired and rejected records, and those whose time history covers, by position; at least once. */
  readonly onSide?: (records: SideRecord[]) => void
}

export interface PushOptions {
  /** Name of the input log: one totally ordered sequence of positions. */
  readonly log: string
  /**
   * Position of the first row (the rest follow without holes), one position per row, or the name of the column that holds
   * them. Unless told, the log goes on behind what was pushed last: then a crash may lose or repeat the last pushes.
   */
  readonly offset?: Positions
  /** Kind of events: the `source.name` of the views that take them. The only one there is, unless told. */
  readonly source?: string
}

/** Rows, columns, or a column batch with positions of its own. */
export type PushedBatch = readonly PushedRow[] | Readonly<Record<string, PushedColumn>> | ColumnBatch

/** Pushes under way per log; another `push` waits. */
const PUSHES_MAX = 8
const DELTA_BYTES_MAX = 64 << 20
/** How often lanes are looked after that other processes may take or have requests for. */
const CHECK_MS = 3_000

/** Throws DEFINITION_INVALID, DEFINITION_CHANGED, STORE_LOCKED, STORE_UNAVAILABLE. */
export async function createEngine(options: EngineOptions): Promise<Engine> {
  const plans = await Promise.all(options.views.map((view) => ('stateHash' in view ? view : compileView(view))))
  const isPath = typeof options.store === 'string'
  const store = isPath ? createLmdbStore({ path: options.store as string }) : (options.store as Store)
  try {
    const seat = { store, namespace: options.namespace ?? 'default' }
    for (const plan of plans) await openGeneration(seat, plan)
    return new Engine(options, plans, seat)
  } catch (error) {
    if (isPath) await store.close()
    throw error
  }
}

interface OpenLog {
  readonly name: string
  readonly source: string
  readonly inputs: readonly InputColumn[]
  readonly columns: ReadonlySet<string>
  readonly handles: readonly IngestHandle[]
  nextPosition: number
  readonly pushes: Set<Promise<unknown>>
  failed: unknown
}

export class Engine {
  readonly plans: readonly Plan[]
  readonly #options: EngineOptions
  readonly #seat: LayoutSeat
  readonly #pool: IngestPool
  readonly #reader: FeatureReader
  readonly #core: CoreModule
  readonly #clock: () => number
  readonly #logs = new Map<string, Promise<OpenLog>>()
  readonly #timer: NodeJS.Timeout | undefined
  readonly #checker: NodeJS.Timeout | undefined
  /** While lanes are taken to forget somebody, no log is opened. */
  #forgetting: Promise<unknown> = Promise.resolve()
  #closed = false

  constructor(options: EngineOptions, plans: readonly Plan[], seat: LayoutSeat) {
    this.#options = options
    this.plans = plans
    this.#seat = seat
    this.#clock = options.clock ?? Date.now
    const core = loadCore()
    this.#core = core
    const storePath = typeof options.store === 'string' ? options.store : undefined
    const threads = options.threads ?? (storePath === undefined ? 0 : Math.max(1, Math.min(4, cpus().length - 1)))
    const { store, namespace } = seat
    this.#pool = new IngestPool({ threads, store, storePath, clock: this.#clock, onSide: options.onSide, core })
    this.#reader = createFeatureReader({ store, namespace, plans, core, clock: this.#clock })
    const intervalMs = options.flushIntervalMs ?? 1000
    if (intervalMs > 0) {
      // A failed flush has ended its log: the next push says so.
      this.#timer = setInterval(() => this.flush().catch(() => {}), intervalMs)
      this.#timer.unref()
    }
    // A directory has no other writers: there, only a ledger has to be brought up to date.
    if ((storePath === undefined || options.ledgerMs !== undefined) && intervalMs > 0) {
      this.#checker = setInterval(() => void this.#check([...this.#logs.values()]), CHECK_MS)
      this.#checker.unref()
    }
  }

  /** The reader that `getFeatures` goes through; a server may share it. */
  get reader(): FeatureReader {
    return this.#reader
  }

  /**
   * Folds a batch. Resolves when the batch is taken in, at the latest when it and seven more wait (backpressure); a later
   * failure comes with the next call for this log. Rows before the log's position are skipped.
   * Throws BATCH_INVALID, POSITION_INVALID, COLUMN_MISSING, COLUMN_TYPE, FENCED, REGRESSED, CORE_TRAP, CORE_MEMORY.
   */
  async push(batch: PushedBatch, options: PushOptions): Promise<void> {
    const log = await this.#openLog(options)
    if (log.failed) throw log.failed
    const columns = this.#columnsOf(batch, log, options)
    const positions = columns.positions
    const last = typeof positions === 'number' ? positions + columns.length - 1 : positions[columns.length - 1]
    if (columns.length === 0) return
    while (log.pushes.size >= PUSHES_MAX) await Promise.race(log.pushes)
    if (log.failed) throw log.failed
    log.nextPosition = Math.max(log.nextPosition, last! + 1)
    const ready = this.#pool.ready(columns, log.columns)
    const folded = Promise.all(log.handles.map((handle) => handle.push(ready)))
    log.pushes.add(folded)
    folded
      .catch((error: unknown) => {
        log.failed ??= error
      })
      .finally(() => log.pushes.delete(folded))
    // Nothing waits in this thread: the walk is done, and its errors belong to this call.
    if (this.#pool.threads === 0) await folded
  }

  #columnsOf(batch: PushedBatch, log: OpenLog, options: PushOptions): ColumnBatch {
    const offset = options.offset ?? log.nextPosition
    if (isColumnBatch(batch)) {
      const stamped = options.offset === undefined ? batch : { ...batch, positions: offset as number | Float64Array }
      return this.#stamped(stamped)
    }
    const made = Array.isArray(batch)
      ? rowsToBatch(batch as readonly PushedRow[], log.inputs, offset)
      : columnsToBatch(batch as Readonly<Record<string, PushedColumn>>, log.inputs, offset)
    return this.#stamped(made)
  }

  /** A pushed batch without record times was recorded now: that bounds how far its event times may be ahead. */
  #stamped(batch: ColumnBatch): ColumnBatch {
    if (batch.recordTimes) return batch
    return { ...batch, recordTimes: new Float64Array(batch.length).fill(this.#clock()) }
  }

  /** Writes what was pushed; resolves to the applied position of each log. */
  async flush(): Promise<Record<string, number>> {
    const applied: Record<string, number> = {}
    for (const pending of [...this.#logs.values()]) {
      const log = await pending
      if (log.failed) throw log.failed
      try {
        await Promise.all(log.handles.map((handle) => handle.flush()))
      } catch (error) {
        log.failed ??= error
        throw error
      }
      applied[log.name] = appliedOf(log)
    }
    return applied
  }

  /** Features of many entities, from what was flushed. */
  getFeatures(query: FeatureQuery): Promise<FeatureAnswer> {
    return this.#reader.getFeatures(query)
  }

  /** Every event of the log up to here is stored; push again from the next one. Opens the log. */
  async applied(options: PushOptions): Promise<number> {
    return appliedOf(await this.#openLog(options))
  }

  /** Forgets a log that has failed: the next push opens it again, and the program pushes from `applied` + 1. */
  async reopen(log: string): Promise<void> {
    const pending = this.#logs.get(log)
    this.#logs.delete(log)
    const old = await pending?.catch(() => undefined)
    if (old) await Promise.all(old.handles.map((handle) => handle.drop().catch(() => {})))
  }

  /**
   * Forgets an entity: drops what is stored and what waits, and filters its events from before now, in every log and in every
   * later rebuild; ingest/erase.ts says what that means to the letter. Of a store that other processes write to, lanes they own
   * may still be waiting when it resolves, as the report says. Throws VIEW_UNKNOWN, REQUEST_INVALID, STORE_UNAVAILABLE.
   */
  forget(view: string, entity: Readonly<Record<string, KeyPart>>): Promise<ForgetReport> {
    if (this.#closed)
      throw new TilefoldError('ENGINE_CLOSED', `cannot forget an entity of view ${view}: the engine is closed`)
    const plan = this.plans.find((each) => each.view === view)
    if (plan === undefined) {
      const names = this.plans.map((each) => each.view).join(', ')
      throw new TilefoldError('VIEW_UNKNOWN', `cannot forget an entity of view ${view}: no such view; got ${names}`)
    }
    const parts = plan.state.entity
    const key = encodeKey(
      parts,
      parts.map((part) => entity[part.name]),
    )
    // Those that are opened from now on wait for us.
    const logs = [...this.#logs.values()]
    const done = this.#forgetting.then(() =>
      forget({
        seat: this.#seat,
        plans: [plan],
        allPlans: this.plans,
        key,
        clock: this.#clock,
        core: this.#core,
        nonce: randomUUID,
        alone: typeof this.#options.store === 'string',
        nudge: () => this.#check(logs),
      }),
    )
    this.#forgetting = done.catch(() => {})
    return done
  }

  /** The idle check of open logs; the next call for a log that has failed says so. */
  async #check(logs: Iterable<Promise<OpenLog>>): Promise<void> {
    for (const pending of logs) {
      const log = await pending.catch(() => undefined)
      if (log === undefined || log.failed) continue
      try {
        await Promise.all(log.handles.map((handle) => handle.check()))
      } catch (error) {
        log.failed ??= error
      }
    }
  }

  /** How records ended, by view, for one log. */
  async counters(log: string): Promise<ReadonlyMap<string, Counters>> {
    const handles = (await this.#logs.get(log))?.handles ?? []
    const byState = new Map(handles.map((handle) => [handle.spec.stateHash, handle.status.counters]))
    const counted = this.plans.filter((plan) => byState.has(plan.stateHash))
    return new Map(counted.map((plan) => [plan.view, byState.get(plan.stateHash)!]))
  }

  /** Flushes, stops the threads, closes a store it opened. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    clearInterval(this.#timer)
    clearInterval(this.#checker)
    try {
      await this.flush()
      if (this.#options.ledgerMs !== undefined) await this.#check([...this.#logs.values()])
    } finally {
      await this.#pool.close()
      if (typeof this.#options.store === 'string') await this.#seat.store.close()
    }
  }

  #openLog(options: PushOptions): Promise<OpenLog> {
    if (this.#closed)
      throw new TilefoldError('ENGINE_CLOSED', `cannot push to log ${options.log}: the engine is closed`)
    const known = this.#logs.get(options.log)
    if (known) return known
    const opening = this.#forgetting.then(() => this.#open(options))
    this.#logs.set(options.log, opening)
    opening.catch(() => this.#logs.delete(options.log))
    return opening
  }

  async #open({ log: name, source }: PushOptions): Promise<OpenLog> {
    if (!/^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}$/.test(name)) {
      throw new TilefoldError(
        'REQUEST_INVALID',
        `cannot use log ${JSON.stringify(name)}: expected a name of letters, digits, "_", "-" and "."`,
      )
    }
    const kind = source ?? this.#onlySource(name)
    const plans = this.plans.filter((plan) => plan.state.source === kind)
    if (plans.length === 0) {
      const kinds = [...new Set(this.plans.map((plan) => plan.state.source))].join(', ')
      throw new TilefoldError(
        'REQUEST_INVALID',
        `cannot push to log ${name}: no view takes events of ${kind}; got ${kinds}`,
      )
    }
    const handles: IngestHandle[] = []
    for (const plan of plans) {
      const opened = await openLog(this.#seat, plan, {
        name,
        shards: this.#options.shards ?? Math.max(1, this.#pool.threads),
        notAfterMs: this.#clock(),
      })
      // Views of one state share its rows: their lanes have one owner.
      if (handles.some((handle) => handle.spec.stateHash === plan.stateHash)) continue
      handles.push(...(await this.#openState(plan, name, opened)))
    }
    // The lanes may be new: a flush must show in the very next answer.
    this.#reader.expireLayouts()
    const inputs = [...new Map(plans.flatMap((plan) => plan.state.inputs).map((input) => [input.name, input])).values()]
    return {
      name,
      source: kind,
      inputs,
      columns: new Set(inputs.map((input) => input.name)),
      handles,
      nextPosition: Math.min(...handles.map((handle) => handle.status.resumeFrom)),
      pushes: new Set(),
      failed: undefined,
    }
  }

  async #openState(plan: Plan, log: string, { layout, generation }: OpenGeneration): Promise<IngestHandle[]> {
    const laneCount = generation.logs.find((each) => each.name === log)!.shards
    const specs = liveSpecs(
      this.#seat.namespace,
      plan,
      log,
      { layout, generation },
      {
        shards: shardsOf(this.#pool.threads, this.plans.length, laneCount),
        deltaBytesMax: this.#options.deltaBytesMax ?? DELTA_BYTES_MAX,
        ledgerMs: this.#options.ledgerMs,
      },
    )
    const handles: IngestHandle[] = []
    for (const spec of specs) handles.push(await this.#pool.open(spec))
    return handles
  }

  #onlySource(log: string): string {
    const kinds = [...new Set(this.plans.map((plan) => plan.state.source))]
    if (kinds.includes(log)) return log
    if (kinds.length === 1) return kinds[0]!
    throw new TilefoldError(
      'REQUEST_INVALID',
      `cannot push to log ${log}: the views take events of ${kinds.join(', ')}; say which with "source"`,
    )
  }
}

function isColumnBatch(batch: PushedBatch): batch is ColumnBatch {
  return (
    'columns' in batch && Array.isArray(batch.columns) && typeof (batch.columns as Column[])[0]?.values === 'object'
  )
}

function appliedOf(log: OpenLog): number {
  return Math.min(...log.handles.map((handle) => handle.status.applied))
}
