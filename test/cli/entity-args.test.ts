import { describe, expect, it } from 'vitest'
import { parseEntity } from '../../src/cli/entity-args.ts'
import { compileView } from '../../src/define/compile.ts'
import { bool, count, defineView, int64, timestamp, utf8 } from '../../src/define/dsl.ts'

const plan = await compileView(
  defineView({
    name: 'v',
    source: { name: 's', columns: { at: timestamp(), city: utf8(), shop: int64(), open: bool() } },
    entity: ['city', 'shop', 'open'],
    time: 'at',
    aggregations: [count({ windows: ['1h'] })],
  }),
)

describe('--entity', () => {
  it.each([
    ['city=Rome,shop=7,open=true', { city: 'Rome', shop: '7', open: true }],
    ['city=New York, NY,shop=9007199254740993', { city: 'New York, NY', shop: '9007199254740993' }],
    ['city=a=b,c=d', { city: 'a=b,c=d' }],
    ['city=', { city: '' }],
    ['{"city":"a,shop=1","shop":7,"open":false}', { city: 'a,shop=1', shop: 7, open: false }],
  ])('%s', (text, keys) => {
    expect({ ...parseEntity(text, [plan]) }).toEqual(keys)
  })

  it.each([
    ['citi=Rome', 'no view that is asked for has a key "citi"; did you mean "city"?'],
    ['Rome', 'got "Rome", expected key=value'],
    ['=Rome', 'got "=Rome", expected key=value'],
    ['{"city":', 'it is not JSON'],
    ['{"city":{"a":1}}', '"city" is {"a":1}'],
    ['{"__proto__":"x"}', 'has a key "__proto__"'],
  ])('refuses %s', (text, cause) => {
    expect(() => parseEntity(text, [plan])).toThrow(cause)
  })
})
