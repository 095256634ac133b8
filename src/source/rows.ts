/**
 * What an embedding program pushes, as a batch: row objects, or columns by name.
 *
 * Nothing is guessed: a value of another type fails the whole batch, with its row and column, before any of it counts.
 */
import type { Column, ColumnBatch, PhysicalType } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import { didYouMean } from '../model/nearest.ts'
import type { InputColumn } from '../model/plan.ts'
import { type ColumnBuilder, createBuilder } from './build.ts'
import { describeValue } from './cells.ts'
import { describeInput, missingColumn, nullColumn } from './match.ts'

/**
 * Where pushed rows stand in their log: the position of the first, the rest following without holes; one position per
 * row; or the name of the column that holds them. Whole numbers from 0 to 2^53-1. A position that does not rise above
 * the ones before it is a redelivery, which the walk skips.
 */
export type Positions = number | string | ArrayLike<number | bigint>

export type PushedRow = Readonly<Record<string, unknown>>

/** A pushed column: plain values, or a typed array, which is lent until the push is done and not copied. */
export type PushedColumn = readonly unknown[] | NumericArray

export type NumericArray =
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array
  | Float32Array
  | Float64Array

/** Row objects to a batch. Throws BATCH_INVALID (row, column, got, expected) and POSITION_INVALID. */
export function rowsToBatch(
  rows: readonly PushedRow[],
  inputs: readonly InputColumn[],
  positions: Positions,
): ColumnBatch {
  if (!Array.isArray(rows)) {
    throw new TilefoldError(
      'BATCH_INVALID',
      `cannot take a batch: got ${describeValue(rows)}, expected an array of row objects`,
    )
  }
  for (let row = 0; row < rows.length; row++) {
    const value: unknown = rows[row]
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) continue
    throw new TilefoldError(
      'BATCH_INVALID',
      `cannot take row ${row}: got ${describeValue(value)}, expected an object`,
      {
        row,
      },
    )
  }
  const columns = inputs.map((input) => {
    const builder = createBuilder(input, rows.length)
    let present = false
    for (let row = 0; row < rows.length; row++) {
      const value = cellOf(rows[row]!, input.name)
      if (value !== undefined) present = true
      if (!builder.set(row, value)) throw wrongCell(row, value, input)
    }
    if (!present && rows.length > 0) refuseMisspelt(rows[0]!, input, inputs)
    return builder.finish(rows.length)
  })
  const named = typeof positions === 'string' ? rows.map((row) => cellOf(row, positions)) : positions
  return { length: rows.length, columns, positions: checkPositions(named as Positions, rows.length) }
}

/** Columns by name to a batch; `null` is a column of nulls. Throws BATCH_INVALID, COLUMN_MISSING, POSITION_INVALID. */
export function columnsToBatch(
  data: Readonly<Record<string, PushedColumn | null>>,
  inputs: readonly InputColumn[],
  positions: Positions,
): ColumnBatch {
  if (typeof data !== 'object' || data === null || Array.isArray(data)) {
    throw new TilefoldError(
      'BATCH_INVALID',
      `cannot take a batch: got ${describeValue(data)}, expected columns by name`,
    )
  }
  const names = Object.keys(data).map((name) => ({ name }))
  const given = inputs.map((input) => {
    const column = Object.hasOwn(data, input.name) ? data[input.name] : undefined
    if (column === undefined) throw missingColumn(input, names, 'the pushed batch')
    if (column === null || Array.isArray(column) || isNumericArray(column)) return column
    throw new TilefoldError(
      'BATCH_INVALID',
      `cannot take column ${JSON.stringify(input.name)}: got ${describeValue(column)}, expected an array or a typed array`,
      { column: input.name },
    )
  })

  // One length for all, named after the first column that has one.
  const first = given.findIndex((column) => column !== null)
  const length = first < 0 ? 0 : given[first]!.length
  for (const [index, column] of given.entries()) {
    if (column === null || column.length === length) continue
    throw new TilefoldError(
      'BATCH_INVALID',
      `cannot take column ${JSON.stringify(inputs[index]!.name)}: got ${column.length} cells, expected ${length} as column ${JSON.stringify(inputs[first]!.name)} has`,
      { column: inputs[index]!.name, got: column.length, expected: length },
    )
  }
  const columns = inputs.map((input, index) => {
    const column = given[index]
    if (column === null || column === undefined) return nullColumn(input, length)
    return asTyped(column, input) ?? buildColumn(column, input)
  })
  if (typeof positions !== 'string') return { length, columns, positions: checkPositions(positions, length) }
  const named = Object.hasOwn(data, positions) ? data[positions] : undefined
  return { length, columns, positions: checkPositions((named ?? undefined) as unknown as Positions, length) }
}

