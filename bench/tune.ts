/**
 * `npm run bench:tune`: which tile sizes suit a view?
 *
 *   npm run bench:tune                                          a view of five aggregates over 1 h, 24 h, 7 d and 30 d
 *   npm run bench:tune -- --definition views.yaml --view clicks  one of yours, over made-up events of its columns' types
 *   npm run bench:tune -- --ladders "5m,1h,1d 1m,15m,6h"         ladders to try
 *   npm run bench:tune -- --entities 1000 --rate 60 --flush 5m   more entities, 60 events per entity and hour, other flushes
 *
 * Each ladder gets the same events, the longest window and a day of them, with a flush at regular intervals of event time.
 * Finer tiles make a window's start more exact and a row larger; more levels make merges shorter and flushes longer.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { compileView } from '../src/define/compile.ts'
import type { ViewDefinition } from '../src/define/view.ts'
import { parseDefinitions } from '../src/define/yaml.ts'
import { Core } from '../src/engine/core.ts'
import { Merger } from '../src/engine/merger.ts'
import { loadCore } from '../src/engine/module.ts'
import type { Plan } from '../src/model/plan.ts'
import { formatDuration, parseDuration } from '../src/model/time.ts'
import { BATCH_ROWS, SHARES, valueView } from './engine-plan.ts'
import { formatTable } from './report.ts'
import { SyntheticEvents } from './synthetic.ts'
import { START_MS } from './workload.ts'

const LADDERS = ['5m,1h,1d', '1m,1h,1d', '1m,15m,3h,1d', '15m,6h,1d', '5m,1d', '5m']
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
    return { ladder, problem: (error as Error).message.replaceAll(/\s+/g, ' '), ...nothing }
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
      ({ lengthMs, tailStepMs }) => `${formatDuration(lengthMs)}±${formatDuration(tailStepMs)}`,
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

export function formatTunings(tunings: readonly Tuning[]): string {
  const titles = ['tiles', 'bytes/entity', 'fold ns/event', 'flush ns/event', 'merge ns/request', 'window ± start']
  const lines = tunings.map(({ ladder, problem, ...each }) =>
    problem !== undefined
      ? [ladder, '', '', '', '', problem.length > 90 ? `${problem.slice(0, 90)}…` : problem]
      : [
          ladder,
          each.rowBytes.toFixed(0),
          each.foldNsPerEvent.toFixed(1),
          each.flushNsPerEvent.toFixed(1),
          each.mergeNsPerRequest.toFixed(0),
          each.startsWithin.join(' '),
        ],
  )
  return formatTable([titles, ...lines])
}

export async function tune(commandArguments: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...commandArguments],
    options: {
      definition: { type: 'string' },
      view: { type: 'string' },
      ladders: { type: 'string', default: LADDERS.join(' ') },
      entities: { type: 'string', default: '200' },
      rate: { type: 'string', default: '20' },
      skew: { type: 'string', default: '1.1' },
      flush: { type: 'string', default: '1h' },
      seed: { type: 'string', default: '1' },
      json: { type: 'string' },
    },
  })
  const view = values.definition ? readView(values.definition, values.view) : valueView(['1h', '24h', '7d', '30d'])
  const options: TuneOptions = {
    entityCount: Number(values.entities),
    rate: Number(values.rate),
    skew: Number(values.skew),
    flushMs: parseDuration(values.flush),
    seed: Number(values.seed),
  }
  console.log(
    `view ${view.name}: ${options.entityCount} entities, ${options.rate} events per entity and hour (Zipf ${options.skew}), ` +
      `a flush every ${formatDuration(options.flushMs)} of event time; seed ${options.seed}`,
  )
  const tunings: Tuning[] = []
  for (const ladder of values.ladders.split(/\s+/)) tunings.push(await tuneLadder(view, ladder, options))
  console.log(formatTunings(tunings))
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ options, tunings }, null, 2)}\n`)
}

function readView(file: string, name: string | undefined): ViewDefinition {
  const { views } = parseDefinitions(readFileSync(file, 'utf8'), file)
  const view = name === undefined ? views[0] : views.find((each) => each.name === name)
  if (!view) throw new Error(`cannot find view ${name} in ${file}: it has ${views.map((each) => each.name).join(', ')}`)
  return view
}
