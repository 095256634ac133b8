/** What programs push: rows and columns, checked cell by cell, and their positions. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { InputColumn } from '../../src/model/plan.ts'
import {
  checkPositions,
  columnsToBatch,
  type PushedColumn,
  type PushedRow,
  rowsToBatch,
} from '../../src/source/rows.ts'
import { cellsOf, codeOf, input, thrown } from './support.ts'

const INPUTS = [
  input('user', 'utf8'),
  input('n', 'int64'),
  input('x', 'float64'),
  input('ok', 'bool'),
  input('amount', 'decimal', { scale: 2 }),
  input('t', 'timestamp', { unit: 's' }),
]

describe('pushed rows', () => {
  it('become columns', () => {
    const rows: PushedRow[] = [
      { user: 'ann', n: 1, x: 1.5, ok: true, amount: 12.5, t: new Date('2001-01-01T00:00:00.123Z') },
      { user: '', n: 2n ** 63n - 1n, x: 7n, ok: false, amount: '-0.01', t: 978307200 },
      { user: null, n: '-9223372036854775808', x: Number.NaN, amount: 3n, t: '2001-01-01T01:00:00+01:00', other: {} },
      {},
    ]
    const batch = rowsToBatch(rows, INPUTS, 100)
    expect(cellsOf(batch)).toEqual([
      ['ann', '', null, null],
      [1n, 2n ** 63n - 1n, -(2n ** 63n), null],
      [1.5, 7, Number.NaN, null],
      [true, false, null, null],
      [1250n, -1n, 300n, null],
      [978307200123n, 978307200000n, 978307200000n, null],
    ])
    expect(batch.positions).toBe(100)
    expect(batch.columns.map(({ name }) => name)).toEqual(INPUTS.map(({ name }) => name))
    expect(batch.columns[5]!.unit).toBe('ms')
  })

  it('keep exact decimals and integers, whatever form they come in', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: -(10 ** 15) + 1, max: 10 ** 15 - 1 }),
        fc.integer({ min: 0, max: 6 }),
        (unscaled, scale) => {
          const inputs = [input('d', 'decimal', { scale }), input('e', 'decimal', { scale })]
          const magnitude = String(Math.abs(unscaled)).padStart(scale + 1, '0')
          const text = `${unscaled < 0 ? '-' : ''}${magnitude.slice(0, magnitude.length - scale)}.${magnitude.slice(magnitude.length - scale)}`
          const batch = rowsToBatch([{ d: Number(text), e: text }], inputs, 0)
          expect(cellsOf(batch)).toEqual([[BigInt(unscaled)], [BigInt(unscaled)]])
        },
      ),
    )
  })

  it.each<[string, InputColumn, unknown, RegExp]>([
    ['a number for text', input('c', 'utf8'), 5, /row 1, column "c": got 5, expected utf8/],
    ['a lone surrogate', input('c', 'utf8'), 'x\ud800', /got "x\\ud800", expected utf8/],
    ['text for a number', input('c', 'float64'), '5', /got "5", expected float64/],
    [
      'an integer that a float cannot hold',
      input('c', 'float64'),
      2n ** 53n + 1n,
      /got 9007199254740993n, expected float64/,
    ],
    ['a fraction for an integer', input('c', 'int64'), 1.5, /got 1.5, expected int64/],
    ['an integer beyond 2^53 as a number', input('c', 'int64'), 2 ** 53, /got 9007199254740992, expected int64/],
    ['an integer beyond int64', input('c', 'int64'), 2n ** 63n, /got 9223372036854775808n, expected int64/],
    ['a number for a boolean', input('c', 'bool'), 1, /got 1, expected bool/],
    ['too many digits of a number', input('c', 'decimal', { scale: 2 }), 1.005, /got 1.005, expected decimal/],
    ['too many digits', input('c', 'decimal', { scale: 2 }), '1.005', /got "1.005", expected decimal with 2 digits/],
    [
      'a time without a zone',
      input('c', 'timestamp', { unit: 'ms' }),
      '2001-01-01T00:00:00',
      /expected timestamp in ms/,
    ],
    ['an invalid date', input('c', 'timestamp', { unit: 'ms' }), new Date(Number.NaN), /got an invalid Date/],
    ['an object', input('c', 'utf8'), { a: 1 }, /got an object, expected utf8/],
    ['an array', input('c', 'int64'), [1], /got an array of 1, expected int64/],
  ])('with %s fail as a whole', async (_, of, value, message) => {
    const error = await thrown(() => rowsToBatch([{ c: null }, { c: value }], [of], 0))
    expect(error.code).toBe('BATCH_INVALID')
    expect(error.message).toMatch(message)
    expect(error.details).toMatchObject({ row: 1, column: 'c' })
  })

  it('must be objects in an array', async () => {
    for (const rows of [null, {}, 'rows', 5])
      expect(await codeOf(() => rowsToBatch(rows as never, INPUTS, 0))).toBe('BATCH_INVALID')
    for (const row of [null, undefined, 5, 'x', [1]]) {
      const error = await thrown(() => rowsToBatch([{ user: 'a' }, row as never], INPUTS, 0))
      expect(error.message).toMatch(/cannot take row 1: got .*, expected an object/)
    }
    expect(rowsToBatch([], INPUTS, 7)).toMatchObject({ length: 0, positions: 7 })
  })

  it('that misspell a column are told so; optional columns may be absent', async () => {
    const error = await thrown(() => rowsToBatch([{ user: 'a', amuont: 5 }], INPUTS, 0))
    expect(error.code).toBe('BATCH_INVALID')
    expect(error.message).toMatch(/no column "amount"; got "amuont", expected "amount"/)
    expect(cellsOf(rowsToBatch([{ user: 'a', country: 'DE' }], INPUTS, 0))[4]).toEqual([null])
  })

  it('do not read what objects inherit, but do read getters of classes', () => {
    class Event {
      get user() {
        return 'from a getter'
      }
    }
    const inputs = [input('user', 'utf8'), input('constructor', 'utf8'), input('__proto__', 'utf8')]
    expect(cellsOf(rowsToBatch([new Event() as never], inputs, 0))).toEqual([['from a getter'], [null], [null]])
    const own = Object.fromEntries([
      ['user', 'u'],
      ['constructor', 'c'],
      ['__proto__', 'p'],
    ])
    expect(cellsOf(rowsToBatch([own], inputs, 0))).toEqual([['u'], ['c'], ['p']])
  })
})

describe('pushed columns', () => {
  it('are typed arrays as they are, and lists cell by cell', () => {
    const x = Float64Array.of(1, 2, 3)
    const n = BigInt64Array.of(-1n, 0n, 2n ** 62n)
    const small = Int16Array.of(-5, 0, 5)
    const data: Record<string, PushedColumn | null> = {
      user: ['a', null, 'ü'],
      n,
      x,
      ok: [true, false, undefined],
      amount: [1.25, '3', null],
      t: small,
    }
    const batch = columnsToBatch(data, INPUTS.with(5, input('t', 'int64')), [4, 5, 9])
    expect(cellsOf(batch)).toEqual([
      ['a', null, 'ü'],
      [-1n, 0n, 2n ** 62n],
      [1, 2, 3],
      [true, false, null],
      [125n, 300n, null],
      [-5n, 0n, 5n],
    ])
    expect(batch.columns[1]!.values.buffer).toBe(n.buffer)
    expect(batch.columns[2]!.values.buffer).toBe(x.buffer)
    expect(batch.positions).toEqual(Float64Array.of(4, 5, 9))
  })

  it('may be part of a larger buffer', () => {
    const whole = Float64Array.from({ length: 10 }, (_, i) => i)
    const batch = columnsToBatch({ x: whole.subarray(3, 6) }, [input('x', 'float64')], 0)
    expect(cellsOf(batch)).toEqual([[3, 4, 5]])
  })

  it('of another numeric type are converted where every cell fits', async () => {
    const convert = (values: PushedColumn, of: InputColumn) => cellsOf(columnsToBatch({ c: values }, [of], 0))[0]
    expect(convert(Float64Array.of(1, 2), input('c', 'int64'))).toEqual([1n, 2n])
    expect(convert(Float64Array.of(978307200000), input('c', 'timestamp', { unit: 'ms' }))).toEqual([978307200000n])
    expect(convert(Int32Array.of(5, -5), input('c', 'decimal', { scale: 2 }))).toEqual([500n, -500n])
    expect(convert(BigInt64Array.of(5n), input('c', 'float64'))).toEqual([5])
    expect(await codeOf(() => convert(Float64Array.of(1.5), input('c', 'int64')))).toBe('BATCH_INVALID')
    expect(await codeOf(() => convert(BigInt64Array.of(2n ** 60n + 1n), input('c', 'float64')))).toBe('BATCH_INVALID')
    expect(await codeOf(() => convert(Uint8Array.of(1), input('c', 'bool')))).toBe('BATCH_INVALID')
  })

  it('must be there, of one length, and lists', async () => {
    const inputs = [input('user', 'utf8'), input('n', 'int64')]
    const missing = await thrown(() => columnsToBatch({ usr: ['a'], n: [1] }, inputs, 0))
    expect(missing.code).toBe('COLUMN_MISSING')
    expect(missing.message).toMatch(/did you mean "usr"/)
    const uneven = await thrown(() => columnsToBatch({ user: ['a', 'b'], n: [1] }, inputs, 0))
    expect(uneven.message).toMatch(/column "n": got 1 cells, expected 2 as column "user" has/)
    expect(await codeOf(() => columnsToBatch({ user: 'ab' as never, n: [1, 2] }, inputs, 0))).toBe('BATCH_INVALID')
    expect(await codeOf(() => columnsToBatch([] as never, inputs, 0))).toBe('BATCH_INVALID')
    expect(
      await codeOf(() => columnsToBatch({ user: new DataView(new ArrayBuffer(2)) as never, n: [1, 2] }, inputs, 0)),
    ).toBe('BATCH_INVALID')
    expect(cellsOf(columnsToBatch({ user: null, n: [1, 2] }, inputs, 0))).toEqual([
      [null, null],
      [1n, 2n],
    ])
  })
})

describe('positions', () => {
  it('are the first of a range, one per row, or a column', () => {
    const rows = [
      { n: 1, at: 10 },
      { n: 2, at: 10 },
      { n: 3, at: 9n },
    ]
    const inputs = [input('n', 'int64')]
    expect(rowsToBatch(rows, inputs, 5).positions).toBe(5)
    expect(rowsToBatch(rows, inputs, [5, 7, 6]).positions).toEqual(Float64Array.of(5, 7, 6))
    expect(rowsToBatch(rows, inputs, BigInt64Array.of(5n, 7n, 2n ** 53n - 1n)).positions).toEqual(
      Float64Array.of(5, 7, 2 ** 53 - 1),
    )
    expect(rowsToBatch(rows, inputs, 'at').positions).toEqual(Float64Array.of(10, 10, 9))
    expect(columnsToBatch({ n: [1, 2], at: Float64Array.of(3, 4) }, inputs, 'at').positions).toEqual(
      Float64Array.of(3, 4),
    )
  })

  it.each<[string, unknown]>([
    ['a fraction', 1.5],
    ['a negative', -1],
    ['not a number', Number.NaN],
    ['infinite', Number.POSITIVE_INFINITY],
    ['beyond 2^53', 2 ** 53],
    ['a range that ends beyond 2^53', 2 ** 53 - 2],
    ['nothing', undefined],
    ['null', null],
    ['a function', () => 1],
    ['too few', [1]],
    ['too many', [1, 2, 3]],
    ['text among numbers', [1, '2']],
    ['a hole', [1, undefined]],
    ['a negative among numbers', [1, -2]],
    ['a fraction among numbers', Float64Array.of(1, 1.5)],
    ['a bigint beyond 2^53', BigInt64Array.of(1n, 2n ** 53n)],
    ['a negative bigint', BigInt64Array.of(1n, -1n)],
  ])('refuse %s', async (_, positions) => {
    expect(await codeOf(() => checkPositions(positions as never, 2))).toBe('POSITION_INVALID')
  })

  it('refuse a column that is not there', async () => {
    expect(await codeOf(() => rowsToBatch([{ n: 1 }], [input('n', 'int64')], 'at'))).toBe('POSITION_INVALID')
    expect(await codeOf(() => columnsToBatch({ n: [1] }, [input('n', 'int64')], 'at'))).toBe('POSITION_INVALID')
  })
})