/** Whole, not negative, exact. Throws POSITION_INVALID. */
export function checkPositions(positions: Positions, length: number): number | Float64Array {
  if (typeof positions === 'number' || typeof positions === 'bigint') {
    const first = Number(positions)
    if (Number.isSafeInteger(first) && first >= 0 && Number.isSafeInteger(first + length)) return first
    throw positionError('offset', positions)
  }
  if (typeof positions !== 'object' || positions === null || typeof positions.length !== 'number') {
    throw positionError('offset', positions)
  }
  if (positions.length !== length) {
    throw new TilefoldError(
      'POSITION_INVALID',
      `cannot take positions: got ${positions.length} for ${length} rows, expected one per row`,
      { got: positions.length, expected: length },
    )
  }
  const checked = new Float64Array(length)
  for (let row = 0; row < length; row++) {
    const value = positions[row]
    const position = typeof value === 'bigint' ? Number(value) : value
    if (!Number.isSafeInteger(position) || (position as number) < 0)
      throw positionError(`position of row ${row}`, value)
    checked[row] = position as number
  }
  return checked
}

function positionError(what: string, got: unknown): TilefoldError {
  return new TilefoldError(
    'POSITION_INVALID',
    `cannot take ${what}: got ${describeValue(got)}, expected a whole number from 0 to 2^53-1`,
    { got: describeValue(got) },
  )
}

/** A row's own cell; what objects inherit (`constructor`, `__proto__`) is not data. */
function cellOf(row: PushedRow, name: string): unknown {
  const value = row[name]
  return value === undefined || Object.hasOwn(row, name) || !(name in Object.prototype) ? value : undefined
}

function wrongCell(row: number, value: unknown, input: InputColumn): TilefoldError {
  const expected = describeInput(input)
  return new TilefoldError(
    'BATCH_INVALID',
    `cannot take row ${row}, column ${JSON.stringify(input.name)}: got ${describeValue(value)}, expected ${expected}`,
    { row, column: input.name, got: describeValue(value), expected },
  )
}

/** An optional column may be absent from every row, but a row that spells it almost the same means it. */
function refuseMisspelt(row: PushedRow, input: InputColumn, inputs: readonly InputColumn[]): void {
  const unknown = Object.keys(row).filter((name) => !inputs.some((each) => each.name === name))
  const suggestion = didYouMean(input.name, unknown).name
  if (suggestion === undefined) return
  throw new TilefoldError(
    'BATCH_INVALID',
    `cannot take row 0: it has no column ${JSON.stringify(input.name)}; got ${JSON.stringify(suggestion)}, expected ${JSON.stringify(input.name)}?`,
    { row: 0, column: input.name, suggestion },
  )
}

function buildColumn(cells: ArrayLike<unknown>, input: InputColumn): Column {
  const builder: ColumnBuilder = createBuilder(input, cells.length)
  for (let row = 0; row < cells.length; row++) {
    if (!builder.set(row, cells[row])) throw wrongCell(row, cells[row], input)
  }
  return builder.finish(cells.length)
}

/** A typed array whose cells the core reads as they are: a view, no copy. */
function asTyped(column: PushedColumn, input: InputColumn): Column | undefined {
  if (Array.isArray(column)) return undefined
  const array = column as NumericArray
  const type = PHYSICAL[array.constructor.name]
  if (type === undefined || !input.accepts.includes(type)) return undefined
  return { name: input.name, type, values: new Uint8Array(array.buffer, array.byteOffset, array.byteLength) }
}

const PHYSICAL: Record<string, Exclude<PhysicalType, 'bool' | 'utf8' | 'decimal128'> | undefined> = {
  Int8Array: 'int8',
  Uint8Array: 'uint8',
  Uint8ClampedArray: 'uint8',
  Int16Array: 'int16',
  Uint16Array: 'uint16',
  Int32Array: 'int32',
  Uint32Array: 'uint32',
  BigInt64Array: 'int64',
  BigUint64Array: 'uint64',
  Float32Array: 'float32',
  Float64Array: 'float64',
}

function isNumericArray(value: unknown): value is NumericArray {
  return ArrayBuffer.isView(value) && !(value instanceof DataView)
}
