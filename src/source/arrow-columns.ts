/**
 * Arrow's buffers to columns, as they are where the core reads them as they are.
 *
 * Text is the exception: large (64-bit offsets), viewed and dictionary text becomes plain text here, once per batch. The
 * interfaces name only what is used of an Arrow library's objects, so a program may push tables of its own copy of it.
 * Lengths and offsets are checked: a batch from a file or a program may claim more than its buffers hold. Faults are
 * RangeErrors; the caller knows the file or the push.
 */
import { isUtf8 } from 'node:buffer'
import { CELL_BYTES, type Column, type PhysicalType, type TimeUnit } from '../model/columns.ts'
import type { InputColumn } from '../model/plan.ts'
import { nullColumn, type SourceField } from './match.ts'

export interface ArrowType {
  readonly typeId: number
  readonly bitWidth?: number
  readonly isSigned?: boolean
  readonly precision?: number
  readonly scale?: number
  readonly unit?: number
  /** Dictionaries only: the type of the values. */
  readonly dictionary?: ArrowType
  toString(): string
}

export interface ArrowData {
  readonly type: ArrowType
  readonly length: number
  /** Bit of row 0 in the validity bitmap and in booleans; other values start at row 0. */
  readonly offset: number
  readonly nullCount: number
  readonly nullBitmap?: Uint8Array | null
  readonly values?: unknown
  readonly valueOffsets?: Int32Array | BigInt64Array
  readonly variadicBuffers?: readonly Uint8Array[]
  readonly dictionary?: { readonly data: readonly ArrowData[] }
  readonly children: readonly ArrowData[]
}

export interface ArrowSchema {
  readonly fields: readonly { readonly name: string; readonly type: ArrowType }[]
}

export interface ArrowBatch {
  readonly schema: ArrowSchema
  readonly numRows: number
  readonly data: ArrowData
}

// Arrow's own numbers, from its format's Type enumeration.
const TYPE_NULL = 1
const TYPE_INT = 2
const TYPE_FLOAT = 3
const TYPE_UTF8 = 5
const TYPE_BOOL = 6
const TYPE_DECIMAL = 7
const TYPE_DATE = 8
const TYPE_TIMESTAMP = 10
const TYPE_LARGE_UTF8 = 20
const TYPE_UTF8_VIEW = 24
const TYPE_DICTIONARY = -1

const TIMESTAMP_UNITS: readonly TimeUnit[] = ['s', 'ms', 'us', 'ns']
const TEXT_TYPES: readonly number[] = [TYPE_UTF8, TYPE_LARGE_UTF8, TYPE_UTF8_VIEW]
const TEXT_BYTES_MAX = 2 ** 31 - 1

export function fieldsOfSchema(schema: ArrowSchema): readonly SourceField[] {
  return schema.fields.map(({ name, type }): SourceField => {
    const sourceType = String(type)
    switch (type.typeId) {
      case TYPE_NULL:
        return { name, sourceType, physical: 'null' }
      case TYPE_BOOL:
        return { name, sourceType, physical: 'bool' }
      case TYPE_INT:
        return { name, sourceType, physical: `${type.isSigned ? '' : 'u'}int${type.bitWidth}` as PhysicalType }
      case TYPE_FLOAT:
        return { name, sourceType, physical: ([undefined, 'float32', 'float64'] as const)[type.precision ?? 0] }
      case TYPE_DECIMAL:
        return { name, sourceType, physical: type.bitWidth === 128 ? 'decimal128' : undefined, scale: type.scale }
      case TYPE_DATE:
        return type.unit === 0
          ? { name, sourceType, physical: 'int32', unit: 'day' }
          : { name, sourceType, physical: 'int64', unit: 'ms' }
      case TYPE_TIMESTAMP:
        return { name, sourceType, physical: 'int64', unit: TIMESTAMP_UNITS[type.unit ?? 1] }
      case TYPE_DICTIONARY:
        return { name, sourceType, physical: TEXT_TYPES.includes(type.dictionary?.typeId ?? 0) ? 'utf8' : undefined }
      default:
        return { name, sourceType, physical: TEXT_TYPES.includes(type.typeId) ? 'utf8' : undefined }
    }
  })
}

