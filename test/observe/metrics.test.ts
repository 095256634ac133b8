import { describe, expect, it } from 'vitest'
import type { Counters } from '../../src/model/counters.ts'
import { decimalBounds } from '../../src/observe/histogram.ts'
import { createServerMetrics, createWorkerMetrics } from '../../src/observe/metrics.ts'
import {
  type Exposition,
  NO_SERVER_METRICS,
  NO_WORKER_METRICS,
  type ServerMetrics,
  type WorkerMetrics,
} from '../../src/observe/port.ts'
import { numberOf, parseExposition } from './exposition.ts'

const lane = { view: 'orders', topic: 'orders', partition: 3 }
const view = { view: 'orders' }
const laneLabels = { view: 'orders', topic: 'orders', partition: '3' }

function totals(given: Partial<Counters>): Counters {
  const { applied = 0, duplicate = 0, late = 0, filtered = 0, redelivered = 0, expired = 0, elsewhere = 0 } = given
  const { rejectedKey = 0, rejectedTime = 0, rejectedFuture = 0 } = given
  const rejected = rejectedKey + rejectedTime + rejectedFuture
  const consumed = applied + duplicate + late + filtered + rejected
  const reasons = { rejectedKey, rejectedTime, rejectedFuture }
  return { consumed, applied, duplicate, late, expired, elsewhere, filtered, rejected, ...reasons, redelivered }
}

async function familiesOf(metrics: Exposition) {
  return parseExposition(await metrics.text())
}

/** Everything there is to tell, with what a broken caller may pass. */
function tellAll(worker: WorkerMetrics, server: ServerMetrics, number: number): void {
  worker.laneCounted(lane, totals({ applied: number, late: number, expired: number }))
  worker.laneCounted(lane, totals({ applied: number * 2, rejectedKey: number }))
  worker.watermark(lane, number)
  worker.checkpointed(lane, number)
  worker.lanesOwned('orders', number)
  worker.fenced('orders')
  worker.regressed('orders')
  worker.consumerLag('orders', 3, number)
  worker.offsetHoles('orders', number)
  worker.deadLetters('orders', 'json', number)
  worker.freshness('orders', number, number)
  worker.flushed('orders', number, number, number)
  worker.deltaBytes('orders', number)
  worker.memoryBytes(lane, number)
  server.requestDone('/v1/features', 200, number)
  server.requestsInFlight(number)
  server.requestShed()
  server.answered(number, true)
  server.values('ok', number)
  server.storeRead(number, number, number)
  server.rowsCached(number, number)
}

describe('names', () => {
  it('follow the conventions, in the worker and in the server', async () => {
    const options = { version: '1.2.3', clock: () => 1000 }
    const worker = createWorkerMetrics(options)
    const server = createServerMetrics(options)
    tellAll(worker, server, 1)
    for (const metrics of [worker, server]) {
      expect(metrics.contentType).toContain('text/plain; version=0.0.4')
      const families = await familiesOf(metrics)
      expect(numberOf(families, 'tilefold_build_info', { version: '1.2.3' })).toBe(1)
      for (const { name, type, help, samples } of families.values()) {
        expect(name).toMatch(/^(tilefold|process|nodejs)_[a-z_]+$/)
        expect(name.endsWith('_total'), name).toBe(type === 'counter')
        expect(help).toMatch(/^[A-Z].*\.$/)
        expect(samples.length, name).toBeGreaterThan(0)
        const unit = /_(seconds|bytes|ratio|info|records|owned|in_flight)$/
        if (type !== 'counter') expect(name).toMatch(unit)
        for (const each of samples) {
          const known = ['view', 'topic', 'partition', 'reason', 'status', 'route', 'version', 'le']
          expect(known).toEqual(expect.arrayContaining(Object.keys(each.labels)))
        }
      }
    }
  })

  it('are no global state: two sets of one process count apart', async () => {
    const options = { version: '1', clock: () => 0 }
    const [one, other] = [createWorkerMetrics(options), createWorkerMetrics(options)]
    one.fenced('orders')
    expect(numberOf(await familiesOf(one), 'tilefold_fenced_writes_total', view)).toBe(1)
    expect(numberOf(await familiesOf(other), 'tilefold_fenced_writes_total', view)).toBeUndefined()
  })
})

