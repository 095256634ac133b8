/**
 * Arrow's objects as far as they are used: interfaces that any copy of the library fits, so that a program may push
 * tables of its own.
 */

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
export const TYPE_NULL = 1
export const TYPE_INT = 2
export const TYPE_FLOAT = 3
export const TYPE_UTF8 = 5
export const TYPE_BOOL = 6
export const TYPE_DECIMAL = 7
export const TYPE_DATE = 8
export const TYPE_TIMESTAMP = 10
export const TYPE_LARGE_UTF8 = 20
export const TYPE_UTF8_VIEW = 24
export const TYPE_DICTIONARY = -1

/** The bitmap from the byte that holds row 0's bit, or undefined where nothing is null. */
export function validityOf(data: ArrowData, length: number): Uint8Array | undefined {
  if (data.nullCount === 0 || !data.nullBitmap || data.nullBitmap.length === 0) return undefined
  const from = data.offset >> 3
  const bytes = ((data.offset & 7) + length + 7) >> 3
  const bitmap = data.nullBitmap.subarray(from, from + bytes)
  if (bitmap.length < bytes)
    throw new RangeError(`its validity takes ${bitmap.length} bytes, ${length} rows need ${bytes}`)
  return bitmap
}

/** Bit `bit` of a bitmap; everything is present where there is none. */
export function isPresent(validity: Uint8Array | undefined, bit: number): boolean {
  return validity === undefined || ((validity[bit >> 3]! >> (bit & 7)) & 1) === 1
}

/** The bytes of a view, or none. */
export function bytesOf(view: unknown): Uint8Array {
  if (!ArrayBuffer.isView(view)) return new Uint8Array(0)
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
}
