import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { describeValue, readDecimal, readInt64, readRfc3339, readTimestamp } from '../../src/source/cells.ts'

const INT64_MIN = -(2n ** 63n)
const INT64_MAX = 2n ** 63n - 1n

describe('int64', () => {
  it('is exact to both ends, from numbers, bigints and digits', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: INT64_MIN, max: INT64_MAX }), (value) => {
        expect(readInt64(value)).toBe(value)
        expect(readInt64(String(value))).toBe(value)
      }),
    )
    fc.assert(
      fc.property(fc.maxSafeInteger(), (value) => {
        expect(readInt64(value)).toBe(BigInt(value))
      }),
    )
  })

  it.each([
    [2 ** 53], // may have been 2^53 + 1
    [1.5],
    [Number.NaN],
    [Number.POSITIVE_INFINITY],
    [INT64_MAX + 1n],
    [INT64_MIN - 1n],
    [String(INT64_MAX + 1n)],
    ['1.0'],
    ['1e3'],
    [' 1'],
    ['0x10'],
    [''],
    ['-'],
    [true],
    [[1]],
    [{}],
    ['9'.repeat(100_000)],
  ])('refuses %s', (value) => {
    expect(readInt64(value)).toBeUndefined()
  })
})

describe('decimals', () => {
  it('are read back from their own text, in any notation', () => {
    const digits = fc.bigInt({ min: -(10n ** 38n) + 1n, max: 10n ** 38n - 1n })
    fc.assert(
      fc.property(digits, fc.integer({ min: 0, max: 38 }), (unscaled, scale) => {
        const magnitude = (unscaled < 0n ? -unscaled : unscaled).toString().padStart(scale + 1, '0')
        const sign = unscaled < 0n ? '-' : ''
        const whole = magnitude.slice(0, magnitude.length - scale)
        const fraction = magnitude.slice(magnitude.length - scale)
        expect(readDecimal(`${sign}${whole}${scale > 0 ? `.${fraction}` : ''}`, scale)).toBe(unscaled)
        expect(readDecimal(`${sign}${magnitude}e-${scale}`, scale)).toBe(unscaled)
        expect(readDecimal(`${sign}${magnitude}000E-${scale + 3}`, scale)).toBe(unscaled)
      }),
    )
  })

  it('take a number by its shortest text', () => {
    expect(readDecimal(0.1, 1)).toBe(1n)
    expect(readDecimal(-19.99, 2)).toBe(-1999n)
    expect(readDecimal(1e21, 0)).toBe(10n ** 21n)
    expect(readDecimal(1e-7, 7)).toBe(1n)
    expect(readDecimal(-0, 2)).toBe(0n)
    expect(readDecimal(0.1 + 0.2, 2)).toBeUndefined()
    expect(readDecimal(5n, 3)).toBe(5000n)
    expect(readDecimal('1.230', 2)).toBe(123n)
    expect(readDecimal('.5', 1)).toBe(5n)
    expect(readDecimal('5.', 1)).toBe(50n)
  })

  it.each([
    ['1.234', 2], // a digit would be lost
    ['1e38', 0],
    ['1e999', 0],
    ['1e-999', 38],
    ['1e99999', 0],
    [10n ** 38n, 0],
    [10n ** 37n, 1],
    [Number.NaN, 2],
    [Number.NEGATIVE_INFINITY, 2],
    ['', 2],
    ['.', 2],
    ['-', 2],
    ['1,5', 2],
    ['1.5 ', 2],
    ['0x1', 2],
    ['NaN', 2],
    ['1'.repeat(513), 0],
    [null, 0],
    [true, 0],
  ])('refuse %s at scale %i', (value, scale) => {
    expect(readDecimal(value, scale)).toBeUndefined()
  })
})

