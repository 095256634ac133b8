/**
 * A look at Arrow's metadata before the library reads it.
 *
 * A message's metadata is a FlatBuffer, and a FlatBuffer is nothing but offsets: damaged ones make a reader loop over
 * billions of fields that are not there, until the process runs out of memory. So each vector that the library walks is
 * checked to lie within the bytes, nesting and the number of tables are bounded, and buffers must lie within the body.
 * Faults are RangeErrors.
 *
 *   table   i32 distance back to its vtable | fields         vtable   u16 bytes | u16 table bytes | u16 per field, 0 = absent
 *   vector  u32 length | elements                            a field that is no scalar holds a u32 distance forward
 */

const HEADER_SCHEMA = 1
const HEADER_DICTIONARY = 2
const HEADER_BATCH = 3

const DEPTH_MAX = 64
const TABLES_MAX = 100_000
/** Rows of a record batch: what a program can hold of one. */
const ROWS_MAX = 2 ** 27

export interface MessageSummary {
  readonly kind: 'schema' | 'dictionary' | 'batch'
  readonly bodyBytes: number
  /** Rows of a record batch. */
  readonly rows: number
}

/** Checks a message's metadata. */
export function checkMessage(metadata: Uint8Array): MessageSummary {
  const checker = new Checker(metadata)
  const message = checker.root()
  const bodyBytes = checker.long(message, 3)
  const type = checker.byte(message, 1)
  const header = checker.child(message, 2)
  if (header === undefined) throw new RangeError('a message has no header')
  if (type === HEADER_SCHEMA) {
    checker.fields(header, 1, 0)
    return { kind: 'schema', bodyBytes, rows: 0 }
  }
  if (type === HEADER_BATCH) return { kind: 'batch', bodyBytes, rows: checker.batch(header, bodyBytes) }
  if (type !== HEADER_DICTIONARY)
    throw new RangeError(`a message has kind ${type}; expected a schema, dictionary or batch`)
  const data = checker.child(header, 1)
  if (data === undefined) throw new RangeError('a dictionary has no data')
  checker.batch(data, bodyBytes)
  return { kind: 'dictionary', bodyBytes, rows: 0 }
}

/** A message of a file: where it begins, and its bytes with metadata and body. */
export interface Block {
  readonly offset: number
  readonly bytes: number
}

export interface FooterSummary {
  readonly version: number
  /** Where the schema's table lies in the footer. */
  readonly schemaAt: number
  readonly dictionaries: readonly Block[]
  readonly batches: readonly Block[]
}

/** Checks a file's footer; its blocks must lie within the first `dataBytes` of the file. */
export function checkFooter(footer: Uint8Array, dataBytes: number): FooterSummary {
  const checker = new Checker(footer)
  const root = checker.root()
  const schemaAt = checker.child(root, 1)
  if (schemaAt === undefined) throw new RangeError('its footer has no schema')
  checker.fields(schemaAt, 1, 0)
  return {
    version: checker.short(root, 0),
    schemaAt,
    dictionaries: checker.blocks(root, 2, dataBytes),
    batches: checker.blocks(root, 3, dataBytes),
  }
}

/** Positions are byte offsets of tables. */
class Checker {
  private readonly cells: DataView
  private tables = 0

  constructor(bytes: Uint8Array) {
    this.cells = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  root(): number {
    return this.table(this.cells.getUint32(0, true))
  }

  byte(table: number, field: number): number {
    const at = this.field(table, field)
    return at === undefined ? 0 : this.cells.getUint8(at)
  }

  short(table: number, field: number): number {
    const at = this.field(table, field)
    return at === undefined ? 0 : this.cells.getUint16(at, true)
  }

  long(table: number, field: number): number {
    const at = this.field(table, field)
    const value = at === undefined ? 0n : this.cells.getBigInt64(at, true)
    if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) throw new RangeError(`a length is ${value}`)
    return Number(value)
  }

  child(table: number, field: number): number | undefined {
    const at = this.field(table, field)
    return at === undefined ? undefined : this.table(at + this.cells.getUint32(at, true))
  }

