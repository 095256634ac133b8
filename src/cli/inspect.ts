/** `tilefold inspect`: what the store holds of an entity, as it lies there. */
import {
  type BytePart,
  inspectRow,
  type LevelDescription,
  type PartialDescription,
  type RowDescription,
} from '../engine/inspect.ts'
import { TilefoldError } from '../model/errors.ts'
import { encodeKey } from '../model/key.ts'
import type { Plan } from '../model/plan.ts'
import { formatDuration } from '../model/time.ts'
import { type GenerationLayout, lanesOfEntity, type ViewLayout } from '../model/view-layout.ts'
import { catalogOf, viewNamed } from '../serve/catalog.ts'
import { targetOf } from '../serve/target.ts'
import { createLmdbStore } from '../store/lmdb.ts'
import type { LaneName, Store } from '../store/port.ts'
import type { Call, Command } from './command.ts'
import { EXIT_FAILURE, EXIT_OK } from './command.ts'
import { parseEntity } from './entity-args.ts'
import type { Printer } from './printer.ts'
import { formatBytes, formatCount, formatTime, indent, renderTable, type TableColumn } from './table.ts'
import { loadViews } from './views.ts'

export const inspect: Command = {
  name: 'inspect',
  description: `Shows the rows that the store holds of an entity: one in each lane that has seen it. A row's header says up to which
position its lane is applied, how far levels are compacted and evicted; behind it stand the raw events of the head and the
tiles of each level. Sums are exact: -o json gives every digit. --size tells what each byte is for.`,
  arguments: [{ name: '<view>', about: 'name of the view' }],
  options: [
    { flags: '--entity <keys>', about: 'key=value,key=value, or a JSON object' },
    { flags: '--size', about: 'what each byte of the row is for, adding up to its length' },
    { flags: '--all', about: 'every tile and event in the table; the newest of each level unless told' },
  ],
  examples: [
    ['tilefold inspect departures --entity origin=ATL', 'head, levels and newest tiles'],
    ['tilefold inspect departures --entity origin=ATL --size', 'bytes by part'],
  ],
  run,
}

/** Tiles of a level, and events of the head, that a table shows. */
const SHOWN_MAX = 8

type StoredRow = { readonly lane: string } & ({ readonly row: RowDescription } | { readonly error: TilefoldError })

async function run({ args, flags, settings, printer }: Call): Promise<number> {
  const { namespace, plans } = await loadViews(settings)
  const { plan } = viewNamed(catalogOf(plans), args[0]!)
  const parts = plan.state.entity
  if (typeof flags.entity !== 'string') {
    const keys = parts.map((part) => `${part.name}=…`).join(',')
    throw new TilefoldError('USAGE', `cannot inspect rows of nobody: expected --entity ${keys}`)
  }
  const given = parseEntity(flags.entity, [plan])
  const key = encodeKey(
    parts,
    parts.map((part) => given[part.name]),
  )

  const store = createLmdbStore({ path: settings.text('store')!, readOnly: true })
  try {
    const { layout, generation } = await findGeneration(store, namespace, plan)
    const { stateHash } = generation
    const lanes = lanesOfEntity(generation, key)
    const found: { lane: string; bytes: Uint8Array }[] = []
    const reads = lanes.map((lane) => ({
      lane: { namespace, stateHash, generation: generation.generation, lane } satisfies LaneName,
      key,
    }))
    await store.readRows(reads, (i, bytes) => {
      // The bytes are the store's own, and its loop is not the place to fail.
      if (bytes) found.push({ lane: lanes[i]!, bytes: bytes.slice() })
    })
    const rows = found.map(({ lane, bytes }) => readRow(lane, bytes, plan))
    const head = {
      view: plan.view,
      entity: given,
      key: Buffer.from(key).toString('hex'),
      state_hash: stateHash,
      generation: generation.generation,
      layout_version: layout.version,
      lanes,
    }
    const isSize = flags.size === true
    printer.result({
      data: { ...head, rows: rows.map((each) => rowData(each, isSize)) },
      table: () => {
        const text = (each: StoredRow) => {
          if ('error' in each)
            return `lane ${each.lane}: ${printer.style('red', each.error.code)}: ${each.error.message}\n`
          return isSize
            ? sizeTable(each.lane, each.row, printer)
            : rowTable(each.lane, each.row, printer, flags.all === true)
        }
        const title = `${plan.view}  ${flags.entity}  generation ${head.generation} of state ${stateHash}, lanes ${lanes.join(', ') || 'none'}`
        const body = rows.map(text).join('\n') || 'No row: the store has no event of this entity.\n'
        return `${printer.style('bold', title)}\n\n${body}`
      },
    })
    return rows.some((each) => 'error' in each) ? EXIT_FAILURE : EXIT_OK
  } finally {
    await store.close()
  }
}

