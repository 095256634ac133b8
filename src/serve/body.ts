/**
 * A request body from bytes: JSON, read more strictly than `JSON.parse` does. Integers beyond 2^53 keep every digit (they
 * become bigints), an object that has one member twice is refused, and so are deep nesting and broken UTF-8.
 *
 * One pass over the bytes counts and marks; the text itself is still parsed by `JSON.parse`, which also judges the syntax.
 */
import { invalid } from './api.ts'

/** A request needs 3; the limit also makes every later recursion over the value safe. */
const DEPTH_MAX = 16
const QUOTE = 0x22
const BACKSLASH = 0x5c

interface Scan {
  depth: number
  /** Colons outside of strings: members in the text, which `JSON.parse` may merge. */
  members: number
  /** Start and end of each integer literal that a double cannot hold. */
  wide: number[]
}

/** Throws REQUEST_INVALID. */
export function parseBody(bytes: Uint8Array): unknown {
  const scan = scanBody(bytes)
  if (scan.depth > DEPTH_MAX) throw invalid(`the body is nested ${scan.depth} deep, expected at most ${DEPTH_MAX}`)
  const text = decode(scan.wide.length === 0 ? bytes : quoteWide(bytes, scan.wide))
  let value: unknown
  try {
    value = scan.wide.length === 0 ? JSON.parse(text) : JSON.parse(text, unquoteWide)
  } catch (cause) {
    throw invalid(`the body is not JSON: ${(cause as Error).message}`)
  }
  if (countMembers(value) !== scan.members) throw invalid('an object of the body has two members of one name')
  return value
}

function scanBody(bytes: Uint8Array): Scan {
  const scan: Scan = { depth: 0, members: 0, wide: [] }
  let depth = 0
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]!
    if (byte === QUOTE) i = endOfString(bytes, i)
    else if (byte === 0x7b || byte === 0x5b) scan.depth = Math.max(scan.depth, ++depth)
    else if (byte === 0x7d || byte === 0x5d) depth--
    else if (byte === 0x3a) scan.members++
    else if (byte === 0x2d || isDigit(byte)) {
      const end = endOfNumber(bytes, i)
      if (isWide(bytes, i, end)) scan.wide.push(i, end)
      i = end - 1
    }
  }
  return scan
}

/** Index of the closing quote, or the end of the bytes. */
function endOfString(bytes: Uint8Array, start: number): number {
  let i = start + 1
  while (i < bytes.length && bytes[i] !== QUOTE) i += bytes[i] === BACKSLASH ? 2 : 1
  return i
}

function endOfNumber(bytes: Uint8Array, start: number): number {
  let i = start + 1
  while (i < bytes.length) {
    const byte = bytes[i]!
    // Digits, and the letters of a fraction or an exponent: . + - e E
    if (!isDigit(byte) && byte !== 0x2e && byte !== 0x2b && byte !== 0x2d && (byte | 0x20) !== 0x65) break
    i++
  }
  return i
}

/** Whole, and beyond what a double holds exactly. Longer than 40 digits is no key of ours: it stays a rounded number. */
function isWide(bytes: Uint8Array, start: number, end: number): boolean {
  if (end - start < 16 || end - start > 40) return false
  const first = start + (bytes[start] === 0x2d ? 1 : 0)
  if (bytes[first] === 0x30) return false // A leading zero is no JSON: left to JSON.parse to refuse.
  for (let i = first; i < end; i++) if (!isDigit(bytes[i]!)) return false
  return !Number.isSafeInteger(Number(decode(bytes.subarray(start, end))))
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39
}

/** The bytes with each wide integer written as `{"$int":"digits"}`: no join key is an object, so nothing real reads so. */
function quoteWide(bytes: Uint8Array, wide: readonly number[]): Uint8Array {
  const pieces: Uint8Array[] = []
  let from = 0
  for (let i = 0; i < wide.length; i += 2) {
    pieces.push(bytes.subarray(from, wide[i]), OPEN_INT, bytes.subarray(wide[i], wide[i + 1]), CLOSE_INT)
    from = wide[i + 1]!
  }
  pieces.push(bytes.subarray(from))
  const quoted = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0))
  let at = 0
  for (const piece of pieces) {
    quoted.set(piece, at)
    at += piece.length
  }
  return quoted
}

const OPEN_INT = new TextEncoder().encode('{"$int":"')
const CLOSE_INT = new TextEncoder().encode('"}')

function unquoteWide(_name: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('$int' in value)) return value
  return typeof value.$int === 'string' && /^-?\d{15,40}$/.test(value.$int) ? BigInt(value.$int) : value
}

function decode(bytes: Uint8Array): string {
  try {
    return UTF8.decode(bytes)
  } catch {
    throw invalid('the body is not UTF-8')
  }
}

const UTF8 = new TextDecoder('utf-8', { fatal: true })

function countMembers(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  let members = 0
  if (Array.isArray(value)) {
    for (const each of value) if (typeof each === 'object') members += countMembers(each)
    return members
  }
  for (const name of Object.keys(value)) {
    members++
    const each = (value as Record<string, unknown>)[name]
    if (typeof each === 'object') members += countMembers(each)
  }
  return members
}
