/**
 * Thrift's compact protocol, as far as Parquet's footer and page headers use it.
 *
 * A struct is fields until a zero byte; a field's header is one byte, id delta in the high half and type in the low one,
 * and the id in full where the delta is 0. Integers are zigzag varints. Nothing read is trusted: each length is checked
 * against the bytes left, and a fault is a RangeError for the caller to name the file in.
 */

export const THRIFT_TRUE = 1
export const THRIFT_FALSE = 2
export const THRIFT_BYTE = 3
export const THRIFT_I32 = 5
export const THRIFT_I64 = 6
export const THRIFT_DOUBLE = 7
export const THRIFT_BINARY = 8
export const THRIFT_LIST = 9
export const THRIFT_STRUCT = 12

const THRIFT_I16 = 4
const THRIFT_SET = 10
const THRIFT_MAP = 11
const THRIFT_UUID = 13

/** Parquet nests some ten deep; a hostile footer may nest as deep as it is long. */
const DEPTH_MAX = 64

export interface ThriftField {
  readonly id: number
  readonly type: number
}

export class ThriftReader {
  at: number
  private readonly bytes: Uint8Array

  constructor(bytes: Uint8Array, at = 0) {
    this.bytes = bytes
    this.at = at
  }

  /** Calls `read` for each field of the struct that starts here; it must read or skip the field's value. */
  fields(read: (field: ThriftField) => void): void {
    let id = 0
    for (let header = this.byte(); header !== 0; header = this.byte()) {
      const delta = header >> 4
      id = delta === 0 ? this.integer() : id + delta
      read({ id, type: header & 15 })
    }
  }

  /** An i16, i32 or i64 within ±2^52, where its zigzag form is still exact in a double: no file is as long. */
  integer(): number {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = this.byte()
      value += (byte & 127) * scale
      if (byte < 128) break
      if (scale > 2 ** 56) throw new RangeError('a number is longer than 64 bits')
    }
    const whole = value % 2 === 0 ? value / 2 : -(value + 1) / 2
    if (value > Number.MAX_SAFE_INTEGER) throw new RangeError(`a number is beyond 2^52: about ${whole}`)
    return whole
  }

  /** Bytes of a binary or string, not copied. */
  binary(): Uint8Array {
    const length = this.length()
    const start = this.at
    this.advance(length)
    return this.bytes.subarray(start, start + length)
  }

  text(): string {
    return Buffer.from(this.binary()).toString('utf8')
  }

  /** Header of a list or set: number of elements and their type. */
  list(): { size: number; type: number } {
    const header = this.byte()
    const size = header >> 4 === 15 ? this.length() : header >> 4
    // Each element takes a byte at least, so a count beyond the bytes left is a lie and never a loop.
    if (size > this.bytes.length - this.at)
      throw new RangeError(`a list claims ${size} elements, more than bytes are left`)
    return { size, type: header & 15 }
  }

  /** Reads past a value of `type`. */
  skip(type: number, depth = 0): void {
    if (depth > DEPTH_MAX) throw new RangeError(`nested deeper than ${DEPTH_MAX}`)
    if (type === THRIFT_TRUE || type === THRIFT_FALSE) return
    if (type === THRIFT_I16 || type === THRIFT_I32 || type === THRIFT_I64) {
      while (this.byte() >= 128) {}
    } else if (type === THRIFT_BYTE) this.advance(1)
    else if (type === THRIFT_DOUBLE) this.advance(8)
    else if (type === THRIFT_UUID) this.advance(16)
    else if (type === THRIFT_BINARY) this.advance(this.length())
    else if (type === THRIFT_LIST || type === THRIFT_SET) this.skipList(depth)
    else if (type === THRIFT_MAP) this.skipMap(depth)
    else if (type === THRIFT_STRUCT) this.fields((field) => this.skip(field.type, depth + 1))
    else throw new RangeError(`unknown field type ${type}`)
  }

  private skipList(depth: number): void {
    const { size, type } = this.list()
    for (let i = 0; i < size; i++) this.skipElement(type, depth + 1)
  }

  private skipMap(depth: number): void {
    const size = this.length()
    if (size === 0) return
    if (size > this.bytes.length - this.at) throw new RangeError(`a map claims ${size} entries`)
    const types = this.byte()
    for (let i = 0; i < size; i++) {
      this.skipElement(types >> 4, depth + 1)
      this.skipElement(types & 15, depth + 1)
    }
  }

  /** A boolean is in its field's header, but a byte of its own inside a list. */
  private skipElement(type: number, depth: number): void {
    if (type === THRIFT_TRUE || type === THRIFT_FALSE) this.advance(1)
    else this.skip(type, depth)
  }

  private byte(): number {
    const byte = this.bytes[this.at]
    if (byte === undefined) throw new RangeError('it ends in the middle of a value')
    this.at++
    return byte
  }

  /** An unsigned varint that counts bytes or elements. */
  private length(): number {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = this.byte()
      value += (byte & 127) * scale
      if (byte < 128) return value
      if (scale > 2 ** 35) throw new RangeError('a length is longer than 32 bits')
    }
  }

  private advance(length: number): void {
    if (length > this.bytes.length - this.at) {
      throw new RangeError(
        `a value of ${length} bytes runs past the end, ${this.bytes.length - this.at} bytes are left`,
      )
    }
    this.at += length
  }
}

