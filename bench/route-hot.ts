/**
 * One entity that is 90 % of a topic, over four lanes: what its lane takes of the CPU when the router spreads it, and when it does not.
 *
 * The router's records are made first, as of a transaction each 100 ms; then each lane folds its own into a store in memory, with a flush
 * each second, and its CPU is taken by itself. Where the lanes have a core each, the busiest one is what bounds the rate.
 */
import { Core } from '../src/engine/core.ts'
import { loadCore } from '../src/engine/module.ts'
import { IngestPool } from '../src/ingest/pool.ts'
import { liveSpecs } from '../src/ingest/specs.ts'
import type { Plan } from '../src/model/plan.ts'
import { logOfPartition, saltKey } from '../src/model/view-layout.ts'
import { openGeneration, openLog } from '../src/registry/layouts.ts'
import { openRoute } from '../src/registry/routes.ts'
import { readRoutedRecord } from '../src/source/routed-record.ts'
import { rowsToBatch } from '../src/source/rows.ts'
import { createMemoryStore } from '../src/store/memory.ts'
import { RouteLanes } from '../src/stream/route-lanes.ts'
import type { Settings } from './claim.ts'
import { judge, median, type Row, timesRow } from './contest.ts'
import { SHARES, valuePlan } from './engine-plan.ts'
import { Random } from './random.ts'

const LANES = 4
const HOT_SHARE = 0.9
/** The other entities: what they cost stays with their lanes, spread or not. */
const OTHERS = 1_000
const PER_SECOND = 5_000
const START_MS = Date.UTC(2026, 0, 5)
const HOT = 'hot'

/** How the lanes are fed. */
interface Pace {
  readonly name: string
  /** The head in tiles so wide, or raw. */
  readonly headStep?: '1s'
  readonly seconds: number
  /** Of a transaction. */
  readonly lingerEvents: number
  readonly transactionsPerFlush: number
  readonly hasTarget?: true
}

export async function timeHotKey(settings: Settings): Promise<void> {
  const seconds = settings.short ? 10 : 120
  // A backlog comes in full transactions, and is flushed once a second: some million events.
  const backlog = { lingerEvents: 20_000, transactionsPerFlush: 30 }
  const live = { lingerEvents: PER_SECOND / 10, transactionsPerFlush: 10 }
  await timePace(settings, { name: 'a backlog', headStep: '1s', seconds: 2 * seconds, ...backlog, hasTarget: true })
  await timePace(settings, { name: 'live', headStep: '1s', seconds, ...live })
  // A minute of raw events of one entity is a row of many megabytes, written each second: a shorter run says enough.
  await timePace(settings, { name: 'live', seconds: seconds / 5, ...live })
}

async function timePace(settings: Settings, pace: Pace): Promise<void> {
  const { headStep, seconds, hasTarget } = pace
  const plan = await valuePlan({
    windows: ['1h', '24h', '7d', '27d'],
    tiles: ['5m', '1h', '1d'],
    ...(headStep && { headStep }),
  })
  const arms = { spread: LANES, alone: 1 } as const
  const records = { spread: route(plan, pace, LANES, settings.seed), alone: route(plan, pace, 1, settings.seed) }
  const busiest = { spread: [] as number[], alone: [] as number[] }
  const total = { spread: [] as number[], alone: [] as number[] }
  const turns = Math.min(settings.turns.all, 5)
  for (let turn = 0; turn <= turns; turn++) {
    for (const arm of turn % 2 === 0 ? (['spread', 'alone'] as const) : (['alone', 'spread'] as const)) {
      const lanes = await foldLanes(plan, records[arm], pace)
      if (turn === 0) continue
      const events = seconds * PER_SECOND
      busiest[arm].push(Math.max(...lanes) / events)
      total[arm].push(lanes.reduce((sum, ns) => sum + ns, 0) / events)
    }
  }
  const head = headStep ? `head in tiles of ${headStep}` : 'head raw'
  const title = `hot key, ${pace.name}: 90 % of ${PER_SECOND} events/s on one entity, ${LANES} lanes, ${head}: CPU of the lanes per event of the topic`
  const contest = { claim: 'route', title, unit: 'event' }
  const ratios = (of: typeof busiest) => of.spread.map((ns, turn) => ns / of.alone[turn]!)
  const rows: Row[] = [
    timesRow(contest, 'busiest lane, in its own lane alone', busiest.alone),
    {
      ...timesRow(contest, `busiest lane, spread over ${arms.spread}`, busiest.spread),
      ...judge(ratios(busiest), 'cost', hasTarget && { kind: 'cost', limit: 0.35 }),
    },
    timesRow(contest, 'all lanes, in its own lane alone', total.alone),
    {
      ...timesRow(contest, `all lanes, spread over ${arms.spread}`, total.spread),
      ...judge(ratios(total), 'cost', hasTarget && { kind: 'cost', limit: 1.15 }),
    },
  ]
  settings.emit(rows)
  const rate = 1e9 / median(busiest.spread) / 1000
  settings.note(`with a core for each lane, the busiest one would bound the rate at ${rate.toFixed(0)}k events/s`)
}

