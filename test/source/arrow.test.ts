/** Arrow files, streams and pushed tables, with every form of text, slices, nulls, and damage. */
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import {
  Binary,
  Bool,
  DateDay,
  DateMillisecond,
  Decimal,
  Dictionary,
  Field,
  Float32,
  Float64,
  Int16,
  Int32,
  Int64,
  LargeUtf8,
  makeData,
  Null,
  RecordBatch,
  RecordBatchStreamWriter,
  Schema,
  Struct,
  Table,
  TimestampMicrosecond,
  TimestampSecond,
  tableFromIPC,
  tableToIPC,
  Uint8,
  Utf8,
  Utf8View,
  vectorFromArray,
} from 'apache-arrow'
import { afterAll, describe, expect, it } from 'vitest'
import { arrowToBatches, createArrowSource, readArrowStream } from '../../src/source/arrow.ts'
import { seededRandom } from '../support/random.ts'
import { type Cell, cellsOf, codeOf, input, readAll, scratch, thrown } from './support.ts'

const at = scratch(afterAll)
const ROWS = 200
const draw = <T>(value: (row: number) => T) =>
  Array.from({ length: ROWS }, (_, row) => (row % 6 === 4 ? null : value(row)))

/** Empty, short, at a view's limit of twelve bytes, and beyond it. */
const SHAPES = [
  () => '',
  (row: number) => `k${row % 9}`,
  () => 'twelve bytes',
  (row: number) => `thirteen byt${row % 7}`,
]
const TEXTS = draw((row) => (row % 5 === 4 ? `long enough to leave its view ${row} €😀` : SHAPES[row % 5]!(row)))
const CELLS = {
  i64: draw((row) => BigInt(row) * 2n ** 55n - 2n ** 62n),
  i16: draw((row) => row - 100),
  f64: draw((row) => row / 7),
  f32: draw((row) => Math.fround(row / 7)),
  flag: draw((row) => row % 5 < 2),
}

function allTypes(): Table {
  return new Table({
    i64: vectorFromArray(CELLS.i64, new Int64()),
    i16: vectorFromArray(CELLS.i16, new Int16()),
    f64: vectorFromArray(CELLS.f64, new Float64()),
    f32: vectorFromArray(CELLS.f32, new Float32()),
    flag: vectorFromArray(CELLS.flag, new Bool()),
    text: vectorFromArray(TEXTS, new Utf8()),
    large: vectorFromArray(TEXTS, new LargeUtf8()),
    view: vectorFromArray(TEXTS, new Utf8View()),
    key: vectorFromArray(TEXTS, new Dictionary(new Utf8(), new Int32())),
    nothing: vectorFromArray(
      draw(() => null),
      new Null(),
    ),
  })
}

const INPUTS = [
  input('i64', 'int64'),
  input('i16', 'int64'),
  input('f64', 'float64'),
  input('f32', 'float64'),
  input('flag', 'bool'),
  input('text', 'utf8'),
  input('large', 'utf8'),
  input('view', 'utf8'),
  input('key', 'utf8'),
  input('nothing', 'timestamp'),
]
const EXPECTED: Cell[][] = [
  CELLS.i64,
  CELLS.i16.map((value) => (value === null ? null : BigInt(value))),
  CELLS.f64,
  CELLS.f32,
  CELLS.flag,
  TEXTS,
  TEXTS,
  TEXTS,
  TEXTS,
  draw(() => null),
]

/** Every column but the views: the library cannot write slices of those. */
const SPLIT_INPUTS = INPUTS.filter(({ name }) => name !== 'view')
const SPLIT_EXPECTED = EXPECTED.filter((_, index) => INPUTS[index]!.name !== 'view')

/** All types but views as IPC bytes in several record batches. */
function split(sizes: readonly number[], format: 'file' | 'stream'): Uint8Array {
  const table = allTypes().select(SPLIT_INPUTS.map(({ name }) => name))
  let start = 0
  const batches = sizes.flatMap((size) => {
    const part = table.slice(start, start + size)
    start += size
    return part.batches
  })
  return tableToIPC(new Table(table.schema, batches), format)
}

async function* chunked(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let from = 0; from < bytes.length; from += size) yield bytes.subarray(from, from + size)
}

