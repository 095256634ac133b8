/** From what a file looks like to a first definition of a view: a guess in the open, for its owner to edit. */
import type { TimeUnit } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Cell } from './cells.ts'
import type { ColumnProfile, FileProfile } from './profile.ts'

export interface Proposal {
  readonly source: string
  readonly view: string
  readonly columns: readonly { readonly name: string; readonly type: string }[]
  readonly entity: string
  /** Other columns that could be the entity, or a part of it. */
  readonly otherEntities: readonly string[]
  readonly time: string
  /** `as`: the base of the features' names, where the column's own name cannot be it. */
  readonly aggregations: readonly { readonly op: string; readonly column?: string; readonly as?: string }[]
  readonly windows: readonly string[]
  /** A column with another value in every row. */
  readonly eventId?: string
  readonly skipped: FileProfile['skipped']
  /** For the lines that are printed: the entity with most rows, and an instant behind the last event. */
  readonly example: { readonly key: string; readonly asOfMs: number }
}

const MEASURES_MAX = 3
const MEASURE_OPS = ['sum', 'mean', 'max'] as const
const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

/** Throws COLUMN_MISSING where no column can be the event time, or none the entity. */
export function propose(profile: FileProfile): Proposal {
  const time = chooseTime(profile)
  const entities = rankEntities(profile.columns.filter((column) => column.name !== time.name))
  const [entity] = entities
  if (entity === undefined) {
    throw missing(
      profile,
      'no column looks like an entity: text or whole numbers that come again, and are not all the same',
    )
  }
  const rest = profile.columns.filter((column) => column.name !== time.name && column.name !== entity.name)
  const eventId = rest.find((column) => isKeyType(column) && distinct(column) === profile.columns[0]!.cells.length)
  const measures = rest
    .filter(
      (column) => ['int64', 'float64', 'decimal'].includes(column.type) && column !== eventId && !isIdName(column.name),
    )
    .slice(0, MEASURES_MAX)
  const source = plainName(profile.file.replace(/\.[^.]*$/, ''), 'events')
  const [firstMs, lastMs] = spanOf(time)
  return {
    source,
    view: plainName(`${source}_by_${entity.name}`, 'view').slice(0, 64),
    columns: profile.columns.map((column) => ({
      name: column.name,
      type: column.name === time.name ? time.text : column.text,
    })),
    entity: entity.name,
    otherEntities: entities.slice(1).map((column) => column.name),
    time: time.name,
    aggregations: [{ op: 'count' }, ...measures.flatMap(({ name }) => MEASURE_OPS.map((op) => measure(op, name)))],
    windows: lastMs - firstMs >= 14 * DAY_MS ? ['1h', '24h', '7d', '30d'] : ['1h', '24h', '7d'],
    eventId: eventId?.name,
    skipped: profile.skipped,
    example: { key: String(commonest(entity)), asOfMs: lastMs + 1 },
  }
}

// ---- event time ------------------------------------------------------------------------------------------------------

interface TimeColumn {
  readonly name: string
  readonly text: string
  readonly cells: readonly Cell[]
  readonly unit: TimeUnit
}

const TIME_NAME = /^(event[_-]?)?(time|ts|timestamp|date|datetime|at|when)$|[_-](at|time|ts|date)$|(At|Time|Date)$/

function chooseTime(profile: FileProfile): TimeColumn {
  const scored = profile.columns.flatMap((column): { column: TimeColumn; score: number }[] => {
    const unit =
      column.type === 'timestamp' ? (column.unit ?? 'ms') : column.type === 'int64' ? unitOf(column.cells) : undefined
    if (unit === undefined) return []
    const nulls = column.cells.filter((cell) => cell === null).length / column.cells.length
    const score = (column.type === 'timestamp' ? 4 : 0) + (TIME_NAME.test(column.name) ? 3 : 0) - 4 * nulls
    return [{ column: { name: column.name, text: `timestamp[${unit}]`, cells: column.cells, unit }, score }]
  })
  const [best] = scored.sort((a, b) => b.score - a.score)
  if (best === undefined) {
    throw missing(
      profile,
      'no column looks like an event time: a timestamp, whole seconds to nanoseconds since 1970, or RFC 3339 text with a zone',
    )
  }
  return best.column
}

