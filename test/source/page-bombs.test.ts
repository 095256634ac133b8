/** Pages that hold, or claim, far more than they may: refused before anything makes room for it. */
import { writeFileSync } from 'node:fs'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import { afterAll, describe, expect, it } from 'vitest'
import { cutRowGroup } from '../../src/source/footer.ts'
import { checkUnpacked } from '../../src/source/page-size.ts'
import { createParquetSource } from '../../src/source/parquet.ts'
import { ThriftWriter } from '../../src/source/thrift.ts'
import { input, readAll, scratch, thrown } from './support.ts'

const at = scratch(afterAll)
const [NONE, SNAPPY, GZIP, LZO, BROTLI, LZ4, ZSTD, LZ4_RAW] = [0, 1, 2, 3, 4, 5, 6, 7]
const GIB = 2 ** 30

/** A frame of zstd: `runs` blocks, each of `size` times one byte. */
function zstdRuns(runs: number, size: number): Uint8Array {
  const bytes = [0x28, 0xb5, 0x2f, 0xfd, 0, 0x98]
  for (let run = 0; run < runs; run++) {
    const header = (size << 3) | (1 << 1) | (run === runs - 1 ? 1 : 0)
    bytes.push(header & 255, (header >> 8) & 255, header >> 16, 7)
  }
  return Uint8Array.from(bytes)
}

/** A file of one column `n` and one page, whose header claims `claimed` bytes. */
function fileOf(
  codec: number,
  packed: Uint8Array,
  claimed: number,
  values = 10,
  kind: 'v1' | 'v2' | 'dictionary' = 'v1',
): Uint8Array {
  const page = new ThriftWriter()
    .i32(1, kind === 'v1' ? 0 : kind === 'v2' ? 3 : 2)
    .i32(2, claimed)
    .i32(3, packed.length)
  if (kind === 'v1') page.struct(5, new ThriftWriter().i32(1, values).i32(2, 0).i32(3, 3).i32(4, 3).end())
  if (kind === 'dictionary') page.struct(7, new ThriftWriter().i32(1, values).i32(2, 0).end())
  if (kind === 'v2')
    page.struct(8, new ThriftWriter().i32(1, values).i32(2, 0).i32(3, values).i32(4, 0).i32(5, 0).i32(6, 0).end())
  const bytes = Uint8Array.from(Buffer.concat([page.end(), packed]))
  const element = new ThriftWriter().i32(1, 2).i32(3, 0).binary(4, Buffer.from('n')).end()
  const footer = { rows: values, fields: [], rowGroups: [], createdBy: undefined }
  const chunk = {
    start: 4,
    bytes: bytes.length,
    uncompressedBytes: Math.max(0, claimed),
    values,
    type: 2,
    codec,
    encodings: [0],
    path: [Buffer.from('n')],
    dataAt: 0,
  }
  return cutRowGroup(footer, [{ name: 'n', chunk: 0, type: 2, element }], values, [{ chunk, bytes }])
}

async function read(file: Uint8Array) {
  writeFileSync(at('bomb.parquet'), file)
  return readAll(
    createParquetSource({ log: 'bomb', paths: [at('bomb.parquet')], inputs: [input('n', 'int64')] }).read(0),
  )
}

const zeros = Buffer.alloc(80)

describe('a file by hand', () => {
  it.each([
    ['none', NONE, zeros],
    ['gzip', GZIP, gzipSync(zeros)],
    ['brotli', BROTLI, brotliCompressSync(zeros)],
    ['zstd', ZSTD, zstdRuns(1, 80)],
  ])('is read where it is honest (%s)', async (name, codec, packed) => {
    const cell = name === 'zstd' ? 0x0707070707070707n : 0n
    for (const kind of ['v1', 'v2'] as const) {
      expect((await read(fileOf(codec, packed, 80, 10, kind))).columns).toEqual([Array(10).fill(cell)])
    }
  })

  const gzipped = gzipSync(Buffer.alloc(2 ** 27))
  it.each([
    ['a gzip page of 128 MiB that claims 80 bytes', GZIP, gzipped, 80, /unpacks to more than its header claims/],
    [
      'a brotli page of 128 MiB that claims 80 bytes',
      BROTLI,
      brotliCompressSync(Buffer.alloc(2 ** 27)),
      80,
      /unpacks to more/,
    ],
    [
      'a zstd page of 3 GiB that claims 80 bytes',
      ZSTD,
      zstdRuns(24_576, 131_072),
      80,
      /unpacks to more .* up to 3221225472 bytes, expected 80/,
    ],
    [
      'a gzip page that claims 1 GiB',
      GZIP,
      gzipSync(zeros),
      GIB,
      /claims 1073741824 bytes, which \d+ bytes of gzip cannot be/,
    ],
    ['a zstd page that claims 1 GiB', ZSTD, zstdRuns(1, 80), GIB, /of zstd cannot be/],
    ['a snappy page that claims 1 GiB', SNAPPY, Uint8Array.of(80, 0, 1), GIB, /of snappy cannot be/],
    ['an LZ4 page that claims 1 GiB', LZ4_RAW, Uint8Array.of(80, 0, 1), GIB, /of LZ4 cannot be/],
    ['an old LZ4 page that claims 1 GiB', LZ4, Uint8Array.of(80, 0, 1), GIB, /of LZ4 cannot be/],
    ['a page that claims 2 GiB', ZSTD, zstdRuns(1, 80), 2 ** 31 - 1, /header claims 2147483647 bytes/],
    ['a page that claims -1 bytes', ZSTD, zstdRuns(1, 80), -1, /header claims -1 bytes/],
    ['a codec that is not read', LZO, zeros, 80, /codec LZO is not supported/],
    ['a codec of tomorrow', 9, zeros, 80, /codec 9 is not supported/],
  ])('is refused with %s', async (_, codec, packed, claimed, message) => {
    for (const kind of ['v1', 'v2', 'dictionary'] as const) {
      const error = await thrown(() => read(fileOf(codec, packed, claimed, 10, kind)))
      expect(error.code).toBe('SOURCE_CORRUPT')
      expect(error.message, kind).toMatch(message)
      expect(error.message).toMatch(/bomb\.parquet: row group 0: column "n", page 0/)
    }
  })
})

describe('a frame of zstd', () => {
  it('says how large it is by its blocks', () => {
    expect(() => checkUnpacked(ZSTD, zstdRuns(3, 1000), 3000)).not.toThrow()
    expect(() => checkUnpacked(ZSTD, zstdRuns(3, 1000), 2999)).toThrow(/more than its header claims/)
    expect(() => checkUnpacked(ZSTD, zstdRuns(3, 1000), 3001)).toThrow(/cannot be/)
    // Two frames, with one between them that is skipped.
    const skipped = Uint8Array.of(0x5a, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9)
    expect(() => checkUnpacked(ZSTD, Buffer.concat([zstdRuns(1, 5), skipped, zstdRuns(2, 6)]), 17)).not.toThrow()
  })

  it('that is none, or cut off anywhere, is refused', () => {
    const whole = zstdRuns(3, 1000)
    for (let length = 1; length < whole.length - 1; length++) {
      expect(() => checkUnpacked(ZSTD, whole.subarray(0, length), 3000), `${length}`).toThrow(RangeError)
    }
    expect(() => checkUnpacked(ZSTD, zeros, 80)).toThrow(/does not begin/)
  })
})
