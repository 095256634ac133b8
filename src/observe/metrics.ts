/**
 * The two sets of numbers as Prometheus reads them: the only file that knows prom-client. Each set has a registry of its own.
 *
 * Names: `tilefold_`, what is counted, its unit in base units, `_total` for what only grows.
 */
import { Counter, Gauge, type Metric, Registry } from 'prom-client'
import { decimalBounds, Histogram } from './histogram.ts'
import { LaneCounts } from './lane-counts.ts'
import type { Exposition, LaneLabels, ParityMetrics, ServerMetrics, WorkerMetrics } from './port.ts'

export interface MetricsOptions {
  readonly version: string
  /** Milliseconds since the epoch. */
  readonly clock: () => number
}

/** An event is readable after 1 ms at best; beyond 10 minutes it only matters that it is late. */
const FRESHNESS_BOUNDS = [...decimalBounds(0.001, 100), 300, 600]
const FLUSH_BOUNDS = decimalBounds(0.001, 100)
const REQUEST_BOUNDS = decimalBounds(0.00005, 10)

export function createWorkerMetrics(options: MetricsOptions): WorkerMetrics & Exposition {
  const set = new MetricSet(options)
  const consumed = set.counter('consumed_events_total', 'Records that met their end in a view.', ['view'])
  const applied = set.counter('applied_events_total', 'Records folded.', ['view'])
  const duplicate = set.counter('duplicate_events_total', 'Records whose event id was seen before.', ['view'])
  const late = set.counter(
    'late_events_total',
    'Records behind the lateness, older than retention, or of a time that history covers.',
    LATE,
  )
  const filtered = set.counter('filtered_events_total', "Records that the view's filter turned away.", ['view'])
  const rejected = set.counter('rejected_events_total', 'Records without key or time, or from the future.', LATE)
  const redelivered = set.counter('redelivered_events_total', 'Records at positions seen before, not consumed.', [
    'view',
  ])
  const watermarkLag = set.age('watermark_lag_seconds', 'How far the watermark is behind now.', LANE)
  const checkpointAge = set.age('checkpoint_age_seconds', 'How long ago the newest checkpoint was written.', LANE)
  const lanes = set.gauge('lanes_owned', 'Lanes this process owns.', ['view'])
  const fenced = set.counter('fenced_writes_total', 'Writes refused: another owner has taken the lane.', ['view'])
  const regressed = set.counter('store_regressions_total', 'Lanes restarted: the store had gone back in time.', [
    'view',
  ])
  const lag = set.gauge('consumer_lag_records', 'Records of a partition that wait to be read.', PARTITION)
  const holes = set.counter('offset_holes_total', 'Offsets that no record has.', ['topic'])
  const dead = set.counter('dead_letter_events_total', 'Records that could not be read.', ['topic', 'reason'])
  const freshness = set.histogram('feature_freshness_seconds', 'From event to readable.', ['view'], FRESHNESS_BOUNDS)
  const flushTime = set.histogram('flush_duration_seconds', 'Time of a flush.', ['view'], FLUSH_BOUNDS)
  const rows = set.counter('flushed_rows_total', 'Rows written.', ['view'])
  const bytes = set.counter('flushed_bytes_total', 'Bytes of rows written.', ['view'])
  const deltaBytes = set.gauge('delta_bytes', 'Folded tiles that wait for a flush.', ['view'])
  const memory = set.gauge(
    'core_memory_bytes',
    'What a lane holds in memory: resident entities, and what waits for a flush.',
    LANE,
  )
  const counts = new LaneCounts()
  return {
    laneCounted(lane, totals) {
      const { view } = lane
      const added = counts.added(keyOf(lane), totals)
      // A view shows up as soon as it has an owner: a series that starts at its first increment hides that one.
      const of = added ?? NOTHING_ADDED
      add(consumed, { view }, of.consumed)
      add(applied, { view }, of.applied)
      add(duplicate, { view }, of.duplicate)
      add(late, { view, reason: 'lateness' }, of.late - of.expired - of.elsewhere)
      add(late, { view, reason: 'retention' }, of.expired)
      add(late, { view, reason: 'history' }, of.elsewhere)
      add(filtered, { view }, of.filtered)
      add(rejected, { view, reason: 'key' }, of.rejectedKey)
      add(rejected, { view, reason: 'time' }, of.rejectedTime)
      add(rejected, { view, reason: 'future' }, of.rejectedFuture)
      add(redelivered, { view }, of.redelivered)
    },
    watermark: (lane, watermarkMs) => watermarkLag.since(labelsOf(lane), watermarkMs),
    checkpointed: (lane, atMs) => checkpointAge.since(labelsOf(lane), atMs),
    laneLeft(lane) {
      counts.forget(keyOf(lane))
      memory.remove(labelsOf(lane))
      watermarkLag.remove(labelsOf(lane))
      checkpointAge.remove(labelsOf(lane))
    },
    lanesOwned: (view, count) => put(lanes, { view }, count),
    fenced: (view) => add(fenced, { view }, 1),
    regressed: (view) => add(regressed, { view }, 1),
    consumerLag: (topic, partition, records) => put(lag, { topic, partition: String(partition) }, records),
    partitionLeft: (topic, partition) => lag.remove({ topic, partition: String(partition) }),
    offsetHoles: (topic, offsets) => add(holes, { topic }, offsets),
    deadLetters: (topic, reason, records) => add(dead, { topic, reason }, records),
    freshness: (view, seconds, events) => freshness.observe([view], Math.max(0, seconds), events),
    flushed(view, seconds, rowCount, byteCount) {
      flushTime.observe([view], seconds)
      add(rows, { view }, rowCount)
      add(bytes, { view }, byteCount)
    },
    deltaBytes: (view, count) => put(deltaBytes, { view }, count),
    memoryBytes: (lane, count) => put(memory, labelsOf(lane), count),
    ...set.exposition(),
  }
}

