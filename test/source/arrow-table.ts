/** An Arrow table of every type that is read, with nulls, and its cells as plain values. */
import {
  Bool,
  type Data,
  Dictionary,
  Field,
  Float32,
  Float64,
  Int16,
  Int32,
  Int64,
  LargeUtf8,
  makeData,
  Null,
  RecordBatch,
  Schema,
  Struct,
  Table,
  tableToIPC,
  Utf8,
  Utf8View,
  vectorFromArray,
} from 'apache-arrow'
import { type Cell, input } from './support.ts'

export const ROWS = 200
const draw = <T>(value: (row: number) => T) =>
  Array.from({ length: ROWS }, (_, row) => (row % 6 === 4 ? null : value(row)))

/** Empty, short, at a view's limit of twelve bytes, and beyond it. */
const SHAPES = [
  () => '',
  (row: number) => `k${row % 9}`,
  () => 'twelve bytes',
  (row: number) => `thirteen byt${row % 7}`,
]
export const TEXTS = draw((row) => (row % 5 === 4 ? `long enough to leave its view ${row} €😀` : SHAPES[row % 5]!(row)))
const CELLS = {
  i64: draw((row) => BigInt(row) * 2n ** 55n - 2n ** 62n),
  i16: draw((row) => row - 100),
  f64: draw((row) => row / 7),
  f32: draw((row) => Math.fround(row / 7)),
  flag: draw((row) => row % 5 < 2),
}

export function allTypes(): Table {
  return new Table({
    i64: vectorFromArray(CELLS.i64, new Int64()),
    i16: vectorFromArray(CELLS.i16, new Int16()),
    f64: vectorFromArray(CELLS.f64, new Float64()),
    f32: vectorFromArray(CELLS.f32, new Float32()),
    flag: vectorFromArray(CELLS.flag, new Bool()),
    text: vectorFromArray(TEXTS, new Utf8()),
    large: vectorFromArray(TEXTS, new LargeUtf8()),
    view: vectorFromArray(TEXTS, new Utf8View()),
    key: vectorFromArray(TEXTS, new Dictionary(new Utf8(), new Int32())),
    nothing: vectorFromArray(
      draw(() => null),
      new Null(),
    ),
  })
}

export const INPUTS = [
  input('i64', 'int64'),
  input('i16', 'int64'),
  input('f64', 'float64'),
  input('f32', 'float64'),
  input('flag', 'bool'),
  input('text', 'utf8'),
  input('large', 'utf8'),
  input('view', 'utf8'),
  input('key', 'utf8'),
  input('nothing', 'timestamp'),
]
export const EXPECTED: Cell[][] = [
  CELLS.i64,
  CELLS.i16.map((value) => (value === null ? null : BigInt(value))),
  CELLS.f64,
  CELLS.f32,
  CELLS.flag,
  TEXTS,
  TEXTS,
  TEXTS,
  TEXTS,
  draw(() => null),
]

/** Every column but the views: the library cannot write slices of those. */
export const SPLIT_INPUTS = INPUTS.filter(({ name }) => name !== 'view')
export const SPLIT_EXPECTED = EXPECTED.filter((_, index) => INPUTS[index]!.name !== 'view')

/** All types but views as IPC bytes in several record batches. */
export function split(sizes: readonly number[], format: 'file' | 'stream'): Uint8Array {
  const table = allTypes().select(SPLIT_INPUTS.map(({ name }) => name))
  let start = 0
  const batches = sizes.flatMap((size) => {
    const part = table.slice(start, start + size)
    start += size
    return part.batches
  })
  return tableToIPC(new Table(table.schema, batches), format)
}

export async function* chunked(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let from = 0; from < bytes.length; from += size) yield bytes.subarray(from, from + size)
}
/** A record batch of one column, made by hand. */
export function batchOf(name: string, data: Data): RecordBatch {
  const schema = new Schema([new Field(name, data.type, true)])
  return new RecordBatch(schema, makeData({ type: new Struct(schema.fields), length: data.length, children: [data] }))
}