describe('Arrow files', () => {
  it.each(['file', 'stream'] as const)('of the %s format give every cell, in any batch size', async (format) => {
    writeFileSync(at(`split.${format}.arrow`), split([64, 1, 0, 135], format))
    writeFileSync(at(`whole.${format}.arrow`), tableToIPC(allTypes(), format))
    for (const [name, inputs, expected] of [
      ['split', SPLIT_INPUTS, SPLIT_EXPECTED],
      ['whole', INPUTS, EXPECTED],
    ] as const) {
      const paths = [at(`${name}.${format}.arrow`)]
      for (const batchRows of [1, 50, 8192]) {
        const source = createArrowSource({ log: 'test', paths, inputs, batchRows })
        const read = await readAll(source.read(0))
        expect(read.columns).toEqual(expected)
        expect(read.positions).toEqual([...Array(ROWS).keys()])
        expect(Math.max(...read.batches.map(({ batch }) => batch.length))).toBeLessThanOrEqual(batchRows)
        const later = await readAll(source.read(131))
        expect(later.columns).toEqual(expected.map((cells) => cells.slice(131)))
        expect(later.positions[0]).toBe(131)
      }
    }
  })

  it('skip the bodies of record batches that lie before the position', async () => {
    const bytes = split([64, 64, 72], 'file')
    // A text of the first batch, made unreadable: whoever reads on behind it cannot notice.
    const text = Buffer.from('long enough to leave its view 9 ')
    for (let where = Buffer.from(bytes).indexOf(text); where >= 0; where = Buffer.from(bytes).indexOf(text)) {
      bytes.fill(0xff, where, where + text.length)
    }
    writeFileSync(at('skipped.arrow'), bytes)
    const source = createArrowSource({ log: 'test', paths: [at('skipped.arrow')], inputs: [input('text', 'utf8')] })
    expect(await codeOf(() => readAll(source.read(63)))).toBe('SOURCE_CORRUPT')
    const later = await readAll(source.read(64))
    expect(later.columns).toEqual([TEXTS.slice(64)])
    expect(later.batches[0]!.origin).toBe('skipped.arrow, record batch 1')
  })

  it('with messages that the footer does not name are refused', async () => {
    const bytes = Buffer.from(split([64, 64, 72], 'file'))
    const footerStart = bytes.length - 10 - bytes.readUInt32LE(bytes.length - 10)
    // The list of three blocks is the only word 3 that is followed by the first block's offset.
    const three = [...bytes.keys()].filter(
      (at) => at >= footerStart && at < bytes.length - 14 && bytes.readUInt32LE(at) === 3,
    )
    const found: string[] = []
    for (const where of three) {
      const shorter = Buffer.from(bytes)
      shorter.writeUInt32LE(1, where)
      writeFileSync(at('shorter.arrow'), shorter)
      const source = createArrowSource({ log: 'test', paths: [at('shorter.arrow')], inputs: [input('text', 'utf8')] })
      found.push(
        await readAll(source.read(0)).then(
          ({ positions }) => `${positions.length} rows`,
          (error) => error.message,
        ),
      )
    }
    expect(found.filter((each) => /rows/.test(each) && each !== `${ROWS} rows`)).toEqual([])
    expect(found.join()).toMatch(/bytes behind its last record batch are not in its footer/)
  })

  it('run on from one to the next', async () => {
    const whole = allTypes()
    writeFileSync(at('a.arrow'), tableToIPC(whole, 'file'))
    writeFileSync(at('b.arrows'), tableToIPC(whole, 'stream'))
    const source = createArrowSource({
      log: 'test',
      paths: [at('a.arrow'), at('b.arrows')],
      inputs: [input('text', 'utf8')],
    })
    const read = await readAll(source.read(150))
    expect(read.columns[0]).toEqual([...TEXTS.slice(150), ...TEXTS])
    expect(read.positions.at(-1)).toBe(2 * ROWS - 1)
  })

  it('of the public flights sample are read as their own library reads them', async () => {
    const file = path.resolve('node_modules/vega-datasets/data/flights-200k.arrow')
    const inputs = [input('delay', 'int64'), input('distance', 'int64'), input('time', 'float64')]
    const read = await readAll(createArrowSource({ log: 'test', paths: [file], inputs }).read(0))
    const table = tableFromIPC(readFileSync(file))
    expect(read.positions.length).toBe(table.numRows)
    for (const [index, { name }] of inputs.entries()) {
      const peer = table.getChild(name)!.toArray() as ArrayLike<number>
      const row = read.columns[index]!.findIndex((cell, at) => Number(cell) !== peer[at])
      expect(row, name).toBe(-1)
    }
  })

  it('come as a stream of any chunks', async () => {
    const bytes = split([100, 100], 'stream')
    for (const size of [1, 77, 100_000]) {
      const read = await readAll(readArrowStream(chunked(bytes, size), 'standard input', { inputs: SPLIT_INPUTS }))
      expect(read.columns).toEqual(SPLIT_EXPECTED)
      expect(read.batches[1]!.origin).toBe('standard input, record batch 1')
    }
  })

  it('may add to a dictionary from batch to batch', async () => {
    const type = new Dictionary(new Utf8(), new Int32(), 7)
    const schema = new Schema([new Field('key', type)])
    const words = ['red', 'green', null, 'blue', 'grün', 'red']
    const batch = (values: (string | null)[], dictionary: string[]) => {
      const indices = values.map((value) => (value === null ? null : dictionary.indexOf(value)))
      const data = makeData({
        type,
        length: values.length,
        data: Int32Array.from(indices.map((index) => index ?? 0)),
        nullBitmap: Uint8Array.of(
          indices.reduce<number>((bits, index, row) => bits | (index === null ? 0 : 1 << row), 0),
        ),
        dictionary: vectorFromArray(dictionary, new Utf8()),
      })
      return new RecordBatch(
        schema,
        makeData({ type: new Struct(schema.fields), length: values.length, children: [data] }),
      )
    }
    const writer = new RecordBatchStreamWriter()
    writer.write(batch(words.slice(0, 3), ['red', 'green']))
    writer.write(batch(words.slice(3), ['red', 'green', 'blue', 'grün']))
    writer.finish()
    writeFileSync(at('delta.arrows'), writer.toUint8Array(true))
    const read = await readAll(
      createArrowSource({ log: 'test', paths: [at('delta.arrows')], inputs: [input('key', 'utf8')] }).read(0),
    )
    expect(read.columns[0]).toEqual(words)
  })
})

