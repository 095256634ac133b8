import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { THRIFT_BINARY, THRIFT_LIST, THRIFT_STRUCT, ThriftReader, ThriftWriter } from '../../src/source/thrift.ts'

/** Reads what the writer of these tests writes. */
function readBack(bytes: Uint8Array): Map<number, unknown> {
  const reader = new ThriftReader(bytes)
  const found = new Map<number, unknown>()
  reader.fields(({ id, type }) => {
    if (type === THRIFT_BINARY) found.set(id, Buffer.from(reader.binary()).toString('hex'))
    else if (type === THRIFT_LIST) {
      const { size } = reader.list()
      found.set(
        id,
        Array.from({ length: size }, () => reader.integer()),
      )
    } else if (type === THRIFT_STRUCT) {
      reader.skip(type)
      found.set(id, 'struct')
    } else found.set(id, reader.integer())
  })
  expect(reader.at).toBe(bytes.length)
  return found
}

describe('thrift compact protocol', () => {
  it('reads back what it writes', () => {
    fc.assert(
      fc.property(
        fc.double({ min: -(2 ** 52), max: 2 ** 52 - 1, noNaN: true }).map((n) => Math.trunc(n) + 0),
        fc.integer(),
        fc.uint8Array({ maxLength: 300 }),
        fc.array(fc.integer(), { maxLength: 40 }),
        (long, short, binary, list) => {
          const inner = new ThriftWriter().i64(7, long).binary(9, binary).end()
          const bytes = new ThriftWriter()
            .i32(1, short)
            .i64(2, long)
            .binary(3, binary)
            .integers(4, list)
            .struct(19, inner)
            .end()
          expect(readBack(bytes)).toEqual(
            new Map<number, unknown>([
              [1, short],
              [2, long],
              [3, Buffer.from(binary).toString('hex')],
              [4, list],
              [19, 'struct'],
            ]),
          )
        },
      ),
    )
  })

  it('writes the bytes of the specification', () => {
    // Field 1, i32, zigzag(-2) = 3; field 3, binary of 2 bytes; stop.
    const bytes = new ThriftWriter().i32(1, -2).binary(3, Uint8Array.of(0xaa, 0xbb)).end()
    expect([...bytes]).toEqual([0x15, 3, 0x28, 2, 0xaa, 0xbb, 0])
  })

  it('skips every type it may meet, booleans in lists and maps too', () => {
    const bytes = Uint8Array.of(
      ...[0x11, 0x12, 0x13, 0x80], // true, false, a byte
      ...[0x17, 1, 2, 3, 4, 5, 6, 7, 8], // a double
      ...[0x19, 0x21, 1, 2], // a list of 2 booleans
      ...[0x1b, 1, 0x51, 9, 1], // a map of one i32 to a boolean
      ...[0x1b, 0], // an empty map
      ...[0x1c, 0x15, 2, 0], // a struct of one i32
      ...[0x1d, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], // a uuid
      0,
    )
    const reader = new ThriftReader(bytes)
    reader.skip(THRIFT_STRUCT)
    expect(reader.at).toBe(bytes.length)
  })

  it('refuses numbers that a double cannot hold', () => {
    const bytes = new ThriftWriter().i64(1, 2 ** 52 - 1).end()
    expect(new ThriftReader(bytes, 1).integer()).toBe(2 ** 52 - 1)
    // zigzag(2^52) = 2^53: seven bytes of nothing, then bit 4 of the eighth.
    const beyond = Uint8Array.of(0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10)
    expect(() => new ThriftReader(beyond).integer()).toThrow(RangeError)
    expect(() => new ThriftReader(new Uint8Array(20).fill(0x80)).integer()).toThrow(RangeError)
  })

  it('ends on hostile bytes with a RangeError and never runs past them', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const reader = new ThriftReader(bytes)
        try {
          reader.skip(THRIFT_STRUCT)
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError)
        }
        expect(reader.at).toBeLessThanOrEqual(bytes.length)
      }),
      { numRuns: 2000 },
    )
    // Structs within structs, as deep as the bytes go.
    expect(() => new ThriftReader(new Uint8Array(100_000).fill(0x1c)).skip(THRIFT_STRUCT)).toThrow(/nested deeper/)
    // A list that claims 2^28 elements in six bytes.
    expect(() => new ThriftReader(Uint8Array.of(0xf5, 0x80, 0x80, 0x80, 0x80, 1)).list()).toThrow(/claims/)
  })
})
