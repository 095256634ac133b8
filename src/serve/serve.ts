/**
 * The request's walk: the steps in order, and nothing else.
 *
 * ```
 *    step        exit on failure                      name            file
 *  1 parse       ─✗ 400, 404, 413                     FeatureRequest  api.ts
 *  2 plan        ─✗ 400 keys; 503 not served yet      ReadPlan        plan.ts (pure), through target.ts and layouts.ts
 *  3 read        ─✗ 503, 504 nothing was answered     row bytes       read.ts -> the store (one trip per node)
 *  4 merge       ─✗ status per feature                windows         merge.ts -> engine/merger.ts -> the core
 *  5 respond                                          FeatureAnswer   respond.ts, explain.ts
 *  6 log                                              ServedRow       served.ts -> whoever keeps the log
 * ```
 *
 * Layouts that are a moment old are read again in the trip of step 3. When one has changed, or a row was written under a
 * newer one, steps 2 to 4 are done once more; if rows are still ahead of the layout then, the answer says that it is partial. So
 * it does where some of the rows were there at the deadline and some were not: missing.ts.
 */
import { randomUUID } from 'node:crypto'
import type { ServerMetrics } from '../observe/port.ts'
import type { Store } from '../store/port.ts'
import { type FeatureQuery, parseRequest, type RequestLimits } from './api.ts'
import type { Catalog } from './catalog.ts'
import type { Deadline } from './deadline.ts'
import { explain } from './explain.ts'
import type { LayoutCache } from './layouts.ts'
import type { MergerPool } from './merge.ts'
import { planRead } from './plan.ts'
import { type RowReader, readRows } from './read.ts'
import { type FeatureAnswer, respond } from './respond.ts'
import { type ServedLog, servedRows } from './served.ts'
import { Stopwatch } from './stopwatch.ts'

export interface Serving {
  readonly store: Store
  readonly rows: RowReader
  readonly catalog: Catalog
  readonly layouts: LayoutCache
  readonly mergers: MergerPool
  readonly limits: RequestLimits
  readonly clock: () => number
  readonly metrics: Pick<ServerMetrics, 'storeRead'>
  readonly log?: ServedLog
}

const TRIPS_MAX = 2

export async function serveFeatures(
  serving: Serving,
  query: FeatureQuery,
  deadline: Deadline,
  requestId?: string,
): Promise<FeatureAnswer> {
  const { rows, catalog, layouts, mergers, limits, log } = serving
  const watch = new Stopwatch()
  const request = parseRequest(query, catalog, limits, Math.floor(serving.clock()))
  watch.lap('parseMs')
  for (let trips = 1; ; trips++) {
    const plan = planRead(request, layouts.known(request.views) ?? (await deadline.race(layouts.read(request.views))))
    const lease = await mergers.lease(request.views, deadline)
    try {
      lease.begin(request.entities.length, request.asOfMs)
      watch.lap('planMs')
      const tally = await readRows(
        rows,
        plan,
        lease,
        deadline,
        layouts.refreshDue(request.views),
        request.explain || log !== undefined,
      )
      serving.metrics.storeRead(watch.lap('readMs') / 1000, tally.rows, tally.bytes)
      lease.run()
      watch.lap('mergeMs')
      if (trips < TRIPS_MAX && (await layouts.outdated(plan, lease, deadline))) continue
      const answer = respond(request, plan, lease, tally)
      watch.lap('respondMs')
      if (log !== undefined) {
        const of = { share: log.share, requestId: requestId ?? randomUUID(), servedAtMs: Math.floor(serving.clock()) }
        log.take(servedRows(answer, request, plan, lease, tally, of))
      }
      return request.explain ? explain(answer, request, plan, lease, tally, { timings: watch.timings, trips }) : answer
    } finally {
      lease.release()
    }
  }
}