describe('a lane', () => {
  it('counts from where its owner took it, each record once, and conserves them', async () => {
    const metrics = createWorkerMetrics({ version: '1', clock: () => 0 })
    metrics.laneCounted(lane, totals({ applied: 1000, duplicate: 10 }))
    expect(numberOf(await familiesOf(metrics), 'tilefold_applied_events_total', view)).toBe(0)
    metrics.laneCounted(lane, totals({ applied: 1100, duplicate: 20, late: 5, expired: 2, rejectedTime: 3 }))
    // It went back to its checkpoint, and folds the same records again and some more.
    metrics.laneCounted(lane, totals({ applied: 1050, duplicate: 15, late: 2, expired: 1 }))
    metrics.laneCounted(lane, totals({ applied: 1100, duplicate: 20, late: 5, expired: 2, rejectedTime: 3 }))
    metrics.laneCounted(
      lane,
      totals({ applied: 1150, duplicate: 20, late: 6, expired: 2, rejectedTime: 3, filtered: 7, redelivered: 9 }),
    )
    const families = await familiesOf(metrics)
    const of = (name: string, labels: Record<string, string> = view) =>
      numberOf(families, `tilefold_${name}_events_total`, labels)
    expect(of('applied')).toBe(150)
    expect(of('duplicate')).toBe(10)
    expect(of('late', { ...view, reason: 'lateness' })).toBe(4)
    expect(of('late', { ...view, reason: 'retention' })).toBe(2)
    expect(of('filtered')).toBe(7)
    expect(of('rejected', { ...view, reason: 'time' })).toBe(3)
    expect(of('rejected', { ...view, reason: 'key' })).toBe(0)
    expect(of('rejected', { ...view, reason: 'future' })).toBe(0)
    expect(of('redelivered')).toBe(9)
    const ends = [...families.values()]
      .filter((each) => /_(applied|duplicate|late|filtered|rejected)_events_total$/.test(each.name))
      .flatMap((each) => each.samples.map((sample) => sample.value))
    expect(ends.reduce((sum, each) => sum + each, 0)).toBe(of('consumed'))
  })

  it('adds to what other lanes of its view counted, and starts anew where it comes back', async () => {
    const metrics = createWorkerMetrics({ version: '1', clock: () => 0 })
    for (const partition of [0, 1]) {
      metrics.laneCounted({ ...lane, partition }, totals({}))
      metrics.laneCounted({ ...lane, partition }, totals({ applied: 10 }))
    }
    metrics.laneLeft({ ...lane, partition: 0 })
    metrics.laneCounted({ ...lane, partition: 0 }, totals({ applied: 50 }))
    metrics.laneCounted({ ...lane, partition: 0 }, totals({ applied: 51 }))
    expect(numberOf(await familiesOf(metrics), 'tilefold_applied_events_total', view)).toBe(21)
  })

  it('grows older while nobody tells anything, and is not told of once it is left', async () => {
    let nowMs = 100_000
    const metrics = createWorkerMetrics({ version: '1', clock: () => nowMs })
    metrics.watermark(lane, 99_000)
    metrics.checkpointed(lane, 90_000)
    metrics.consumerLag('orders', 3, 17)
    nowMs = 130_000
    let families = await familiesOf(metrics)
    expect(numberOf(families, 'tilefold_watermark_lag_seconds', laneLabels)).toBe(31)
    expect(numberOf(families, 'tilefold_checkpoint_age_seconds', laneLabels)).toBe(40)
    expect(numberOf(families, 'tilefold_consumer_lag_records', { topic: 'orders', partition: '3' })).toBe(17)
    metrics.laneLeft(lane)
    metrics.partitionLeft('orders', 3)
    families = await familiesOf(metrics)
    expect(families.get('tilefold_watermark_lag_seconds')!.samples).toEqual([])
    expect(families.get('tilefold_checkpoint_age_seconds')!.samples).toEqual([])
    expect(families.get('tilefold_consumer_lag_records')!.samples).toEqual([])
  })
})

