/**
 * A synthetic log as Parquet: int64 key, timestamp in ms, double value; time order, keys at random, 30 days. DuckDB writes it,
 * so that neither its size nor its making is in this process's memory. The same rows for the same numbers, on every machine.
 *
 * Values are multiples of 1/8 below 1024, a quarter of them negative: plain double sums are exact in any order.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { compileView } from '../src/define/compile.ts'
import { count, defineView, float64, int64, max, min, sum, timestamp } from '../src/define/dsl.ts'
import type { Plan } from '../src/model/plan.ts'
import { START_MS } from './workload.ts'

export interface EventFiles {
  /** Of this log alone; goes away with `drop`. */
  readonly folder: string
  readonly paths: readonly string[]
  readonly rows: number
  readonly keys: number
  drop(): Promise<void>
}

const SPAN_MS = 30 * 86_400_000
/** Rows of one file; more rows make more files. */
const FILE_ROWS = 10_000_000

/** `value: false`: keys and instants alone, as a spine has them, off the events' own instants. */
export async function writeEvents(rows: number, keys: number, value = true): Promise<EventFiles> {
  const folder = await mkdtemp(join(tmpdir(), 'tilefold-bench-'))
  const paths: string[] = []
  const instance = await DuckDBInstance.create(':memory:', { memory_limit: '1GB' })
  const connection = await instance.connect()
  const key = value ? 'hash(i)' : 'hash(i + 3000000000)'
  const time = `${START_MS}${value ? '' : ' + 13'} + (i * ${SPAN_MS}) // ${rows}`
  const columns = [`(${key} % ${keys})::BIGINT AS key`, `make_timestamp_ms(${time})::TIMESTAMP_MS AS time`]
  if (value) {
    const size = '((hash(i + 7000000000) % 8191) + 1)::DOUBLE / 8'
    columns.push(`CASE WHEN hash(i + 9000000000) % 4 = 0 THEN -(${size}) ELSE ${size} END AS value`)
  }
  try {
    for (let from = 0; from < rows; from += FILE_ROWS) {
      const path = join(folder, `${String(paths.length).padStart(3, '0')}.parquet`)
      const range = `range(${from}, ${Math.min(from + FILE_ROWS, rows)}) AS numbers(i)`
      await connection.run(`COPY (SELECT ${columns.join(', ')} FROM ${range}) TO '${path}' (FORMAT parquet)`)
      paths.push(path)
    }
  } finally {
    connection.closeSync()
    instance.closeSync()
  }
  return { folder, paths, rows, keys, drop: () => rm(folder, { recursive: true, force: true }) }
}

/** count, sum, min and max of such a log, by key. */
export function planOfEvents(windows: readonly ('1h' | '24h' | '7d' | '30d')[] = ['1h', '24h', '30d']): Promise<Plan> {
  return compileView(
    defineView({
      name: 'bench',
      source: { name: 'events', columns: { key: int64(), time: timestamp('ms'), value: float64() } },
      entity: 'key',
      time: 'time',
      aggregations: [
        count({ windows }),
        sum('value', { windows }),
        min('value', { windows }),
        max('value', { windows }),
      ],
    }),
  )
}

/** History is over: nothing in it lies ahead of this. */
export function afterEvents(): number {
  return START_MS + SPAN_MS
}
