/** A stored row as tables: what it holds, and what each of its bytes is for. */
import type { BytePart, LevelDescription, PartialDescription, RowDescription } from '../engine/row-description.ts'
import { formatDuration } from '../model/time.ts'
import type { Printer } from './printer.ts'
import { formatBytes, formatCount, formatTime, indent, renderTable, type TableColumn } from './table.ts'

/** Tiles of a level, and events of the head, that a table shows. */
const SHOWN_MAX = 8

/** A row for people: header, levels, then the newest events and tiles. */
export function rowTable(lane: string, row: RowDescription, printer: Printer, isAll: boolean): string {
  const title = (text: string) => printer.style('bold', text)
  const since = row.completeSinceMs === 0 ? 'ever' : formatTime(row.completeSinceMs)
  const facts = [
    `lane ${lane}: ${formatCount(row.bytes)} bytes, format ${row.formatVersion}, layout version ${row.layoutVersion}`,
    `applied up to position ${formatCount(row.applied)}`,
    `head frontier ${formatTime(row.headFrontierMs)}; complete since ${since}`,
  ]
  const levels = renderTable(
    [{ title: 'LEVEL' }, { title: 'HOLDS', align: 'right' }, { title: 'COMPACTED UP TO' }, { title: 'EVICTED BEFORE' }],
    [
      ...(row.head === 'raw' ? [['head', `${formatCount(row.events.length)} events`, '', '']] : []),
      ...row.levels.map((level) => [
        formatDuration(level.stepMs),
        `${formatCount(level.tiles.length)} tiles`,
        formatTime(level.compactedMs),
        formatTime(level.evictedMs),
      ]),
    ],
    title,
  )
  const tables = row.levels.filter((level) => level.tiles.length > 0).map((level) => tilesTable(level, isAll, title))
  if (row.events.length > 0) tables.unshift(eventsTable(row, isAll, title))
  return `${facts.map((fact) => `${fact}\n`).join('')}\n${indent([levels, ...tables].join('\n'))}`
}

function eventsTable(row: RowDescription, isAll: boolean, title: (text: string) => string): string {
  const cells = row.events[0]!.cells.map(({ column }) => ({ title: column, align: 'right' as const }))
  const lines = row.events.map(({ timeMs, cells }) => [formatTime(timeMs), ...cells.map(({ value }) => shown(value))])
  return newest('HEAD', 'events', [{ title: 'TIME' }, ...cells], lines, isAll, title)
}

function tilesTable(level: LevelDescription, isAll: boolean, title: (text: string) => string): string {
  const partials = level.tiles[0]!.partials.flatMap((partial) =>
    fieldsOf(partial).map(([name]) => ({ title: name, align: 'right' as const })),
  )
  const lines = level.tiles.map((tile) => [
    formatTime(tile.startMs),
    formatCount(tile.rows),
    ...tile.partials.flatMap((partial) => fieldsOf(partial).map(([, value]) => value)),
  ])
  const columns: TableColumn[] = [{ title: 'START' }, { title: 'ROWS', align: 'right' }, ...partials]
  return newest(formatDuration(level.stepMs), 'tiles', columns, lines, isAll, title)
}

function newest(
  name: string,
  what: string,
  columns: readonly TableColumn[],
  lines: readonly (readonly string[])[],
  isAll: boolean,
  title: (text: string) => string,
): string {
  const kept = isAll ? lines : lines.slice(-SHOWN_MAX)
  const left = lines.length - kept.length
  const note = left > 0 ? `${formatCount(left)} older ${what} before these; --all shows them\n` : ''
  return `${title(name)}\n${renderTable(columns, kept)}${note}`
}

/** A partial's columns in the table; the same for every tile of a level. */
function fieldsOf(partial: PartialDescription): (readonly [name: string, value: string])[] {
  const { column } = partial
  if (partial.kind !== 'numeric') return [[`${partial.kind}(${column})`, shown(partial.value)]]
  const fields: (readonly [string, string])[] = [[`count(${column})`, formatCount(partial.cells)]]
  if (partial.sum !== undefined) fields.push([`sum(${column})`, shortNumber(partial.sum)])
  if (partial.squares !== undefined) fields.push([`sum(${column}²)`, shortNumber(partial.squares)])
  if (partial.min !== undefined) fields.push([`min(${column})`, shown(partial.min)])
  if (partial.max !== undefined) fields.push([`max(${column})`, shown(partial.max)])
  return fields
}

/** All digits of an exact sum are for `-o json`; here a double's are enough. */
function shortNumber(text: string): string {
  return text.length <= 18 ? text : `≈${Number(text)}`
}

function shown(value: number | string | boolean | null): string {
  if (value === null) return '-'
  const text = typeof value === 'string' ? JSON.stringify(value).slice(1, -1) : String(value)
  return text.length <= 40 ? text : `${text.slice(0, 39)}…`
}

// ---- bytes -----------------------------------------------------------------------------------------------------------

/** Bytes by part, adding up to the row's. */
export function sizeTable(lane: string, row: RowDescription, printer: Printer): string {
  const share = (bytes: number) => `${((bytes / row.bytes) * 100).toFixed(1)} %`
  const sections = [...new Set(row.parts.map((part) => part.section))]
  const lines = sections.flatMap((section) => {
    const own = row.parts.filter((part) => part.section === section)
    const bytes = sumOf(own)
    return [
      [section, '', '', '', formatCount(bytes), share(bytes)],
      ...own.map((part) => [
        '',
        part.what,
        formatCount(part.count),
        formatCount(part.bytesEach),
        formatCount(part.bytes),
        share(part.bytes),
      ]),
    ]
  })
  lines.push(['total', '', '', '', formatCount(sumOf(row.parts)), share(sumOf(row.parts))])
  const right = (title: string) => ({ title, align: 'right' as const })
  const columns = [{ title: 'PART' }, { title: 'HOLDS' }, right('COUNT'), right('EACH'), right('BYTES'), right('SHARE')]
  const table = renderTable(columns, lines, (text) => printer.style('bold', text))
  return `lane ${lane}: ${formatCount(row.bytes)} bytes (${formatBytes(row.bytes)})\n\n${indent(table)}`
}

function sumOf(parts: readonly BytePart[]): number {
  return parts.reduce((sum, part) => sum + part.bytes, 0)
}
