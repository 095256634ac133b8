/**
 * `backfill --dry-run`: what it would write and how long it would take, without a look at any store. Some rows of the files go through the
 * real walk into memory (estimate-fold.ts); where they are all of them, what is told was measured, else it was extrapolated:
 *
 *   rows of the files    footers, or bytes by the sample's bytes a line
 *   sample               stretches evenly over the files where rows can be reached by their number, else the first rows
 *   entities             Chao1: from how many were met once, and how many twice, those that were not met yet
 *   tiles, bytes         a row at its entity's rate (estimate-cost.ts), its tiles kept for no longer than the files span
 *   time                 reading beside folding in threads, then flushes; this machine, as busy as it is now, and no store
 */
import { open, stat } from 'node:fs/promises'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { formatDuration } from '../model/time.ts'
import type { SourceOptions } from '../source/port.ts'
import { costOf, type Load } from './estimate-cost.ts'
import { type FoldedView, ViewFolder } from './estimate-fold.ts'
import { type Sample, sampleFiles } from './estimate-sample.ts'
import { type EventFiles, openEventFiles } from './event-files.ts'
import type { Printer } from './printer.ts'
import { formatBytes, formatCount, formatTime, renderTable } from './table.ts'

export interface DryRunOptions {
  readonly files: EventFiles
  readonly plans: readonly Plan[]
  readonly source: SourceOptions
  readonly threads: number
  readonly clock: () => number
  /** Rows of the sample at most. */
  readonly sampleRows?: number
}

export interface DryRun {
  readonly files: number
  readonly fileBytes: number
  readonly rows: number
  /** All rows were folded: nothing is extrapolated. */
  readonly isWhole: boolean
  readonly sampleRows: number
  readonly seconds: number
  readonly views: readonly DryView[]
}

export interface DryView {
  readonly view: string
  readonly firstMs: number | undefined
  readonly lastMs: number | undefined
  readonly applied: number
  readonly entities: number
  readonly tiles: number
  readonly bytes: number
}

const SAMPLE_ROWS = 100_000
const STRETCHES = 8

/** Throws SOURCE_*, COLUMN_*. */
export async function dryRun(options: DryRunOptions): Promise<DryRun> {
  const { files, plans, threads, clock, sampleRows = SAMPLE_ROWS } = options
  const known = await openEventFiles(files, 'dry-run', options.source).rowsTotal()
  const canReach = known !== undefined && known > sampleRows
  const sample = canReach
    ? sampleStretches(options, known, sampleRows)
    : sampleFiles(files, options.source, sampleRows + 1)
  const folders = plans.map((plan) => new ViewFolder(plan, files.format, clock))
  let read = 0
  for await (const each of sample.batches) {
    for (const folder of folders) await folder.fold(each)
    read += each.batch.length
  }
  if (read === 0)
    throw new TilefoldError('SOURCE_NOT_FOUND', 'cannot say what a backfill would take: the files have no rows')
  const fileBytes = (await Promise.all(files.paths.map((path) => stat(path)))).reduce((sum, { size }) => sum + size, 0)
  const isWhole = known === undefined ? read <= sampleRows : read === known
  const rows = known ?? (isWhole ? read : await rowsByBytes(files, fileBytes))
  const readMicros = sample.readMicros() / read
  let foldMicros = 0
  let flushMicros = 0
  const views: DryView[] = []
  for (const folder of folders) {
    const folded = await folder.finish()
    const view = isWhole ? measured(folded) : extrapolated(folded, rows, canReach, readMicros)
    foldMicros += folded.foldMicros / read
    flushMicros += view.entities * (folded.flushMicrosPerRow ?? 0)
    views.push(view)
  }
  const lines = Math.max(1, threads)
  const foldSeconds = (rows * foldMicros) / lines / 1e6
  const readSeconds = (rows * readMicros) / 1e6
  const busy = threads === 0 ? readSeconds + foldSeconds : Math.max(readSeconds, foldSeconds)
  const seconds = busy + flushMicros / lines / 1e6
  return { files: files.paths.length, fileBytes, rows, isWhole, sampleRows: read, seconds, views }
}

function measured({ plan, span, counters, events, rows }: FoldedView): DryView {
  const tiles = rows.levels.reduce((sum, level) => sum + level.tiles, 0)
  return {
    view: plan.view,
    firstMs: span?.firstMs,
    lastMs: span?.lastMs,
    applied: counters.applied,
    entities: events.length,
    tiles: rows.inspected === 0 ? 0 : Math.round((tiles * rows.rows) / rows.inspected),
    bytes: rows.bytes,
  }
}