  /** The fields of a schema, or the children of a field. */
  fields(table: number, field: number, depth: number): void {
    if (depth > DEPTH_MAX) throw new RangeError(`columns are nested deeper than ${DEPTH_MAX}`)
    this.keyValues(table, depth === 0 ? 2 : 6)
    const { at, length } = this.vector(table, field, 4)
    for (let i = 0; i < length; i++) {
      const inner = this.table(at + 4 * i + this.cells.getUint32(at + 4 * i, true))
      this.child(inner, 3)
      this.child(inner, 4)
      this.fields(inner, 5, depth + 1)
    }
  }

  /** Blocks are structs of 24 bytes: i64 offset, i32 bytes of metadata, four of nothing, i64 bytes of the body. */
  blocks(table: number, field: number, dataBytes: number): readonly Block[] {
    const { at, length } = this.vector(table, field, 24)
    return Array.from({ length }, (_, i): Block => {
      const offset = Number(this.cells.getBigInt64(at + 24 * i, true))
      const metadata = this.cells.getInt32(at + 24 * i + 8, true)
      const bytes = metadata + Number(this.cells.getBigInt64(at + 24 * i + 16, true))
      if (!(offset >= 0 && metadata >= 0 && bytes >= metadata && offset + bytes <= dataBytes)) {
        throw new RangeError(`a message of ${bytes} bytes at ${offset} lies outside the file`)
      }
      return { offset, bytes }
    })
  }

  /** Rows of a record batch whose buffers lie within its body. */
  batch(table: number, bodyBytes: number): number {
    const rows = this.long(table, 0)
    if (rows > ROWS_MAX) throw new RangeError(`a record batch claims ${rows} rows, at most ${ROWS_MAX} can be read`)
    if (this.field(table, 3) !== undefined) {
      throw new RangeError('its record batches are compressed, which is not supported: write them uncompressed')
    }
    const nodes = this.vector(table, 1, 16)
    if (nodes.length > 0 && this.cells.getBigInt64(nodes.at, true) !== BigInt(rows)) {
      throw new RangeError(`a record batch claims ${rows} rows, its first column has another number`)
    }
    if (nodes.length === 0 && bodyBytes > 0) throw new RangeError('a record batch has a body and no columns')
    this.vector(table, 4, 8)
    const { at, length } = this.vector(table, 2, 16)
    for (let i = 0; i < length; i++) {
      const offset = this.cells.getBigInt64(at + 16 * i, true)
      const bytes = this.cells.getBigInt64(at + 16 * i + 8, true)
      if (offset < 0n || bytes < 0n || offset + bytes > BigInt(bodyBytes)) {
        throw new RangeError(`a buffer of ${bytes} bytes at ${offset} lies outside a body of ${bodyBytes}`)
      }
    }
    return rows
  }

  private keyValues(table: number, field: number): void {
    const { at, length } = this.vector(table, field, 4)
    for (let i = 0; i < length; i++) this.table(at + 4 * i + this.cells.getUint32(at + 4 * i, true))
  }

  /** Elements of a vector; an absent one is empty. */
  private vector(table: number, field: number, elementBytes: number): { at: number; length: number } {
    const from = this.field(table, field)
    if (from === undefined) return { at: 0, length: 0 }
    const at = from + this.cells.getUint32(from, true)
    const length = this.cells.getUint32(at, true)
    if (length * elementBytes > this.cells.byteLength - at - 4) {
      throw new RangeError(`a list claims ${length} elements, more than bytes are left`)
    }
    return { at: at + 4, length }
  }

  /** Where a field's value lies, or undefined where the table has none. */
  private field(table: number, field: number): number | undefined {
    const vtable = table - this.cells.getInt32(table, true)
    const slot = 4 + 2 * field
    if (slot + 2 > this.cells.getUint16(vtable, true)) return undefined
    const offset = this.cells.getUint16(vtable + slot, true)
    return offset === 0 ? undefined : table + offset
  }

  /** A table that begins within the bytes and whose vtable does. */
  private table(at: number): number {
    this.tables++
    if (this.tables > TABLES_MAX) throw new RangeError(`it has more than ${TABLES_MAX} tables`)
    const vtable = at - this.cells.getInt32(at, true)
    const bytes = this.cells.getUint16(vtable, true)
    if (bytes < 4 || vtable + bytes > this.cells.byteLength) throw new RangeError('a table lies outside its message')
    return at
  }
}
