/** Our engine in the merge claim: rows as the flush wrote them, merged in place in the core's memory. */
import { Merger } from '../src/engine/merger.ts'
import { type CoreExports, loadCore } from '../src/engine/module.ts'
import type { Plan } from '../src/model/plan.ts'
import { addAggregates, Checksum } from './checksum.ts'
import { type Contender, timed } from './contest.ts'
import { BATCH_ROWS, createCore, FAR_MS, valuePlan } from './engine-plan.ts'
import { AS_OF_MS, COVER, LEVEL_STEPS_MS, type TileWorkload, WINDOWS_MS } from './tiles.ts'
import { toInt64 } from './workload.ts'

/** Entities per call, as one request for many of them makes it. */
const ENTITIES_PER_CALL = 100

/**
 * Requests of 100 entities: rows are opened (shape and checksum), swept once for all four windows, and every feature is
 * rounded. The rows and the tables that name them stand in the input region beforehand.
 */
export async function mergeContender(name: string, workload: TileWorkload): Promise<Contender> {
  const plan = await mergePlan()
  const rows = foldRows(plan, workload)
  const core = createCore(plan)

  // Region: as-of per entity of a call; a table entry {entity, address, bytes} per request; the rows.
  const requests = workload.requests.length
  const tablesAt = ENTITIES_PER_CALL * 8
  const rowsAt = tablesAt + requests * 12
  const base = core.reserveInput(rowsAt + rows.reduce((sum, row) => sum + alignUp(row.length), 0), 0) >>> 0
  new Float64Array(core.memory.buffer, base, ENTITIES_PER_CALL).fill(AS_OF_MS)
  let at = base + rowsAt + (-(base + rowsAt) & 7)
  const addresses = rows.map((row) => {
    new Uint8Array(core.memory.buffer).set(row, at)
    at += alignUp(row.length)
    return at - alignUp(row.length)
  })
  const tables = new Uint32Array(core.memory.buffer, base + tablesAt, requests * 3)
  for (const [i, entity] of workload.requests.entries()) {
    tables.set([i % ENTITIES_PER_CALL, addresses[entity]!, rows[entity]!.length], i * 3)
  }

  const mergeAll = () => {
    for (let start = 0; start < requests; start += ENTITIES_PER_CALL) {
      const count = Math.min(ENTITIES_PER_CALL, requests - start)
      core.merge(count, base, base + tablesAt + start * 12, count)
    }
  }
  let checksum: string | undefined
  return {
    name,
    round: () =>
      timed(requests, mergeAll, () => {
        checksum ??= checksumOf(plan, rows)
        return checksum
      }),
  }
}

/**
 * The merge alone, as the C yardsticks do it: opened rows in turn, swept into the accumulators of all windows. Its answers
 * are those of `mergeContender`, which reads the same rows.
 */
export async function sweepContender(name: string, workload: TileWorkload): Promise<Contender> {
  const plan = await mergePlan()
  const rows = foldRows(plan, workload)
  const core = createCore(plan)
  const base = core.reserveInput(
    rows.reduce((sum, row) => sum + alignUp(row.length), 0),
    0,
  )
  let at = base >>> 0
  for (const [i, row] of rows.entries()) {
    new Uint8Array(core.memory.buffer).set(row, at)
    if (core.openSwept(i, rows.length, at, row.length) !== 0) throw new Error(`cannot open row ${i}`)
    at += alignUp(row.length)
  }
  const requests = workload.requests.length
  // Calls of some thousand requests, as a server makes many: the first calls run in code that is not optimised yet.
  const sweepAll = () => {
    for (let start = 0; start < requests; start += REQUESTS_PER_CALL) {
      core.sweepSwept(rows.length, Math.min(REQUESTS_PER_CALL, requests - start), AS_OF_MS)
    }
  }
  let checksum: string | undefined
  return {
    name,
    round: () =>
      timed(requests, sweepAll, () => {
        checksum ??= checksumOf(plan, rows)
        return checksum
      }),
  }
}

