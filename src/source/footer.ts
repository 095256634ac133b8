/**
 * A Parquet file's footer, read by ourselves, and the cutting of a row group out of a file.
 *
 *   "PAR1" | column chunks of row group 0 | of row group 1 | … | footer (FileMetaData, Thrift) | u32 its length | "PAR1"
 *
 * The decoder gets one row group at a time, **as a small file of its own**: the chunks of the columns that are needed,
 * and a footer that names only them. So memory is bounded by a row group, a backfill can share row groups out without a
 * decode, resuming skips them, and columns that nobody asked for can neither cost nor break anything. (The decoder's own
 * streaming reader panics on a damaged page inside a microtask: the process dies, or the read never ends.)
 *
 * The small file carries no key-value metadata. Writers keep an Arrow schema there which turns text into large, viewed
 * or dictionary text; without it the decoder gives each Parquet type its one plain Arrow form.
 */
import { TilefoldError } from '../model/errors.ts'
import { FIXED_BYTES, fixedElement, INT96 } from './int96.ts'
import {
  THRIFT_BINARY,
  THRIFT_I32,
  THRIFT_I64,
  THRIFT_LIST,
  THRIFT_STRUCT,
  type ThriftField,
  ThriftReader,
  ThriftWriter,
} from './thrift.ts'

/** Four magic bytes at both ends, and the footer's length before the last. */
export const FILE_TAIL_BYTES = 8
const MAGIC = 'PAR1'
const MAGIC_BYTES = 4
/** More than a footer of a million column chunks; a length beyond is damage, not a file. */
const FOOTER_BYTES_MAX = 512 * 1024 * 1024
/** Needed chunks of one row group: they are in memory twice, here and in the decoder. */
const CHUNK_BYTES_MAX = 1024 * 1024 * 1024
const REPEATED = 2

/** A column at the top of the schema. */
export interface FooterField {
  readonly name: string
  /** Which column chunk of a row group holds it; undefined for nested and repeated columns. */
  readonly chunk: number | undefined
  /** Its physical type, by Parquet's number. */
  readonly type: number | undefined
  /** Its schema element as it stands in the file; of an INT96 column, that of 12 bytes each (int96.ts). */
  readonly element: Uint8Array
}

export interface Footer {
  readonly rows: number
  readonly fields: readonly FooterField[]
  readonly rowGroups: readonly FooterRowGroup[]
  readonly createdBy: Uint8Array | undefined
}

export interface FooterRowGroup {
  readonly rows: number
  /** Where in the footer's bytes the row group's struct lies; chunks are read from it when they are needed. */
  readonly at: number
}

/** Where one column's bytes of a row group lie, and what the small file's footer says of them. */
export interface ColumnChunk {
  readonly start: number
  readonly bytes: number
  readonly uncompressedBytes: number
  readonly values: number
  readonly type: number
  readonly codec: number
  readonly encodings: readonly number[]
  readonly path: readonly Uint8Array[]
  /** Offset of the first data page behind `start`; a dictionary page lies before it if it isn't 0. */
  readonly dataAt: number
}

/** An error that names the file, and the row group where one is known. */
export function corruptFile(file: string, what: string, details: Record<string, unknown> = {}, cause?: unknown) {
  return new TilefoldError('SOURCE_CORRUPT', `cannot read ${file}: ${what}`, { file, ...details }, { cause })
}

/** Length of the footer, from a file's last 8 bytes. Throws SOURCE_CORRUPT. */
export function footerLength(tail: Uint8Array, fileBytes: number, file: string): number {
  const magic = Buffer.from(tail.subarray(MAGIC_BYTES, FILE_TAIL_BYTES)).toString('latin1')
  if (tail.length < FILE_TAIL_BYTES || magic !== MAGIC) {
    if (magic === 'PARE') throw corruptFile(file, 'its footer is encrypted, which is not supported')
    throw corruptFile(
      file,
      `it does not end as a Parquet file does; got ${JSON.stringify(magic)}, expected "PAR1" (was it written to its end?)`,
    )
  }
  const length = Buffer.from(tail.buffer, tail.byteOffset, FILE_TAIL_BYTES).readUInt32LE(0)
  const most = Math.min(fileBytes - FILE_TAIL_BYTES - MAGIC_BYTES, FOOTER_BYTES_MAX)
  if (length > most) throw corruptFile(file, `its footer claims ${length} bytes, at most ${most} are possible`)
  return length
}

