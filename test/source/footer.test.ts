/** Footers made by hand: what is read of them, and each lie that they may tell. */
import { describe, expect, it } from 'vitest'
import { cutRowGroup, footerLength, parseFooter, readChunks } from '../../src/source/footer.ts'
import { ThriftWriter } from '../../src/source/thrift.ts'
import { thrown } from './support.ts'

const INT64 = 2
const BYTE_ARRAY = 6
const DATA_BYTES = 1000

interface Chunk {
  readonly type?: number
  readonly values?: number
  readonly bytes?: number
  readonly dataOffset?: number
  readonly dictionaryOffset?: number
  readonly otherFile?: boolean
  readonly encrypted?: boolean
}

function text(value: string): Uint8Array {
  return Buffer.from(value)
}

function leaf(name: string, type: number, repetition = 1): Uint8Array {
  return new ThriftWriter().i32(1, type).i32(3, repetition).binary(4, text(name)).end()
}

function group(name: string, children: number): Uint8Array {
  return new ThriftWriter().binary(4, text(name)).i32(5, children).end()
}

function columnChunk(chunk: Chunk): Uint8Array {
  const meta = new ThriftWriter()
    .i32(1, chunk.type ?? INT64)
    .integers(2, [0, 3])
    .binaries(3, [text('n')])
    .i32(4, 0)
    .i64(5, chunk.values ?? 10)
    .i64(6, 100)
    .i64(7, chunk.bytes ?? 100)
    .i64(9, chunk.dataOffset ?? 4)
  if (chunk.dictionaryOffset !== undefined) meta.i64(11, chunk.dictionaryOffset)
  const out = new ThriftWriter()
  if (chunk.otherFile) out.binary(1, text('elsewhere.parquet'))
  out.i64(2, 4).struct(3, meta.end())
  if (chunk.encrypted) out.struct(8, new ThriftWriter().end())
  return out.end()
}

/** A footer of one row group; `schema` are the elements behind the root. */
function footer(
  schema: readonly Uint8Array[],
  columns: number,
  chunks: readonly Chunk[],
  rows = 10,
  fileRows = rows,
): Uint8Array {
  const rowGroup = new ThriftWriter().structs(1, chunks.map(columnChunk)).i64(2, 100).i64(3, rows).end()
  return new ThriftWriter()
    .i32(1, 1)
    .structs(2, [group('schema', columns), ...schema])
    .i64(3, fileRows)
    .structs(4, [rowGroup])
    .binary(6, text('by hand'))
    .end()
}

function chunksOf(bytes: Uint8Array, names: readonly string[]) {
  const parsed = parseFooter(bytes, 'f')
  const needed = names.map((name) => parsed.fields.find((field) => field.name === name)!)
  return readChunks(bytes, parsed.rowGroups[0]!, needed, DATA_BYTES, 'f', 0)
}

