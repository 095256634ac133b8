/**
 * Small Parquet files of one row group each, joined into one: the chunks' bytes as they are, behind each other, and one
 * footer in which every offset is moved to where its bytes have come to lie.
 *
 * So a file of any length is written with one row group in memory, by an encoder that can only make whole files.
 */
import { FILE_TAIL_BYTES, footerLength } from './footer.ts'
import { THRIFT_LIST, THRIFT_STRUCT, type ThriftField, ThriftReader, ThriftWriter } from './thrift.ts'

const MAGIC = Buffer.from('PAR1')

/** Which fields of a struct are offsets into the file, which are structs or lists of them, and which are left out. */
interface Shape {
  readonly offsets: readonly number[]
  readonly inner?: Readonly<Record<number, Shape>>
  readonly dropped?: readonly number[]
}

// parquet.thrift: data, index and dictionary pages, bloom filter; page indexes; the row group's own start and its number.
const COLUMN_META: Shape = { offsets: [9, 10, 11, 14] }
const COLUMN_CHUNK: Shape = { offsets: [2, 4, 6], inner: { 3: COLUMN_META } }
const ROW_GROUP: Shape = { offsets: [5], inner: { 1: COLUMN_CHUNK }, dropped: [7] }

const SCHEMA = 2
const ROW_GROUPS = 4
const KEY_VALUES = 5
const CREATED_BY = 6
const COLUMN_ORDERS = 7

/** The parts of a small file: what lies between its magic and its footer, and the footer's fields as they are. */
export class FooterJoiner {
  readonly #groups: Uint8Array[] = []
  /** Fields that are the same in every part, from the first. */
  #shared = new Map<number, { readonly field: ThriftField; readonly value: Uint8Array }>()
  #rows = 0

  get rows(): number {
    return this.#rows
  }

  /** Takes a file of one row group; returns the bytes that go to `at` of the joined file. */
  add(file: Uint8Array, rows: number, at: number): Uint8Array {
    const length = footerLength(file.subarray(-FILE_TAIL_BYTES), file.length, 'a row group')
    const end = file.length - FILE_TAIL_BYTES - length
    const footer = file.subarray(end, file.length - FILE_TAIL_BYTES)
    const reader = new ThriftReader(footer)
    const isFirst = this.#groups.length === 0
    reader.fields((field) => {
      if (field.id === ROW_GROUPS) {
        const { size } = reader.list()
        if (size !== 1) throw new RangeError(`got a file of ${size} row groups, expected one`)
        this.#groups.push(moved(reader, footer, at - MAGIC.length, ROW_GROUP))
        return
      }
      const start = reader.at
      reader.skip(field.type)
      if (isFirst) this.#shared.set(field.id, { field, value: footer.subarray(start, reader.at) })
    })
    this.#rows += rows
    return file.subarray(MAGIC.length, end)
  }

  /** The joined file's end: footer, its length, magic. `entries` become key-value metadata. */
  finish(entries: Readonly<Record<string, string>>): Uint8Array {
    const writer = new ThriftWriter()
    this.#copy(writer, 1)
    this.#copy(writer, SCHEMA)
    writer.i64(3, this.#rows).structs(ROW_GROUPS, this.#groups)
    const own = Object.entries(entries).map(([key, value]) =>
      new ThriftWriter().binary(1, Buffer.from(key)).binary(2, Buffer.from(value)).end(),
    )
    writer.structs(KEY_VALUES, [...this.#keyValues(), ...own])
    this.#copy(writer, CREATED_BY)
    this.#copy(writer, COLUMN_ORDERS)
    const footer = writer.end()
    const tail = Buffer.alloc(FILE_TAIL_BYTES)
    tail.writeUInt32LE(footer.length)
    MAGIC.copy(tail, 4)
    return Buffer.concat([footer, tail])
  }

  #copy(writer: ThriftWriter, id: number): void {
    const shared = this.#shared.get(id)
    if (shared !== undefined) writer.copy(shared.field, shared.value)
  }

  /** The encoder's own: Arrow's schema, by which a reader of Arrow finds the types again. */
  #keyValues(): Uint8Array[] {
    const shared = this.#shared.get(KEY_VALUES)
    if (shared === undefined) return []
    const reader = new ThriftReader(shared.value)
    const { size } = reader.list()
    return Array.from({ length: size }, () => {
      const start = reader.at
      reader.skip(THRIFT_STRUCT)
      return shared.value.subarray(start, reader.at)
    })
  }
}

export function parquetMagic(): Uint8Array {
  return Uint8Array.from(MAGIC)
}

/** The struct that the reader stands at, with its offsets moved; an offset of 0 says that there is none. */
function moved(reader: ThriftReader, bytes: Uint8Array, by: number, shape: Shape): Uint8Array {
  const writer = new ThriftWriter()
  reader.fields((field) => {
    const inner = shape.inner?.[field.id]
    if (shape.offsets.includes(field.id)) {
      const offset = reader.integer()
      writer.i64(field.id, offset > 0 ? offset + by : offset)
    } else if (inner !== undefined && field.type === THRIFT_LIST) {
      const { size } = reader.list()
      writer.structs(
        field.id,
        Array.from({ length: size }, () => moved(reader, bytes, by, inner)),
      )
    } else if (inner !== undefined) writer.struct(field.id, moved(reader, bytes, by, inner))
    else {
      const start = reader.at
      reader.skip(field.type)
      if (!shape.dropped?.includes(field.id)) writer.copy(field, bytes.subarray(start, reader.at))
    }
  })
  return writer.end()
}
