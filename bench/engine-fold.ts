/** Our engine in the fold claim: the fold stage on entity numbers, and the whole way from columns to tiles. */
import { Core } from '../src/engine/core.ts'
import { Merger } from '../src/engine/merger.ts'
import { type CoreExports, loadCore } from '../src/engine/module.ts'
import { type ColumnBatch, sliceBatch } from '../src/model/columns.ts'
import type { Plan } from '../src/model/plan.ts'
import { addAggregates, Checksum } from './checksum.ts'
import { type Contender, timed } from './contest.ts'
import { BATCH_ROWS, createCore, FAR_MS, SHARES, valuePlan } from './engine-plan.ts'
import { createKeys, keyColumn, keyStrings, STEP_MS, toInt64, type Workload } from './workload.ts'

/**
 * Batches of numbers, times and values into tiles, copied into the core first as any host would. What comes out stays in
 * the core, as the tiles of C stay in its slots; after the first round it is flushed, merged tile by tile and compared.
 */
export async function foldContender(
  name: string,
  workload: Workload,
  { squares = false } = {},
): Promise<Contender> {
  const plan = await planOf(workload, squares)
  const core = createCore(plan)
  const times = toInt64(workload.times)
  core.admit(workload.entityCount, BATCH_ROWS)
  core.advance(endOf(workload) + plan.state.head.lengthMs, FAR_MS)
  const check = new TileCheck(plan, workload)

  return {
    name,
    round: () =>
      timed(
        workload.rows,
        () => {
          core.endFlush()
          foldNumbered(core, workload, times)
        },
        () => check.checksum(core.deltaBytes() >>> 0, () => rowsOf(core, (entity) => entity)),
      ),
  }
}

function foldNumbered(core: CoreExports, workload: Workload, times: BigInt64Array): void {
  const at = core.reserveInput(BATCH_ROWS * 20, 0) >>> 0
  const entitiesAt = at + BATCH_ROWS * 16
  for (let start = 0; start < workload.rows; start += BATCH_ROWS) {
    const end = Math.min(start + BATCH_ROWS, workload.rows)
    // The memory may have grown in the last call: views are good for one call.
    const { buffer } = core.memory
    new BigInt64Array(buffer, at, BATCH_ROWS).set(times.subarray(start, end))
    new Float64Array(buffer, at + BATCH_ROWS * 8, BATCH_ROWS).set(workload.values.subarray(start, end))
    new Uint32Array(buffer, entitiesAt, BATCH_ROWS).set(workload.entities.subarray(start, end))
    core.foldNumbered(entitiesAt, at, at + BATCH_ROWS * 8, end - start)
  }
}

/** Key, time and value columns through decode, acceptance, interning and fold; keys are interned anew in each round. */
export async function keyedFoldContender(name: string, workload: Workload): Promise<Contender> {
  const plan = await planOf(workload, false)
  const keys = createKeys(workload.entityCount)
  const numbers = new Map(keyStrings(keys).map((key, entity) => [key, entity]))
  const batch = columnBatchOf(workload)
  const core = new Core(loadCore(), plan.state, SHARES, endOf(workload))
  core.advance(endOf(workload) + plan.state.head.lengthMs, FAR_MS)
  const check = new TileCheck(plan, workload)
  let position = 0

  return {
    name,
    round: () => {
      core.endFlush()
      core.forgetEntities()
      return timed(
        workload.rows,
        () => {
          for (let start = 0; start < workload.rows; start += BATCH_ROWS) {
            const slice = sliceBatch(batch, start, Math.min(start + BATCH_ROWS, workload.rows))
            const accepted = core.prepare({ ...slice, positions: position })
            if (accepted !== slice.length) throw new Error(`${name} accepted ${accepted} of ${slice.length} events`)
            core.fold(Number.POSITIVE_INFINITY, false)
            position += slice.length
          }
        },
        () =>
          check.checksum(core.deltaBytes, () => {
            const chunks = core.beginFlush(1024)
            return chunks.flatMap((chunk) => {
              const entities = core.keysOf(chunk).map((key) => numbers.get(Buffer.from(key).toString('latin1'))!)
              const rows = core.writeRows(chunk, new Array(rows_(chunk)).fill(undefined), position)
              return rows.map((bytes, i) => ({ entity: entities[i]!, bytes }))
            })
          }),
      )
    },
  }
}
