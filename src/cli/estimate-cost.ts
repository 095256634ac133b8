/**
 * From what a sample was measured to take to what a deployment will: more events, more entities, and tiles as old as they are
 * kept. Each number here follows from measured ones by a rule that is told with it.
 *
 *   an entity's rate   its share of the sample's events, at the whole stream's rate, among as many entities as told; the hottest
 *                      one's share stays as it is
 *   a row              header + head + tiles at that rate (define/estimate.ts), bytes of an event and of a tile as measured
 *   a flush            the distinct entities among as many consecutive events of the sample as come in one flush interval
 */
import { type MeasuredBytes, steadyRow } from '../define/estimate.ts'
import type { FoldedView } from './estimate-fold.ts'

export interface Load {
  /** Events of the whole stream, per second. */
  readonly eventsPerSecond: number
  readonly entities: number
  readonly flushMs: number
  /** CPU for one event before it is folded. */
  readonly readMicrosPerEvent: number
}

export interface Cost {
  readonly rows: number
  readonly bytes: number
  readonly rowBytes: number
  readonly tiles: number
  /** Of a mean row. */
  readonly headBytes: number
  readonly hottest: { readonly eventsPerSecond: number; readonly rowBytes: number }
  readonly redisBytes: number
  readonly directoryBytes: number
  readonly writeRowsPerSecond: number
  readonly writeBytesPerSecond: number
  /** Of one core: read, fold, flush; without the clients of Kafka and Redis. */
  readonly cpuShare: number
}

export function costOf(view: FoldedView, load: Load): Cost {
  const { plan, events, rows: measured, counters, sequence } = view
  const copies = load.entities / Math.max(1, events.length)
  // Where one entity is in several logs it has a row in each.
  const rowsPerEntity = Math.max(1, measured.rows / Math.max(1, events.length))
  const applied = counters.consumed === 0 ? 0 : counters.applied / counters.consumed
  const perEvent = (load.eventsPerSecond * applied) / Math.max(1, sequence.length) / copies
  const bytes = bytesOf(view)
  const keyBytes = measured.rows === 0 ? 0 : measured.keyBytes / measured.rows

  // Entities with equally many events have equal rows.
  const sizes = new Map<number, { readonly bytes: number; readonly tiles: number; readonly headBytes: number }>()
  const sizeOf = (count: number) => {
    let size = sizes.get(count)
    if (size === undefined) {
      const { totalBytes, tiles, headBytes } = steadyRow(plan, (count * perEvent) / rowsPerEntity, bytes)
      size = { bytes: totalBytes, tiles, headBytes }
      sizes.set(count, size)
    }
    return size
  }
  const sum = { bytes: 0, tiles: 0, headBytes: 0, redisBytes: 0, directoryBytes: 0 }
  let most = 0
  for (const count of events) {
    const size = sizeOf(count)
    sum.bytes += size.bytes
    sum.tiles += size.tiles
    sum.headBytes += size.headBytes
    sum.redisBytes += redisBytesOf(size.bytes, keyBytes)
    sum.directoryBytes += directoryBytesOf(size.bytes, keyBytes)
    most = Math.max(most, count)
  }
  const scale = copies * rowsPerEntity
  const flush = flushOf(view, load, (count) => sizeOf(count).bytes)
  const rate = load.eventsPerSecond * applied
  const writeRowsPerSecond = (rate / flush.events) * flush.rows
  // Hot entities stay hot: of more entities, none takes its share.
  const hottest = (most / Math.max(1, sequence.length)) * rate
  const foldMicros = counters.consumed === 0 ? 0 : view.foldMicros / counters.consumed
  return {
    rows: events.length * scale,
    bytes: sum.bytes * scale,
    rowBytes: events.length === 0 ? 0 : sum.bytes / events.length,
    tiles: sum.tiles * scale,
    headBytes: events.length === 0 ? 0 : sum.headBytes / events.length,
    hottest: { eventsPerSecond: hottest, rowBytes: steadyRow(plan, hottest / rowsPerEntity, bytes).totalBytes },
    redisBytes: sum.redisBytes * scale,
    directoryBytes: sum.directoryBytes * scale,
    writeRowsPerSecond,
    writeBytesPerSecond: (rate / flush.events) * flush.bytes,
    cpuShare:
      (load.eventsPerSecond * (load.readMicrosPerEvent + foldMicros) +
        writeRowsPerSecond * (view.flushMicrosPerRow ?? 0)) /
      1e6,
  }
}

export function bytesOf({ rows }: FoldedView): MeasuredBytes {
  return {
    ...(rows.headEvents === 0 ? {} : { headEventBytes: rows.headBytes / rows.headEvents }),
    tileBytes: rows.levels.map(({ tiles, bytes }) => (tiles === 0 ? undefined : bytes / tiles)),
  }
}

/** Distinct entities, and the bytes of their rows, among the events of one flush: the mean over the sample. */
function flushOf(
  { sequence, events }: FoldedView,
  { eventsPerSecond, flushMs, entities }: Load,
  bytesOfRow: (count: number) => number,
): { events: number; rows: number; bytes: number } {
  // With more entities than the sample has, a flush meets that many copies of it.
  const wanted = ((eventsPerSecond * flushMs) / 1000) * (events.length / Math.max(1, entities))
  const length = Math.max(1, Math.min(sequence.length, Math.round(wanted)))
  const seen = new Int32Array(events.length).fill(-1)
  let rows = 0
  let bytes = 0
  const chunks = Math.max(1, Math.floor(sequence.length / length))
  for (let chunk = 0; chunk < chunks; chunk++) {
    for (let i = chunk * length; i < Math.min((chunk + 1) * length, sequence.length); i++) {
      const entity = sequence[i]!
      if (seen[entity] === chunk) continue
      seen[entity] = chunk
      rows++
      bytes += bytesOfRow(events[entity]!)
    }
  }
  return { events: length, rows: rows / chunks, bytes: bytes / chunks }
}

// ---- what a store makes of a row -------------------------------------------------------------------------------------

/** Namespace, state hash, generation and lane, before an entity's own key. */
const NAME_BYTES = 48
/** Redis 7: entries in two tables (keys, expiries) with their slots, and the value's header object. */
const REDIS_ENTRY_BYTES = 24 + 8 + 24 + 8 + 16
const REDIS_TEXT_BYTES = 9

function redisBytesOf(rowBytes: number, keyBytes: number): number {
  return (
    REDIS_ENTRY_BYTES + allocated(NAME_BYTES + keyBytes + REDIS_TEXT_BYTES) + allocated(rowBytes + REDIS_TEXT_BYTES)
  )
}

/** What jemalloc gives: four sizes in each doubling. */
function allocated(bytes: number): number {
  if (bytes <= 128) return Math.ceil(bytes / 16) * 16
  const spacing = 2 ** (Math.ceil(Math.log2(bytes)) - 3)
  return Math.ceil(bytes / spacing) * spacing
}

const PAGE_BYTES = 4096
/** A value that leaves no room for another one in its page has pages of its own. */
const LEAF_BYTES_MAX = PAGE_BYTES / 2 - 40
/** Of pages that are split as rows come in no order. */
const LEAF_FILL = 0.7

function directoryBytesOf(rowBytes: number, keyBytes: number): number {
  const leaf = NAME_BYTES + keyBytes + 16
  if (rowBytes + leaf <= LEAF_BYTES_MAX) return (rowBytes + leaf) / LEAF_FILL
  return leaf / LEAF_FILL + Math.ceil((rowBytes + 16) / PAGE_BYTES) * PAGE_BYTES
}
