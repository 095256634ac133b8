/**
 * A process of the claim `memory`: builds what its task says, writes it, and says how long that took and how much memory it
 * ever had. Nothing else runs in it, so its peak is the job's.
 */
import { join } from 'node:path'
import { loadCore } from '../src/engine/module.ts'
import { IngestPool } from '../src/ingest/pool.ts'
import { backfill } from '../src/offline/backfill.ts'
import { openSpine } from '../src/offline/spine.ts'
import { trainingSet } from '../src/offline/training.ts'
import { writeTrainingSet } from '../src/offline/training-output.ts'
import { createParquetSource } from '../src/source/parquet.ts'
import { createLmdbStore } from '../src/store/lmdb.ts'
import { afterEvents, planOfEvents } from './parquet-events.ts'

export interface MemoryTask {
  readonly job: 'backfill' | 'training'
  readonly events: readonly string[]
  readonly spine: readonly string[]
  /** For what is written. */
  readonly folder: string
  readonly boundBytes: number
}

export interface MemoryReport {
  readonly rows: number
  readonly ns: number
  /** Of the process, files that are mapped included. */
  readonly peakBytes: number
  readonly spilledBytes: number
}

/** A backfill has no bound of its own but that of the tiles that wait: what it needs besides is a few times as much. */
const DELTA_SHARE = 1 / 8

const task = JSON.parse(process.argv[2]!) as MemoryTask
const start = process.hrtime.bigint()
const { rows, spilledBytes } = task.job === 'backfill' ? await runBackfill() : await runTraining()
const report: MemoryReport = {
  rows,
  ns: Number(process.hrtime.bigint() - start),
  peakBytes: process.resourceUsage().maxRSS * 1024,
  spilledBytes,
}
process.send!(report)
process.disconnect()

async function runBackfill(): Promise<{ rows: number; spilledBytes: number }> {
  const plan = await planOfEvents()
  const store = createLmdbStore({ path: join(task.folder, 'store') })
  const pool = new IngestPool({ threads: 0, store, clock: afterEvents, core: loadCore() })
  const source = createParquetSource({ log: 'events', paths: task.events, inputs: plan.state.inputs })
  const { rows } = await backfill({
    seat: { store, namespace: 'bench' },
    plans: [plan],
    source,
    pool,
    clock: afterEvents,
    deltaBytesMax: task.boundBytes * DELTA_SHARE,
  })
  await pool.close()
  await store.close()
  return { rows, spilledBytes: 0 }
}

async function runTraining(): Promise<{ rows: number; spilledBytes: number }> {
  const plan = await planOfEvents(['24h'])
  const set = trainingSet({
    spine: await openSpine(task.spine),
    time: 'time',
    views: [{ plan }],
    events: { events: createParquetSource({ log: 'events', paths: task.events, inputs: plan.state.inputs }) },
    clock: afterEvents,
    memoryBytes: task.boundBytes,
    tempFolder: task.folder,
  })
  await writeTrainingSet(join(task.folder, 'train.parquet'), set.read(), {})
  return set.report
}
