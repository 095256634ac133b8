/**
 * Claim: making hours and days out of five-minute tiles costs a small part of what folding the events did.
 *
 * Two days of event time go hour by hour through fold and flush. Each hour ends with its rows a millisecond before the
 * hour's end; then every row is advanced twice: to where it stands (open, check, write: nothing to compact) and across the
 * end of the hour. The difference is what the compaction costs; it is set against the fold stage alone, without flush.
 */
import type { CoreExports } from '../src/engine/module.ts'
import type { Claim, Settings } from './claim.ts'
import { judge, median, timed, timesRow } from './contest.ts'
import { BATCH_ROWS, createCore, FAR_MS, valuePlan } from './engine-plan.ts'
import { Random } from './random.ts'
import { dyadicValue, START_MS, STEP_MS } from './workload.ts'

const HOUR_MS = 12 * STEP_MS
const CHUNK_ROWS = 256

export const compact: Claim = {
  name: 'compact',
  about: 'compaction 5m → 1h → 1d against the fold, at 1, 10 and 100 events per key and tile',
  async run(settings) {
    const keys = settings.short ? 500 : 10_000
    await measure({ keys, eventsPerTile: 10, hours: settings.short ? 25 : 48 }, settings, 0.15)
    await measure({ keys, eventsPerTile: 1, hours: settings.short ? 25 : 48 }, settings)
    await measure({ keys: keys / 10, eventsPerTile: 100, hours: settings.short ? 25 : 48 }, settings)
  },
}

interface Load {
  readonly keys: number
  readonly eventsPerTile: number
  readonly hours: number
}

interface Costs {
  foldNs: number
  flushNs: number
  compactNs: number
}

async function measure(load: Load, settings: Settings, limit?: number): Promise<void> {
  const { keys, eventsPerTile, hours } = load
  const events = keys * eventsPerTile * hours * 12
  const turns: Costs[] = []
  // The first run warms up.
  for (let turn = 0; turn <= settings.turns.slow; turn++) turns.push(await runHours(load, settings.seed))
  turns.shift()

  const title = `${keys} keys, ${hours} h of event time, ${eventsPerTile} events per key and tile`
  const contest = { claim: 'compact', title, unit: 'event' }
  const row = (name: string, costOf: (costs: Costs) => number) =>
    timesRow(
      contest,
      name,
      turns.map((costs) => costOf(costs) / events),
    )
  const shares = turns.map(({ compactNs, foldNs }) => compactNs / foldNs)
  settings.emit([
    row('tilefold, fold stage', (costs) => costs.foldNs),
    {
      ...row('tilefold, compaction 5m → 1h → 1d', (costs) => costs.compactNs),
      ...judge(shares, 'share', limit === undefined ? undefined : { kind: 'share', limit }),
    },
    row('tilefold, hourly flush to rows without compaction', (costs) => costs.flushNs),
  ])
}

async function runHours({ keys, eventsPerTile, hours }: Load, seed: number): Promise<Costs> {
  const plan = await valuePlan({ windows: ['1h', '24h', '7d', '30d'], tiles: ['5m', '1h', '1d'] })
  const core = createCore(plan)
  core.admit(keys, BATCH_ROWS)
  const order = new Random(seed).permutation(keys)
  const rows: Uint8Array[] = []
  const costs: Costs = { foldNs: 0, flushNs: 0, compactNs: 0 }
  for (let hour = 0; hour < hours; hour++) {
    const endMs = START_MS + (hour + 1) * HOUR_MS
    core.advance(endMs - 1 + plan.state.head.lengthMs, FAR_MS)
    const tiles = Array.from({ length: 12 }, (_, i) =>
      foldTile(core, order, eventsPerTile, endMs - HOUR_MS + i * STEP_MS),
    )
    // Whatever else the machine does hits single tiles: the median one stands for all.
    costs.foldNs += 12 * median(tiles)
    costs.flushNs += flushAll(core, rows)
    costs.compactNs += advanceAll(core, rows, endMs)
  }
  return costs
}

