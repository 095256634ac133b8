/** `tilefold ledger`: since when which position of each lane is readable. */
import { type LedgerEntry, positionVisibleAt, readLedger } from '../ingest/ledger.ts'
import { TilefoldError } from '../model/errors.ts'
import { parseInstant } from '../model/time.ts'
import { generationOf, laneGroups, type ViewLayout } from '../model/view-layout.ts'
import { catalogOf, viewNamed } from '../serve/catalog.ts'
import type { Call, Command } from './command.ts'
import { openStore } from './stores.ts'
import { formatBytes, formatCount, formatTime, renderTable } from './table.ts'
import { loadViews } from './views.ts'

export const ledger: Command = {
  name: 'ledger',
  description: `Shows the flush ledger of each lane that readers of a view look into: how far back it reaches, and the position that was
readable last. With --at: what was readable at that instant. Every row then held at least the events up to AT LEAST, and none
held any behind AT MOST. Workers keep a ledger when they are told to (tilefold run --ledger 7d). Of a view whose topic is routed,
positions are offsets of the internal topic.`,
  arguments: [{ name: '<view>', about: 'name of the view' }],
  options: [{ flags: '--at <instant>', about: 'RFC 3339, or milliseconds since the epoch' }],
  examples: [['tilefold ledger spend --at 2026-03-01T12:00:00Z', 'what a request could see at noon']],
  run,
}

interface Line {
  readonly lane: string
  readonly entries: readonly LedgerEntry[]
  readonly bytes: number
}

async function run({ args, flags, settings, printer }: Call): Promise<undefined> {
  const { namespace, plans } = await loadViews(settings)
  const { plan } = viewNamed(catalogOf(plans), args[0]!)
  const atMs = typeof flags.at === 'string' ? readInstant(flags.at) : undefined
  const { store } = await openStore(settings, { readOnly: true, plans })
  try {
    const text = await store.readLayout(namespace, plan.view)
    const layout = text === undefined ? undefined : (JSON.parse(text) as ViewLayout)
    const current = layout?.current
    const generation = current && generationOf(layout, current.stateHash, current.generation)
    const lines: Line[] = []
    for (const lane of new Set(generation ? laneGroups(generation).flatMap((group) => group.lanes) : [])) {
      const segments = await store.readLedger({ namespace, ...current!, lane })
      const bytes = segments.reduce((sum, segment) => sum + segment.bytes.length, 0)
      lines.push({ lane, entries: readLedger(segments), bytes })
    }
    printer.result({
      data: { view: plan.view, ...(current && { current }), lanes: lines.map((line) => dataOf(line, atMs)) },
      table: () => tableOf(lines, atMs),
    })
    return undefined
  } finally {
    await store.close()
  }
}

function dataOf({ lane, entries, bytes }: Line, atMs: number | undefined) {
  const [first, last] = [entries[0], entries.at(-1)]
  const at = atMs === undefined ? undefined : positionVisibleAt(entries, atMs)
  return {
    lane,
    entries: entries.length,
    bytes,
    ...(first && { first: { position: first.position, visible_at_ms: first.visibleAtMs } }),
    ...(last && { last: { position: last.position, visible_at_ms: last.visibleAtMs } }),
    ...(at && { at_least: at.atLeast, ...(at.atMost === undefined ? {} : { at_most: at.atMost }) }),
  }
}

function tableOf(lines: readonly Line[], atMs: number | undefined): string {
  if (lines.length === 0) return 'No lane: nothing is stored of this view yet.\n'
  const numbers = (titles: readonly string[]) => titles.map((title) => ({ title, align: 'right' as const }))
  const position = (value: number | undefined) => (value === undefined || value < 0 ? '-' : formatCount(value))
  if (atMs !== undefined) {
    const rows = lines.map(({ lane, entries }) => {
      const { atLeast, atMost } = positionVisibleAt(entries, atMs)
      return [lane, position(atLeast), position(atMost)]
    })
    return renderTable([{ title: 'LANE' }, ...numbers(['AT LEAST', 'AT MOST'])], rows)
  }
  const time = (entry: LedgerEntry | undefined) => (entry ? formatTime(entry.visibleAtMs) : '-')
  const rows = lines.map(({ lane, entries, bytes }) => [
    lane,
    formatCount(entries.length),
    formatBytes(bytes),
    time(entries[0]),
    time(entries.at(-1)),
    position(entries.at(-1)?.position),
  ])
  return renderTable([{ title: 'LANE' }, ...numbers(['ENTRIES', 'BYTES', 'SINCE', 'LAST', 'POSITION'])], rows)
}

function readInstant(text: string): number {
  try {
    return parseInstant(text)
  } catch (error) {
    throw new TilefoldError('USAGE', `cannot use --at: ${(error as Error).message}`)
  }
}
