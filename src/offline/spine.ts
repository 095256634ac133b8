/**
 * The spine of a training set: rows of entity keys, an instant, and whatever else stands beside them, labels above all.
 *
 * Everything in it is kept as it is, so a column that no `Column` can hold is an error and not a loss. It is read several
 * times over: for its keys before the events, for its rows behind them. Files of one spine have the same columns: one that
 * only some have would be lost, or made up, in the rows of the others.
 */
import { basename } from 'node:path'
import type { Column, ColumnBatch } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import type { InputColumn } from '../model/plan.ts'
import { arrowToBatches, createArrowSource, describeArrow, type PushedArrow } from '../source/arrow.ts'
import { fieldsOfSchema } from '../source/arrow-columns.ts'
import { listFiles } from '../source/files.ts'
import type { SourceField } from '../source/match.ts'
import { createParquetSource, describeParquet } from '../source/parquet.ts'

export interface Spine {
  /** Every column, in its order. */
  readonly fields: readonly SourceField[]
  /** Where it comes from, for errors. */
  readonly name: string
  readonly rowsTotal?: number
  /** The columns of `inputs` and no other, in row order. */
  read(inputs: readonly InputColumn[]): AsyncIterable<ColumnBatch>
}

/** Rows of an answer that are under way at a time. */
const BATCH_ROWS = 16_384

/**
 * Files of one format (Parquet, Arrow IPC), folders or globs, in this order. Throws SOURCE_NOT_FOUND, SOURCE_CORRUPT, USAGE,
 * and COLUMN_MISSING and COLUMN_TYPE where their columns differ.
 */
export async function openSpine(entries: readonly string[]): Promise<Spine> {
  const paths = await listFiles(entries, ['.parquet', '.arrow', '.arrows', '.feather'])
  const isParquet = paths.every((path) => path.toLowerCase().endsWith('.parquet'))
  if (!isParquet && !paths.every((path) => /\.(arrows?|feather)$/i.test(path))) {
    throw new TilefoldError(
      'USAGE',
      `cannot read the spine: got ${paths.map((path) => basename(path)).join(', ')}, expected files that all end with .parquet, or all with .arrow, .arrows or .feather`,
    )
  }
  let fields: readonly SourceField[] | undefined
  let rowsTotal = 0
  for (const path of paths) {
    const described = isParquet ? await describeParquet(path) : { fields: await describeArrow(path), rows: 0 }
    fields = fields === undefined ? described.fields : joinFields(fields, described.fields, paths[0]!, path)
    rowsTotal += described.rows
  }
  const create = isParquet ? createParquetSource : createArrowSource
  return {
    fields: fields!,
    name: paths.map((path) => basename(path)).join(', '),
    rowsTotal: isParquet ? rowsTotal : undefined,
    async *read(inputs) {
      const source = create({ log: 'spine', paths, inputs, batchRows: BATCH_ROWS })
      for await (const { batch } of source.read(0)) yield batch
    },
  }
}

/** The fields of all files: a column that holds nothing in one of them is what it is in the others. */
function joinFields(
  fields: readonly SourceField[],
  others: readonly SourceField[],
  first: string,
  path: string,
): readonly SourceField[] {
  for (const { name } of others) if (!fields.some((field) => field.name === name)) throw lacking(name, path, first)
  return fields.map((field) => {
    const other = others.find(({ name }) => name === field.name)
    if (other === undefined) throw lacking(field.name, first, path)
    if (other.physical === 'null') return field
    if (field.physical === 'null') return other
    if (field.physical === other.physical && field.unit === other.unit && field.scale === other.scale) return field
    throw new TilefoldError(
      'COLUMN_TYPE',
      `cannot read column ${JSON.stringify(field.name)} of ${basename(path)}: got ${other.sourceType}, expected ${field.sourceType} as in ${basename(first)}; the files of a spine have the same columns`,
      { where: basename(path), column: field.name, got: other.sourceType, expected: field.sourceType },
    )
  })
}

function lacking(column: string, path: string, otherPath: string): TilefoldError {
  return new TilefoldError(
    'COLUMN_MISSING',
    `cannot read column ${JSON.stringify(column)} of ${basename(otherPath)}: it is not there, but in ${basename(path)}; the files of a spine have the same columns`,
    { where: basename(otherPath), column },
  )
}

/** A table that a program holds: of Arrow, of any copy of its library. */
export function spineOfTable(table: PushedArrow): Spine {
  return {
    fields: fieldsOfSchema(table.schema),
    name: 'the spine',
    rowsTotal: 'batches' in table ? table.batches.reduce((sum, each) => sum + each.numRows, 0) : table.numRows,
    async *read(inputs) {
      yield* arrowToBatches(table, inputs, 0)
    },
  }
}

/** All its columns; of those that are asked for too (keys, the instant), one that is all null is read as what was asked for. */
export function keptInputs({ fields, name }: Spine, asked: readonly InputColumn[]): InputColumn[] {
  return fields.map((field) => {
    const same = field.physical === 'null' ? asked.find((each) => each.name === field.name) : undefined
    return same ?? keptInput(field, name)
  })
}

/** A file whose cells are all null may not say that they would be instants; others of the spine do. */
export function keptColumn(input: InputColumn, columns: readonly Column[]): Column {
  const column = columns.find(({ name }) => name === input.name)!
  return input.type === 'timestamp' && column.unit === undefined ? { ...column, unit: input.unit } : column
}

/** How a column of the spine is asked for as it is. Throws COLUMN_TYPE where it can't be kept. */
function keptInput(field: SourceField, where: string): InputColumn {
  const { name, physical, unit, scale } = field
  if (physical === undefined) {
    throw new TilefoldError(
      'COLUMN_TYPE',
      `cannot keep column ${JSON.stringify(name)} of ${where}: got ${field.sourceType}, expected numbers, text, booleans or instants; leave it out of the spine`,
      { where, column: name, got: field.sourceType },
    )
  }
  const accepts = physical === 'null' ? (['float64'] as const) : [physical]
  if (unit !== undefined) return { name, type: 'timestamp', unit, accepts }
  if (physical === 'decimal128') return { name, type: 'decimal', scale, accepts }
  if (physical === 'utf8' || physical === 'bool') return { name, type: physical, accepts }
  return { name, type: /^u?int/.test(physical) ? 'int64' : 'float64', accepts }
}