/** Records of each lane, in order. */
function route(plan: Plan, { seconds, lingerEvents }: Pace, width: number, seed: number): Buffer[][] {
  const random = new Random(seed)
  const core = new Core(loadCore(), plan.state, SHARES, START_MS * 2)
  const lanes = new RouteLanes(
    'events.0',
    plan.state.inputs.map(({ name }) => name),
    LANES,
  )
  lanes.spread(new Map([[saltKey(Buffer.from(HOT)), width]]))
  const records: Buffer[][] = Array.from({ length: LANES }, () => [])
  for (let first = 0; first < seconds * PER_SECOND; first += lingerEvents) {
    const rows = Array.from({ length: lingerEvents }, (_, i) => ({
      key: random.below(1000) < HOT_SHARE * 1000 ? HOT : `key-${random.below(OTHERS)}`,
      time: START_MS + Math.floor(((first + i) * 1000) / PER_SECOND),
      value: random.below(1000) / 8,
    }))
    const batch = rowsToBatch(rows, plan.state.inputs, first)
    core.prepare(batch)
    lanes.add(core, batch, first)
    const to = first + lingerEvents
    const made = lanes.records(to, { clockMs: core.lateClockMs, isIdle: false, logs: 1, layoutVersion: 1 }, () => true)
    lanes.committed(made, to)
    for (const { partition, value } of made) records[partition]!.push(value)
  }
  return records
}

/** CPU of each lane, in ns. */
async function foldLanes(plan: Plan, records: readonly Buffer[][], pace: Pace): Promise<number[]> {
  const store = createMemoryStore()
  const seat = { store, namespace: 'bench' }
  await openGeneration(seat, plan)
  await openRoute(seat, plan, 'events', LANES)
  const pool = new IngestPool({ threads: 0, store, clock: () => START_MS * 2, core: loadCore() })
  const times: number[] = []
  for (const [lane, own] of records.entries()) {
    const log = logOfPartition('internal', lane)
    const opened = await openLog(seat, plan, { name: log, shards: 1, notAfterMs: START_MS * 2 })
    const [spec] = liveSpecs('bench', plan, log, opened, { shards: 1, deltaBytesMax: 1 << 30, isRouted: true })
    const handle = await pool.open(spec!)
    const start = process.cpuUsage()
    let flushed = 0
    for (const [i, record] of own.entries()) {
      const batch = readRoutedRecord(record, i)
      await handle.push({ local: batch })
      if (batch.routed.to - flushed < pace.lingerEvents * pace.transactionsPerFlush) continue
      await handle.flush()
      flushed = batch.routed.to
    }
    await handle.flush()
    const { user, system } = process.cpuUsage(start)
    times.push((user + system) * 1000)
    await handle.drop()
  }
  await pool.close()
  return times
}
