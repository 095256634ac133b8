/**
 * Small records of a store as bytes: CRC-32 (u32, little-endian), then JSON in UTF-8 whose `v` is the format's version.
 * Rare and short, so readable beats compact; the checksum tells a damaged record from an odd one.
 */
import { crc32 } from 'node:zlib'
import { TilefoldError } from '../model/errors.ts'

const VERSION = 1

export function seal(value: object): Buffer {
  const json = Buffer.from(JSON.stringify({ v: VERSION, ...value }))
  const sealed = Buffer.allocUnsafe(4 + json.length)
  sealed.writeUInt32LE(crc32(json), 0)
  sealed.set(json, 4)
  return sealed
}

/** The sealed value. Throws STORE_FORMAT naming `what` for damage and for versions this program does not know. */
export function unseal<T extends object>(sealed: Buffer, what: string): T {
  const json = sealed.subarray(4)
  if (sealed.length < 4 || sealed.readUInt32LE(0) !== crc32(json)) {
    throw new TilefoldError('STORE_FORMAT', `cannot read ${what}: its checksum does not match; it is damaged`)
  }
  const { v, ...value } = JSON.parse(json.toString()) as T & { v: number }
  if (v !== VERSION) {
    throw new TilefoldError('STORE_FORMAT', `cannot read ${what}: unknown version; got ${v}, expected ${VERSION}`)
  }
  return value as unknown as T
}
