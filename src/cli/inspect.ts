/** `tilefold inspect`: what the store holds of an entity, as it lies there. */
import { inspectRow } from '../engine/inspect.ts'
import type { PartialDescription, RowDescription } from '../engine/row-description.ts'
import { TilefoldError } from '../model/errors.ts'
import { encodeKey } from '../model/key.ts'
import type { Plan } from '../model/plan.ts'
import { formatDuration } from '../model/time.ts'
import { type GenerationLayout, lanesOfEntity, type ViewLayout } from '../model/view-layout.ts'
import { catalogOf, viewNamed } from '../serve/catalog.ts'
import { targetOf } from '../serve/target.ts'
import type { LaneName, Store } from '../store/port.ts'
import type { Call, Command } from './command.ts'
import { EXIT_FAILURE, EXIT_OK } from './command.ts'
import { parseEntity } from './entity-args.ts'
import { rowTable, sizeTable } from './row-table.ts'
import { openStore } from './stores.ts'
import { formatTime } from './table.ts'
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

  const { store } = await openStore(settings, { readOnly: true, plans: [plan] })
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
    head_frontier: formatTime(headFrontierMs),
    complete_since: completeSinceMs === 0 ? null : formatTime(completeSinceMs),
    head: rest.head,
    events: rest.events.map(({ timeMs, op, cells }) => ({ time: formatTime(timeMs), op, cells: cellsData(cells) })),
    levels: levels.map(({ stepMs, compactedMs, evictedMs, tiles }) => ({
      step: formatDuration(stepMs),
      compacted: formatTime(compactedMs),
      evicted: formatTime(evictedMs),
      tiles: tiles.map((tile) => ({
        start: formatTime(tile.startMs),
        rows: tile.rows,
        partials: tile.partials.map(partialData),
      })),
    })),
  }
}

function partialData(partial: PartialDescription): object {
  if (!('timeMs' in partial)) return partial
  const { timeMs, event, ...rest } = partial
  return { ...rest, time: timeMs === null ? null : formatTime(timeMs), ...(event ? { event: cellsData(event) } : {}) }
}

function cellsData(cells: readonly { column: string; value: unknown }[]): object {
  return Object.fromEntries(cells.map(({ column, value }) => [column, value]))
}
