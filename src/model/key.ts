/**
 * Entity keys as canonical bytes, and the lane an entity belongs to. The core has the same two functions
 * (assembly/keys.ts); test/assembly/keys.test.ts holds them together.
 */
import { TilefoldError } from './errors.ts'

/** Longer canonical keys are rejected: they are data errors, and the embedded store's keys end at 1,978 bytes. */
export const KEY_BYTES_MAX = 1024

export type KeyPart = string | bigint | number | boolean

const encoder = new TextEncoder()

/**
 * A single text part is its UTF-8 bytes; several parts stand one behind the other, text with its length (u32) before it,
 * int64 as 8 bytes, bool as one; all little-endian. Throws REQUEST_INVALID naming the part.
 */
export function encodeKey(
  parts: readonly { name: string; type: 'utf8' | 'int64' | 'bool' }[],
  values: readonly unknown[],
): Uint8Array {
  if (parts.length === 1 && parts[0]!.type === 'utf8') return boundedKey(textBytes(parts[0]!.name, values[0]))
  const chunks: Uint8Array[] = []
  for (const [i, part] of parts.entries()) {
    const value = values[i]
    if (part.type === 'utf8') {
      const bytes = textBytes(part.name, value)
      const length = new Uint8Array(4)
      new DataView(length.buffer).setUint32(0, bytes.length, true)
      chunks.push(length, bytes)
    } else if (part.type === 'int64') {
      const cell = new Uint8Array(8)
      new DataView(cell.buffer).setBigInt64(0, int64Of(part.name, value), true)
      chunks.push(cell)
    } else {
      if (typeof value !== 'boolean') throw badKey(part.name, value, 'true or false')
      chunks.push(Uint8Array.of(value ? 1 : 0))
    }
  }
  const key = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0))
  let at = 0
  for (const chunk of chunks) {
    key.set(chunk, at)
    at += chunk.length
  }
  return boundedKey(key)
}

function textBytes(name: string, value: unknown): Uint8Array {
  if (typeof value === 'string' && value.length > 0) {
    const bytes = value.length <= SHORT_CHARS_MAX ? asciiBytes(value) : undefined
    if (bytes !== undefined) return bytes
    if (value.isWellFormed()) return encoder.encode(value)
  }
  throw badKey(name, value, 'a non-empty string of well-formed Unicode')
}

/** Up to here V8 keeps a typed array's bytes beside it, and the loop below is some 8 times as fast as an encoder's call. */
const SHORT_CHARS_MAX = 64

function asciiBytes(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(text.length)
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 0x7f) return undefined
    bytes[i] = code
  }
  return bytes
}

function int64Of(name: string, value: unknown): bigint {
  const whole =
    typeof value === 'bigint'
      ? value
      : typeof value === 'number' && Number.isSafeInteger(value)
        ? BigInt(value)
        : typeof value === 'string' && /^-?\d{1,19}$/.test(value)
          ? BigInt(value)
          : undefined
  if (whole === undefined || whole !== BigInt.asIntN(64, whole)) throw badKey(name, value, 'a 64-bit integer')
  return whole
}

function boundedKey(key: Uint8Array): Uint8Array {
  if (key.length > KEY_BYTES_MAX) {
    throw new TilefoldError(
      'REQUEST_INVALID',
      `cannot use entity key: got ${key.length} bytes, expected at most ${KEY_BYTES_MAX}`,
    )
  }
  return key
}

function badKey(name: string, value: unknown, expected: string): TilefoldError {
  const got = typeof value === 'bigint' ? `${value}` : (JSON.stringify(value)?.slice(0, 60) ?? 'nothing')
  return new TilefoldError(
    'REQUEST_INVALID',
    `cannot use entity key part ${JSON.stringify(name)}: got ${got}, expected ${expected}`,
  )
}

/**
 * MurmurHash3 (32 bits, seed 0) of the canonical key: what entities are spread over lanes by. Part of every layout
 * (`laneHash: 1`), so it can't change under stored rows.
 */
export function laneHash(key: Uint8Array): number {
  let hash = 0
  const whole = key.length & ~3
  for (let i = 0; i < whole; i += 4) {
    hash ^= scramble(key[i]! | (key[i + 1]! << 8) | (key[i + 2]! << 16) | (key[i + 3]! << 24))
    hash = (Math.imul((hash << 13) | (hash >>> 19), 5) + 0xe6546b64) | 0
  }
  let tail = 0
  for (let i = key.length - 1; i >= whole; i--) tail = (tail << 8) | key[i]!
  if (whole < key.length) hash ^= scramble(tail)
  hash ^= key.length
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

function scramble(word: number): number {
  const mixed = Math.imul(word, 0xcc9e2d51)
  return Math.imul((mixed << 15) | (mixed >>> 17), 0x1b873593)
}

/**
 * MurmurHash2 as Kafka's own producers use it to choose a partition, made positive: `partitionHash(key) % partitions`.
 * Source: org.apache.kafka.common.utils.Utils.murmur2 and toPositive.
 */
export function partitionHash(key: Uint8Array): number {
  const multiplier = 0x5bd1e995
  let hash = 0x9747b28c ^ key.length
  const whole = key.length & ~3
  for (let i = 0; i < whole; i += 4) {
    let word = Math.imul(key[i]! | (key[i + 1]! << 8) | (key[i + 2]! << 16) | (key[i + 3]! << 24), multiplier)
    word = Math.imul(word ^ (word >>> 24), multiplier)
    hash = Math.imul(hash, multiplier) ^ word
  }
  const rest = key.length - whole
  if (rest === 3) hash ^= key[whole + 2]! << 16
  if (rest >= 2) hash ^= key[whole + 1]! << 8
  if (rest >= 1) hash = Math.imul(hash ^ key[whole]!, multiplier)
  hash = Math.imul(hash ^ (hash >>> 13), multiplier)
  return (hash ^ (hash >>> 15)) & 0x7fffffff
}