describe('freshness', () => {
  it('counts events by how long after they happened they were readable, from 1 ms to 10 min', async () => {
    const metrics = createWorkerMetrics({ version: '1', clock: () => 0 })
    metrics.freshness('orders', 0.001, 1000)
    metrics.freshness('orders', 0.2, 30)
    metrics.freshness('orders', 601, 2)
    metrics.freshness('orders', -5, 1)
    const families = await familiesOf(metrics)
    const name = 'tilefold_feature_freshness_seconds'
    const bounds = families
      .get(name)!
      .samples.filter((each) => each.name.endsWith('_bucket'))
      .map((each) => each.labels.le)
    expect(bounds[0]).toBe('0.001')
    expect(bounds.slice(-2)).toEqual(['600', '+Inf'])
    const upTo = (le: string) => numberOf(families, `${name}_bucket`, { ...view, le })
    expect(upTo('0.001')).toBe(1001)
    expect(upTo('0.1')).toBe(1001)
    expect(upTo('0.25')).toBe(1031)
    expect(upTo('600')).toBe(1031)
    expect(upTo('+Inf')).toBe(1033)
    expect(numberOf(families, `${name}_count`, view)).toBe(1033)
    expect(numberOf(families, `${name}_sum`, view)).toBeCloseTo(1 + 6 + 1202, 9)
  })

  it('has bounds that print as people write them', () => {
    expect(decimalBounds(0.00005, 0.001)).toEqual([0.00005, 0.0001, 0.00025, 0.0005, 0.001])
    expect(decimalBounds(1, 1)).toEqual([1])
  })
})

describe('what is told', () => {
  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -1, 0, 2 ** 60])(
    'never throws and never spoils the text: %d',
    async (number) => {
      const options = { version: '1', clock: () => 0 }
      const worker = createWorkerMetrics(options)
      const server = createServerMetrics(options)
      tellAll(worker, server, number)
      tellAll(NO_WORKER_METRICS, NO_SERVER_METRICS, number)
      for (const metrics of [worker, server]) {
        const families = await familiesOf(metrics)
        for (const family of families.values()) {
          for (const each of family.samples) expect(Number.isFinite(each.value), each.name).toBe(true)
        }
      }
    },
  )

  it('is escaped where a label would end too early', async () => {
    const metrics = createWorkerMetrics({ version: '1', clock: () => 0 })
    metrics.freshness('a"b\\c\nd', 1, 1)
    metrics.deadLetters('a"b\\c\nd', 'json', 1)
    const families = await familiesOf(metrics)
    expect(numberOf(families, 'tilefold_feature_freshness_seconds_count', { view: 'a\\"b\\\\c\\nd' })).toBe(1)
    const labels = { topic: 'a\\"b\\\\c\\nd', reason: 'json' }
    expect(numberOf(families, 'tilefold_dead_letter_events_total', labels)).toBe(1)
  })
})

describe('a server', () => {
  it('counts requests by route and class of status, with buckets from 50 us', async () => {
    const metrics = createServerMetrics({ version: '1', clock: () => 0 })
    metrics.requestDone('/v1/features', 200, 0.00004)
    metrics.requestDone('/v1/features', 204, 0.02)
    metrics.requestDone('/v1/features', 429, 0.0001)
    const families = await familiesOf(metrics)
    const name = 'tilefold_feature_request_duration_seconds'
    const ok = { route: '/v1/features', status: '2xx' }
    expect(numberOf(families, `${name}_bucket`, { ...ok, le: '0.00005' })).toBe(1)
    expect(numberOf(families, `${name}_count`, ok)).toBe(2)
    expect(numberOf(families, `${name}_count`, { route: '/v1/features', status: '4xx' })).toBe(1)
  })
})
