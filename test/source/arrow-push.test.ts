/** Tables pushed by the embedding program: slices, dictionaries in pieces, positions, units, and buffers that lie. */
import {
  Binary,
  type Data,
  DateDay,
  DateMillisecond,
  Decimal,
  Dictionary,
  Int32,
  Int64,
  makeData,
  Table,
  TimestampMicrosecond,
  TimestampSecond,
  tableFromIPC,
  Uint8,
  Utf8,
  vectorFromArray,
} from 'apache-arrow'
import { describe, expect, it } from 'vitest'
import { arrowToBatches } from '../../src/source/arrow.ts'
import { allTypes, batchOf, EXPECTED, INPUTS, ROWS, SPLIT_EXPECTED, SPLIT_INPUTS, split } from './arrow-table.ts'
import { type Cell, cellsOf, codeOf, input, thrown } from './support.ts'

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
    const batch = batchOf('key', data)
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

  it.each([
    ['offsets that fall', Int32Array.of(0, 3, 2), 'abc', 2, /offsets fall from 3 to 2 at row 1/],
    ['offsets past the text', Int32Array.of(0, 3, 9), 'abc', 2, /ends at byte 9 of 3/],
    ['a negative offset', Int32Array.of(-4, 1, 2), 'abc', 2, /first text offset is -4/],
    ['fewer offsets than rows', Int32Array.of(0, 1), 'abc', 2, /2 text offsets, 2 rows need 3/],
    ['bytes that are not UTF-8', Int32Array.of(0, 1, 3), 'ab\xff', 2, /text of row 1 is not UTF-8/],
    ['a surrogate in UTF-8', Int32Array.of(0, 3), '\xed\xa0\x80', 1, /text of row 0 is not UTF-8/],
    ['an offset within a character', Int32Array.of(0, 1, 2), '\xc3\xa9', 2, /text of row 0 is not UTF-8/],
  ])('with %s are refused', async (_, offsets, bytes, length, expected) => {
    const data = makeData({ type: new Utf8(), length, valueOffsets: offsets, data: Buffer.from(bytes, 'latin1') })
    const error = await thrown(() => arrowToBatches(batchOf('s', data), [input('s', 'utf8')], 0))
    expect(error.code).toBe('BATCH_INVALID')
    expect(error.message).toMatch(expected)
  })

  it('with fewer cells, indices or dictionary entries than claimed are refused', async () => {
    const short = makeData({ type: new Int64(), length: 9, data: new BigInt64Array(8) })
    // The library keeps the lengths of a batch's columns equal; objects of another maker need not.
    const schema = { fields: [{ name: 'c', type: new Int64() }] }
    const uneven = {
      schema,
      numRows: 3,
      data: { ...batchOf('c', short).data, length: 3, children: [{ ...short, length: 2 }] },
    }
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
    expect((await thrown(() => arrowToBatches(batchOf('c', short), [input('c', 'int64')], 0))).message).toMatch(
      /64 bytes, 9 rows/,
    )
    expect((await thrown(() => arrowToBatches(batchOf('c', bits), [input('c', 'int64')], 0))).message).toMatch(
      /validity takes 1 bytes/,
    )
    expect((await thrown(() => arrowToBatches(batchOf('c', dictionary), [input('c', 'utf8')], 0))).message).toMatch(
      /index of row 1 is 3/,
    )
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
    const push = (data: Data, of: ReturnType<typeof input>) => arrowToBatches(batchOf('c', data), [of], 0)[0]!
    expect(cellsOf(push(us, input('c', 'timestamp')))).toEqual([[-1_000_001n]])
    expect(push(us, input('c', 'timestamp')).columns[0]!.unit).toBe('us')
    expect(push(s, input('c', 'timestamp')).columns[0]!.unit).toBe('s')
    const decimals = push(decimal, input('c', 'decimal', { scale: 4 }))
    expect(cellsOf(decimals)).toEqual([[-7n, (5n << 64n) + 10n ** 18n]])
    expect(decimals.columns[0]!.scale).toBe(4)
  })
})