describe('instants, dates and decimals', () => {
  it('keep their raw cells and name their unit', () => {
    const table = new Table({
      day: vectorFromArray([new Date(86_400_000 * 11_000)], new DateDay()),
      ms: vectorFromArray([new Date(1234567890123)], new DateMillisecond()),
    })
    const us = makeData({ type: new TimestampMicrosecond(), length: 1, data: BigInt64Array.of(-1_000_001n) })
    const s = makeData({ type: new TimestampSecond(), length: 1, data: BigInt64Array.of(5n) })
    const decimal = makeData({
      type: new Decimal(4, 38),
      length: 2,
      data: new Uint32Array(BigInt64Array.of(-7n, -1n, 10n ** 18n, 5n).buffer),
    })
    const first = arrowToBatches(
      table.select(['day', 'ms']),
      [input('day', 'timestamp'), input('ms', 'timestamp')],
      0,
    )[0]!
    expect(cellsOf(first)).toEqual([[11_000n], [1234567890123n]])
    expect(first.columns.map((column) => column.unit)).toEqual(['day', 'ms'])
    const push = (data: ReturnType<typeof makeData>, of: ReturnType<typeof input>) => {
      const schema = new Schema([new Field('c', data.type, true)])
      const struct = makeData({ type: new Struct(schema.fields), length: data.length, children: [data] })
      return arrowToBatches(new RecordBatch(schema, struct), [of], 0)[0]!
    }
    expect(cellsOf(push(us, input('c', 'timestamp')))).toEqual([[-1_000_001n]])
    expect(push(us, input('c', 'timestamp')).columns[0]!.unit).toBe('us')
    expect(push(s, input('c', 'timestamp')).columns[0]!.unit).toBe('s')
    const decimals = push(decimal, input('c', 'decimal', { scale: 4 }))
    expect(cellsOf(decimals)).toEqual([[-7n, (5n << 64n) + 10n ** 18n]])
    expect(decimals.columns[0]!.scale).toBe(4)
  })
})

