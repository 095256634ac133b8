/**
 * What a router writes: the events of one lane out of a stretch of one source log, as columns.
 *
 *   0   'TFR1'
 *   4   rows, u32
 *   8   bytes of the head, u32
 *   12  0
 *   16  head: JSON, see RecordHead
 *       then per column, each piece from a multiple of 8: validity (where the head says so), offsets (text), values
 *       then where each row stood in its source, u32 behind the first row's
 *
 * Little-endian, as Arrow has it. A record is read in place: cells are views of it.
 */
import { CELL_BYTES, type Column, type ColumnBatch, type RoutedRange, type TimeUnit } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'

/** Rows of a batch that go to one lane. */
export interface RowPiece {
  readonly batch: ColumnBatch
  /** Row numbers, ascending. */
  readonly rows: Uint32Array
}

export type RoutedHead = Omit<RoutedRange, 'position'>

interface RecordHead extends RoutedHead {
  /** Position in the source that row offsets count from. */
  readonly base: number
  readonly columns: readonly RecordColumn[]
}

type RecordColumn = Pick<Column, 'name' | 'type' | 'unit' | 'scale'> & {
  readonly hasNulls: boolean
  /** Of its values. */
  readonly bytes: number
}

const MAGIC = 0x31524654
const HEAD_AT = 16
const UNITS: ReadonlySet<TimeUnit> = new Set(['s', 'ms', 'us', 'ns', 'day'])

/** Columns are those of the pieces' batches, which all have the same. */
export function writeRoutedRecord(head: RoutedHead, names: readonly string[], all: readonly RowPiece[]): Buffer {
  const pieces = all.filter((piece) => piece.rows.length > 0)
  const rows = pieces.reduce((sum, piece) => sum + piece.rows.length, 0)
  const parts: Uint8Array[] = []
  const columns = rows === 0 ? [] : names.map((name) => gather(name, pieces, rows, parts))
  const positions = new Uint32Array(rows)
  const base = rows === 0 ? head.to : positionOf(pieces[0]!, 0)
  let row = 0
  for (const piece of pieces) for (let i = 0; i < piece.rows.length; i++) positions[row++] = positionOf(piece, i) - base
  parts.push(bytesOf(positions))
  const text = Buffer.from(JSON.stringify({ ...head, base, columns } satisfies RecordHead))
  const record = Buffer.alloc(parts.reduce((sum, part) => sum + aligned(part.length), HEAD_AT + aligned(text.length)))
  record.writeUInt32LE(MAGIC, 0)
  record.writeUInt32LE(rows, 4)
  record.writeUInt32LE(text.length, 8)
  record.set(text, HEAD_AT)
  let at = HEAD_AT + aligned(text.length)
  for (const part of parts) {
    record.set(part, at)
    at += aligned(part.length)
  }
  return record
}

/** The record's rows and what it stands for. Throws SOURCE_CORRUPT. */
export function readRoutedRecord(record: Uint8Array, position: number): ColumnBatch & { readonly routed: RoutedRange } {
  const corrupt = (why: string) =>
    new TilefoldError('SOURCE_CORRUPT', `cannot read the routed record at offset ${position}: ${why}`, { position })
  if (record.length < HEAD_AT) throw corrupt(`got ${record.length} bytes, expected ${HEAD_AT} or more`)
  const view = new DataView(record.buffer, record.byteOffset, record.length)
  if (view.getUint32(0, true) !== MAGIC) throw corrupt('it is none; is this the topic that a router writes?')
  const length = view.getUint32(4, true)
  const headBytes = view.getUint32(8, true)
  // Before anything is made for the rows: each has its position in the record.
  if (headBytes + length * 4 > record.length - HEAD_AT) throw corrupt('it is cut off')
  const head = readHead(record.subarray(HEAD_AT, HEAD_AT + headBytes), corrupt)
  let at = HEAD_AT + aligned(headBytes)
  const take = (bytes: number): Uint8Array => {
    if (!(bytes >= 0 && at + bytes <= record.length)) throw corrupt('it is cut off')
    const piece = record.subarray(at, at + bytes)
    at += aligned(bytes)
    return piece
  }
  const columns = head.columns.map(({ name, type, unit, scale, hasNulls, bytes }): Column => {
    const validity = hasNulls ? take((length + 7) >> 3) : undefined
    // The cells of a record need not be aligned in the client's memory.
    const offsets = type === 'utf8' ? new Int32Array(new Uint8Array(take((length + 1) * 4)).buffer) : undefined
    const cells = type === 'utf8' ? bytes : type === 'bool' ? (length + 7) >> 3 : length * CELL_BYTES[type]
    if (cells !== bytes) throw corrupt(`column ${JSON.stringify(name)} has ${bytes} bytes, expected ${cells}`)
    if (offsets && !isAscending(offsets, bytes)) throw corrupt(`text of column ${JSON.stringify(name)} overlaps`)
    return { name, type, unit, scale, validity, offsets, values: take(bytes) }
  })
  take(length * 4)
  const { log, from, to, clockMs, isIdle, logs, layoutVersion } = head
  return {
    length,
    columns,
    positions: new Float64Array(length).fill(position),
    routed: { position, log, from, to, clockMs, isIdle, logs, layoutVersion },
  }
}