/** The columns of a record batch for `inputs`; `fields` are the inputs' own, as `matchInputs` returned them. */
export function columnsOfBatch(
  batch: ArrowBatch,
  inputs: readonly InputColumn[],
  fields: readonly SourceField[],
): readonly Column[] {
  return inputs.map((input, index) => {
    const at = batch.schema.fields.findIndex((field) => field.name === input.name)
    const data = batch.data.children[at]
    if (data === undefined) throw new RangeError(`column ${JSON.stringify(input.name)} is not in the batch`)
    if (data.length !== batch.numRows) {
      throw new RangeError(`column ${JSON.stringify(input.name)} has ${data.length} rows, the batch ${batch.numRows}`)
    }
    try {
      return convert(data, batch.numRows, input, fields[index]!)
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      throw new RangeError(`column ${JSON.stringify(input.name)}: ${error.message}`, { cause: error })
    }
  })
}

function convert(data: ArrowData, length: number, input: InputColumn, field: SourceField): Column {
  const type = field.physical
  if (type === undefined || type === 'null') return nullColumn(input, length)
  const nulls = validityOf(data, length)
  if (type === 'utf8') return textColumn(data, length, input.name, nulls)
  const bits = type === 'bool' ? (data.offset & 7) + length : length * CELL_BYTES[type] * 8
  const bytes = bytesOf(data.values)
  const values = type === 'bool' ? bytes.subarray(data.offset >> 3) : bytes
  if (values.length * 8 < bits) throw new RangeError(`its values take ${values.length} bytes, ${length} rows need more`)
  return {
    name: input.name,
    type,
    unit: field.unit,
    scale: field.scale,
    values: values.subarray(0, (bits + 7) >> 3),
    validity: nulls,
    bitOffset: data.offset & 7,
  }
}

/** The bitmap from the byte that holds row 0's bit, or undefined where nothing is null. */
function validityOf(data: ArrowData, length: number): Uint8Array | undefined {
  if (data.nullCount === 0 || !data.nullBitmap || data.nullBitmap.length === 0) return undefined
  const from = data.offset >> 3
  const bytes = ((data.offset & 7) + length + 7) >> 3
  const bitmap = data.nullBitmap.subarray(from, from + bytes)
  if (bitmap.length < bytes)
    throw new RangeError(`its validity takes ${bitmap.length} bytes, ${length} rows need ${bytes}`)
  return bitmap
}

function textColumn(data: ArrowData, length: number, name: string, validity: Uint8Array | undefined): Column {
  const bitOffset = data.offset & 7
  if (data.type.typeId === TYPE_DICTIONARY) return expandDictionary(data, length, name, validity)
  const text = plainText(data, length)
  checkText(text, length, (row) => isPresent(validity, bitOffset + row))
  return { name, type: 'utf8', values: text.values, offsets: text.offsets, validity, bitOffset }
}

interface Text {
  readonly values: Uint8Array
  /** One more than rows. */
  readonly offsets: Int32Array
}

/** Text with 32-bit offsets, checked to lie within its bytes. */
function plainText(data: ArrowData, length: number): Text {
  if (data.type.typeId === TYPE_UTF8_VIEW) return expandViews(data, length)
  const values = bytesOf(data.values)
  // An empty batch may come without offsets at all.
  if (length === 0) return { values: values.subarray(0, 0), offsets: new Int32Array(1) }
  const given = data.valueOffsets
  if (given === undefined || given.length < length + 1) {
    throw new RangeError(`it has ${given?.length ?? 0} text offsets, ${length} rows need ${length + 1}`)
  }
  const offsets = given instanceof Int32Array ? given.subarray(0, length + 1) : narrowOffsets(given, length)
  let last = offsets[0]!
  if (last < 0) throw new RangeError(`its first text offset is ${last}`)
  for (let row = 1; row <= length; row++) {
    const offset = offsets[row]!
    if (offset < last) throw new RangeError(`its text offsets fall from ${last} to ${offset} at row ${row - 1}`)
    last = offset
  }
  if (last > values.length) throw new RangeError(`its text ends at byte ${last} of ${values.length}`)
  return { values, offsets }
}