/** Folds `eventsPerTile` events of every key into one tile, batch by batch; ns of the core's calls. */
function foldTile(core: CoreExports, order: Uint32Array, eventsPerTile: number, startMs: number): number {
  const events = order.length * eventsPerTile
  let ns = 0
  for (let start = 0; start < events; start += BATCH_ROWS) {
    const n = Math.min(BATCH_ROWS, events - start)
    const at = core.reserveInput(BATCH_ROWS * 20, 0) >>> 0
    const times = new Uint32Array(core.memory.buffer, at, n * 2)
    const values = new Float64Array(core.memory.buffer, at + BATCH_ROWS * 8, n)
    const entities = new Uint32Array(core.memory.buffer, at + BATCH_ROWS * 16, n)
    for (let i = 0; i < n; i++) {
      // The last event of a tile stays two milliseconds clear of its end, and so before the frontier.
      const offset = Math.floor(((start + i) * (STEP_MS - 2)) / events)
      const entity = order[(start + i) % order.length]!
      times[2 * i] = (startMs + offset) % 2 ** 32
      times[2 * i + 1] = Math.floor((startMs + offset) / 2 ** 32)
      values[i] = dyadicValue(entity, offset)
      entities[i] = entity
    }
    const from = process.hrtime.bigint()
    core.foldNumbered(at + BATCH_ROWS * 16, at, at + BATCH_ROWS * 8, n)
    ns += Number(process.hrtime.bigint() - from)
  }
  return ns
}

/** Writes every dirty row over its stored one; ns. */
function flushAll(core: CoreExports, rows: Uint8Array[]): number {
  const from = process.hrtime.bigint()
  for (let place = 0, count = core.beginFlush(); place < count; place++) {
    const entity = core.dirtyEntity(place)
    const stored = rows[entity]
    const at = stored ? writeInput(core, stored) : 0
    core.beginRows()
    // Position -1 throughout: the numbered fold has no positions of its own.
    checkRow(core.writeRow(place, at, stored?.length ?? 0, -1))
    rows[entity] = takeRow(core)
  }
  core.endFlush()
  return Number(process.hrtime.bigint() - from)
}

/**
 * Advances every row across the hour's end; ns that this takes beyond advancing it to where it stands. It is a small
 * difference, so both are done three times in turn, chunk by chunk, and the fastest of each counts.
 */
function advanceAll(core: CoreExports, rows: Uint8Array[], endMs: number): number {
  let ns = 0
  for (let start = 0; start < rows.length; start += CHUNK_ROWS) {
    const chunk = rows.slice(start, start + CHUNK_ROWS)
    let [standing, crossing] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]
    for (let pass = 0; pass < 3; pass++) {
      standing = Math.min(standing, timed(1, () => advanceRows(core, chunk, endMs - 1), String).ns)
      let advanced: Uint8Array[] = []
      const cross = () => {
        advanced = advanceRows(core, chunk, endMs)
      }
      crossing = Math.min(crossing, timed(1, cross, String).ns)
      for (const [i, row] of advanced.entries()) rows[start + i] = row
    }
    ns += crossing - standing
  }
  return ns
}

function advanceRows(core: CoreExports, rows: readonly Uint8Array[], frontierMs: number): Uint8Array[] {
  return rows.map((row) => {
    const at = writeInput(core, row)
    core.beginRows()
    checkRow(core.advanceStoredRow(at, row.length, frontierMs))
    return takeRow(core)
  })
}

function writeInput(core: CoreExports, row: Uint8Array): number {
  const at = core.reserveInput(row.length, 0) >>> 0
  new Uint8Array(core.memory.buffer).set(row, at)
  return at
}

function takeRow(core: CoreExports): Uint8Array {
  const at = core.rowAddress() >>> 0
  return new Uint8Array(core.memory.buffer).slice(at, at + core.rowBytes())
}

function checkRow(error: number): void {
  if (error !== 0) throw new Error(`cannot write a row: the core answered ${error}`)
}
