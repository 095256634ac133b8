/** Our engine in the fold claim: the fold stage on entity numbers, and the whole way from columns to tiles. */
import { Core } from '../src/engine/core.ts'
import { type CoreExports, loadCore } from '../src/engine/module.ts'
import { type Column, type ColumnBatch, sliceBatch } from '../src/model/columns.ts'
import type { Plan } from '../src/model/plan.ts'
import { type Contender, timed } from './contest.ts'
import { BATCH_ROWS, createCore, FAR_MS, SHARES, valuePlan } from './engine-plan.ts'
import { type EntityRow, TileCheck } from './engine-tiles.ts'
import { createKeys, keyColumn, keyStrings, STEP_MS, toInt64, type Workload } from './workload.ts'

/**
 * Batches of numbers, times and values into tiles; the copy into the core is timed, as any host has to make it. The tiles
 * stay in the core, as those of C stay in its slots: writing them out as rows is the flush's work. After the first round
 * they are flushed, merged tile by tile and compared.
 */
export async function foldContender(name: string, workload: Workload, { squares = false } = {}): Promise<Contender> {
  const plan = await planOf(workload, squares)
  const core = createCore(plan)
  const times = toInt64(workload.times)
  core.admit(workload.entityCount, BATCH_ROWS)
  core.advance(endOf(workload) + plan.state.head.lengthMs, FAR_MS)
  const check = new TileCheck(plan, workload)

  return {
    name,
    round() {
      core.endFlush()
      const fold = () => foldNumbered(core, workload, times)
      return timed(workload.rows, fold, () => check.checksum(core.deltaBytes() >>> 0, () => dirtyRows(core)))
    },
  }
}

function foldNumbered(core: CoreExports, workload: Workload, times: BigInt64Array): void {
  const at = core.reserveInput(BATCH_ROWS * 20, 0) >>> 0
  const valuesAt = at + BATCH_ROWS * 8
  const entitiesAt = at + BATCH_ROWS * 16
  for (let start = 0; start < workload.rows; start += BATCH_ROWS) {
    const end = Math.min(start + BATCH_ROWS, workload.rows)
    // The last call may have grown the memory: views are good for one call.
    const { buffer } = core.memory
    new BigInt64Array(buffer, at, BATCH_ROWS).set(times.subarray(start, end))
    new Float64Array(buffer, valuesAt, BATCH_ROWS).set(workload.values.subarray(start, end))
    new Uint32Array(buffer, entitiesAt, BATCH_ROWS).set(workload.entities.subarray(start, end))
    core.foldNumbered(entitiesAt, at, valuesAt, end - start)
  }
}

function* dirtyRows(core: CoreExports): Generator<EntityRow> {
  const count = core.beginFlush()
  for (let place = 0; place < count; place++) {
    core.beginRows()
    const error = core.writeRow(place, 0, 0, -1)
    if (error !== 0) throw new Error(`cannot write a row: the core answered ${error}`)
    const at = core.rowAddress() >>> 0
    const bytes = new Uint8Array(core.memory.buffer).slice(at, at + core.rowBytes())
    yield { entity: core.dirtyEntity(place), bytes }
  }
}

/** Key, time and value columns through decoding, acceptance, interning and fold; each round meets every key anew. */
export async function keyedFoldContender(name: string, workload: Workload): Promise<Contender> {
  const plan = await planOf(workload, false)
  const batch = columnBatchOf(workload)
  const numbers = new Map(keyStrings(createKeys(workload.entityCount)).map((key, entity) => [key, entity]))
  const core = new Core(loadCore(), plan.state, SHARES, endOf(workload))
  core.advance(endOf(workload) + plan.state.head.lengthMs, Number.POSITIVE_INFINITY)
  const check = new TileCheck(plan, workload)
  let position = 0

  const foldColumns = () => {
    for (let start = 0; start < workload.rows; start += BATCH_ROWS) {
      const slice = sliceBatch(batch, start, Math.min(start + BATCH_ROWS, workload.rows))
      const accepted = core.prepare({ ...slice, positions: position })
      if (accepted !== slice.length) throw new Error(`${name} accepted ${accepted} of ${slice.length} events`)
      core.fold(Number.POSITIVE_INFINITY, false)
      position += slice.length
    }
  }
  const rows = function* (): Generator<EntityRow> {
    for (const chunk of core.beginFlush(1024)) {
      const keys = core.keysOf(chunk)
      for (const [i, bytes] of core.writeRows(chunk, [], position).entries()) {
        yield { entity: numbers.get(Buffer.from(keys[i]!).toString('latin1'))!, bytes }
      }
    }
  }
  return {
    name,
    round() {
      core.endFlush()
      core.forgetEntities()
      return timed(workload.rows, foldColumns, () => check.checksum(core.deltaBytes, rows))
    },
  }
}

/** The workload as a source would yield it: key utf8, time int64, value float64. */
export function columnBatchOf(workload: Workload): ColumnBatch {
  const keys = keyColumn(createKeys(workload.entityCount), workload.entities)
  const columns: Column[] = [
    { name: 'key', type: 'utf8', values: keys.bytes, offsets: keys.offsets },
    { name: 'time', type: 'int64', values: bytesOf(toInt64(workload.times)) },
    { name: 'value', type: 'float64', values: bytesOf(workload.values) },
  ]
  return { length: workload.rows, columns, positions: 0 }
}

function bytesOf(cells: ArrayBufferView): Uint8Array {
  return new Uint8Array(cells.buffer, cells.byteOffset, cells.byteLength)
}

/** Windows of one tile, which a definition may not have, answered as far back as the workload's first tile. */
async function planOf(workload: Workload, squares: boolean): Promise<Plan> {
  const plan = await valuePlan({ windows: ['1h'], tiles: ['5m'], slack: `${workload.tiles * 5}m`, squares })
  return { ...plan, windows: [{ lengthMs: STEP_MS, tailStepMs: STEP_MS }] }
}

function endOf(workload: Workload): number {
  return workload.startMs + workload.tiles * STEP_MS
}