export function createServerMetrics(options: MetricsOptions): ServerMetrics & Exposition {
  const set = new MetricSet(options)
  const labels = ['route', 'status']
  const requests = set.histogram('feature_request_duration_seconds', 'Time of a request.', labels, REQUEST_BOUNDS)
  let underWay = 0
  set.gauge('requests_in_flight', 'Feature requests under way.', [], () => underWay)
  const shed = set.tally('requests_shed_total', 'Feature requests turned away: too many were under way.')
  const entities = set.tally('answered_entities_total', 'Entities that were answered for.')
  const partial = set.tally(
    'partial_answers_total',
    'Answers that lack rows which could not be read, or may lack lanes.',
  )
  const values = set.tally('answered_values_total', 'Values answered, by their status.', 'status')
  const reads = set.histogram('store_read_duration_seconds', 'Time of a trip to the store.', [], REQUEST_BOUNDS)
  const rows = set.tally('store_read_rows_total', 'Rows read.')
  const bytes = set.tally('store_read_bytes_total', 'Bytes of rows read.')
  const lookedFor = set.tally('row_cache_lookups_total', 'Rows looked for among those kept.')
  const kept = set.tally('row_cache_hits_total', 'Rows that were found there.')
  const logged = set.tally('served_log_rows_total', 'Rows of the log of answers, in whole files.')
  const unlogged = set.tally('served_log_dropped_rows_total', 'Rows left out of it: the disk was full or too slow.')
  return {
    requestDone: (route, status, seconds) => requests.observe([route, `${Math.floor(status / 100)}xx`], seconds),
    requestsInFlight(count) {
      underWay = count
    },
    requestShed: () => shed.add('', 1),
    answered(count, isPartial) {
      entities.add('', count)
      if (isPartial) partial.add('', 1)
    },
    values: (status, count) => values.add(status, count),
    storeRead(seconds, rowCount, byteCount) {
      reads.observe([], seconds)
      rows.add('', rowCount)
      bytes.add('', byteCount)
    },
    rowsCached(lookups, hits) {
      lookedFor.add('', lookups)
      kept.add('', hits)
    },
    servedLogged(rowCount, dropped) {
      logged.add('', rowCount)
      unlogged.add('', dropped)
    },
    ...set.exposition(),
  }
}