function extrapolated(folded: FoldedView, rows: number, isSpread: boolean, readMicrosPerEvent: number): DryView {
  const { plan, span, counters, events, sequence } = folded
  const entities = entitiesAmong(rows, events)
  const sampledMs = span === undefined ? 0 : span.lastMs - span.firstMs
  // The first rows go on as they began; stretches over all files show how long those are.
  const spanMs = Math.max(1000, isSpread ? sampledMs : (sampledMs * rows) / Math.max(1, sequence.length))
  const load: Load = { eventsPerSecond: (rows * 1000) / spanMs, entities, flushMs: 1000, readMicrosPerEvent }
  const ladder = plan.state.ladder.map((level) => ({ ...level, keepMs: Math.min(level.keepMs, spanMs) }))
  const cost = costOf({ ...folded, plan: { ...plan, state: { ...plan.state, ladder } } }, load)
  return {
    view: plan.view,
    firstMs: span?.firstMs,
    lastMs: span === undefined ? undefined : span.firstMs + spanMs,
    applied: Math.round((rows * counters.applied) / Math.max(1, counters.consumed)),
    entities: Math.round(entities),
    tiles: Math.round(cost.tiles),
    bytes: Math.round(cost.bytes),
  }
}

/** How many distinct ones there are among `rows`, where a sample has these events of each. At least: rare ones may be many more. */
export function entitiesAmong(rows: number, events: ArrayLike<number>): number {
  let sampled = 0
  let once = 0
  let twice = 0
  for (let i = 0; i < events.length; i++) {
    sampled += events[i]!
    if (events[i] === 1) once++
    if (events[i] === 2) twice++
  }
  if (once === 0 || rows <= sampled) return events.length
  const unseen = twice > 0 ? (once * once) / (2 * twice) : (once * (once - 1)) / 2
  const more = unseen * -Math.expm1((rows - sampled) * Math.log1p(-once / (sampled * unseen + once)))
  return Math.min(rows, events.length + more)
}

/** Stretches at equal distances, the last one at the end. */
function sampleStretches({ files, source }: DryRunOptions, rows: number, rowsMax: number): Sample {
  const length = Math.floor(rowsMax / STRETCHES)
  let micros = 0
  async function* batches() {
    for (let stretch = 0; stretch < STRETCHES; stretch++) {
      const from = Math.floor(((rows - length) * stretch) / (STRETCHES - 1))
      const part = sampleFiles(files, { ...source, sliceBytesMax: 8 << 20 }, length, from)
      yield* part.batches
      micros += part.readMicros()
    }
  }
  return { batches: batches(), readMicros: () => micros, readWhat: `read and decode ${files.format}` }
}

/** Lines of the first file's beginning tell how long a line is. */
async function rowsByBytes({ paths }: EventFiles, fileBytes: number): Promise<number> {
  const file = await open(paths[0]!)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(1 << 20), 0, 1 << 20, 0)
    const lines = buffer.subarray(0, bytesRead).reduce((sum, byte) => sum + Number(byte === 10), 0)
    return Math.round((fileBytes * Math.max(1, lines)) / Math.max(1, bytesRead))
  } finally {
    await file.close()
  }
}

export function dryRunData({ files, fileBytes, rows, isWhole, sampleRows, seconds, views }: DryRun): object {
  return {
    dry_run: true,
    files,
    file_bytes: fileBytes,
    rows,
    from: isWhole ? 'measured' : 'extrapolated',
    sample_rows: sampleRows,
    seconds,
    views: views.map(({ view, firstMs, lastMs, applied, entities, tiles, bytes }) => ({
      view,
      first: firstMs === undefined ? null : formatTime(firstMs),
      last: lastMs === undefined ? null : formatTime(lastMs),
      applied,
      entities,
      tiles,
      bytes,
    })),
  }
}

export function dryRunTable(run: DryRun, printer: Printer): string {
  const columns = ['VIEW', 'APPLIED', 'ENTITIES', 'TILES', 'BYTES'].map((title, i) => ({
    title,
    ...(i > 0 && { align: 'right' as const }),
  }))
  const lines = run.views.map(({ view, applied, entities, tiles, bytes }) => [
    view,
    ...[applied, entities, tiles].map(formatCount),
    formatBytes(bytes),
  ])
  const how = run.isWhole ? 'all of them folded' : `extrapolated from ${formatCount(run.sampleRows)}`
  const time = formatDuration(Math.max(1000, Math.round(run.seconds) * 1000))
  return `${formatCount(run.rows)} rows in ${run.files} files of ${formatBytes(run.fileBytes)} (${how}); nothing is stored. Some ${time} on this machine, without the store's own time.\n\n${renderTable(columns, lines, (text) => printer.style('bold', text))}`
}
