import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { FeatureValue } from '../../src/model/plan.ts'
import { answerJson, valueJson } from '../../src/serve/answer-json.ts'
import type { FeatureAnswer } from '../../src/serve/respond.ts'

function answerOf(values: readonly FeatureValue[], change: Partial<FeatureAnswer['metadata']> = {}): FeatureAnswer {
  return {
    metadata: { features: [], asOfMs: 0, versions: [], partial: false, ...change },
    rows: [{ values, statuses: values.map(() => 'ok' as const) }],
  }
}

describe('a value as JSON', () => {
  it('is a number that reads back as the same double', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
        // -0 is no value of a feature: zeros are +0 from the decode on.
        expect(JSON.parse(valueJson(value))).toBe(value === 0 ? 0 : value)
      }),
    )
    expect([1e21, 5e-324, 0.1, 1.7976931348623157e308].map(valueJson)).toEqual([
      '1e+21',
      '5e-324',
      '0.1',
      '1.7976931348623157e+308',
    ])
  })

  it('is the exact digits of an integer', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (value) => {
        expect(BigInt(valueJson(value))).toBe(value)
        expect(valueJson(value)).toMatch(/^-?\d+$/)
      }),
    )
  })

  it('is never anything that JSON is not', () => {
    expect([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY].map(valueJson)).toEqual([
      'null',
      'null',
      'null',
    ])
    expect([null, true, false].map(valueJson)).toEqual(['null', 'true', 'false'])
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(JSON.parse(valueJson(text))).toBe(text)
        // Lone surrogates are escaped, so the text is valid UTF-8, too.
        expect(valueJson(text).isWellFormed()).toBe(true)
      }),
    )
    expect(valueJson('\ud800')).toBe('"\\ud800"')
  })
})

describe('an answer as JSON', () => {
  it('is whole for any values', () => {
    const value = fc.oneof(fc.double(), fc.string(), fc.boolean(), fc.constant(null))
    fc.assert(
      fc.property(fc.array(value, { minLength: 1 }), (values) => {
        const parsed = JSON.parse(answerJson(answerOf(values)))
        expect(parsed.rows[0].values.length).toBe(values.length)
        expect(parsed.rows[0].statuses).toEqual(values.map(() => 'ok'))
      }),
    )
  })

  it('has a view of any name as a member, and says when it is partial', () => {
    const version = { definitionHash: 'd', stateHash: 's', generation: 1, layoutVersion: 2, completeSinceMs: 0 }
    const text = answerJson(answerOf([1], { versions: [{ view: '__proto__', ...version }], partial: true }))
    expect(text).toContain('"definition_versions":{"__proto__":"d"}')
    expect(JSON.parse(text).metadata).toMatchObject({
      partial: true,
      as_of: '1970-01-01T00:00:00.000Z',
      views: [{ view: '__proto__', complete_since: '1970-01-01T00:00:00.000Z' }],
    })
  })
})
