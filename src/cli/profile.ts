/** What a file of events looks like: its columns, their types, and the cells of its first rows. */
import { createReadStream } from 'node:fs'
import { basename } from 'node:path'
import { createInterface } from 'node:readline'
import type { TimeUnit } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import type { InputColumn, ValueType } from '../model/plan.ts'
import type { SourceField } from '../source/match.ts'
import { createParquetSource, describeParquet } from '../source/parquet.ts'
import { type Cell, cellReader } from './cells.ts'
import type { EventFiles } from './event-files.ts'

export interface FileProfile {
  readonly file: string
  /** In all, where the file knows it. */
  readonly rowsTotal?: number
  readonly columns: readonly ColumnProfile[]
  /** Columns that no definition can use, and why. */
  readonly skipped: readonly { readonly name: string; readonly reason: string }[]
}

export interface ColumnProfile {
  readonly name: string
  readonly type: ValueType | 'timestamp'
  /** As a definition writes it: `timestamp[us]`, `decimal(38,2)`. */
  readonly text: string
  readonly unit?: TimeUnit
  /** Row by row; of times their whole units, or text that says them. */
  readonly cells: readonly Cell[]
}

/** Enough to tell an entity from an event id; Parquet decodes them in a moment. */
export const PROFILE_ROWS = 20_000
/** The end of a Parquet file is looked at, too: it says how long the events go on. */
const TAIL_ROWS = 1000

/** Throws SOURCE_NOT_FOUND, SOURCE_CORRUPT, and USAGE for a format that is not looked into. */
export async function profileFile({ format, paths }: EventFiles): Promise<FileProfile> {
  const [path] = paths
  if (format === 'parquet') return profileParquet(path!)
  if (format === 'ndjson') return profileLines(path!)
  throw new TilefoldError('USAGE', `cannot propose definitions from ${path}: expected a Parquet or JSON lines file`)
}

// ---- Parquet ---------------------------------------------------------------------------------------------------------

async function profileParquet(path: string): Promise<FileProfile> {
  const { rows, fields } = await describeParquet(path)
  const skipped: { name: string; reason: string }[] = []
  const described: { input: InputColumn; text: string }[] = []
  for (const field of fields) {
    const column = describeField(field)
    if (column === undefined) skipped.push({ name: field.name, reason: field.sourceType })
    else described.push(column)
  }
  const cells = new Map(described.map(({ input }) => [input.name, [] as Cell[]]))
  const source = createParquetSource({ log: 'profile', paths: [path], inputs: described.map((each) => each.input) })
  const take = async (from: number, limit: number) => {
    let taken = 0
    for await (const { batch } of source.read(from)) {
      const length = Math.min(batch.length, limit - taken)
      for (const column of batch.columns) {
        const read = cellReader(column)
        const into = cells.get(column.name)!
        for (let row = 0; row < length; row++) into.push(read(row))
      }
      taken += length
      if (taken === limit) return
    }
  }
  await take(0, PROFILE_ROWS)
  if (rows > PROFILE_ROWS) await take(Math.max(PROFILE_ROWS, rows - TAIL_ROWS), TAIL_ROWS)
  const columns = described.map(({ input, text }): ColumnProfile => {
    const { name, type, unit } = input
    return { name, type, text, unit, cells: cells.get(name)! }
  })
  return { file: basename(path), rowsTotal: rows, columns, skipped }
}

function describeField({
  name,
  physical,
  unit,
  scale = 0,
}: SourceField): { input: InputColumn; text: string } | undefined {
  if (physical === undefined || physical === 'null') return undefined
  const accepts = [physical]
  if (unit !== undefined) return { input: { name, type: 'timestamp', unit, accepts }, text: `timestamp[${unit}]` }
  if (physical === 'decimal128')
    return { input: { name, type: 'decimal', scale, accepts }, text: `decimal(38,${scale})` }
  const type =
    physical === 'bool' || physical === 'utf8' ? physical : physical.startsWith('float') ? 'float64' : 'int64'
  return { input: { name, type, accepts }, text: type }
}

// ---- JSON lines ------------------------------------------------------------------------------------------------------

async function profileLines(path: string): Promise<FileProfile> {
  const cells = new Map<string, unknown[]>()
  let rows = 0
  const stream = createReadStream(path)
  try {
    for await (const line of createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })) {
      const record = readRecord(line)
      if (record === undefined) continue
      for (const name of Object.keys(record)) if (!cells.has(name)) cells.set(name, new Array(rows).fill(null))
      for (const [name, column] of cells) column.push(Object.hasOwn(record, name) ? (record[name] ?? null) : null)
      if (++rows === PROFILE_ROWS) break
    }
  } catch (error) {
    throw new TilefoldError(
      'SOURCE_NOT_FOUND',
      `cannot read ${path}: ${(error as Error).message}`,
      { path },
      { cause: error },
    )
  } finally {
    stream.destroy()
  }
  if (rows === 0) {
    throw new TilefoldError(
      'SOURCE_CORRUPT',
      `cannot propose definitions from ${path}: no line of it is a JSON object`,
      { path },
    )
  }
  const columns: ColumnProfile[] = []
  const skipped: { name: string; reason: string }[] = []
  for (const [name, values] of cells) {
    const type = typeOfValues(values)
    if (type === undefined) skipped.push({ name, reason: 'values of several types, or nested ones' })
    else columns.push({ name, ...type, cells: values as Cell[] })
  }
  return { file: basename(path), columns, skipped }
}

function readRecord(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined
  } catch {
    return undefined
  }
}

const INSTANT = /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:\d{2})$/

function typeOfValues(values: readonly unknown[]): Pick<ColumnProfile, 'type' | 'text' | 'unit'> | undefined {
  const filled = values.filter((value) => value !== null)
  const [first] = filled
  const kind = typeof first
  if (first === undefined || !filled.every((value) => typeof value === kind)) return undefined
  if (kind === 'boolean') return { type: 'bool', text: 'bool' }
  if (kind === 'number') {
    const type = filled.every((value) => Number.isInteger(value)) ? 'int64' : 'float64'
    return { type, text: type }
  }
  if (kind !== 'string') return undefined
  if (filled.every((value) => INSTANT.test(value as string)))
    return { type: 'timestamp', text: 'timestamp[ms]', unit: 'ms' }
  return { type: 'utf8', text: 'utf8' }
}