const REQUESTS_PER_CALL = 1_600

/** The windows of the claim, and rows that hold exactly the tiles which these need as of one midnight. */
async function mergePlan(): Promise<Plan> {
  const plan = await valuePlan({ windows: ['1h', '24h', '7d', '27d'], tiles: ['5m', '1h', '1d'] })
  const tailSteps = [0, 1, 2, 2].map((level) => LEVEL_STEPS_MS[level]!)
  const ladder = LEVEL_STEPS_MS.map((stepMs, level) => ({
    stepMs,
    keepMs: [WINDOWS_MS[0], WINDOWS_MS[1], WINDOWS_MS[3]][level]!,
  }))
  const windows = WINDOWS_MS.map((lengthMs, i) => ({ lengthMs, tailStepMs: tailSteps[i]! }))
  return { ...plan, windows, state: { ...plan.state, ladder } }
}

/**
 * Each entity's row, written in one flush a millisecond before the as-of, as a request for now finds it: hours and days of
 * the older tiles are made, the last hour is still twelve tiles.
 */
function foldRows(plan: Plan, workload: TileWorkload): Uint8Array[] {
  const core = createCore(plan)
  core.admit(workload.entityCount, BATCH_ROWS)
  core.advance(AS_OF_MS - 1 + plan.state.head.lengthMs, FAR_MS)
  const { entities, values } = workload.events
  const times = toInt64(workload.events.times)
  const at = core.reserveInput(BATCH_ROWS * 20, 0) >>> 0
  for (let start = 0; start < times.length; start += BATCH_ROWS) {
    const end = Math.min(start + BATCH_ROWS, times.length)
    new BigInt64Array(core.memory.buffer, at, BATCH_ROWS).set(times.subarray(start, end))
    new Float64Array(core.memory.buffer, at + BATCH_ROWS * 8, BATCH_ROWS).set(values.subarray(start, end))
    new Uint32Array(core.memory.buffer, at + BATCH_ROWS * 16, BATCH_ROWS).set(entities.subarray(start, end))
    core.foldNumbered(at + BATCH_ROWS * 16, at, at + BATCH_ROWS * 8, end - start)
  }
  const rows: Uint8Array[] = []
  for (let place = 0, count = core.beginFlush(); place < count; place++) {
    rows[core.dirtyEntity(place)] = writeRow(core, place)
  }
  return rows
}

function writeRow(core: CoreExports, place: number): Uint8Array {
  core.beginRows()
  const error = core.writeRow(place, 0, 0, -1)
  if (error !== 0) throw new Error(`cannot write a row: the core answered ${error}`)
  const at = core.rowAddress() >>> 0
  return new Uint8Array(core.memory.buffer).slice(at, at + core.rowBytes())
}

function checksumOf(plan: Plan, rows: readonly Uint8Array[]): string {
  const merger = Merger.create(loadCore(), plan)
  const checksum = new Checksum()
  // Features stand aggregation by aggregation, window by window.
  const featureOf = (aggregate: number, window: number) => aggregate * WINDOWS_MS.length + window
  for (const [entity, row] of rows.entries()) {
    merger.begin(1, AS_OF_MS)
    merger.addRow(0, row)
    merger.run()
    const { tilesRead } = merger.entityInfo(0)
    if (tilesRead !== COVER.length) throw new Error(`merged ${tilesRead} tiles, expected ${COVER.length}`)
    for (let window = 0; window < WINDOWS_MS.length; window++) {
      const [count, sum, min, max, last] = [0, 1, 2, 3, 4].map((i) => merger.value(0, featureOf(i, window)) as number)
      addAggregates(checksum, window, entity, { count: count!, sum: sum!, min: min!, max: max!, last: last! })
    }
  }
  return checksum.toString()
}

function alignUp(bytes: number): number {
  return (bytes + 7) & ~7
}