export function createParityMetrics(options: MetricsOptions): ParityMetrics & Exposition {
  const set = new MetricSet(options)
  const checked = set.counter('parity_checked_total', 'Rows compared with what the mirror gives.', ['view'])
  const mismatch = set.counter('parity_mismatch_total', 'Rows of them that are not the same.', ['view', 'kind'])
  const failures = set.counter('parity_failures_total', 'Comparisons that could not be carried out.', ['view'])
  const age = set.age('parity_age_seconds', 'How long ago the last comparison ended.', ['view'])
  return {
    compared(view, { compared, mismatched, missing, extra }) {
      add(checked, { view }, compared)
      add(mismatch, { view, kind: 'mismatched' }, mismatched)
      add(mismatch, { view, kind: 'missing' }, missing)
      add(mismatch, { view, kind: 'extra' }, extra)
      add(failures, { view }, 0)
    },
    turnDone: (view, atMs) => age.since({ view }, atMs),
    turnFailed: (view) => add(failures, { view }, 1),
    ...set.exposition(),
  }
}

const LANE = ['view', 'topic', 'partition']
const PARTITION = ['topic', 'partition']
const LATE = ['view', 'reason']

const NOTHING_ADDED = {
  consumed: 0,
  applied: 0,
  duplicate: 0,
  late: 0,
  expired: 0,
  elsewhere: 0,
  filtered: 0,
  rejectedKey: 0,
  rejectedTime: 0,
  rejectedFuture: 0,
  redelivered: 0,
}

type Labels = Readonly<Record<string, string>>

function labelsOf({ view, topic, partition }: LaneLabels): Labels {
  return { view, topic, partition: String(partition) }
}

function keyOf({ view, topic, partition }: LaneLabels): string {
  return JSON.stringify([view, topic, partition])
}

// prom-client throws for what is no number and for counters that shrink: nothing that is told may do that.

function add(counter: Counter, labels: Labels, amount: number): void {
  if (amount >= 0 && amount < Number.POSITIVE_INFINITY) counter.inc(labels, amount)
}

function put(gauge: Gauge, labels: Labels, value: number): void {
  if (Number.isFinite(value)) gauge.set(labels, value)
}

/** Time since instants that were told: it grows also while nobody tells anything. */
interface Ages {
  since(labels: Labels, atMs: number): void
  remove(labels: Labels): void
}

class MetricSet {
  readonly #registry = new Registry()
  readonly #clock: () => number

  constructor({ version, clock }: MetricsOptions) {
    this.#clock = clock
    put(this.gauge('build_info', 'The version that runs.', ['version']), { version }, 1)
    const startSeconds = clock() / 1000 - process.uptime()
    this.#process('process_start_time_seconds', 'When the process started.', () => startSeconds)
    this.#process('process_resident_memory_bytes', 'Memory of the process.', () => process.memoryUsage.rss())
    let before = performance.eventLoopUtilization()
    this.#process(
      'nodejs_eventloop_utilization_ratio',
      'Share of time the event loop was busy, since asked last.',
      () => {
        const now = performance.eventLoopUtilization()
        const { utilization } = performance.eventLoopUtilization(now, before)
        before = now
        return utilization
      },
    )
    const cpu: Counter = new Counter({
      name: 'process_cpu_seconds_total',
      help: 'CPU time of the process.',
      registers: [this.#registry],
      collect: () => {
        const { user, system } = process.cpuUsage()
        cpu.reset()
        cpu.inc((user + system) / 1e6)
      },
    })
  }

