import { describe, expect, it } from 'vitest'
import { TilefoldError } from '../../src/model/errors.ts'
import { type FeatureQuery, parseRequest, queryFromBody, REQUEST_LIMITS } from '../../src/serve/api.ts'
import { catalogOf } from '../../src/serve/catalog.ts'
import { planOf } from './plans.ts'

const NOW = Date.parse('2026-03-01T12:00:00Z')
const catalog = catalogOf([
  planOf(),
  planOf({ view: 'visits', entity: [{ name: 'page', type: 'int64' }], ops: ['count'] }),
])
const user = { user: 'ann' }

function parse(query: unknown, limits = REQUEST_LIMITS) {
  return parseRequest(query as FeatureQuery, catalog, limits, NOW)
}

function errorOf(run: () => unknown): TilefoldError {
  try {
    run()
  } catch (error) {
    if (error instanceof TilefoldError) return error
    throw error
  }
  throw new Error('expected an error')
}

describe('the features of a request', () => {
  it('are a whole view in the order of its definition', () => {
    const request = parse({ view: 'spend', entities: [user] })
    expect(request.columns.map(({ slot, feature }) => [slot, feature.info.name, feature.index])).toEqual([
      [0, 'count_1h', 0],
      [0, 'amount_sum_1h', 1],
      [0, 'count_1d', 2],
      [0, 'amount_sum_1d', 3],
    ])
  })

  it('keep the order asked, while views are leased in catalog order', () => {
    const request = parse({ features: ['visits:count_1d', 'spend:count_1h', 'visits'], entities: [user] })
    expect(request.views.map((view) => view.plan.view)).toEqual(['spend', 'visits'])
    expect(request.columns.map(({ slot, feature }) => `${slot}:${feature.info.view}:${feature.info.name}`)).toEqual([
      '1:visits:count_1d',
      '0:spend:count_1h',
      '1:visits:count_1h',
      '1:visits:count_1d',
    ])
  })

  it('may be bare names of the view that is named beside them', () => {
    const request = parse({ view: 'spend', features: ['amount_sum_1d', 'visits:count_1h'], entities: [user] })
    expect(request.columns.map(({ feature }) => `${feature.info.view}:${feature.info.name}`)).toEqual([
      'spend:amount_sum_1d',
      'visits:count_1h',
    ])
  })

  it('say window, type and scale of each column', () => {
    const decimals = catalogOf([planOf({ type: 'decimal' })])
    const request = parseRequest({ features: ['spend:amount_sum_1d'], entities: [user] }, decimals, REQUEST_LIMITS, NOW)
    expect(request.columns[0].feature.info).toEqual({
      name: 'amount_sum_1d',
      view: 'spend',
      op: 'sum',
      type: 'decimal',
      scale: 2,
      window: '1d',
    })
  })
})

describe('as-of', () => {
  it('is the clock, one instant, or one per entity', () => {
    expect(parse({ view: 'spend', entities: [user] }).asOfMs).toBe(NOW)
    expect(parse({ view: 'spend', entities: [user], asOf: '2001-06-24T12:00:00+02:00' }).asOfMs).toBe(
      Date.UTC(2001, 5, 24, 10),
    )
    expect(parse({ view: 'spend', entities: [user], asOf: new Date(5) }).asOfMs).toBe(5)
    expect(parse({ view: 'spend', entities: [user, user], asOfs: [1, '2001-01-01T00:00:00Z'] }).asOfMs).toEqual(
      Float64Array.of(1, Date.UTC(2001, 0, 1)),
    )
  })

  it.each([
    ['no zone', { asOf: '2001-06-24T12:00:00' }],
    ['a fraction of a millisecond', { asOf: 1.5 }],
    ['before the epoch', { asOf: -1 }],
    ['after what tiles can number', { asOf: 2 ** 32 * 1000 }],
    ['a list', { asOf: [1] }],
    ['a bigint', { asOf: 10n }],
    ['an invalid date', { asOf: new Date(Number.NaN) }],
    ['a very long text', { asOf: '1'.repeat(100_000) }],
    ['both forms', { asOf: 1, asOfs: [1] }],
    ['the wrong count', { asOfs: [1, 2] }],
    ['one bad among many', { asOfs: ['soon'] }],
    ['as_ofs of another type', { asOfs: 5 }],
  ])('is refused: %s', (_case, change) => {
    const error = errorOf(() => parse({ view: 'spend', entities: [user], ...change }))
    expect(error.code).toBe('REQUEST_INVALID')
    expect(error.message).toMatch(/as_ofs?/)
    expect(error.message.length).toBeLessThan(300)
  })
})

