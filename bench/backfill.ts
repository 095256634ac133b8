/**
 * Claim: from a Parquet file to the rows of two views takes at most twice as long as reading the same columns.
 *
 * 3,000,000 departures of US airports (vega-datasets, ZSTD), by origin and by (origin, destination), through the same runner
 * as `tilefold backfill`, in one thread, into a new LMDB directory. The bare read streams the same columns out of the same
 * file with the same library into Arrow columns and drops them.
 */
import { openAsBlob } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { tableFromIPC } from 'apache-arrow'
import { ParquetFile } from 'parquet-wasm'
import { byOrigin, byRoute } from '../fixtures/flights/views.ts'
import { compileView } from '../src/define/compile.ts'
import { loadCore } from '../src/engine/module.ts'
import { IngestPool } from '../src/ingest/pool.ts'
import type { InputColumn, Plan } from '../src/model/plan.ts'
import { historyLane } from '../src/model/view-layout.ts'
import { backfill as runBackfill } from '../src/offline/backfill.ts'
import { createParquetSource } from '../src/source/parquet.ts'
import { createLmdbStore } from '../src/store/lmdb.ts'
import { createMemoryStore } from '../src/store/memory.ts'
import type { Store } from '../src/store/port.ts'
import { Checksum } from './checksum.ts'
import { atMost, type Claim, hold } from './claim.ts'
import type { Contender, Measure } from './contest.ts'
import { projectRoot } from './places.ts'

const FLIGHTS = join(projectRoot, 'node_modules', 'vega-datasets', 'data', 'flights-3m.parquet')
const COLUMNS = ['date', 'delay', 'origin', 'destination']
const ROWS = 3_000_000
const NAMESPACE = 'bench'
const LOG = 'flights'
const LANES = 4
/** Rows per record batch of the bare read: the fastest of 8,192, 65,536 and 262,144. */
const READ_ROWS = 65_536

export const backfill: Claim = {
  name: 'backfill',
  about: 'flights file to the rows of two views against the bare read of its columns',
  async run(settings) {
    const plans = [await compileView(byOrigin), await compileView(byRoute)]
    await hold(
      {
        claim: 'backfill',
        title: '3,000,000 flights, two views, one thread',
        unit: 'row',
        subject: backfillContender('tilefold, to rows in LMDB', plans, (path) => createLmdbStore({ path })),
        peers: [
          { contender: bareReader('parquet-wasm into Arrow, the same columns'), target: atMost(2), uncompared: true },
          { contender: sourceReader('our source alone', plans), uncompared: true },
          { contender: backfillContender('tilefold, to rows in memory', plans, () => createMemoryStore()) },
        ],
      },
      { ...settings, turns: { all: settings.turns.slow, slow: settings.turns.slow } },
    )
  },
}

function backfillContender(name: string, plans: readonly Plan[], createStore: (path: string) => Store): Contender {
  return {
    name,
    async round() {
      const path = await mkdtemp(join(tmpdir(), 'tilefold-bench-'))
      const store = createStore(path)
      const pool = new IngestPool({ threads: 0, store, clock, core: loadCore() })
      try {
        const start = process.hrtime.bigint()
        const source = createParquetSource({ log: LOG, paths: [FLIGHTS], inputs: inputsOf(plans) })
        const report = await runBackfill({ seat: { store, namespace: NAMESPACE }, plans, source, pool, clock })
        const ns = Number(process.hrtime.bigint() - start)
        checkRows(report.rows)
        return { ns, ops: ROWS, checksum: await checksumOf(store, plans) }
      } finally {
        await pool.close()
        await store.close()
        await rm(path, { recursive: true, force: true })
      }
    },
  }
}

/** Every byte of every row. */
async function checksumOf(store: Store, plans: readonly Plan[]): Promise<string> {
  const checksum = new Checksum()
  for (const [view, plan] of plans.entries()) {
    for (let lane = 0; lane < LANES; lane++) {
      const name = { namespace: NAMESPACE, stateHash: plan.stateHash, generation: 1, lane: historyLane(lane) }
      for await (const { key, bytes } of store.scanRows(name)) {
        checksum.word(view)
        for (const byte of key) checksum.word(byte)
        for (const byte of bytes) checksum.word(byte)
        checksum.end()
      }
    }
  }
  return checksum.toString()
}

function sourceReader(name: string, plans: readonly Plan[]): Contender {
  return {
    name,
    async round() {
      const start = process.hrtime.bigint()
      const source = createParquetSource({ log: LOG, paths: [FLIGHTS], inputs: inputsOf(plans) })
      let rows = 0
      for await (const { batch } of source.read(0)) rows += batch.length
      return readMeasure(start, rows)
    },
  }
}

function bareReader(name: string): Contender {
  return {
    name,
    async round() {
      const start = process.hrtime.bigint()
      const file = await ParquetFile.fromFile(await openAsBlob(FLIGHTS))
      const stream = await file.stream({ columns: COLUMNS, batchSize: READ_ROWS })
      let rows = 0
      for await (const batch of stream) rows += tableFromIPC(batch.intoIPCStream()).numRows
      file.free()
      return readMeasure(start, rows)
    },
  }
}

function readMeasure(start: bigint, rows: number): Measure {
  const ns = Number(process.hrtime.bigint() - start)
  checkRows(rows)
  return { ns, ops: rows, checksum: `${rows} rows` }
}

function checkRows(rows: number): void {
  if (rows !== ROWS) throw new Error(`cannot time the backfill: read ${rows} rows, expected ${ROWS}`)
}

function inputsOf(plans: readonly Plan[]): InputColumn[] {
  return [...new Map(plans.flatMap((plan) => plan.state.inputs).map((input) => [input.name, input])).values()]
}

/** The file ends with June 2001. */
function clock(): number {
  return Date.UTC(2001, 6, 1)
}
