/**
 * Cells of a JSON object right out of its bytes: no text, no object, no value that no view reads.
 *
 * A way around `JSON.parse` for the usual message, not a second reading of JSON: `scan` says true only where it is sure
 * that the slow way (json-row.ts) would have written the same cells. Escapes, numbers of many digits in exact columns,
 * deep values, a cell that does not fit, anything malformed: false, and the slow way decides and explains.
 *
 * It looks at every byte, so what it skips is checked, too. Bytes beyond ASCII are checked as a whole at the end.
 */
import { isUtf8 } from 'node:buffer'
import type { ColumnBuilder } from './build.ts'

const SPACE = 32
const QUOTE = 34
const COMMA = 44
const MINUS = 45
const POINT = 46
const ZERO = 48
const NINE = 57
const COLON = 58
const OPEN_BRACKET = 91
const BACKSLASH = 92
const CLOSE_BRACKET = 93
const OPEN_BRACE = 123
const CLOSE_BRACE = 125

/** Containers in containers beyond this are left to the slow way. */
const NESTING_MAX = 8
/** A bit per input says which fields a row had. */
const INPUTS_MAX = 31
/** So many digits and a power of ten up to 10^22 are exact doubles, and their quotient is the nearest double. */
const DIGITS_MAX = 15
const POWERS = Array.from({ length: DIGITS_MAX + 1 }, (_, digits) => 10 ** digits)

interface Field {
  readonly bit: number
  readonly name: Uint8Array
  readonly builder: ColumnBuilder
  /** Its numbers must keep every digit. */
  readonly isExact: boolean
}

export class JsonScanner {
  private readonly fields: readonly Field[]
  /** The same, by the length of the name. */
  private readonly byLength: readonly (readonly Field[])[]
  private readonly nestingMax: number
  private bytes: Uint8Array = new Uint8Array(0)
  private end = 0
  private row = 0
  /** All bytes of strings so far, or-ed: is any beyond ASCII? */
  private union = 0

  /** `builders` are written to; `depthMax` is the slow way's limit. */
  constructor(builders: readonly ColumnBuilder[], depthMax: number) {
    this.fields = builders.map((builder, index) => ({
      bit: 1 << index,
      name: new TextEncoder().encode(builder.input.name),
      builder,
      isExact: builder.input.type !== 'float64',
    }))
    const byLength: Field[][] = []
    for (const field of this.fields) {
      while (byLength.length <= field.name.length) byLength.push([])
      byLength[field.name.length]!.push(field)
    }
    this.byLength = byLength
    // A value is one deep in the object around it.
    this.nestingMax = Math.min(NESTING_MAX, depthMax - 1)
  }

  /** Writes the cells of `row`. False: unsure, and they must all be written again. */
  scan(bytes: Uint8Array, row: number): boolean {
    if (this.fields.length > INPUTS_MAX) return false
    this.bytes = bytes
    this.end = bytes.length
    this.row = row
    this.union = 0
    let at = this.space(0)
    if (bytes[at] !== OPEN_BRACE) return false
    at = this.space(at + 1)
    let found = 0
    if (bytes[at] === CLOSE_BRACE) at++
    else {
      for (;;) {
        if (bytes[at] !== QUOTE) return false
        const keyEnd = this.string(at + 1)
        if (keyEnd < 0) return false
        const field = this.fieldNamed(at + 1, keyEnd)
        at = this.space(keyEnd + 1)
        if (bytes[at] !== COLON) return false
        at = this.space(at + 1)
        if (field === undefined) at = this.skip(at, this.nestingMax)
        else {
          at = this.take(field, at)
          found |= field.bit
        }
        if (at < 0) return false
        at = this.space(at)
        const next = bytes[at++]
        if (next === CLOSE_BRACE) break
        if (next !== COMMA) return false
        at = this.space(at)
      }
    }
    if (this.space(at) !== this.end) return false
    if (this.union > 127 && !isUtf8(bytes)) return false
    for (const { bit, builder } of this.fields) {
      if ((found & bit) === 0) builder.set(row, null)
    }
    return true
  }

  private fieldNamed(from: number, to: number): Field | undefined {
    const length = to - from
    if (length >= this.byLength.length) return undefined
    const candidates = this.byLength[length]!
    for (let i = 0; i < candidates.length; i++) {
      const { name } = candidates[i]!
      let same = 0
      while (same < length && name[same] === this.bytes[from + same]) same++
      if (same === length) return candidates[i]
    }
    return undefined
  }

  // ---- each of these answers where it ended, or -1 -----------------------------------------------------------------------

  /** The value at `at` into the field's cell. */
  private take(field: Field, at: number): number {
    const { bytes, row } = this
    const { builder } = field
    const first = bytes[at]!
    if (first === QUOTE) {
      const to = this.string(at + 1)
      if (to < 0) return -1
      const fits = builder.setUtf8 ? builder.setUtf8(row, bytes, at + 1, to) : builder.set(row, this.text(at + 1, to))
      return fits ? to + 1 : -1
    }
    if (first === MINUS || (first >= ZERO && first <= NINE)) return this.takeNumber(field, at)
    const to = this.word(at)
    if (to < 0) return -1
    // The words differ in their lengths and first letters: true, null, false.
    const value = first === 0x6e ? null : to - at === 4
    return builder.set(row, value) ? to : -1
  }

