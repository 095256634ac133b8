/** An estimate as data, and as a table that says of each number where it comes from. */
import { formatDuration } from '../model/time.ts'
import { bytesOf, type Cost, type Load } from './estimate-cost.ts'
import type { FoldedView } from './estimate-fold.ts'
import type { Printer } from './printer.ts'
import { formatBytes, formatCount, formatTime, indent, renderTable } from './table.ts'

export interface Estimated {
  readonly view: FoldedView
  /** Events per second of the sample; absent where all of it has one time. */
  readonly ownRate: number | undefined
  readonly load?: Load
  readonly cost?: Cost
}

export interface EstimateReport {
  readonly events: number
  readonly logs: number
  readonly unreadable: number
  readonly isCut: boolean
  readonly readWhat: string
  readonly readMicrosPerEvent: number
  /** Was it told, or is it the sample's? */
  readonly hasRate: boolean
  readonly hasEntities: boolean
  readonly flushMs: number
  readonly views: readonly Estimated[]
}

export function estimateData(report: EstimateReport): object {
  const { events, logs, unreadable, isCut, readWhat, readMicrosPerEvent, views } = report
  return {
    sample: { events, logs, unreadable, cut: isCut, read: readWhat, read_micros_per_event: readMicrosPerEvent },
    views: views.map((each) => ({
      view: each.view.plan.view,
      state_hash: each.view.plan.stateHash,
      measured: measuredData(each),
      assumed: each.load && {
        events_per_second: each.load.eventsPerSecond,
        entities: each.load.entities,
        flush_interval_ms: each.load.flushMs,
      },
      extrapolated: each.cost && costData(each.cost),
    })),
    total: totalOf(views),
    rules: rulesOf(report),
  }
}

function measuredData({ view, ownRate }: Estimated): object {
  const { counters, span, events, rows, foldMicros, flushMicrosPerRow = null } = view
  const { headEventBytes = null, tileBytes } = bytesOf(view)
  return {
    consumed: counters.consumed,
    applied: counters.applied,
    first: span === undefined ? null : formatTime(span.firstMs),
    last: span === undefined ? null : formatTime(span.lastMs),
    events_per_second: ownRate ?? null,
    entities: events.length,
    hottest_share: hottestShare(view),
    rows: rows.rows,
    bytes: rows.bytes,
    row_bytes: {
      mean: meanOf(rows.bytes, rows.rows),
      p50: quantile(rows.sizes, 0.5),
      p99: quantile(rows.sizes, 0.99),
      max: quantile(rows.sizes, 1),
    },
    inspected: rows.inspected,
    tiles_per_row: meanOf(tilesOf(view), rows.inspected),
    head_events_per_row: meanOf(rows.headEvents, rows.inspected),
    head_bytes_per_row: meanOf(rows.headBytes, rows.inspected),
    head_event_bytes: headEventBytes,
    tile_bytes: tileBytes.map((each) => each ?? null),
    fold_micros_per_event: meanOf(foldMicros, counters.consumed),
    flush_micros_per_row: flushMicrosPerRow,
  }
}

function costData(cost: Cost): object {
  return {
    rows: Math.round(cost.rows),
    bytes: Math.round(cost.bytes),
    row_bytes: Math.round(cost.rowBytes),
    tiles: Math.round(cost.tiles),
    head_bytes_per_row: Math.round(cost.headBytes),
    hottest: { events_per_second: cost.hottest.eventsPerSecond, row_bytes: Math.round(cost.hottest.rowBytes) },
    redis_bytes: Math.round(cost.redisBytes),
    directory_bytes: Math.round(cost.directoryBytes),
    write_rows_per_second: cost.writeRowsPerSecond,
    write_bytes_per_second: Math.round(cost.writeBytesPerSecond),
    cpu_cores: cost.cpuShare,
  }
}

function totalOf(views: readonly Estimated[]): object | null {
  const costs = views.flatMap(({ cost }) => (cost === undefined ? [] : [cost]))
  if (costs.length < views.length) return null
  const sum = (of: (cost: Cost) => number) => costs.reduce((total, cost) => total + of(cost), 0)
  return {
    rows: Math.round(sum((cost) => cost.rows)),
    bytes: Math.round(sum((cost) => cost.bytes)),
    redis_bytes: Math.round(sum((cost) => cost.redisBytes)),
    directory_bytes: Math.round(sum((cost) => cost.directoryBytes)),
    write_bytes_per_second: Math.round(sum((cost) => cost.writeBytesPerSecond)),
    cpu_cores: sum((cost) => cost.cpuShare),
  }
}

/** How the extrapolated numbers came about. */
function rulesOf({ hasRate, hasEntities, flushMs, readWhat }: EstimateReport): string[] {
  return [
    `rate: ${hasRate ? 'as told' : "the sample's"}; entities: ${hasEntities ? "as told, in the sample's proportions; the hottest keeps its share" : 'those in the sample'}`,
    'row: header, head and tiles of an entity that has sent at its rate for as long as tiles are kept; bytes of an event and of a tile as measured, events by chance (Poisson)',
    `writes: each ${formatDuration(flushMs)} every row that was touched, whole: the distinct entities among as many consecutive events of the sample`,
    `CPU: ${readWhat}, fold, flush into memory, on this machine; without the clients of Kafka and Redis (a message of kafkajs takes some 3 µs more)`,
    'store: sizes that Redis 7 (jemalloc) and LMDB give to such values; no replicas, no checkpoints',
  ]
}

