/** `tilefold get`: features of entities, in process, from the store of this machine. */
import { loadCore } from '../engine/module.ts'
import { TilefoldError } from '../model/errors.ts'
import type { FeatureValue } from '../model/plan.ts'
import { formatDuration, parseInstant } from '../model/time.ts'
import { answerJson, valueJson } from '../serve/answer-json.ts'
import { catalogOf, viewNamed } from '../serve/catalog.ts'
import type { RowExplanation } from '../serve/explain.ts'
import { createFeatureReader } from '../serve/reader.ts'
import type { AnswerRow, FeatureAnswer } from '../serve/respond.ts'
import type { Call, Command } from './command.ts'
import { EXIT_FAILURE, EXIT_OK } from './command.ts'
import { type EntityKeys, parseEntity } from './entity-args.ts'
import type { Printer } from './printer.ts'
import { openStore } from './stores.ts'
import { formatBytes, formatCount, formatTime, indent, renderTable } from './table.ts'
import { loadViews } from './views.ts'

export const get: Command = {
  name: 'get',
  description: `Asks for features of one entity or several, as of an instant: windows end there, exclusively. Prints a value
and a status for each: ok, empty (no event in the window), unknown_entity, stale, incomplete, too_old, overflow, error.`,
  arguments: [{ name: '<features...>', about: 'view:feature, or view for all of its features' }],
  options: [
    {
      flags: '--entity <keys>',
      about: 'key=value,key=value, or a JSON object; again for another entity',
      isList: true,
    },
    { flags: '--as-of <instant>', about: 'RFC 3339 with a zone, or ms since the epoch; now unless told' },
    { flags: '--explain', about: 'say what the values were computed from: rows, windows, tiles, time taken' },
  ],
  examples: [
    ['tilefold get departures --entity origin=ATL', 'all features of a view, now'],
    [
      'tilefold get departures:count_1h --entity origin=ATL --entity origin=LAX --as-of 2001-06-24T12:00:00Z',
      'one feature of two entities at an instant',
    ],
    [
      `tilefold get routes --entity '{"origin":"ATL","destination":"LAX"}' -o json`,
      'a key of two parts, answered as the server answers',
    ],
  ],
  run,
}

async function run({ args, flags, settings, terminal, printer }: Call): Promise<number> {
  const { namespace, plans } = await loadViews(settings)
  const catalog = catalogOf(plans)
  const asked = args.map((name) => viewNamed(catalog, name.split(':')[0]!).plan)
  const entityTexts = (flags.entity ?? []) as readonly string[]
  if (entityTexts.length === 0) {
    const keys = asked[0]!.state.entity.map((part) => `${part.name}=…`).join(',')
    throw new TilefoldError('USAGE', `cannot ask for features of nobody: expected --entity ${keys}`)
  }
  const entities = entityTexts.map((text) => parseEntity(text, asked))
  const asOf = readAsOf(flags.asOf as string | undefined)
  const explain = flags.explain === true

  const { store } = await openStore(settings, { readOnly: true, plans })
  try {
    const reader = createFeatureReader({ store, namespace, plans, core: loadCore(), clock: terminal.clock })
    // A table also says where the data end, which only an explanation knows.
    const answer = await reader.getFeatures({
      features: args,
      entities,
      asOf,
      explain: explain || printer.format === 'table',
    })
    printer.result({ data: answerJson(answer), table: () => answerTable(answer, entities, explain, printer) })
    if (printer.format === 'table' && !explain) hintAtEnd(answer, printer)
    return answer.rows.some((row) => row.errors !== undefined) ? EXIT_FAILURE : EXIT_OK
  } finally {
    await store.close()
  }
}

function readAsOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  try {
    return parseInstant(text)
  } catch {
    throw new TilefoldError(
      'USAGE',
      `cannot use --as-of: got ${JSON.stringify(text)}, expected RFC 3339 with a zone (2001-06-24T12:00:00Z) or milliseconds since the epoch`,
    )
  }
}