describe('pushed tables', () => {
  it('give a batch per record batch, without copying numbers', () => {
    const table = tableFromIPC(split([120, 80], 'stream'))
    const batches = arrowToBatches(table, SPLIT_INPUTS, 1000)
    expect(batches.map((batch) => [batch.length, batch.positions])).toEqual([
      [120, 1000],
      [80, 1120],
    ])
    expect(batches[0]!.columns[0]!.values.buffer).toBe(table.batches[0]!.data.children[0]!.values.buffer)
    expect(cellsOf(batches[1]!)).toEqual(SPLIT_EXPECTED.map((cells) => cells.slice(120)))
  })

  it('may be sliced anywhere: bits and offsets start within bytes', () => {
    const table = allTypes()
    const ranges = Array.from({ length: 10 }, (_, from) => [from, from + 1, from + 8, from + 9, from + 23, ROWS - from])
    for (const [from, to] of ranges.flatMap(([from, ...ends]) => [from!, ...ends].map((to) => [from!, to] as const))) {
      const cells: Cell[][] = INPUTS.map(() => [])
      for (const batch of arrowToBatches(table.slice(from, to), INPUTS, 0)) {
        for (const [index, part] of cellsOf(batch).entries()) cells[index]!.push(...part)
      }
      expect(cells, `${from}..${to}`).toEqual(EXPECTED.map((all) => all.slice(from, to)))
    }
  })

  it('may have dictionaries in pieces, with nulls in them', () => {
    const type = new Dictionary(new Utf8(), new Int32())
    const dictionary = vectorFromArray(['a', null, 'ccc'], new Utf8()).concat(
      vectorFromArray(['', 'é', null], new Utf8()),
    )
    const indices = Int32Array.of(5, 4, 3, 2, 1, 0, 4, 2)
    const data = makeData({
      type,
      length: 8,
      nullCount: 1,
      data: indices,
      nullBitmap: Uint8Array.of(0b01111111),
      dictionary,
    })
    const schema = new Schema([new Field('key', type, true)])
    const batch = new RecordBatch(schema, makeData({ type: new Struct(schema.fields), length: 8, children: [data] }))
    const expected = [null, 'é', '', 'ccc', null, 'a', 'é', null]
    expect(cellsOf(arrowToBatches(batch, [input('key', 'utf8')], 0)[0]!)).toEqual([expected])
    expect(cellsOf(arrowToBatches(batch.slice(3, 8), [input('key', 'utf8')], 0)[0]!)).toEqual([expected.slice(3)])
  })

  it('take their positions from a list or from a column', async () => {
    const table = new Table({
      n: vectorFromArray([1n, 2n, 3n], new Int64()),
      at: vectorFromArray([7n, 9n, 8n], new Int64()),
    })
    const inputs = [input('n', 'int64')]
    expect(arrowToBatches(table, inputs, [5, 6, 9])[0]!.positions).toEqual(Float64Array.of(5, 6, 9))
    expect(arrowToBatches(table, inputs, 'at')[0]!.positions).toEqual(Float64Array.of(7, 9, 8))
    expect(await codeOf(() => arrowToBatches(table, inputs, [5, 6]))).toBe('POSITION_INVALID')
    expect(await codeOf(() => arrowToBatches(table, inputs, 'nowhere'))).toBe('COLUMN_MISSING')
    const holes = new Table({ n: vectorFromArray([1n, null], new Int64()) })
    expect(await codeOf(() => arrowToBatches(holes, inputs, 'n'))).toBe('POSITION_INVALID')
  })

  it('of types that no column holds are refused by name', async () => {
    const table = new Table({
      b: vectorFromArray([Uint8Array.of(1)], new Binary()),
      u: vectorFromArray([1], new Uint8()),
    })
    const error = await thrown(() => arrowToBatches(table, [input('b', 'utf8')], 0))
    expect(error.code).toBe('COLUMN_TYPE')
    expect(error.message).toMatch(/"b" of the pushed table: got Binary, expected utf8/)
    expect(await codeOf(() => arrowToBatches(table, [input('c', 'int64')], 0))).toBe('COLUMN_MISSING')
    expect(cellsOf(arrowToBatches(table, [input('u', 'int64')], 0)[0]!)).toEqual([[1n]])
  })

  /** A column of hand-made buffers. */
  function text(offsets: Int32Array, bytes: Uint8Array, length: number): RecordBatch {
    const schema = new Schema([new Field('s', new Utf8(), true)])
    const data = makeData({ type: new Utf8(), length, valueOffsets: offsets, data: bytes })
    return new RecordBatch(schema, makeData({ type: new Struct(schema.fields), length, children: [data] }))
  }

  it.each([
    ['offsets that fall', Int32Array.of(0, 3, 2), 'abc', 2, /offsets fall from 3 to 2 at row 1/],
    ['offsets past the text', Int32Array.of(0, 3, 9), 'abc', 2, /ends at byte 9 of 3/],
    ['a negative offset', Int32Array.of(-4, 1, 2), 'abc', 2, /first text offset is -4/],
    ['fewer offsets than rows', Int32Array.of(0, 1), 'abc', 2, /2 text offsets, 2 rows need 3/],
    ['bytes that are not UTF-8', Int32Array.of(0, 1, 3), 'ab\xff', 2, /text of row 1 is not UTF-8/],
    ['a surrogate in UTF-8', Int32Array.of(0, 3), '\xed\xa0\x80', 1, /text of row 0 is not UTF-8/],
    ['an offset within a character', Int32Array.of(0, 1, 2), '\xc3\xa9', 2, /text of row 0 is not UTF-8/],
  ])('with %s are refused', async (_, offsets, bytes, length, expected) => {
    const error = await thrown(() =>
      arrowToBatches(text(offsets, Buffer.from(bytes, 'latin1'), length), [input('s', 'utf8')], 0),
    )
    expect(error.code).toBe('BATCH_INVALID')
    expect(error.message).toMatch(expected)
  })

  it('with fewer cells, indices or dictionary entries than claimed are refused', async () => {
    const wrap = (data: ReturnType<typeof makeData>) => {
      const schema = new Schema([new Field('c', data.type, true)])
      return new RecordBatch(
        schema,
        makeData({ type: new Struct(schema.fields), length: data.length, children: [data] }),
      )
    }
    const short = makeData({ type: new Int64(), length: 9, data: new BigInt64Array(8) })
    // The library keeps the lengths of a batch's columns equal; objects of another maker need not.
    const schema = { fields: [{ name: 'c', type: new Int64() }] }
    const uneven = { schema, numRows: 3, data: { ...wrap(short).data, length: 3, children: [{ ...short, length: 2 }] } }
    expect((await thrown(() => arrowToBatches(uneven as never, [input('c', 'int64')], 0))).message).toMatch(
      /2 rows, the batch 3/,
    )
    const bits = makeData({
      type: new Int64(),
      length: 9,
      nullCount: 1,
      data: new BigInt64Array(9),
      nullBitmap: new Uint8Array(1),
    })
    const dictionary = makeData({
      type: new Dictionary(new Utf8(), new Int32()),
      length: 2,
      data: Int32Array.of(0, 3),
      dictionary: vectorFromArray(['a', 'b'], new Utf8()),
    })
    expect((await thrown(() => arrowToBatches(wrap(short), [input('c', 'int64')], 0))).message).toMatch(
      /64 bytes, 9 rows/,
    )
    expect((await thrown(() => arrowToBatches(wrap(bits), [input('c', 'int64')], 0))).message).toMatch(
      /validity takes 1 bytes/,
    )
    expect((await thrown(() => arrowToBatches(wrap(dictionary), [input('c', 'utf8')], 0))).message).toMatch(
      /index of row 1 is 3/,
    )
  })
})

