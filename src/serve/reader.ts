/** The in-process API of the request path: the embedded engine, the command line and the server all answer through it. */
import type { CoreModule } from '../engine/module.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { NO_SERVER_METRICS, type ServerMetrics } from '../observe/port.ts'
import type { Store } from '../store/port.ts'
import { type FeatureQuery, REQUEST_LIMITS, type RequestLimits } from './api.ts'
import { type Catalog, catalogOf } from './catalog.ts'
import { Deadline } from './deadline.ts'
import { LayoutCache } from './layouts.ts'
import { MergerPool } from './merge.ts'
import type { FeatureAnswer } from './respond.ts'
import { RowCache, type RowCacheOptions } from './row-cache.ts'
import { type Serving, serveFeatures } from './serve.ts'
import type { ServedLog } from './served.ts'
import { warmUp } from './warmup.ts'

export interface FeatureReaderOptions {
  readonly store: Store
  readonly namespace: string
  readonly plans: readonly Plan[]
  readonly core: CoreModule
  /** Milliseconds since the epoch: the as-of of queries without one. */
  readonly clock: () => number
  readonly limits?: Partial<RequestLimits>
  /** Requests on the wire to a remote store at a time; each needs a merger of its own. */
  readonly mergersMax?: number
  /** Keeps rows that were read, for a while; none are kept unless told. */
  readonly rowCache?: RowCacheOptions
  /** Told of every trip to the store. */
  readonly metrics?: Pick<ServerMetrics, 'storeRead' | 'rowsCached'>
  /** Told of what was answered; warming up is not. */
  readonly log?: ServedLog
}

export interface FeatureReader {
  readonly catalog: Catalog
  /**
   * Features of many entities, one row each, from one trip to the store. Throws REQUEST_INVALID, REQUEST_TOO_LARGE,
   * VIEW_UNKNOWN, FEATURE_UNKNOWN, LAYOUT_MISSING, VIEW_NOT_READY, DEFINITION_CHANGED, STORE_UNAVAILABLE, DEADLINE.
   * What is wrong with one entity's row is a status of its values and no error of the request; so is a part of the store that
   * does not answer in time while others do. `requestId` is what the log of answers calls the request, a random one unless given.
   */
  getFeatures(query: FeatureQuery, options?: { deadlineMs?: number; requestId?: string }): Promise<FeatureAnswer>
  /**
   * Rejects while the store can't be read or a view has nothing to answer from. Before it resolves for the first time it
   * merges stored rows until the core's loops are compiled: the first requests would otherwise pay for that.
   */
  checkReady(options?: { deadlineMs?: number }): Promise<void>
  /**
   * The next request reads the layouts anew, instead of within a second: for whoever has just opened a log and wants its
   * rows in the next answer.
   */
  expireLayouts(): void
}

/** Throws DEFINITION_INVALID when two plans have one name, CORE_ABI when core and host do not fit. */
export function createFeatureReader(options: FeatureReaderOptions): FeatureReader {
  const { store, namespace, plans, core, clock } = options
  const catalog = catalogOf(plans)
  const metrics = options.metrics ?? NO_SERVER_METRICS
  const cache = options.rowCache && new RowCache(store, options.rowCache, metrics)
  const serving: Serving = {
    store,
    rows: cache ?? store,
    catalog,
    layouts: new LayoutCache(store, namespace, clock),
    mergers: new MergerPool(core, catalog, options.mergersMax),
    limits: { ...REQUEST_LIMITS, ...options.limits },
    clock,
    metrics,
    log: options.log,
  }
  const warmth: Warmth = {}
  return {
    catalog,
    getFeatures: (query, { deadlineMs, requestId } = {}) =>
      within(deadlineMs, (deadline) => serveFeatures(serving, query, deadline, requestId)),
    checkReady: ({ deadlineMs } = {}) => within(deadlineMs, (deadline) => checkReady(serving, warmth, deadline)),
    expireLayouts() {
      serving.layouts.expire()
      cache?.clear()
    },
  }
}

async function within<T>(afterMs: number | undefined, work: (deadline: Deadline) => Promise<T>): Promise<T> {
  const deadline = new Deadline(afterMs)
  try {
    return await work(deadline)
  } finally {
    deadline.clear()
  }
}

interface Warmth {
  warming?: Promise<void>
}

async function checkReady(serving: Serving, warmth: Warmth, deadline: Deadline): Promise<void> {
  await deadline.race(serving.layouts.read(serving.catalog.views))
  warmth.warming ??= warmUp(serving)
  try {
    await deadline.race(warmth.warming)
  } catch (cause) {
    // A deadline leaves it running for the next check; a failure is tried again.
    if (!(cause instanceof TilefoldError && cause.code === 'DEADLINE')) warmth.warming = undefined
    throw cause
  }
}