/** The newest generation of the definition's state, seen by readers or not. */
async function findGeneration(
  store: Store,
  namespace: string,
  plan: Plan,
): Promise<{ layout: ViewLayout; generation: GenerationLayout }> {
  const text = await store.readLayout(namespace, plan.view)
  if (text === undefined) {
    throw new TilefoldError('LAYOUT_MISSING', `cannot inspect view ${plan.view}: the store holds nothing of it yet`, {
      view: plan.view,
    })
  }
  const layout = JSON.parse(text) as ViewLayout
  const own = layout.generations.filter((each) => each.stateHash === plan.stateHash)
  const generation = own.sort((a, b) => b.generation - a.generation)[0]
  // Refused as a reader refuses it: with the fields that differ.
  return { layout, generation: generation ?? targetOf(namespace, plan, layout).generation }
}

/** A damaged row in one lane is told, and the others are shown. */
function readRow(lane: string, bytes: Uint8Array, plan: Plan): StoredRow {
  try {
    return { lane, row: inspectRow(bytes, plan.state) }
  } catch (error) {
    if (error instanceof TilefoldError) return { lane, error }
    throw error
  }
}

// ---- one row ---------------------------------------------------------------------------------------------------------

function rowData(stored: StoredRow, isSize: boolean): object {
  const { lane } = stored
  if ('error' in stored) return { lane, error: { code: stored.error.code, message: stored.error.message } }
  const { row } = stored
  const { parts, levels, headFrontierMs, completeSinceMs, ...rest } = row
  if (isSize)
    return {
      lane,
      bytes: row.bytes,
      parts: parts.map(({ bytesEach, ...part }) => ({ ...part, bytes_each: bytesEach })),
    }
  return {
    lane,
    format_version: rest.formatVersion,
    bytes: rest.bytes,
    checksum: rest.checksum,
    applied: rest.applied,
    layout_version: rest.layoutVersion,
    head_frontier: instant(headFrontierMs),
    complete_since: completeSinceMs === 0 ? null : instant(completeSinceMs),
    head: rest.head,
    events: rest.events.map(({ timeMs, op, cells }) => ({ time: instant(timeMs), op, cells: cellsData(cells) })),
    levels: levels.map(({ stepMs, compactedMs, evictedMs, tiles }) => ({
      step: formatDuration(stepMs),
      compacted: instant(compactedMs),
      evicted: instant(evictedMs),
      tiles: tiles.map((tile) => ({
        start: instant(tile.startMs),
        rows: tile.rows,
        partials: tile.partials.map(partialData),
      })),
    })),
  }
}

function partialData(partial: PartialDescription): object {
  if (partial.kind === 'numeric') return partial
  const { timeMs, event, ...rest } = partial
  return { ...rest, time: timeMs === null ? null : instant(timeMs), ...(event ? { event: cellsData(event) } : {}) }
}

function cellsData(cells: readonly { column: string; value: unknown }[]): object {
  return Object.fromEntries(cells.map(({ column, value }) => [column, value]))
}

function instant(ms: number): string {
  // Frontiers of a level that has seen nothing may lie outside what a date can say.
  return Math.abs(ms) <= 8.64e15 ? formatTime(ms) : `${ms} ms`
}

function rowTable(lane: string, row: RowDescription, printer: Printer, isAll: boolean): string {
  const title = (text: string) => printer.style('bold', text)
  const since = row.completeSinceMs === 0 ? 'ever' : instant(row.completeSinceMs)
  const facts = [
    `lane ${lane}: ${formatCount(row.bytes)} bytes, format ${row.formatVersion}, layout version ${row.layoutVersion}`,
    `applied up to position ${formatCount(row.applied)}`,
    `head frontier ${instant(row.headFrontierMs)}; complete since ${since}`,
  ]
  const levels = renderTable(
    [{ title: 'LEVEL' }, { title: 'HOLDS', align: 'right' }, { title: 'COMPACTED UP TO' }, { title: 'EVICTED BEFORE' }],
    [
      ...(row.head === 'raw' ? [['head', `${formatCount(row.events.length)} events`, '', '']] : []),
      ...row.levels.map((level) => [
        formatDuration(level.stepMs),
        `${formatCount(level.tiles.length)} tiles`,
        instant(level.compactedMs),
        instant(level.evictedMs),
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
  const lines = row.events.map(({ timeMs, cells }) => [instant(timeMs), ...cells.map(({ value }) => shown(value))])
  return newest('HEAD', 'events', [{ title: 'TIME' }, ...cells], lines, isAll, title)
}

function tilesTable(level: LevelDescription, isAll: boolean, title: (text: string) => string): string {
  const partials = level.tiles[0]!.partials.flatMap((partial) =>
    fieldsOf(partial).map(([name]) => ({ title: name, align: 'right' as const })),
  )
  const lines = level.tiles.map((tile) => [
    instant(tile.startMs),
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

function sizeTable(lane: string, row: RowDescription, printer: Printer): string {
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
