/**
 * A log in Parquet to tiles, twice: by `backfill`, as rows in a store, and by DuckDB, as a Parquet file of the same tiles.
 *
 *   ours     every level of the ladder that retention keeps, the head's raw events, exact sums, a checksum a row, by key in
 *            LMDB, committed and synced; events judged one by one (late, retention), resumable, positions kept
 *   DuckDB   the same tiles of the same levels and the same raw events: one GROUP BY a level over the rows that it still keeps,
 *            which DuckDB finds by the file's statistics; plain double sums; one Parquet file, neither indexed nor synced
 *
 * Where each level begins and ends is read from our rows. The tiles of every n-th key are compared, all fields of them, in
 * every round; so is the number of keys.
 */
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import { inspectRow } from '../src/engine/inspect.ts'
import { loadCore } from '../src/engine/module.ts'
import type { RowDescription } from '../src/engine/row-description.ts'
import { IngestPool } from '../src/ingest/pool.ts'
import { laneHash } from '../src/model/key.ts'
import type { Plan } from '../src/model/plan.ts'
import { historyLane } from '../src/model/view-layout.ts'
import { backfill } from '../src/offline/backfill.ts'
import { createParquetSource } from '../src/source/parquet.ts'
import { createLmdbStore } from '../src/store/lmdb.ts'
import type { Store } from '../src/store/port.ts'
import { Checksum } from './checksum.ts'
import type { Contender } from './contest.ts'
import { afterEvents, type EventFiles } from './parquet-events.ts'

const NAMESPACE = 'bench'
const LANES = 4
const SAMPLED_KEYS = 1000
/** Tiles that wait for a flush, in all threads: DuckDB takes of memory what it likes, too. */
const DELTA_BYTES = 512 << 20

/** What all contenders of a file share: where the levels of our rows begin and end, known when ours has run once. */
export interface TileBounds {
  found?: { readonly levels: readonly { stepMs: number; fromMs: number; toMs: number }[]; readonly headMs: number }
}

export interface BackfillSetting {
  /** Worker threads; 0: everything in one. */
  readonly threads: number
}

export function backfillContender(
  name: string,
  plan: Plan,
  files: EventFiles,
  bounds: TileBounds,
  { threads }: BackfillSetting,
): Contender {
  return {
    name,
    async round() {
      const path = await mkdtemp(join(tmpdir(), 'tilefold-bench-'))
      const store = createLmdbStore({ path })
      const pool = new IngestPool({ threads, store, storePath: path, clock: afterEvents, core: loadCore() })
      try {
        const start = process.hrtime.bigint()
        const source = createParquetSource({ log: 'events', paths: files.paths, inputs: plan.state.inputs })
        const report = await backfill({
          seat: { store, namespace: NAMESPACE },
          plans: [plan],
          source,
          pool,
          clock: afterEvents,
          historyLanes: LANES,
          deltaBytesMax: DELTA_BYTES / Math.max(1, threads),
        })
        const ns = Number(process.hrtime.bigint() - start)
        if (report.rows !== files.rows) throw new Error(`${name} read ${report.rows} rows, expected ${files.rows}`)
        return { ns, ops: files.rows, checksum: await checksumOfRows(store, plan, files, bounds) }
      } finally {
        await pool.close()
        await store.close()
        await rm(path, { recursive: true, force: true })
      }
    },
  }
}

/** Keys that are compared: every n-th. */
function sampleStep({ keys }: EventFiles): number {
  return Math.max(1, Math.floor(keys / SAMPLED_KEYS))
}

