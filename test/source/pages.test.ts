import { crc32 } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { checkPages } from '../../src/source/pages.ts'
import { ThriftWriter } from '../../src/source/thrift.ts'

interface Page {
  readonly kind: 'dictionary' | 'v1' | 'v2'
  readonly bytes: Uint8Array
  readonly values: number
  readonly encoding?: number
  readonly checksum?: number
  /** What the header says of its bytes, where it lies. */
  readonly claimed?: number
}

const PLAIN = 0
const RLE_DICTIONARY = 8

/** A column chunk as parquet.thrift describes it. */
function chunk(...pages: readonly Page[]): Uint8Array {
  const parts = pages.flatMap((page) => {
    const { kind, bytes, values, encoding = PLAIN } = page
    const header = new ThriftWriter()
      .i32(1, kind === 'dictionary' ? 2 : kind === 'v1' ? 0 : 3)
      .i32(2, bytes.length)
      .i32(3, page.claimed ?? bytes.length)
    if (page.checksum !== undefined) header.i32(4, page.checksum | 0)
    if (kind === 'dictionary') header.struct(7, new ThriftWriter().i32(1, values).i32(2, PLAIN).end())
    if (kind === 'v1') header.struct(5, new ThriftWriter().i32(1, values).i32(2, encoding).i32(3, 3).i32(4, 3).end())
    if (kind === 'v2') {
      const inner = new ThriftWriter().i32(1, values).i32(2, 0).i32(3, values).i32(4, encoding).i32(5, 0).i32(6, 0)
      header.struct(8, inner.end())
    }
    return [header.end(), bytes]
  })
  return Uint8Array.from(Buffer.concat(parts))
}

const BYTES = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)

describe('pages of a column chunk', () => {
  it('of both versions are counted, dictionaries are not', () => {
    const whole = chunk(
      { kind: 'dictionary', bytes: BYTES, values: 99 },
      { kind: 'v1', bytes: BYTES, values: 5, encoding: RLE_DICTIONARY },
      { kind: 'v2', bytes: BYTES, values: 7 },
    )
    expect(() => checkPages(whole, 12, 0)).not.toThrow()
    expect(() => checkPages(whole, 13, 0)).toThrow(/page 3: the pages hold 12 values of 13/)
    expect(() => checkPages(whole, 11, 0)).toThrow(/the pages hold 12 values, expected 11/)
  })

  it('are compared with their checksums where these are there', () => {
    const checksum = crc32(BYTES)
    expect(() => checkPages(chunk({ kind: 'v1', bytes: BYTES, values: 1, checksum }), 1, 0)).not.toThrow()
    // Any one bit, in either kind of page.
    for (const kind of ['v1', 'v2', 'dictionary'] as const) {
      for (let bit = 0; bit < BYTES.length * 8; bit++) {
        const bytes = Uint8Array.from(BYTES)
        bytes[bit >> 3]! ^= 1 << (bit & 7)
        const damaged = chunk({ kind, bytes, values: 1, checksum }, { kind: 'v1', bytes: BYTES, values: 1 })
        expect(() => checkPages(damaged, 2, 0)).toThrow(/page 0: checksum mismatch/)
      }
    }
  })

  it('that point into a dictionary need one', () => {
    for (const encoding of [2, RLE_DICTIONARY]) {
      const lost = chunk({ kind: 'v1', bytes: BYTES, values: 1, encoding })
      expect(() => checkPages(lost, 1, 0)).toThrow(/page 0: its cells point into a dictionary that is not there/)
    }
  })

  it('that claim more than there is are refused', () => {
    expect(() => checkPages(chunk({ kind: 'v1', bytes: BYTES, values: 1, claimed: 9 }), 1, 0)).toThrow(
      /claims 9 bytes, 8 are/,
    )
    expect(() => checkPages(chunk({ kind: 'v1', bytes: BYTES, values: -1 }), 1, 0)).toThrow(/-1 values/)
    expect(() => checkPages(chunk({ kind: 'v1', bytes: BYTES, values: 1 }).subarray(0, 5), 1, 0)).toThrow(/page 0/)
    // Levels of a v2 page lie within it.
    for (const [levels, message] of [
      [-1, /its levels claim -1 bytes/],
      [9, /its levels claim 9 bytes/],
      [2 ** 31 - 1, /its levels claim 2147483647 bytes/],
    ] as const) {
      const inner = new ThriftWriter().i32(1, 1).i32(2, 0).i32(3, 1).i32(4, PLAIN).i32(5, levels).i32(6, 0).end()
      const header = new ThriftWriter().i32(1, 3).i32(2, 8).i32(3, 8).struct(8, inner).end()
      expect(() => checkPages(Uint8Array.from(Buffer.concat([header, BYTES])), 1, 0)).toThrow(message)
    }
    const bomb = new ThriftWriter()
      .i32(1, 0)
      .i32(2, 2 ** 31 - 1)
      .i32(3, 0)
      .struct(5, new ThriftWriter().i32(1, 1).end())
      .end()
    expect(() => checkPages(bomb, 1, 0)).toThrow(/claims 2147483647 bytes/)
  })
})