function readHead(bytes: Uint8Array, corrupt: (why: string) => TilefoldError): RecordHead {
  let head: Partial<RecordHead> | null
  try {
    head = JSON.parse(Buffer.from(bytes).toString()) as typeof head
  } catch {
    throw corrupt('its head is damaged')
  }
  const { log, from, to, clockMs, isIdle, logs, layoutVersion, columns } = head ?? {}
  const isWhole =
    [from, to, clockMs, logs, layoutVersion].every(Number.isSafeInteger) &&
    typeof log === 'string' &&
    typeof isIdle === 'boolean' &&
    Array.isArray(columns) &&
    columns.every(isColumn)
  if (!isWhole || from! > to!) throw corrupt('its head is damaged')
  return head as RecordHead
}

function isColumn(column: Partial<RecordColumn> | null): column is RecordColumn {
  const { name, type, unit, scale, hasNulls, bytes } = column ?? {}
  return (
    typeof name === 'string' &&
    typeof type === 'string' &&
    (type === 'utf8' || type === 'bool' || Object.hasOwn(CELL_BYTES, type)) &&
    (unit === undefined || UNITS.has(unit)) &&
    (scale === undefined || Number.isSafeInteger(scale)) &&
    typeof hasNulls === 'boolean' &&
    Number.isSafeInteger(bytes)
  )
}

function isAscending(offsets: Int32Array, bytes: number): boolean {
  let before = 0
  for (const offset of offsets) {
    if (offset < before || offset > bytes) return false
    before = offset
  }
  return true
}

// ---- rows out of batches ---------------------------------------------------------------------------------------------

/** Appends the column's pieces to `parts`. */
function gather(name: string, pieces: readonly RowPiece[], rows: number, parts: Uint8Array[]): RecordColumn {
  const sources = pieces.map(({ batch }) => batch.columns.find((each) => each.name === name)!)
  const { type, unit, scale } = sources[0]!
  const hasNulls = sources.some(({ validity }) => validity !== undefined)
  if (hasNulls) parts.push(gatherBits(pieces, rows, (piece) => sources[piece]!.validity, sources))
  let values: Uint8Array
  if (type === 'utf8') {
    const text = gatherText(pieces, sources, rows)
    parts.push(bytesOf(text.offsets))
    values = text.values
  } else if (type === 'bool') values = gatherBits(pieces, rows, (piece) => sources[piece]!.values, sources)
  else values = gatherCells(pieces, sources, rows, CELL_BYTES[type])
  parts.push(values)
  return { name, type, ...(unit && { unit }), ...(scale !== undefined && { scale }), hasNulls, bytes: values.length }
}

function gatherCells(pieces: readonly RowPiece[], sources: readonly Column[], rows: number, width: number): Uint8Array {
  const cells = new Uint8Array(rows * width)
  let at = 0
  for (const [i, piece] of pieces.entries()) {
    const { values } = sources[i]!
    if (width % 4 === 0 && values.byteOffset % 4 === 0) {
      // As integers: a float that is not a number has to come out as it went in.
      const words = width >> 2
      const from = new Uint32Array(values.buffer, values.byteOffset, values.length >> 2)
      const to = new Uint32Array(cells.buffer, at, piece.rows.length * words)
      let word = 0
      for (const row of piece.rows) for (let k = 0; k < words; k++) to[word++] = from[row * words + k]!
      at += piece.rows.length * width
      continue
    }
    for (const row of piece.rows) {
      for (let k = 0; k < width; k++) cells[at + k] = values[row * width + k]!
      at += width
    }
  }
  return cells
}

function gatherText(pieces: readonly RowPiece[], sources: readonly Column[], rows: number) {
  let bytes = 0
  for (const [i, piece] of pieces.entries()) {
    const offsets = sources[i]!.offsets!
    for (const row of piece.rows) bytes += offsets[row + 1]! - offsets[row]!
  }
  const values = new Uint8Array(bytes)
  const ends = new Int32Array(rows + 1)
  let at = 0
  let out = 0
  for (const [i, piece] of pieces.entries()) {
    const { offsets, values: text } = sources[i]!
    for (const row of piece.rows) {
      for (let k = offsets![row]!, end = offsets![row + 1]!; k < end; k++) values[at++] = text[k]!
      ends[++out] = at
    }
  }
  return { values, offsets: ends }
}

/** A bitmap of the rows; where a piece has none, every bit is set. */
function gatherBits(
  pieces: readonly RowPiece[],
  rows: number,
  bitmapOf: (piece: number) => Uint8Array | undefined,
  sources: readonly Column[],
): Uint8Array {
  const bits = new Uint8Array((rows + 7) >> 3)
  let out = 0
  for (const [i, piece] of pieces.entries()) {
    const bitmap = bitmapOf(i)
    const first = sources[i]!.bitOffset ?? 0
    for (const row of piece.rows) {
      const bit = first + row
      if (bitmap === undefined || (bitmap[bit >> 3]! >> (bit & 7)) & 1) bits[out >> 3]! |= 1 << (out & 7)
      out++
    }
  }
  return bits
}

function positionOf({ batch, rows }: RowPiece, i: number): number {
  const row = rows[i]!
  return typeof batch.positions === 'number' ? batch.positions + row : batch.positions[row]!
}

function bytesOf(cells: Uint32Array | Int32Array): Uint8Array {
  return new Uint8Array(cells.buffer, cells.byteOffset, cells.byteLength)
}

function aligned(bytes: number): number {
  return (bytes + 7) & ~7
}