describe('what is wrong with a request', () => {
  it.each([
    [null, 'the query is null'],
    [{ view: 'spend' }, 'entities is missing'],
    [{ view: 'spend', entities: {} }, 'entities is an object'],
    [{ view: 'spend', entities: [] }, 'entities is an empty list'],
    [{ view: 'spend', entities: [user, 7] }, 'entities[1] is 7'],
    [{ view: 'spend', entities: [null] }, 'entities[0] is null'],
    [{ view: 'spend', entities: [[]] }, 'entities[0] is a list'],
    [{ view: 'spend', entities: [JSON.parse('{"__proto__": {"user": "ann"}}')] }, '"__proto__"'],
    [{ entities: [user] }, 'names no features'],
    [{ view: 3, entities: [user] }, 'view is 3'],
    [{ features: 'spend', entities: [user] }, 'features is "spend"'],
    [{ features: [], entities: [user] }, 'features is an empty list'],
    [{ features: [['spend']], entities: [user] }, 'features[0] is a list'],
    [{ view: 'spend', entities: [user], explain: 'yes' }, 'explain is "yes"'],
  ])('is said: %j', (query, text) => {
    const error = errorOf(() => parse(query))
    expect(error.code).toBe('REQUEST_INVALID')
    expect(error.message).toContain(text)
  })

  it('is an unknown view, with the nearest name', () => {
    const error = errorOf(() => parse({ view: 'spent', entities: [user] }))
    expect(error).toMatchObject({ code: 'VIEW_UNKNOWN', details: { view: 'spent', suggestion: 'spend' } })
    expect(error.message).toContain('did you mean "spend"?')
  })

  it('is an unknown feature, with the nearest name', () => {
    const error = errorOf(() => parse({ features: ['spend:amount_sum_1w'], entities: [user] }))
    expect(error.code).toBe('FEATURE_UNKNOWN')
    expect(error.details.suggestion).toMatch(/^amount_sum_1[hd]$/)
  })

  it.each(['__proto__', 'constructor', 'toString', 'spend:__proto__', 'spend:hasOwnProperty', '', ':', 'spend:'])(
    'is a name that only objects know: %j',
    (name) => {
      expect(errorOf(() => parse({ features: [name], entities: [user] })).code).toMatch(/^(VIEW|FEATURE)_UNKNOWN$/)
    },
  )

  it('is too much, before anything is looked at', () => {
    const many = { view: 'spend', entities: new Array(1_000_000).fill(null) }
    expect(errorOf(() => parse(many))).toMatchObject({
      code: 'REQUEST_TOO_LARGE',
      details: { got: 1_000_000, max: REQUEST_LIMITS.entitiesMax },
    })
    const wide = { features: new Array(1_000_000).fill('spend'), entities: [user] }
    expect(errorOf(() => parse(wide)).code).toBe('REQUEST_TOO_LARGE')
    // A view's name counts with each of its four features.
    const three = { entitiesMax: 10, featuresMax: 3 }
    expect(errorOf(() => parse({ features: ['spend'], entities: [user] }, three))).toMatchObject({
      code: 'REQUEST_TOO_LARGE',
      details: { got: 4, max: 3 },
    })
    expect(errorOf(() => parse({ view: 'spend', entities: [user] }, three)).code).toBe('REQUEST_TOO_LARGE')
  })
})

describe('a body', () => {
  it('spells the same query with underscores', () => {
    const body = { view: 'spend', features: ['count_1h'], entities: [user], as_ofs: [1], explain: true }
    expect(queryFromBody(body)).toEqual({
      view: 'spend',
      features: ['count_1h'],
      entities: [user],
      asOfs: [1],
      explain: true,
    })
    expect(queryFromBody({ as_of: 7 })).toEqual({ asOf: 7 })
  })

  it.each([
    ['{"asof": 1}', 'did you mean "as_of"?'],
    ['{"asOf": 1}', 'known are "view", "features"'],
    ['{"entites": []}', 'did you mean "entities"?'],
    ['{"__proto__": {"view": "spend"}}', '"__proto__"'],
    ['{"constructor": 1}', '"constructor"'],
    ['[]', 'the body is a list'],
    ['null', 'the body is null'],
    ['"spend"', 'the body is "spend"'],
  ])('is refused when it is not one: %s', (text, expected) => {
    const error = errorOf(() => queryFromBody(JSON.parse(text)))
    expect(error.code).toBe('REQUEST_INVALID')
    expect(error.message).toContain(expected)
  })
})