/** 64-bit offsets as 32-bit ones: their low halves, as no text of a batch reaches 2 GB. */
function narrowOffsets(wide: BigInt64Array, length: number): Int32Array {
  const halves = new Int32Array(wide.buffer, wide.byteOffset, (length + 1) * 2)
  const offsets = new Int32Array(length + 1)
  for (let row = 0; row <= length; row++) {
    if (halves[2 * row + 1] !== 0)
      throw new RangeError(`its text reaches byte ${wide[row]}, at most ${TEXT_BYTES_MAX} fit`)
    offsets[row] = halves[2 * row]!
  }
  return offsets
}

const VIEW_BYTES = 16
/** Texts up to 12 bytes lie in the view itself; longer ones are (length, prefix, buffer, offset). */
const VIEW_INLINE_BYTES = 12

function expandViews(data: ArrowData, length: number): Text {
  const views = bytesOf(data.values)
  if (views.length < length * VIEW_BYTES)
    throw new RangeError(`it has ${views.length} bytes of views for ${length} rows`)
  const cells = new DataView(views.buffer, views.byteOffset, views.byteLength)
  const present = (row: number) => isPresent(data.nullBitmap ?? undefined, data.offset + row)
  const nullable = data.nullCount !== 0 && (data.nullBitmap?.length ?? 0) > 0
  const offsets = new Int32Array(length + 1)
  for (let row = 0; row < length; row++) {
    const size = nullable && !present(row) ? 0 : cells.getInt32(row * VIEW_BYTES, true)
    const end = offsets[row]! + size
    if (size < 0 || end > TEXT_BYTES_MAX) throw new RangeError(`its view of row ${row} claims ${size} bytes`)
    offsets[row + 1] = end
  }
  const values = new Uint8Array(offsets[length]!)
  for (let row = 0; row < length; row++) {
    const start = offsets[row]!
    const size = offsets[row + 1]! - start
    const at = row * VIEW_BYTES
    if (size <= VIEW_INLINE_BYTES) copyBytes(views, at + 4, values, start, size)
    else {
      const buffer = data.variadicBuffers?.[cells.getInt32(at + 8, true)]
      const from = cells.getInt32(at + 12, true)
      if (buffer === undefined || from < 0 || from + size > buffer.length) {
        throw new RangeError(`its view of row ${row} lies outside the buffers`)
      }
      copyBytes(buffer, from, values, start, size)
    }
  }
  return { values, offsets }
}

/** A dictionary's text, joined over its chunks (a stream may add to it), with what is null in it. */
interface Dictionary extends Text {
  readonly nulls: readonly boolean[] | undefined
  readonly length: number
}

/** Joined dictionaries, by the library's object: batches of one file share it. */
const dictionaries = new WeakMap<object, Dictionary>()