const PER_DAY: readonly (readonly [TimeUnit, number])[] = [
  ['s', 86_400],
  ['ms', 86_400_000],
  ['us', 86_400_000_000],
  ['ns', 86_400_000_000_000],
]

/** The unit in which all of them lie between 1990 and 2100; the units' ranges do not touch. */
function unitOf(cells: readonly Cell[]): TimeUnit | undefined {
  const filled = cells.filter((cell) => cell !== null).map(Number)
  if (filled.length === 0) return undefined
  return PER_DAY.find(([, perDay]) => filled.every((value) => value / perDay >= 7305 && value / perDay < 47_482))?.[0]
}

function spanOf(time: TimeColumn): [firstMs: number, lastMs: number] {
  const perDay = PER_DAY.find(([unit]) => unit === time.unit)?.[1] ?? 1
  let first = Number.POSITIVE_INFINITY
  let last = Number.NEGATIVE_INFINITY
  for (const cell of time.cells) {
    if (cell === null) continue
    const ms = typeof cell === 'string' ? Date.parse(cell) : Math.floor((Number(cell) / perDay) * DAY_MS)
    if (ms < first) first = ms
    if (ms > last) last = ms
  }
  return [first, last]
}

// ---- entity ----------------------------------------------------------------------------------------------------------

/** Columns that could be an entity, likeliest first: they come again and again, and there are many of them. */
function rankEntities(columns: readonly ColumnProfile[]): ColumnProfile[] {
  const scored = columns.filter(isKeyType).flatMap((column) => {
    const count = distinct(column)
    const rows = column.cells.filter((cell) => cell !== null).length
    if (count < 2 || rows / count < 1.5) return []
    // Numbers are measures more often than keys.
    if (column.type === 'int64' && !isIdName(column.name)) return []
    const score = (isIdName(column.name) ? 3 : 0) + Math.log10(count) - 3 * (1 - rows / column.cells.length)
    return [{ column, score }]
  })
  return scored.sort((a, b) => b.score - a.score).map((each) => each.column)
}

function isKeyType(column: ColumnProfile): boolean {
  return column.type === 'utf8' || column.type === 'int64'
}

function isIdName(name: string): boolean {
  return (
    /(^|[_-])(id|key|uuid)$|Id$|ID$/.test(name) ||
    /^(user|customer|account|device|card|merchant|host|sensor|symbol)s?$/i.test(name)
  )
}

function distinct(column: ColumnProfile): number {
  return new Set(column.cells.filter((cell) => cell !== null)).size
}

function commonest(column: ColumnProfile): Cell {
  const counts = new Map<Cell, number>()
  for (const cell of column.cells) if (cell !== null) counts.set(cell, (counts.get(cell) ?? 0) + 1)
  return [...counts].sort(([, a], [, b]) => b - a)[0]![0]
}

function measure(op: string, column: string): Proposal['aggregations'][number] {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(column)
    ? { op, column }
    : { op, column, as: `${plainName(column, 'value')}_${op}` }
}

/** A name that definitions allow. */
function plainName(text: string, fallback: string): string {
  const name = text
    .replaceAll(/[^A-Za-z0-9_-]+/g, '_')
    .replace(/^[^A-Za-z]+/, '')
    .slice(0, 40)
  return name === '' ? fallback : name
}

function missing(profile: FileProfile, cause: string): TilefoldError {
  const columns = profile.columns.map(({ name, text }) => `${name} ${text}`)
  return new TilefoldError(
    'COLUMN_MISSING',
    `cannot propose definitions from ${profile.file}: ${cause}; got ${columns.join(', ') || 'no columns'}`,
    { columns },
  )
}