  counter(name: string, help: string, labelNames: readonly string[] = []): Counter {
    return new Counter({ name: `tilefold_${name}`, help, labelNames, registers: [this.#registry] })
  }

  /** `read`: asked for the value whenever somebody asks for the metrics. */
  gauge(name: string, help: string, labelNames: readonly string[] = [], read?: () => number): Gauge {
    const collect = read === undefined ? undefined : () => put(gauge, {}, read())
    const gauge: Gauge = new Gauge({ name: `tilefold_${name}`, help, labelNames, registers: [this.#registry], collect })
    return gauge
  }

  /** A counter for what happens at every request: it is handed to prom-client only when somebody asks. */
  tally(name: string, help: string, labelName?: string): { add(label: string, amount: number): void } {
    const totals = new Map<string, number>(labelName === undefined ? [['', 0]] : [])
    const labelNames = labelName === undefined ? [] : [labelName]
    const counter: Counter = new Counter({
      name: `tilefold_${name}`,
      help,
      labelNames,
      registers: [this.#registry],
      collect: () => {
        counter.reset()
        for (const [label, total] of totals) counter.inc(labelName === undefined ? {} : { [labelName]: label }, total)
      },
    })
    return {
      add(label, amount) {
        if (amount >= 0 && amount < Number.POSITIVE_INFINITY) totals.set(label, (totals.get(label) ?? 0) + amount)
      },
    }
  }

  age(name: string, help: string, labelNames: readonly string[]): Ages {
    const instants = new Map<string, { labels: Labels; atMs: number }>()
    const gauge: Gauge = new Gauge({
      name: `tilefold_${name}`,
      help,
      labelNames,
      registers: [this.#registry],
      collect: () => {
        const nowMs = this.#clock()
        for (const { labels, atMs } of instants.values()) put(gauge, labels, (nowMs - atMs) / 1000)
      },
    })
    const keyOf = (labels: Labels) => JSON.stringify(Object.values(labels))
    return {
      since: (labels, atMs) => instants.set(keyOf(labels), { labels, atMs }),
      remove: (labels) => {
        instants.delete(keyOf(labels))
        gauge.remove(labels)
      },
    }
  }

  histogram(name: string, help: string, labelNames: readonly string[], bounds: readonly number[]): Histogram {
    const histogram = new Histogram(labelNames, bounds)
    // The registry asks a metric for its name and its values, and for nothing else.
    const metric = { name: `tilefold_${name}`, get: async () => exposed(`tilefold_${name}`, help, histogram) }
    this.#registry.registerMetric(metric as unknown as Metric)
    return histogram
  }

  exposition(): Exposition {
    return { contentType: this.#registry.contentType, text: () => this.#registry.metrics() }
  }

  #process(name: string, help: string, read: () => number): void {
    const gauge: Gauge = new Gauge({ name, help, registers: [this.#registry], collect: () => put(gauge, {}, read()) })
  }
}

/** As prom-client's own histogram gives it: sums up to each bound, then the sum and the count. */
function exposed(name: string, help: string, histogram: Histogram): object {
  const values: { metricName: string; labels: Labels; value: number }[] = []
  for (const { labels, counts, sum } of histogram.series()) {
    const own = Object.fromEntries(histogram.labelNames.map((label, i) => [label, labels[i]!]))
    let count = 0
    for (const [i, bound] of [...histogram.bounds, '+Inf'].entries()) {
      count += counts[i]!
      values.push({ metricName: `${name}_bucket`, labels: { ...own, le: String(bound) }, value: count })
    }
    values.push({ metricName: `${name}_sum`, labels: own, value: sum })
    values.push({ metricName: `${name}_count`, labels: own, value: count })
  }
  return { name, help, type: 'histogram', aggregator: 'sum', values }
}