describe('damaged Arrow files', () => {
  it.each(['file', 'stream'] as const)('of the %s format are refused with their name, or read', async (format) => {
    const good = split([100, 100], format)
    const random = seededRandom(21)
    const read = (bytes: Uint8Array, warnings: string[]) => {
      writeFileSync(at('damaged.arrow'), bytes)
      const onWarning = (text: string) => warnings.push(text)
      return readAll(
        createArrowSource({ log: 'test', paths: [at('damaged.arrow')], inputs: SPLIT_INPUTS, onWarning }).read(0),
      )
    }
    for (let i = 0; i < 60; i++) {
      const length = random.below(good.length)
      const warnings: string[] = []
      const found = await read(good.subarray(0, length), warnings).then(
        ({ positions }) => positions.length,
        (error) => error.code,
      )
      // A stream may end between two messages: fewer rows, but never without a word.
      if (found === 'SOURCE_CORRUPT') continue
      expect(format, `cut at ${length}: ${found}`).toBe('stream')
      expect(warnings.join(), `cut at ${length}`).toMatch(/damaged\.arrow ends without/)
    }
    const codes = new Set<string>()
    for (let i = 0; i < 200; i++) {
      const bytes = Uint8Array.from(good)
      const where = random.below(bytes.length)
      bytes[where]! ^= 1 << random.below(8)
      const found = await read(bytes, []).then(
        () => 'read',
        (error) => error.code ?? String(error),
      )
      codes.add(found)
    }
    expect(
      [...codes].sort().filter((code) => !['read', 'SOURCE_CORRUPT', 'COLUMN_MISSING', 'COLUMN_TYPE'].includes(code)),
    ).toEqual([])
    expect(codes).toContain('SOURCE_CORRUPT')
  })

  it('whose lists claim more than there is are refused before they are walked', async () => {
    const good = split([ROWS], 'stream')
    const metadata = new DataView(good.buffer, good.byteOffset).getUint32(4, true)
    const messages = new Set<string>()
    // Every small word of the schema's metadata, made huge: the lengths of its lists are among them.
    for (let at32 = 8; at32 + 4 <= 8 + metadata; at32 += 4) {
      const bytes = Uint8Array.from(good)
      const cells = new DataView(bytes.buffer)
      const word = cells.getUint32(at32, true)
      if (word === 0 || word > 64) continue
      cells.setUint32(at32, 0x0fffffff, true)
      await readAll(readArrowStream(chunked(bytes, 4096), 'it', { inputs: SPLIT_INPUTS })).catch((error) => {
        expect(error.code).toMatch(/^(SOURCE_CORRUPT|COLUMN_)/)
        messages.add(error.message.replace(/\d+/g, 'N'))
      })
    }
    expect([...messages]).toContain('cannot read it: a list claims N elements, more than bytes are left')
  })

  it('whose buffers lie outside their body are refused before they are cut', async () => {
    const good = split([ROWS], 'stream')
    // The first buffers of the batch: (0, 0) for no validity or (0, n); the second begins at a multiple of eight.
    const found = new Set<string>()
    for (let at8 = 8; at8 + 16 <= good.length; at8 += 8) {
      const cells = new DataView(good.buffer, good.byteOffset)
      if (cells.getBigInt64(at8 + 8, true) !== BigInt(ROWS * 8)) continue
      const bytes = Uint8Array.from(good)
      new DataView(bytes.buffer).setBigInt64(at8, 2n ** 40n, true)
      await readAll(readArrowStream(chunked(bytes, 4096), 'it', { inputs: SPLIT_INPUTS })).catch((error) =>
        found.add(error.message),
      )
    }
    expect([...found].join()).toMatch(/a buffer of 1600 bytes at 1099511627776 lies outside a body of \d+/)
  })

  it('that claim more rows than anyone holds are refused', async () => {
    const good = split([ROWS], 'stream')
    const found = new Set<string>()
    for (let at4 = 8; at4 + 8 <= good.length; at4 += 4) {
      const bytes = Uint8Array.from(good)
      const cells = new DataView(bytes.buffer)
      if (cells.getBigInt64(at4, true) !== BigInt(ROWS)) continue
      cells.setBigInt64(at4, 2n ** 40n, true)
      await readAll(readArrowStream(chunked(bytes, 4096), 'it', { inputs: SPLIT_INPUTS })).catch((error) =>
        found.add(error.message),
      )
    }
    expect([...found].join()).toMatch(/a record batch claims 1099511627776 rows, at most \d+ can be read/)
    expect([...found].join()).toMatch(/a record batch claims 200 rows, its first column has another number/)
  })

  it('that go on behind their end mark are refused', async () => {
    const bytes = Buffer.concat([split([ROWS], 'stream'), split([ROWS], 'stream')])
    const error = await thrown(() => readAll(readArrowStream(chunked(bytes, 100), 'it', { inputs: SPLIT_INPUTS })))
    expect(error.message).toMatch(/more bytes follow its end mark/)
  })

  it('are not CSV', async () => {
    writeFileSync(at('csv.arrow'), 'date,delay\n2001-01-01,5\n')
    const error = await thrown(() =>
      readAll(createArrowSource({ log: 'test', paths: [at('csv.arrow')], inputs: INPUTS }).read(0)),
    )
    expect(error.code).toBe('SOURCE_CORRUPT')
    expect(error.message).toContain('csv.arrow')
  })
})