describe('a footer', () => {
  it('names the columns at the top, and which chunk is whose', () => {
    const schema = [
      leaf('a', INT64),
      group('nested', 2), // chunks 1 and 2, 3
      leaf('x', INT64),
      group('list', 1),
      leaf('item', INT64, 2),
      leaf('many', INT64, 2), // chunk 3
      leaf('b', BYTE_ARRAY), // chunk 4
    ]
    const parsed = parseFooter(footer(schema, 4, Array(5).fill({})), 'f')
    expect(parsed.fields.map(({ name, chunk, type }) => [name, chunk, type])).toEqual([
      ['a', 0, INT64],
      ['nested', undefined, undefined],
      ['many', undefined, INT64],
      ['b', 4, BYTE_ARRAY],
    ])
    expect(parsed).toMatchObject({ rows: 10, rowGroups: [{ rows: 10 }] })
  })

  it('gives chunks in the order asked, dictionary first', () => {
    const schema = [leaf('a', INT64), leaf('b', BYTE_ARRAY)]
    const bytes = footer(schema, 2, [
      { dataOffset: 4, bytes: 50 },
      { type: BYTE_ARRAY, dataOffset: 90, dictionaryOffset: 60, bytes: 70 },
    ])
    expect(chunksOf(bytes, ['b', 'a'])).toMatchObject([
      { start: 60, dataAt: 30, bytes: 70, type: BYTE_ARRAY },
      { start: 4, dataAt: 0, bytes: 50, type: INT64 },
    ])
    // 0 is how some writers say that there is no dictionary.
    expect(chunksOf(footer([leaf('n', INT64)], 1, [{ dictionaryOffset: 0 }]), ['n'])).toMatchObject([
      { start: 4, dataAt: 0 },
    ])
  })

  it('is the same again of a row group that was cut out', () => {
    const bytes = footer([leaf('a', INT64), leaf('n', INT64)], 2, [
      {},
      { dataOffset: 140, dictionaryOffset: 120, bytes: 40 },
    ])
    const parsed = parseFooter(bytes, 'f')
    const [chunk] = chunksOf(bytes, ['n'])
    const content = Uint8Array.from({ length: 40 }, (_, i) => i)
    const file = cutRowGroup(parsed, [parsed.fields[1]!], 10, [{ chunk: chunk!, bytes: content }])
    const length = footerLength(file.subarray(-8), file.length, 'cut')
    const again = Uint8Array.from(file.subarray(file.length - 8 - length, file.length - 8))
    const cut = parseFooter(again, 'cut')
    expect(cut.fields.map(({ name, chunk: index }) => [name, index])).toEqual([['n', 0]])
    const [moved] = readChunks(again, cut.rowGroups[0]!, cut.fields, file.length - 8 - length, 'cut', 0)
    expect(moved).toEqual({ ...chunk, start: 4, path: [Uint8Array.from(text('n'))] })
    expect(file.subarray(4, 44)).toEqual(Buffer.from(content))
    expect(Buffer.from(cut.createdBy!).toString()).toBe('by hand')
  })

  const N = [leaf('n', INT64)]
  it.each<[string, Uint8Array, RegExp]>([
    ['a chunk of another type', footer(N, 1, [{ type: BYTE_ARRAY }]), /chunk 0 has type 6, the schema 2/],
    ['a chunk behind the data', footer(N, 1, [{ dataOffset: 950 }]), /lies outside the file: 100 bytes at 950/],
    ['a chunk before the data', footer(N, 1, [{ dataOffset: 3 }]), /lies outside the file: 100 bytes at 3/],
    ['a negative size', footer(N, 1, [{ bytes: -1 }]), /field 7 of a column chunk is -1/],
    ['other values than rows', footer(N, 1, [{ values: 9 }]), /holds 9 values, the row group 10 rows/],
    ['fewer chunks than columns', footer(N, 1, []), /it has no column chunk 0/],
    ['a chunk in another file', footer(N, 1, [{ otherFile: true }]), /in another file, which is not supported/],
    ['an encrypted chunk', footer(N, 1, [{ encrypted: true }]), /is encrypted, which is not supported/],
    [
      'a dictionary longer than its chunk',
      footer(N, 1, [{ dataOffset: 300, dictionaryOffset: 4 }]),
      /dictionary page is longer/,
    ],
    ['rows that do not add up', footer(N, 1, [{}], 10, 11), /row groups hold 10 rows, the file says 11/],
    ['a negative number of rows', footer(N, 1, [{}], -10), /field 3 is -10/],
    ['more columns than elements', footer(N, 2, [{}]), /names 2 columns, it has 1/],
    [
      'a group without its children',
      footer([group('g', 3), leaf('n', INT64)], 1, [{}]),
      /ends in the middle of a nested column/,
    ],
  ])('with %s is refused', async (_, bytes, message) => {
    const error = await thrown(() => chunksOf(bytes, ['n']))
    expect(error.code).toBe('SOURCE_CORRUPT')
    expect(error.message).toMatch(message)
    expect(error.message).toMatch(/^cannot read f: /)
  })

  it('may ask for more than can be held, and is refused', async () => {
    const bytes = footer(N, 1, [{ bytes: 2 ** 31 }])
    const parsed = parseFooter(bytes, 'f')
    const error = await thrown(() => readChunks(bytes, parsed.rowGroups[0]!, parsed.fields, 2 ** 40, 'f', 0))
    expect(error.message).toMatch(/its needed columns take 2147483648 bytes, at most 1073741824 can be read at once/)
  })
})
