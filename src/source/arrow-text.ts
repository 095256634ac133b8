/**
 * Arrow's four forms of text to the one that the core reads: 32-bit offsets and bytes.
 *
 * Plain text stays as it is; large (64-bit offsets), viewed and dictionary text is expanded once per batch. Offsets are
 * checked to rise within the bytes, and the bytes to be UTF-8. Faults are RangeErrors.
 */
import { isUtf8 } from 'node:buffer'
import type { Column } from '../model/columns.ts'
import {
  type ArrowData,
  bytesOf,
  isPresent,
  TYPE_DICTIONARY,
  TYPE_LARGE_UTF8,
  TYPE_UTF8,
  TYPE_UTF8_VIEW,
  validityOf,
} from './arrow-data.ts'

/** Types of text, and of a dictionary's values where it is one of text. */
export const TEXT_TYPES: readonly number[] = [TYPE_UTF8, TYPE_LARGE_UTF8, TYPE_UTF8_VIEW]
const TEXT_BYTES_MAX = 2 ** 31 - 1

export function textColumn(data: ArrowData, length: number, name: string, validity: Uint8Array | undefined): Column {
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

/** Texts are short: a loop costs less than making two views for `set`. */
function copyBytes(from: Uint8Array, fromAt: number, to: Uint8Array, toAt: number, length: number): void {
  for (let i = 0; i < length; i++) to[toAt + i] = from[fromAt + i]!
}
