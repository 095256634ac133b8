import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { hasLongNumber, numberTexts } from '../../src/source/json-text.ts'

describe('texts of numbers', () => {
  it('are found behind any other value, for any key', () => {
    const digits = fc.bigInt({ min: -(10n ** 40n), max: 10n ** 40n }).map(String)
    const other = fc.jsonValue({ maxDepth: 4 }).map((value) => JSON.stringify(value))
    const member = fc.tuple(fc.string({ unit: 'binary' }), fc.oneof(digits, other))
    const space = fc.constantFrom('', ' ', '\t', '  ')
    fc.assert(
      fc.property(fc.array(member, { maxLength: 12 }), space, (members, blank) => {
        const parts = members.map(([key, text]) => `${blank}${JSON.stringify(key)}${blank}:${blank}${text}${blank}`)
        const json = `${blank}{${parts.join(',')}}${blank}`
        const expected = new Map<string, string>()
        for (const [key, text] of members) {
          if (/^[-\d]/.test(text)) expected.set(key, text)
          else expected.delete(key)
        }
        expect(numberTexts(json)).toEqual(expected)
      }),
      { numRuns: 400 },
    )
  })

  it('are the last of a key that comes twice, and none of nested ones', () => {
    expect(numberTexts('{"a":1,"b":{"a":2},"a":9007199254740993}')).toEqual(new Map([['a', '9007199254740993']]))
    expect(numberTexts('{"a":1,"a":"x"}')).toEqual(new Map())
    expect(numberTexts('{"x\\"":1.50,"y":[{"x":2},"}"],"z":-1e400}')).toEqual(
      new Map([
        ['x"', '1.50'],
        ['z', '-1e400'],
      ]),
    )
    expect(numberTexts('{}')).toEqual(new Map())
  })
})

describe('long numbers', () => {
  it('are runs of sixteen digits and points, wherever they begin', () => {
    const text = fc.string({ unit: fc.constantFrom('1', '.', 'a', '"', ' '), maxLength: 80 })
    fc.assert(
      fc.property(text, fc.nat({ max: 40 }), text, (before, run, after) => {
        const json = before + '7'.repeat(run) + after
        expect(hasLongNumber(json)).toBe(/[\d.]{16}/.test(json))
      }),
      { numRuns: 1000 },
    )
  })
})