/** Writes one struct, fields in ascending order of id. */
export class ThriftWriter {
  private readonly bytes: number[] = []
  private last = 0

  i32(id: number, value: number): this {
    this.header(id, THRIFT_I32)
    this.zigzag(value)
    return this
  }

  i64(id: number, value: number): this {
    this.header(id, THRIFT_I64)
    this.zigzag(value)
    return this
  }

  binary(id: number, value: Uint8Array): this {
    this.header(id, THRIFT_BINARY)
    this.varint(value.length)
    this.raw(value)
    return this
  }

  /** A list of i32. */
  integers(id: number, values: readonly number[]): this {
    this.listHeader(id, values.length, THRIFT_I32)
    for (const value of values) this.zigzag(value)
    return this
  }

  binaries(id: number, values: readonly Uint8Array[]): this {
    this.listHeader(id, values.length, THRIFT_BINARY)
    for (const value of values) {
      this.varint(value.length)
      this.raw(value)
    }
    return this
  }

  /** `bytes` is a whole struct, as `end` returns it. */
  struct(id: number, bytes: Uint8Array): this {
    this.header(id, THRIFT_STRUCT)
    this.raw(bytes)
    return this
  }

  structs(id: number, values: readonly Uint8Array[]): this {
    this.listHeader(id, values.length, THRIFT_STRUCT)
    for (const value of values) this.raw(value)
    return this
  }

  /** A field with a value that a reader has passed, as it stood there. */
  copy({ id, type }: ThriftField, value: Uint8Array): this {
    this.header(id, type)
    this.raw(value)
    return this
  }

  /** Ends the struct and returns its bytes. */
  end(): Uint8Array {
    this.bytes.push(0)
    return Uint8Array.from(this.bytes)
  }

  private header(id: number, type: number): void {
    const delta = id - this.last
    if (delta < 1 || delta > 15) throw new RangeError(`field ${id} cannot follow field ${this.last}`)
    this.bytes.push((delta << 4) | type)
    this.last = id
  }

  private listHeader(id: number, size: number, type: number): void {
    this.header(id, THRIFT_LIST)
    if (size < 15) this.bytes.push((size << 4) | type)
    else {
      this.bytes.push(0xf0 | type)
      this.varint(size)
    }
  }

  private zigzag(value: number): void {
    this.varint(value < 0 ? -2 * value - 1 : 2 * value)
  }

  /** Halving by division: shifts would cut the number to 32 bits. */
  private varint(value: number): void {
    let rest = value
    while (rest >= 128) {
      this.bytes.push((rest % 128) | 128)
      rest = Math.floor(rest / 128)
    }
    this.bytes.push(rest)
  }

  private raw(bytes: Uint8Array): void {
    for (const byte of bytes) this.bytes.push(byte)
  }
}