/** Reads a footer's FileMetaData. Column chunks are left for `readChunks`. Throws SOURCE_CORRUPT. */
export function parseFooter(bytes: Uint8Array, file: string): Footer {
  return orCorrupt(file, 'its footer is damaged', {}, () => {
    const reader = new ThriftReader(bytes)
    let rows: number | undefined
    let fields: readonly FooterField[] | undefined
    let rowGroups: readonly FooterRowGroup[] | undefined
    let createdBy: Uint8Array | undefined
    reader.fields((field) => {
      if (field.id === 2) fields = readSchema(reader, field, bytes)
      else if (field.id === 3) rows = natural(reader, field, THRIFT_I64)
      else if (field.id === 4) rowGroups = readRowGroups(reader, field)
      else if (field.id === 6) createdBy = binary(reader, field)
      else if (field.id === 8) throw new RangeError('it is encrypted, which is not supported')
      else reader.skip(field.type)
    })
    if (rows === undefined || fields === undefined || rowGroups === undefined) {
      throw new RangeError('rows, schema or row groups are not in it')
    }
    const sum = rowGroups.reduce((total, group) => total + group.rows, 0)
    if (sum !== rows) throw new RangeError(`its row groups hold ${sum} rows, the file says ${rows}`)
    return { rows, fields, rowGroups, createdBy }
  })
}

/** The needed columns' chunks of a row group, in the order asked. Throws SOURCE_CORRUPT. */
export function readChunks(
  footer: Uint8Array,
  group: FooterRowGroup,
  needed: readonly FooterField[],
  dataBytes: number,
  file: string,
  rowGroup: number,
): readonly ColumnChunk[] {
  return orCorrupt(file, `row group ${rowGroup} is damaged`, { rowGroup }, () => {
    const reader = new ThriftReader(footer, group.at)
    const found = new Map<number, ColumnChunk>()
    reader.fields((field) => {
      if (field.id !== 1) return reader.skip(field.type)
      const size = listSize(reader, field, THRIFT_STRUCT)
      for (let chunk = 0; chunk < size; chunk++) {
        if (needed.some((field) => field.chunk === chunk)) found.set(chunk, readChunk(reader))
        else reader.skip(THRIFT_STRUCT)
      }
    })
    let total = 0
    const chunks = needed.map(({ chunk: index = -1, type }): ColumnChunk => {
      const chunk = found.get(index)
      if (chunk === undefined) throw new RangeError(`it has no column chunk ${index}`)
      if (chunk.type !== type) throw new RangeError(`column chunk ${index} has type ${chunk.type}, the schema ${type}`)
      if (chunk.start < MAGIC_BYTES || chunk.start + chunk.bytes > dataBytes) {
        throw new RangeError(`column chunk ${index} lies outside the file: ${chunk.bytes} bytes at ${chunk.start}`)
      }
      if (chunk.values !== group.rows) {
        throw new RangeError(`column chunk ${index} holds ${chunk.values} values, the row group ${group.rows} rows`)
      }
      total += chunk.bytes
      return chunk
    })
    if (total > CHUNK_BYTES_MAX) {
      throw new RangeError(`its needed columns take ${total} bytes, at most ${CHUNK_BYTES_MAX} can be read at once`)
    }
    return chunks
  })
}

/**
 * A file that holds one row group, or none. `bytes` are the chunks' own, in their order; the result holds copies.
 * The elements of `fields` and the chunks go together.
 */