function answerTable(
  answer: FeatureAnswer,
  entities: readonly EntityKeys[],
  explain: boolean,
  printer: Printer,
): string {
  const { metadata, rows } = answer
  const asOfMs = metadata.asOfMs as number
  const oneView = metadata.versions.length === 1
  const blocks = rows.map((row, i) => {
    const title = `${entityText(entities[i]!)}  ${printer.style('dim', `as of ${formatTime(asOfMs)}`)}`
    const table = renderTable(
      [{ title: 'FEATURE' }, { title: 'VALUE', align: 'right' }, { title: 'STATUS' }],
      metadata.features.map(({ name, view }, j) => [
        oneView ? name : `${view}:${name}`,
        valueText(row.values[j]!),
        row.statuses[j]!,
      ]),
      (text) => printer.style('bold', text),
    )
    const errors = (row.errors ?? []).map((error) => `${printer.style('red', error.code)}: ${error.message}\n`).join('')
    return `${printer.style('bold', title)}\n\n${table}${errors && `\n${errors}`}${explain ? `\n${explanation(row)}` : ''}`
  })
  const partial = metadata.partial ? '\npartial: rows are ahead of the layout; lanes may be missing\n' : ''
  return `${blocks.join('\n')}${explain ? timings(answer) : ''}${partial}`
}

function entityText(keys: EntityKeys): string {
  return Object.entries(keys)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ')
}

/** Text without its quotes, unless something in it needs them. */
function valueText(value: FeatureValue): string {
  if (value === null) return '-'
  const json = valueJson(value)
  return typeof value === 'string' && json === `"${value}"` ? value : json
}

function explanation(row: AnswerRow): string {
  return (row.explain ?? []).map(explainView).join('\n')
}

function explainView(each: RowExplanation): string {
  const facts: [string, string][] = [['view', each.view]]
  for (const { lane, applied, bytes } of each.rows) {
    facts.push(['row', `lane ${lane}, ${formatBytes(bytes)}, applied up to position ${formatCount(applied)}`])
  }
  if (each.lanesWithout.length > 0) facts.push(['no row', `lane ${each.lanesWithout.join(', ')}`])
  if (each.completeThroughMs !== undefined) {
    const freshness =
      each.freshnessMs! >= 0 ? `${formatDuration(Math.round(each.freshnessMs!))} before as-of` : 'behind as-of'
    facts.push(['complete', `through ${formatTime(each.completeThroughMs)}, ${freshness}`])
    facts.push(['oldest as-of', formatTime(each.oldestAsOfMs!)])
  }
  for (const { window, startMs, endMs } of each.windows) {
    facts.push([`window ${window}`, `${formatTime(startMs)} until ${formatTime(endMs)}, exclusively`])
  }
  facts.push(['merged', `${formatCount(each.tilesRead)} tiles, ${formatCount(each.rawEventsRead)} raw events`])
  const width = Math.max(...facts.map(([name]) => name.length))
  return indent(facts.map(([name, text]) => `${name.padEnd(width)}  ${text}\n`).join(''))
}

function timings({ explain }: FeatureAnswer): string {
  if (explain === undefined) return ''
  const { parseMs, planMs, readMs, mergeMs, respondMs } = explain.timings
  const parts = Object.entries({ parse: parseMs, plan: planMs, read: readMs, merge: mergeMs, respond: respondMs })
  const ms = parts.map(([name, each]) => `${name} ${each.toFixed(3)}`).join(', ')
  return `\n${formatCount(explain.rowsRead)} rows, ${formatBytes(explain.bytesRead)} read; milliseconds: ${ms}\n`
}

/** History ends somewhere, and now is behind it: an answer full of nothing says so. */
function hintAtEnd({ rows, metadata }: FeatureAnswer, printer: Printer): void {
  const known = rows.filter((row) => row.statuses.every((status) => status !== 'unknown_entity'))
  if (known.length === 0 || known.some((row) => row.statuses.some((status) => status !== 'empty'))) return
  const ends = known.flatMap((row) => row.explain ?? []).map((each) => each.completeThroughMs ?? -1)
  const endMs = Math.max(...ends)
  if (endMs < 0 || endMs >= (metadata.asOfMs as number)) return
  printer.note(`The data end at ${formatTime(endMs)}; ask with --as-of for windows that reach them.`)
}