function expandDictionary(data: ArrowData, length: number, name: string, validity: Uint8Array | undefined): Column {
  if (data.dictionary === undefined) throw new RangeError('its dictionary is missing')
  let dictionary = dictionaries.get(data.dictionary)
  if (dictionary === undefined) {
    dictionary = joinDictionary(data.dictionary.data)
    dictionaries.set(data.dictionary, dictionary)
  }
  const indices = data.values as ArrayLike<number | bigint>
  if (indices.length < length) throw new RangeError(`it has ${indices.length} indices for ${length} rows`)

  // Lengths first, then one allocation, then the bytes.
  const bitOffset = data.offset & 7
  const offsets = new Int32Array(length + 1)
  const entries = new Int32Array(length)
  let nulls: Uint8Array | undefined
  for (let row = 0; row < length; row++) {
    let entry = -1
    if (isPresent(validity, bitOffset + row)) {
      entry = Number(indices[row])
      if (!(entry >= 0 && entry < dictionary.length)) {
        throw new RangeError(`its index of row ${row} is ${entry}, the dictionary has ${dictionary.length} entries`)
      }
      if (dictionary.nulls?.[entry]) {
        nulls ??= validity?.slice() ?? new Uint8Array((bitOffset + length + 7) >> 3).fill(255)
        const bit = bitOffset + row
        nulls[bit >> 3]! &= ~(1 << (bit & 7))
        entry = -1
      }
    }
    entries[row] = entry
    const size = entry < 0 ? 0 : dictionary.offsets[entry + 1]! - dictionary.offsets[entry]!
    const end = offsets[row]! + size
    if (end > TEXT_BYTES_MAX) throw new RangeError(`its text takes more than ${TEXT_BYTES_MAX} bytes`)
    offsets[row + 1] = end
  }
  const values = new Uint8Array(offsets[length]!)
  for (let row = 0; row < length; row++) {
    const entry = entries[row]!
    if (entry < 0) continue
    const start = offsets[row]!
    copyBytes(dictionary.values, dictionary.offsets[entry]!, values, start, offsets[row + 1]! - start)
  }
  return { name, type: 'utf8', values, offsets, validity: nulls ?? validity, bitOffset }
}

function joinDictionary(chunks: readonly ArrowData[]): Dictionary {
  const texts = chunks.map((chunk) => {
    const text = plainText(chunk, chunk.length)
    const validity = validityOf(chunk, chunk.length)
    checkText(text, chunk.length, (row) => isPresent(validity, (chunk.offset & 7) + row))
    return { text, validity, chunk }
  })
  const length = texts.reduce((sum, { chunk }) => sum + chunk.length, 0)
  const bytes = texts.reduce((sum, { text, chunk }) => sum + text.offsets[chunk.length]! - text.offsets[0]!, 0)
  if (bytes > TEXT_BYTES_MAX) throw new RangeError(`its dictionary takes ${bytes} bytes, at most ${TEXT_BYTES_MAX} fit`)
  const values = new Uint8Array(bytes)
  const offsets = new Int32Array(length + 1)
  const nulls: boolean[] = []
  let entry = 0
  for (const { text, validity, chunk } of texts) {
    const first = text.offsets[0]!
    const base = offsets[entry]!
    values.set(text.values.subarray(first, text.offsets[chunk.length]!), base)
    for (let row = 0; row < chunk.length; row++) {
      nulls.push(!isPresent(validity, (chunk.offset & 7) + row))
      entry++
      offsets[entry] = base + text.offsets[row + 1]! - first
    }
  }
  return { values, offsets, length, nulls: nulls.includes(true) ? nulls : undefined }
}

/** Is every present text UTF-8? The bytes as a whole first; a text by itself only where that fails. */
function checkText(text: Text, length: number, present: (row: number) => boolean): void {
  const { values, offsets } = text
  let whole = isUtf8(values.subarray(offsets[0]!, offsets[length]!))
  // Valid bytes can still be cut within a character.
  for (let row = 1; whole && row < length; row++) whole = (values[offsets[row]!]! & 0xc0) !== 0x80
  if (whole) return
  for (let row = 0; row < length; row++) {
    if (present(row) && !isUtf8(values.subarray(offsets[row]!, offsets[row + 1]!))) {
      throw new RangeError(`its text of row ${row} is not UTF-8`)
    }
  }
}

function isPresent(validity: Uint8Array | undefined, bit: number): boolean {
  return validity === undefined || ((validity[bit >> 3]! >> (bit & 7)) & 1) === 1
}

/** Texts are short: a loop costs less than making two views for `set`. */
function copyBytes(from: Uint8Array, fromAt: number, to: Uint8Array, toAt: number, length: number): void {
  for (let i = 0; i < length; i++) to[toAt + i] = from[fromAt + i]!
}

function bytesOf(view: unknown): Uint8Array {
  if (!ArrayBuffer.isView(view)) return new Uint8Array(0)
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
}