export function cutRowGroup(
  footer: Footer,
  fields: readonly FooterField[],
  rows: number,
  chunks: readonly { readonly chunk: ColumnChunk; readonly bytes: Uint8Array }[],
): Uint8Array {
  let at = MAGIC_BYTES
  const columns = chunks.map(({ chunk, bytes }) => {
    const start = at
    at += bytes.length
    const meta = new ThriftWriter()
      .i32(1, chunk.type === INT96 ? FIXED_BYTES : chunk.type)
      .integers(2, chunk.encodings)
      .binaries(3, chunk.path)
      .i32(4, chunk.codec)
      .i64(5, chunk.values)
      .i64(6, chunk.uncompressedBytes)
      .i64(7, bytes.length)
      .i64(9, start + chunk.dataAt)
    if (chunk.dataAt > 0) meta.i64(11, start)
    return new ThriftWriter().i64(2, start).struct(3, meta.end()).end()
  })
  const root = new ThriftWriter().binary(4, Buffer.from('schema')).i32(5, fields.length).end()
  const file = new ThriftWriter()
    .i32(1, 1)
    .structs(2, [root, ...fields.map((field) => field.element)])
    .i64(3, rows)
  const group = new ThriftWriter().structs(1, columns).i64(2, at).i64(3, rows).end()
  file.structs(4, chunks.length > 0 ? [group] : [])
  if (footer.createdBy !== undefined) file.binary(6, footer.createdBy)
  const tail = file.end()

  // The parts in order: magic, chunks, footer, its length, magic.
  const out = Buffer.allocUnsafe(at + tail.length + FILE_TAIL_BYTES)
  out.write(MAGIC, 0, 'latin1')
  let to = MAGIC_BYTES
  for (const { bytes } of chunks) {
    out.set(bytes, to)
    to += bytes.length
  }
  out.set(tail, to)
  out.writeUInt32LE(tail.length, to + tail.length)
  out.write(MAGIC, to + tail.length + 4, 'latin1')
  return out
}

/** Schema elements stand in depth-first order; the root's children are the columns. */
function readSchema(reader: ThriftReader, list: ThriftField, bytes: Uint8Array): readonly FooterField[] {
  const size = listSize(reader, list, THRIFT_STRUCT)
  const elements: { name: string; children: number; type?: number; repetition: number; bytes: Uint8Array }[] = []
  for (let i = 0; i < size; i++) {
    const start = reader.at
    let name: string | undefined
    let children = 0
    let elementType: number | undefined
    let repetition = 0
    reader.fields((field) => {
      if (field.id === 1) elementType = natural(reader, field, THRIFT_I32)
      else if (field.id === 3) repetition = natural(reader, field, THRIFT_I32)
      else if (field.id === 4) name = Buffer.from(binary(reader, field)).toString('utf8')
      else if (field.id === 5) children = natural(reader, field, THRIFT_I32)
      else reader.skip(field.type)
    })
    if (name === undefined) throw new RangeError(`schema element ${i} has no name`)
    const own = elementType === INT96 ? fixedElement(name, repetition) : bytes.subarray(start, reader.at)
    elements.push({ name, children, type: elementType, repetition, bytes: own })
  }

  const fields: FooterField[] = []
  let at = 1
  let chunk = 0
  const columns = elements[0]?.children ?? 0
  for (let column = 0; column < columns; column++) {
    const top = elements[at]
    if (top === undefined) throw new RangeError(`the schema names ${columns} columns, it has ${column}`)
    const flat = top.type !== undefined && top.children === 0 && top.repetition !== REPEATED
    fields.push({ name: top.name, chunk: flat ? chunk : undefined, type: top.type, element: top.bytes })
    // Walk over the column's own elements; each leaf among them owns one chunk.
    for (let pending = 1; pending > 0; at++) {
      const element = elements[at]
      if (element === undefined) throw new RangeError('the schema ends in the middle of a nested column')
      if (element.children === 0) chunk++
      pending += element.children - 1
    }
  }
  return fields
}

