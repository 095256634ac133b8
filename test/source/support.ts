/** What the tests of the sources share: inputs by type, cells of batches as plain values, DuckDB for files and second opinions. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { DuckDBInstance, type DuckDBResultReader } from '@duckdb/node-api'
import { bitAt, type Column, type ColumnBatch, type PhysicalType, type TimeUnit } from '../../src/model/columns.ts'
import { type ErrorCode, TilefoldError } from '../../src/model/errors.ts'
import type { InputColumn } from '../../src/model/plan.ts'
import type { SourceBatch } from '../../src/source/port.ts'

/** Physical types per declared type, as a compiled definition gives them. */
const ACCEPTS: Record<InputColumn['type'], readonly PhysicalType[]> = {
  float64: ['float64', 'float32', 'int8', 'int16', 'int32', 'uint8', 'uint16', 'uint32'],
  int64: ['int64', 'int8', 'int16', 'int32', 'uint8', 'uint16', 'uint32', 'uint64'],
  timestamp: ['int64', 'int32', 'uint32', 'uint64'],
  decimal: ['decimal128'],
  bool: ['bool'],
  utf8: ['utf8'],
}

export function input(
  name: string,
  type: InputColumn['type'],
  extra: { readonly scale?: number; readonly unit?: TimeUnit } = {},
): InputColumn {
  return { name, type, accepts: ACCEPTS[type], ...extra }
}

export type Cell = number | bigint | string | boolean | null

/** Row `row` of a column as its own kind of value: integers are bigints, decimals their unscaled integer. */
export function cellOf(column: Column, row: number): Cell {
  const bit = (column.bitOffset ?? 0) + row
  if (column.validity !== undefined && !bitAt(column.validity, bit)) return null
  const { values } = column
  const cells = new DataView(values.buffer, values.byteOffset, values.byteLength)
  switch (column.type) {
    case 'bool':
      return bitAt(values, bit)
    case 'utf8': {
      const text = values.subarray(column.offsets![row]!, column.offsets![row + 1]!)
      return new TextDecoder('utf-8', { fatal: true }).decode(text)
    }
    case 'float64':
      return cells.getFloat64(row * 8, true)
    case 'float32':
      return cells.getFloat32(row * 4, true)
    case 'decimal128':
      return (cells.getBigInt64(row * 16 + 8, true) << 64n) | cells.getBigUint64(row * 16, true)
    case 'int64':
      return cells.getBigInt64(row * 8, true)
    case 'uint64':
      return cells.getBigUint64(row * 8, true)
    case 'int32':
      return BigInt(cells.getInt32(row * 4, true))
    case 'uint32':
      return BigInt(cells.getUint32(row * 4, true))
    case 'int16':
      return BigInt(cells.getInt16(row * 2, true))
    case 'uint16':
      return BigInt(cells.getUint16(row * 2, true))
    case 'int8':
      return BigInt(cells.getInt8(row))
    case 'uint8':
      return BigInt(cells.getUint8(row))
  }
}

/** A batch as columns of plain values. */
export function cellsOf(batch: ColumnBatch): Cell[][] {
  return batch.columns.map((column) => Array.from({ length: batch.length }, (_, row) => cellOf(column, row)))
}

export interface ReadAll {
  /** One list per input. */
  readonly columns: Cell[][]
  readonly positions: number[]
  readonly batches: SourceBatch[]
}

export async function readAll(batches: AsyncIterable<SourceBatch>): Promise<ReadAll> {
  const read: ReadAll = { columns: [], positions: [], batches: [] }
  for await (const each of batches) {
    read.batches.push(each)
    for (const [index, cells] of cellsOf(each.batch).entries()) {
      read.columns[index] ??= []
      read.columns[index].push(...cells)
    }
    const { positions, length } = each.batch
    for (let row = 0; row < length; row++) {
      read.positions.push(typeof positions === 'number' ? positions + row : positions[row]!)
    }
  }
  return read
}

/** The error that `run` throws; fails where it throws none of ours. */
export async function thrown(run: () => unknown): Promise<TilefoldError> {
  try {
    await run()
  } catch (error) {
    if (error instanceof TilefoldError) return error
    throw new Error(`expected a TilefoldError, got ${String(error)}`, { cause: error })
  }
  throw new Error('expected a TilefoldError, nothing was thrown')
}

export async function codeOf(run: () => unknown): Promise<ErrorCode> {
  return (await thrown(run)).code
}

/** A directory that is gone after the tests of the file. */
export function scratch(cleanUp: (remove: () => void) => void): (name: string) => string {
  const directory = mkdtempSync(path.join(tmpdir(), 'tilefold-source-'))
  cleanUp(() => rmSync(directory, { recursive: true, force: true }))
  return (name) => path.join(directory, name)
}

/** Runs SQL in a fresh DuckDB and returns the last statement's columns. */
export async function duck(...statements: readonly string[]): Promise<unknown[][]> {
  return inDuck(statements, (reader) => reader.getColumns() as unknown[][])
}

/** The rows of the last statement, by column name. */
export async function duckRows(...statements: readonly string[]): Promise<Record<string, unknown>[]> {
  return inDuck(statements, (reader) => reader.getRowObjects())
}

async function inDuck<T>(statements: readonly string[], take: (reader: DuckDBResultReader) => T): Promise<T> {
  const instance = await DuckDBInstance.create()
  const connection = await instance.connect()
  try {
    for (const statement of statements.slice(0, -1)) await connection.run(statement)
    return take(await connection.runAndReadAll(statements.at(-1)!))
  } finally {
    connection.closeSync()
    instance.closeSync()
  }
}