async function checksumOfRows(store: Store, plan: Plan, files: EventFiles, bounds: TileBounds): Promise<string> {
  const checksum = new Checksum()
  const keys = Array.from({ length: Math.ceil(files.keys / sampleStep(files)) }, (_, i) => i * sampleStep(files))
  const lanes = Array.from({ length: LANES }, (_, lane) => ({
    namespace: NAMESPACE,
    stateHash: plan.stateHash,
    generation: 1,
    lane: historyLane(lane),
  }))
  const reads = keys.map((key) => {
    const bytes = new Uint8Array(8)
    new DataView(bytes.buffer).setUint32(0, key, true)
    return { lane: lanes[laneHash(bytes) % LANES]!, key: bytes }
  })
  await store.readRows(reads, (i, bytes) => {
    if (bytes === undefined) return
    const row = inspectRow(bytes.slice(), plan.state)
    bounds.found ??= boundsOf(row)
    for (const [level, { stepMs, tiles }] of row.levels.entries()) {
      for (const { startMs, rows, partials } of tiles) {
        const [cell] = partials
        if (cell?.kind !== 'numeric') throw new Error('a tile without its partial')
        checksum
          .word(keys[i]!)
          .word(level)
          .word(startMs / stepMs)
          .word(rows)
        checksum.double(Number(cell.sum)).double(Number(cell.min)).double(Number(cell.max)).end()
      }
    }
    for (const { timeMs, cells } of row.events) {
      const value = Number(cells[0]!.value)
      checksum.word(keys[i]!).word(row.levels.length).word(timeMs).word(1)
      checksum.double(value).double(value).double(value).end()
    }
  })
  return checksum.toString()
}

function boundsOf(row: RowDescription): NonNullable<TileBounds['found']> {
  const levels = row.levels.map(({ stepMs, evictedMs, compactedMs }) => ({
    stepMs,
    fromMs: evictedMs,
    toMs: Math.min(compactedMs, row.headFrontierMs),
  }))
  return { levels, headMs: row.headFrontierMs }
}

export interface DuckdbSetting {
  readonly threads: number
  /** A Parquet file, or a table in memory. */
  readonly into: 'file' | 'table'
}

export function duckdbContender(
  name: string,
  files: EventFiles,
  bounds: TileBounds,
  { threads, into }: DuckdbSetting,
): Contender {
  return {
    name,
    async round() {
      const folder = await mkdtemp(join(tmpdir(), 'tilefold-bench-'))
      const instance = await DuckDBInstance.create(':memory:', { threads: String(threads) })
      const connection = await instance.connect()
      try {
        const out = join(folder, 'tiles.parquet')
        const query = tilesQuery(files, bounds)
        const start = process.hrtime.bigint()
        await connection.run(
          into === 'file' ? `COPY (${query}) TO '${out}' (FORMAT parquet)` : `CREATE TABLE tiles AS ${query}`,
        )
        const ns = Number(process.hrtime.bigint() - start)
        if (into === 'file' && (await stat(out)).size === 0) throw new Error(`${name} wrote nothing`)
        const tiles = into === 'file' ? `read_parquet('${out}')` : 'tiles'
        return { ns, ops: files.rows, checksum: await checksumOfTiles(connection, tiles, files) }
      } finally {
        connection.closeSync()
        instance.closeSync()
        await rm(folder, { recursive: true, force: true })
      }
    },
  }
}

function tilesQuery(files: EventFiles, { found }: TileBounds): string {
  const { levels, headMs } = found!
  const events = `(SELECT key, epoch_ms(time) AS t, value FROM read_parquet([${files.paths.map((path) => `'${path}'`).join(', ')}]))`
  const parts = levels.map(
    ({ stepMs, fromMs, toMs }, level) =>
      `SELECT key, ${level} AS level, t // ${stepMs} AS tile, count(*) AS n, sum(value) AS total, min(value) AS low, max(value) AS high
       FROM ${events} WHERE t >= ${fromMs} AND t < ${toMs} GROUP BY key, tile`,
  )
  parts.push(`SELECT key, ${levels.length}, t, 1, value, value, value FROM ${events} WHERE t >= ${headMs}`)
  return parts.join(' UNION ALL ')
}

async function checksumOfTiles(connection: DuckDBConnection, tiles: string, files: EventFiles): Promise<string> {
  const checksum = new Checksum()
  const result = await connection.stream(`SELECT * FROM ${tiles} WHERE key % ${sampleStep(files)} = 0`)
  for (let chunk = await result.fetchChunk(); chunk && chunk.rowCount > 0; chunk = await result.fetchChunk()) {
    const [keys, levels, numbers, counts, sums, lows, highs] = chunk.getColumns() as (number | bigint)[][]
    for (let i = 0; i < chunk.rowCount; i++) {
      checksum.word(Number(keys![i])).word(Number(levels![i])).word(Number(numbers![i])).word(Number(counts![i]))
      checksum.double(Number(sums![i])).double(Number(lows![i])).double(Number(highs![i])).end()
    }
  }
  return checksum.toString()
}
