/**
 * A ladder of tile sizes tried on a view: the longest window and a day of made-up events go through fold and flush, at a
 * regular interval of event time, and every row is merged as of the end.
 */
import { compileView } from '../src/define/compile.ts'
import type { ViewDefinition } from '../src/define/view.ts'
import { Core } from '../src/engine/core.ts'
import { Merger } from '../src/engine/merger.ts'
import { loadCore } from '../src/engine/module.ts'
import type { Plan } from '../src/model/plan.ts'
import { formatDuration, parseDuration } from '../src/model/time.ts'
import { BATCH_ROWS, SHARES } from './engine-plan.ts'
import { formatTable } from './report.ts'
import { SyntheticEvents } from './synthetic.ts'
import { START_MS } from './workload.ts'

const ENTITIES_PER_MERGE = 100
const DAY_MS = 86_400_000

export interface TuneOptions {
  readonly entityCount: number
  /** Events per entity and hour, on average. */
  readonly rate: number
  readonly skew: number
  readonly flushMs: number
  readonly seed: number
}

export interface Tuning {
  readonly ladder: string
  /** Why the ladder can't be used with this view; then there is nothing else. */
  readonly problem?: string
  readonly rowBytes: number
  readonly foldNsPerEvent: number
  readonly flushNsPerEvent: number
  readonly mergeNsPerRequest: number
  /** Per window: by how much its start may lie too early. */
  readonly startsWithin: readonly string[]
}

/** Measures a ladder on a view. Throws what the view's own definition would; a ladder that it can't have is a `problem`. */
export async function tuneLadder(view: ViewDefinition, ladder: string, options: TuneOptions): Promise<Tuning> {
  const nothing = { rowBytes: 0, foldNsPerEvent: 0, flushNsPerEvent: 0, mergeNsPerRequest: 0, startsWithin: [] }
  let plan: Plan
  try {
    plan = await compileView({ ...view, tilesMs: ladder.split(',').map(parseDuration) })
  } catch (error) {
    return { ladder, problem: firstProblem(error as Error), ...nothing }
  }
  const endMs = START_MS
  const folded = foldHistory(view, plan, options, endMs)
  const rowBytes = folded.rows.reduce((sum, row) => sum + row.length, 0) / folded.rows.length
  return {
    ladder,
    rowBytes,
    foldNsPerEvent: folded.foldNs / folded.events,
    flushNsPerEvent: folded.flushNs / folded.events,
    mergeNsPerRequest: timeMerges(plan, folded.rows, endMs),
    startsWithin: plan.windows.map(
      ({ lengthMs, tailStepMs }) => `${formatDuration(lengthMs)}+${formatDuration(tailStepMs)}`,
    ),
  }
}

function foldHistory(view: ViewDefinition, plan: Plan, options: TuneOptions, endMs: number) {
  const { entityCount, rate, skew, flushMs, seed } = options
  const longestMs = Math.max(...plan.windows.map((window) => window.lengthMs))
  const events = new SyntheticEvents(view, plan.state, entityCount, skew, seed)
  const core = new Core(loadCore(), plan.state, SHARES, endMs)
  const rowOf = new Map<string, Uint8Array>()
  let [foldNs, flushNs, count] = [0, 0, 0]
  for (let startMs = endMs - longestMs - DAY_MS; startMs < endMs; startMs += flushMs) {
    const stopMs = Math.min(startMs + flushMs, endMs)
    const total = Math.max(1, Math.round((entityCount * rate * (stopMs - startMs)) / 3_600_000))
    for (let done = 0; done < total; done += BATCH_ROWS) {
      const length = Math.min(BATCH_ROWS, total - done)
      const at = (row: number) => startMs + ((stopMs - startMs) * row) / total
      const batch = events.batch(length, at(done), at(done + length))
      const from = process.hrtime.bigint()
      core.prepare(batch)
      core.fold(stopMs, false)
      foldNs += Number(process.hrtime.bigint() - from)
      count += length
    }
    flushNs += flush(core, rowOf)
  }
  return { rows: [...rowOf.values()], foldNs, flushNs, events: count }
}

/** Every dirty row over its stored one, as a lane's flush does it, without a store; ns. */
function flush(core: Core, rowOf: Map<string, Uint8Array>): number {
  let ns = 0
  let from = process.hrtime.bigint()
  for (const chunk of core.beginFlush(512)) {
    const keys = core.keysOf(chunk)
    ns += Number(process.hrtime.bigint() - from)
    const names = keys.map((key) => Buffer.from(key).toString('latin1'))
    const stored = names.map((name) => rowOf.get(name))
    from = process.hrtime.bigint()
    const rows = core.writeRows(chunk, stored, core.position)
    ns += Number(process.hrtime.bigint() - from)
    for (const [i, name] of names.entries()) rowOf.set(name, rows[i]!)
    from = process.hrtime.bigint()
  }
  core.endFlush()
  return ns + Number(process.hrtime.bigint() - from)
}

/** Ns per entity of requests for 100 at a time: all windows and features, as of the end. */
function timeMerges(plan: Plan, rows: readonly Uint8Array[], asOfMs: number): number {
  const merger = Merger.create(loadCore(), plan)
  const mergeOnce = (): number => {
    const from = process.hrtime.bigint()
    for (let start = 0; start < rows.length; start += ENTITIES_PER_MERGE) {
      const chunk = rows.slice(start, start + ENTITIES_PER_MERGE)
      merger.begin(chunk.length, asOfMs)
      for (const [i, row] of chunk.entries()) merger.addRow(i, row)
      merger.run()
    }
    return Number(process.hrtime.bigint() - from) / rows.length
  }
  const rounds = Array.from({ length: 40 }, mergeOnce).slice(20)
  return rounds.sort((a, b) => a - b)[rounds.length >> 1]!
}

/** The message of an error that lists several problems, cut to the first of them. */
function firstProblem({ message }: Error): string {
  const [title, first] = message.split('\n')
  return first?.trim() ?? title!
}

export function formatTunings(tunings: readonly Tuning[]): string {
  const titles = ['tiles', 'bytes/entity', 'fold ns/event', 'flush ns/event', 'merge ns/request', 'window+early start']
  const lines = tunings
    .filter((each) => each.problem === undefined)
    .map((each) => [
      each.ladder,
      each.rowBytes.toFixed(0),
      each.foldNsPerEvent.toFixed(1),
      each.flushNsPerEvent.toFixed(1),
      each.mergeNsPerRequest.toFixed(0),
      each.startsWithin.join(' '),
    ])
  const problems = tunings.flatMap(({ ladder, problem }) => (problem === undefined ? [] : [`  ${ladder}: ${problem}`]))
  return [formatTable([titles, ...lines]), ...problems].join('\n')
}