  /** A number of few digits is made here, exactly; of others the slow way's double is made from their text. */
  private takeNumber(field: Field, start: number): number {
    const { bytes } = this
    const to = this.number(start)
    if (to < 0) return -1
    const isNegative = bytes[start] === MINUS
    let whole = 0
    let digits = 0
    let behind = -1
    for (let at = isNegative ? start + 1 : start; at < to; at++) {
      const byte = bytes[at]!
      if (byte === POINT) behind = digits
      else if (byte >= ZERO && byte <= NINE) {
        whole = whole * 10 + (byte - ZERO)
        digits++
      } else {
        // An exponent.
        digits = DIGITS_MAX + 1
        break
      }
    }
    let value: number
    if (digits <= DIGITS_MAX) {
      value = behind < 0 ? whole : whole / POWERS[digits - behind]!
      if (isNegative) value = -value
    } else if (field.isExact) return -1
    else value = Number(this.text(start, to))
    return field.builder.set(this.row, value) ? to : -1
  }

  /** Over any value; `nesting` containers may still open. */
  private skip(start: number, nesting: number): number {
    const { bytes } = this
    const first = bytes[start]!
    if (first === QUOTE) {
      const to = this.string(start + 1)
      return to < 0 ? -1 : to + 1
    }
    if (first === MINUS || (first >= ZERO && first <= NINE)) return this.number(start)
    const isObject = first === OPEN_BRACE
    if (!isObject && first !== OPEN_BRACKET) return this.word(start)
    if (nesting === 0) return -1
    const close = isObject ? CLOSE_BRACE : CLOSE_BRACKET
    let at = this.space(start + 1)
    if (bytes[at] === close) return at + 1
    for (;;) {
      if (isObject) {
        if (bytes[at] !== QUOTE) return -1
        at = this.string(at + 1)
        if (at < 0) return -1
        at = this.space(at + 1)
        if (bytes[at] !== COLON) return -1
        at = this.space(at + 1)
      }
      at = this.skip(at, nesting - 1)
      if (at < 0) return -1
      at = this.space(at)
      const next = bytes[at++]
      if (next === close) return at
      if (next !== COMMA) return -1
      at = this.space(at)
    }
  }

  private space(start: number): number {
    const { bytes, end } = this
    let at = start
    while (at < end) {
      const byte = bytes[at]!
      if (byte > SPACE || (byte !== SPACE && byte !== 10 && byte !== 13 && byte !== 9)) break
      at++
    }
    return at
  }

  /** At the closing quote of a string without escapes. */
  private string(start: number): number {
    const { bytes, end } = this
    let { union } = this
    for (let at = start; at < end; at++) {
      const byte = bytes[at]!
      if (byte === QUOTE) {
        this.union = union
        return at
      }
      if (byte < SPACE || byte === BACKSLASH) return -1
      union |= byte
    }
    return -1
  }

  private number(start: number): number {
    const { bytes } = this
    let at = bytes[start] === MINUS ? start + 1 : start
    // A leading zero stands alone.
    if (bytes[at] === ZERO) at++
    else {
      at = this.digits(at)
      if (at < 0) return -1
    }
    if (bytes[at] === POINT) {
      at = this.digits(at + 1)
      if (at < 0) return -1
    }
    if (at < this.end && (bytes[at]! | 32) === 0x65) {
      at++
      if (bytes[at] === 0x2b || bytes[at] === MINUS) at++
      at = this.digits(at)
    }
    return at
  }

  /** Behind one digit or more. */
  private digits(start: number): number {
    const { bytes, end } = this
    let at = start
    while (at < end && bytes[at]! >= ZERO && bytes[at]! <= NINE) at++
    return at === start ? -1 : at
  }

  /** true, false, null. */
  private word(at: number): number {
    const { bytes } = this
    const [b, c, d] = [bytes[at + 1], bytes[at + 2], bytes[at + 3]]
    switch (bytes[at]) {
      case 0x74:
        return b === 0x72 && c === 0x75 && d === 0x65 ? at + 4 : -1
      case 0x66:
        return b === 0x61 && c === 0x6c && d === 0x73 && bytes[at + 4] === 0x65 ? at + 5 : -1
      case 0x6e:
        return b === 0x75 && c === 0x6c && d === 0x6c ? at + 4 : -1
    }
    return -1
  }

  /** Of columns other than text: only ASCII fits them, and else the slow way explains. */
  private text(from: number, to: number): string {
    const { buffer, byteOffset } = this.bytes
    return Buffer.from(buffer, byteOffset + from, to - from).toString('latin1')
  }
}
