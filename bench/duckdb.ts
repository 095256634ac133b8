/**
 * DuckDB as a contender: one GROUP BY over a table that is already in its memory, on one thread. Its sums are plain doubles.
 *
 * Only the query is timed. It ends in an aggregate over the groups, so that no group is converted to JavaScript values;
 * that favours DuckDB a little, since the engine's tiles stay where they are, ready to be stored. All groups are read and
 * checksummed once, and every timed round must give the totals of that round.
 */
import { BIGINT, DOUBLE, type DuckDBConnection, DuckDBDataChunk, DuckDBInstance, INTEGER } from '@duckdb/node-api'
import { addAggregates, Checksum } from './checksum.ts'
import type { Contender } from './contest.ts'
import { createKeys, keyStrings, STEP_MS, toInt64, type Workload } from './workload.ts'

const CHUNK_ROWS = 2048

export interface Database {
  readonly connection: DuckDBConnection
  close(): void
}

/** An in-memory database on one thread with the workload as table `events(entity, time, value)`. */
export async function openDatabase(workload: Workload): Promise<Database> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' })
  const connection = await instance.connect()
  await connection.run('CREATE TABLE events (entity INTEGER, time BIGINT, value DOUBLE)')
  const appender = await connection.createAppender('events')
  const times = toInt64(workload.times)
  for (let start = 0; start < workload.rows; start += CHUNK_ROWS) {
    const end = Math.min(start + CHUNK_ROWS, workload.rows)
    const chunk = DuckDBDataChunk.create([INTEGER, BIGINT, DOUBLE], end - start)
    for (const [column, cells] of [workload.entities, times, workload.values].entries()) {
      const vector = chunk.getColumnVector(column)
      for (let row = start; row < end; row++) vector.setItem(row - start, cells[row]!)
      vector.flush()
    }
    appender.appendDataChunk(chunk)
  }
  appender.closeSync()
  return {
    connection,
    close: () => {
      connection.closeSync()
      instance.closeSync()
    },
  }
}

/** Adds table `keyed_events(key, time, value)`, the same events under their keys, in the same order. */
export async function addKeyedEvents(database: Database, entityCount: number): Promise<void> {
  const { connection } = database
  await connection.run('CREATE TABLE keys (entity INTEGER, key VARCHAR)')
  const appender = await connection.createAppender('keys')
  for (const [entity, key] of keyStrings(createKeys(entityCount)).entries()) {
    appender.appendInteger(entity)
    appender.appendVarchar(key)
    appender.endRow()
  }
  appender.closeSync()
  await connection.run('CREATE TABLE keyed_events AS SELECT key, time, value FROM events JOIN keys USING (entity)')
}

/** GROUP BY (entity or key, five-minute bucket). Closing it closes the database unless `shared`. */
export function groupByContender(
  name: string,
  database: Database,
  workload: Workload,
  by: 'entity' | 'key',
  shared = false,
): Contender {
  const { connection } = database
  const groups = `SELECT ${by}, time // ${STEP_MS} AS tile, count(*) AS n, sum(value) AS total, min(value) AS low,
    max(value) AS high, arg_max(value, time) AS newest FROM ${by === 'key' ? 'keyed_events' : 'events'} GROUP BY ${by}, tile`
  const totals = `SELECT count(*), sum(n), sum(total), min(low), max(high), sum(newest) FROM (${groups})`
  let expected: { checksum: string; totals: string } | undefined

  return {
    name,
    async round() {
      const start = process.hrtime.bigint()
      const result = await connection.run(totals)
      const row = String((await result.getRows())[0])
      const ns = Number(process.hrtime.bigint() - start)

      expected ??= { checksum: await checksumOf(connection, groups, by, workload), totals: row }
      if (row !== expected.totals) throw new Error(`${name} got ${row}, and ${expected.totals} the round before`)
      return { ns, ops: workload.rows, checksum: expected.checksum }
    },
    close: () => {
      if (!shared) database.close()
    },
  }
}

async function checksumOf(
  connection: DuckDBConnection,
  groups: string,
  by: 'entity' | 'key',
  workload: Workload,
): Promise<string> {
  const checksum = new Checksum()
  const firstTile = workload.startMs / STEP_MS
  const numbered =
    by === 'entity' ? groups : `SELECT entity, tile, n, total, low, high, newest FROM (${groups}) JOIN keys USING (key)`
  const result = await connection.stream(numbered)
  for (let chunk = await result.fetchChunk(); chunk && chunk.rowCount > 0; chunk = await result.fetchChunk()) {
    const [entities, tiles, counts, sums, mins, maxs, lasts] = chunk.getColumns() as (number | bigint)[][]
    for (let i = 0; i < chunk.rowCount; i++) {
      addAggregates(checksum, Number(tiles![i]) - firstTile, Number(entities![i]), {
        count: Number(counts![i]),
        sum: Number(sums![i]),
        min: Number(mins![i]),
        max: Number(maxs![i]),
        last: Number(lasts![i]),
      })
    }
  }
  return checksum.toString()
}
