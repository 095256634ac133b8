import { expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { parseDefinitions } from '../../src/define/yaml.ts'

const t = (s: string) => {
  try {
    return JSON.stringify(parseDefinitions(s, 'f.yaml')).slice(0, 3000)
  } catch (e) {
    return (e as Error).stack!.split('\n    at')[0]
  }
}
it('x', async () => {
  const good = `
namespace: demo
views:
  - name: departures
    source: &flights
      name: flights
      columns: { date: 'timestamp[us]', delay: int64, origin: utf8, fare: 'decimal(12, 2)' }
    entity: origin
    time: date
    filter: >
      delay is not null
      and delay > 'x'
    aggregations:
      - { op: count, windows: [1h, 24h] }
      - { op: sum, column: fare, windows: [1h], default: 90071992547409931 }
`
  console.log(t(good))
  for (const v of parseDefinitions(good, 'f.yaml').views)
    await compileView(v).catch((e) => console.log(e.message, JSON.stringify(e.details)))
  console.log(
    t(
      good
        .replace('entity: origin', 'entity: orgin')
        .replace('op: count', 'opp: count')
        .replace('[1h, 24h]', '[1h, 24x, 7]'),
    ),
  )
  console.log(t('a: [\nb'))
  console.log(t('a: 1\na: 2'))
  console.log(t('views: []'), t(''), t('[]'), t('views: 3'))
  console.log(t('__proto__: 1\nconstructor: 2\nviews: [{}]'))
  console.log(
    t(
      'a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c]\nviews: [*d,*d,*d,*d]',
    ),
  )
  console.log(t('a: &a [*a]'), t('views: *nope'))
  let t0 = Date.now()
  console.log(t('['.repeat(100000)), Date.now() - t0)
  t0 = Date.now()
  console.log(t('['.repeat(5000) + ']'.repeat(5000)), Date.now() - t0)
  t0 = Date.now()
  console.log(t('a: '.repeat(300000)).slice(0, 200), Date.now() - t0)
  t0 = Date.now()
  console.log(t('- '.repeat(300000)).slice(0, 200), Date.now() - t0)
  t0 = Date.now()
  console.log(t('{a: '.repeat(200000)).slice(0, 200), Date.now() - t0)
  console.log(
    t('x'.repeat(2000000)).slice(0, 200),
    t('views: !!binary aGVsbG8='),
    t('views: !foo x'),
    t('a: 1\n---\nb: 2'),
  )
  expect(1).toBe(1)
}, 60000)
