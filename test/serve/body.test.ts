import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { TilefoldError } from '../../src/model/errors.ts'
import { parseBody } from '../../src/serve/body.ts'

const encoder = new TextEncoder()

function parse(text: string): unknown {
  return parseBody(encoder.encode(text))
}

function refusal(bytes: Uint8Array | string): string {
  try {
    parseBody(typeof bytes === 'string' ? encoder.encode(bytes) : bytes)
  } catch (error) {
    if (error instanceof TilefoldError && error.code === 'REQUEST_INVALID') return error.message
    throw error
  }
  throw new Error(`expected a refusal of ${String(bytes).slice(0, 100)}`)
}

describe('a request body', () => {
  it('reads as JSON.parse reads it', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 6 }), (text) => {
        const value: unknown = JSON.parse(text)
        // What the strict reader is there for is tested below.
        fc.pre(!/\d{16}/.test(text))
        expect(parse(text)).toEqual(value)
      }),
    )
  })

  it('keeps every digit of integers a double cannot hold', () => {
    expect(parse('{"a":9007199254740993,"b":[-9223372036854775808],"c":9007199254740991}')).toEqual({
      a: 9007199254740993n,
      b: [-9223372036854775808n],
      c: 9007199254740991,
    })
    // Behind text outside of ASCII, offsets in bytes and in characters differ.
    expect(parse('{"ключ":"🙂 12345678901234567890","n":12345678901234567890}')).toEqual({
      ключ: '🙂 12345678901234567890',
      n: 12345678901234567890n,
    })
    const fractions = '[1e300, 1234567890123456789.5, 12345678901234567e2, -0, 0.1]'
    expect(parse(fractions)).toEqual(JSON.parse(fractions))
  })

  it('never touches digits within text', () => {
    const text = JSON.stringify({ 'a"12345678901234567890\\': '\\"12345678901234567890', b: '12345678901234567890' })
    expect(parse(text)).toEqual(JSON.parse(text))
  })

  it.each([
    ['{"view":"a","view":"b"}'],
    ['{"entities":[{"user":"ann","user":"bob"}]}'],
    ['{"entities":[{"user":"ann","\\u0075ser":"bob"}]}'],
    ['{"n":12345678901234567890,"n":1}'],
    ['{"__proto__":1,"__proto__":2}'],
  ])('is refused when an object has a member twice: %s', (text) => {
    expect(refusal(text)).toContain('two members of one name')
  })

  it('is refused when it is nested deep, however deep', () => {
    expect(parse(`${'['.repeat(16)}${']'.repeat(16)}`)).toBeDefined()
    expect(refusal(`${'['.repeat(17)}${']'.repeat(17)}`)).toContain('nested 17 deep')
    expect(refusal('['.repeat(1_000_000))).toContain('nested 1000000 deep')
    expect(refusal('{"a":'.repeat(200_000))).toContain('nested 200000 deep')
    // Brackets in text do not count.
    expect(parse(JSON.stringify('['.repeat(100)))).toBe('['.repeat(100))
  })

  it.each([
    ['nothing', ''],
    ['no JSON', 'view=spend'],
    ['cut off', '{"view":"spe'],
    ['cut off in an escape', '{"view":"spe\\'],
    ['a trailing comma', '{"view":"spend",}'],
    ['two values', '{} {}'],
    ['leading zeros', '[00000000000000012345678901234567890]'],
    ['not a number', '[NaN]'],
    ['two wide numbers in a row', '[12345678901234567890 12345678901234567890]'],
    ['a wide number as a name', '{12345678901234567890:1}'],
  ])('is refused as JSON: %s', (_case, text) => {
    expect(refusal(text)).toContain('not JSON')
  })

  it.each([
    ['a lone continuation', [0x22, 0x80, 0x22]],
    ['an overlong form', [0x22, 0xc0, 0xaf, 0x22]],
    ['a surrogate', [0x22, 0xed, 0xa0, 0x80, 0x22]],
    ['cut off', [0x22, 0xe2, 0x82]],
    ['compressed bytes', [0x1f, 0x8b, 0x08, 0x00]],
  ])('is refused as UTF-8: %s', (_case, bytes) => {
    expect(refusal(Uint8Array.from(bytes))).toContain('not UTF-8')
  })

  it('answers any bytes with a value or a refusal', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          parseBody(bytes)
        } catch (error) {
          expect(error).toBeInstanceOf(TilefoldError)
        }
      }),
    )
    // Mostly JSON: every mutation of one byte of a real body.
    const body = encoder.encode('{"view":"spend","entities":[{"user":12345678901234567890}]}')
    for (let i = 0; i < body.length; i++) {
      for (const byte of [0, 0x22, 0x5c, 0x7b, 0x5d, 0x3a, 0x31, 0x2d, 0xff]) {
        const mutated = Uint8Array.from(body, (each, at) => (at === i ? byte : each))
        try {
          parseBody(mutated)
        } catch (error) {
          expect(error).toBeInstanceOf(TilefoldError)
        }
      }
    }
  })
})