describe('instants', () => {
  it('agree with Date on every instant and zone', () => {
    const date = fc.date({
      min: new Date('0001-01-01T00:00:00Z'),
      max: new Date('9999-12-30T00:00:00Z'),
      noInvalidDate: true,
    })
    const zone = fc.integer({ min: -23 * 60, max: 23 * 60 })
    fc.assert(
      fc.property(date, zone, (instant, minutes) => {
        expect(readRfc3339(instant.toISOString())).toBe(instant.getTime())
        const local = new Date(instant.getTime() + minutes * 60_000).toISOString().slice(0, -1)
        if (local.length !== 23) return // years of more than four digits
        const sign = minutes < 0 ? '-' : '+'
        const size = Math.abs(minutes)
        const text = `${sign}${String(Math.floor(size / 60)).padStart(2, '0')}:${String(size % 60).padStart(2, '0')}`
        expect(readRfc3339(local + text)).toBe(instant.getTime())
        expect(readRfc3339(local.replace('T', ' ') + text.replace('+00:00', 'z'))).toBe(instant.getTime())
      }),
    )
  })

  it('cut digits behind the millisecond', () => {
    expect(readRfc3339('2001-01-01T00:00:00.999999999Z')).toBe(Date.UTC(2001, 0, 1) + 999)
    expect(readRfc3339('2001-01-01T00:00:00.5Z')).toBe(Date.UTC(2001, 0, 1) + 500)
    expect(readRfc3339('0099-01-01T00:00:00Z')).toBe(Date.parse('0099-01-01T00:00:00Z'))
  })

  it.each([
    '2001-01-01T00:00:00', // no zone
    '2001-01-01',
    '2001-02-29T00:00:00Z',
    '1900-02-29T00:00:00Z',
    '2001-04-31T00:00:00Z',
    '2001-00-01T00:00:00Z',
    '2001-13-01T00:00:00Z',
    '2001-01-00T00:00:00Z',
    '2001-01-01T24:00:00Z',
    '2001-01-01T00:60:00Z',
    '2001-01-01T00:00:60Z',
    '2001-01-01T00:00:00+24:00',
    '2001-01-01T00:00:00.Z',
    '2001-1-1T00:00:00Z',
    'Mon, 01 Jan 2001 00:00:00 GMT',
  ])('refuse %s', (text) => {
    expect(readRfc3339(text)).toBeUndefined()
    expect(readTimestamp(text, 'ms')).toBeUndefined()
  })

  it('take leap days where there are some', () => {
    expect(readRfc3339('2000-02-29T00:00:00Z')).toBe(Date.UTC(2000, 1, 29))
    expect(readRfc3339('2004-02-29T23:59:59.999Z')).toBe(Date.UTC(2004, 2, 1) - 1)
  })

  it('are floored to milliseconds, below the epoch too', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: INT64_MIN, max: INT64_MAX }), (value) => {
        for (const [unit, divisor] of [
          ['us', 1000n],
          ['ns', 1_000_000n],
        ] as const) {
          const ms = readTimestamp(value, unit)!
          expect(ms * divisor <= value && value < (ms + 1n) * divisor).toBe(true)
        }
        expect(readTimestamp(value, 'ms')).toBe(value)
        const seconds = readTimestamp(value, 's')
        expect(seconds).toBe(value * 1000n >= INT64_MIN && value * 1000n <= INT64_MAX ? value * 1000n : undefined)
      }),
    )
    expect(readTimestamp(-1n, 'us')).toBe(-1n)
    expect(readTimestamp(1, 'day')).toBe(86_400_000n)
    expect(readTimestamp('1600000000000000001', 'ns')).toBe(1_600_000_000_000n)
    expect(readTimestamp(new Date(5), 'ns')).toBe(5n)
    expect(readTimestamp(new Date(Number.NaN), 'ms')).toBeUndefined()
    expect(readTimestamp(1.5, 's')).toBeUndefined()
  })
})

describe('values in messages', () => {
  it('are short, whatever they are', () => {
    const values = [
      'x'.repeat(10_000),
      'ü'.repeat(50),
      {},
      [1, 2],
      null,
      undefined,
      5n,
      () => 1,
      Symbol('s'),
      new Date(0),
      new Date(Number.NaN),
      true,
    ]
    for (const value of values) expect(describeValue(value).length).toBeLessThan(120)
    expect(describeValue('a"b')).toBe('"a\\"b"')
    expect(describeValue('x'.repeat(10_000))).toContain('10000 characters')
  })
})