// ---- for people ------------------------------------------------------------------------------------------------------

export function estimateTable(report: EstimateReport, printer: Printer): string {
  const title = (text: string) => printer.style('bold', text)
  const { events, logs, isCut, readMicrosPerEvent, readWhat } = report
  const from = logs === 1 ? '' : ` of ${logs} partitions`
  const head = `sample: ${isCut ? 'the first ' : ''}${formatCount(events)} events${from}; ${readWhat}: ${micros(readMicrosPerEvent)} each`
  const blocks = report.views.map((each) => {
    const { plan, span } = each.view
    const when = span === undefined ? '' : `, ${formatTime(span.firstMs)} to ${formatTime(span.lastMs)}`
    const measured = renderTable([{ title: 'MEASURED' }, { title: '', align: 'right' }], measuredLines(each), title)
    const extrapolated = extrapolatedTable(each, title)
    return `${title(plan.view)}: ${formatCount(each.view.counters.applied)} events applied${when}\n\n${indent(`${measured}\n${extrapolated}`)}`
  })
  const rules = rulesOf(report).map((rule) => `  ${rule}\n`)
  return `${head}\n\n${blocks.join('\n')}\n${title('how')}\n${rules.join('')}`
}

function measuredLines(each: Estimated): [string, string][] {
  const { view, ownRate } = each
  const { rows, events, counters } = view
  const { headEventBytes, tileBytes } = bytesOf(view)
  const steps = view.plan.state.ladder.map(({ stepMs }) => formatDuration(stepMs))
  const tiles = tileBytes.map((bytes, i) => `${steps[i]} ${bytes === undefined ? '-' : Math.round(bytes)}`)
  return [
    ['events per second', ownRate === undefined ? '-' : short(ownRate)],
    ['entities', formatCount(events.length)],
    ['share of the hottest', `${(hottestShare(view) * 100).toFixed(1)} %`],
    ['rows', formatCount(rows.rows)],
    ['bytes in all', formatBytes(rows.bytes)],
    [
      'bytes per row: mean, p99, most',
      [meanOf(rows.bytes, rows.rows), quantile(rows.sizes, 0.99), quantile(rows.sizes, 1)].map(formatBytes).join(', '),
    ],
    ['tiles per row', short(meanOf(tilesOf(view), rows.inspected))],
    ['bytes per tile', tiles.join(', ')],
    [
      'head: events per row, bytes each',
      `${short(meanOf(rows.headEvents, rows.inspected))}, ${headEventBytes === undefined ? '-' : Math.round(headEventBytes)}`,
    ],
    ['fold', `${micros(meanOf(view.foldMicros, counters.consumed))} per event`],
    ['flush', view.flushMicrosPerRow === undefined ? '-' : `${micros(view.flushMicrosPerRow)} per row`],
  ]
}

function extrapolatedTable({ cost, load }: Estimated, title: (text: string) => string): string {
  if (cost === undefined || load === undefined) return ''
  const lines: [string, string][] = [
    ['rows', formatCount(cost.rows)],
    ['bytes per row', `${formatBytes(cost.rowBytes)}, of them head ${formatBytes(cost.headBytes)}`],
    [
      'row of the hottest entity',
      `${formatBytes(cost.hottest.rowBytes)} at ${short(cost.hottest.eventsPerSecond)} events/s`,
    ],
    ['bytes of rows', formatBytes(cost.bytes)],
    ['memory of Redis', formatBytes(cost.redisBytes)],
    ['or a directory', formatBytes(cost.directoryBytes)],
    ['written per second', `${formatBytes(cost.writeBytesPerSecond)}, ${short(cost.writeRowsPerSecond)} rows`],
    ['CPU', `${short(cost.cpuShare)} cores`],
  ]
  const what = `EXTRAPOLATED to ${short(load.eventsPerSecond)} events/s, ${formatCount(load.entities)} entities`
  return renderTable([{ title: what }, { title: '', align: 'right' }], lines, title)
}

function hottestShare({ events, sequence }: FoldedView): number {
  return meanOf(
    events.reduce((most, each) => Math.max(most, each), 0),
    sequence.length,
  )
}

function tilesOf({ rows }: FoldedView): number {
  return rows.levels.reduce((sum, { tiles }) => sum + tiles, 0)
}

function meanOf(sum: number, count: number): number {
  return count === 0 ? 0 : sum / count
}

/** Of ascending numbers. */
function quantile(numbers: Float64Array, share: number): number {
  return numbers[Math.min(numbers.length - 1, Math.floor(share * numbers.length))] ?? 0
}

function short(value: number): string {
  return value >= 1000 ? formatCount(value) : String(Number(value.toPrecision(3)))
}

function micros(value: number): string {
  return `${short(value)} µs`
}