function readRowGroups(reader: ThriftReader, list: ThriftField): readonly FooterRowGroup[] {
  const size = listSize(reader, list, THRIFT_STRUCT)
  const groups: FooterRowGroup[] = []
  for (let i = 0; i < size; i++) {
    const at = reader.at
    let rows: number | undefined
    reader.fields((field) => {
      if (field.id === 3) rows = natural(reader, field, THRIFT_I64)
      else reader.skip(field.type)
    })
    if (rows === undefined) throw new RangeError(`row group ${i} has no number of rows`)
    groups.push({ rows, at })
  }
  return groups
}

function readChunk(reader: ThriftReader): ColumnChunk {
  let chunk: ColumnChunk | undefined
  reader.fields((field) => {
    if (field.id === 1) throw new RangeError('a column chunk lies in another file, which is not supported')
    else if (field.id === 3) chunk = readChunkMeta(reader, field)
    else if (field.id === 8) throw new RangeError('a column chunk is encrypted, which is not supported')
    else reader.skip(field.type)
  })
  if (chunk === undefined) throw new RangeError('a column chunk has no metadata')
  return chunk
}

function readChunkMeta(reader: ThriftReader, struct: ThriftField): ColumnChunk {
  expectType(struct, THRIFT_STRUCT)
  const numbers = new Map<number, number>()
  const encodings: number[] = []
  const path: Uint8Array[] = []
  reader.fields((field) => {
    if (field.id === 2) {
      for (let left = listSize(reader, field, THRIFT_I32); left > 0; left--) encodings.push(reader.integer())
    } else if (field.id === 3) {
      for (let left = listSize(reader, field, THRIFT_BINARY); left > 0; left--) path.push(reader.binary())
    } else if (field.type === THRIFT_I32 || field.type === THRIFT_I64) numbers.set(field.id, reader.integer())
    else reader.skip(field.type)
  })
  const [type, codec, values, uncompressedBytes, bytes, dataOffset] = [1, 4, 5, 6, 7, 9].map((id) => {
    const value = numbers.get(id)
    if (value === undefined || value < 0) throw new RangeError(`field ${id} of a column chunk is ${value ?? 'missing'}`)
    return value
  }) as [number, number, number, number, number, number]
  // Some writers say 0 where there is no dictionary page, and some where there is one: then it is the first page read.
  const dictionaryOffset = numbers.get(11) ?? 0
  const start = dictionaryOffset > 0 && dictionaryOffset < dataOffset ? dictionaryOffset : dataOffset
  if (dataOffset - start > bytes) throw new RangeError('a dictionary page is longer than its column chunk')
  return { start, bytes, uncompressedBytes, values, type, codec, encodings, path, dataAt: dataOffset - start }
}

function expectType(field: ThriftField, type: number): void {
  if (field.type !== type) throw new RangeError(`field ${field.id} has type ${field.type}, expected ${type}`)
}

/** Elements of a list of `type`. */
function listSize(reader: ThriftReader, field: ThriftField, type: number): number {
  expectType(field, THRIFT_LIST)
  const list = reader.list()
  if (list.size > 0 && list.type !== type) {
    throw new RangeError(`field ${field.id} lists elements of type ${list.type}, expected ${type}`)
  }
  return list.size
}

function natural(reader: ThriftReader, field: ThriftField, type: number): number {
  expectType(field, type)
  const value = reader.integer()
  if (value < 0) throw new RangeError(`field ${field.id} is ${value}`)
  return value
}

function binary(reader: ThriftReader, field: ThriftField): Uint8Array {
  expectType(field, THRIFT_BINARY)
  return reader.binary()
}

function orCorrupt<T>(file: string, what: string, details: Record<string, unknown>, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof RangeError) throw corruptFile(file, `${what}: ${error.message}`, details, error)
    throw error
  }
}
