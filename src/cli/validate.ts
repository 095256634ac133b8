/** `tilefold validate`: what definitions mean and cost, before anything is stored; and whether real events fit them. */
import { TilefoldError } from '../model/errors.ts'
import type { InputColumn, Plan } from '../model/plan.ts'
import type { Call, Command } from './command.ts'
import { EXIT_OK } from './command.ts'
import { FORMAT_OPTION, findEventFiles, inputsOf, openEventFiles } from './event-files.ts'
import type { Printer } from './printer.ts'
import { Rejects } from './rejects.ts'
import { lookAt, type SampleFindings } from './sample.ts'
import { readWhole, settingError } from './settings.ts'
import { formatBytes, formatCount, formatTime, indent, renderTable } from './table.ts'
import { viewData, viewTable } from './view-report.ts'
import { loadViews, plansOfSource } from './views.ts'

export const validate: Command = {
  name: 'validate',
  description: `Checks definitions and prints, for each view: its hashes (another state hash means that rows must be folded anew, another
definition hash alone does not), the ladder of tiles with the time each step is kept, its features, and the bytes that an
entity's row takes at a given rate. With --sample it also reads the beginning of a file: columns and types, nulls, times
that look like another unit, entities that are much hotter than others. Mistakes are told with file, line and column.`,
  arguments: [{ name: '[definitions]', about: 'definition file; the one of --file unless given' }],
  options: [
    { flags: '--rate <rate>', about: 'events of one entity, for its size: 10/s, 5/m, 100/h, 20/d (1/m)' },
    { flags: '--sample <file>', about: 'file of events to check the definitions against' },
    { flags: '--sample-rows <n>', about: 'rows of it to look at (100000)' },
    { flags: '--source <name>', about: 'kind of events in the sample, where the views take several' },
    FORMAT_OPTION,
  ],
  examples: [
    ['tilefold validate', 'tilefold.yaml'],
    ['tilefold validate views.yaml --rate 20/s', 'with the cost of hot entities'],
    ['tilefold validate --sample events.parquet -o json', 'against real events, for a script'],
  ],
  run,
}

async function run({ args, flags, settings, printer, terminal }: Call): Promise<number> {
  // The argument is a flag by another name.
  const withFile = args[0] === undefined ? settings : settings.with({ file: args[0] })
  const rate = readRate((flags.rate as string | undefined) ?? '1/m')
  const { file, namespace, plans } = await loadViews(withFile)
  const sampled =
    flags.sample === undefined
      ? undefined
      : await sample(flags.sample as string, plans, { flags, settings, printer, terminal, args })
  for (const warning of sampled?.warnings ?? []) printer.warn(warning)
  printer.result({
    data: { file, namespace, views: plans.map((plan) => viewData(plan, rate)), sample: sampled && sampleData(sampled) },
    table: () => {
      const blocks = plans.map((plan) => viewTable(plan, rate, printer))
      if (sampled) blocks.push(sampleTable(sampled, printer))
      const count = `${plans.length} view${plans.length === 1 ? '' : 's'}`
      return `${file}: ${count}, namespace ${namespace}\n\n${blocks.join('\n')}`
    },
  })
  return EXIT_OK
}

/** Events per second, from `5/m`. */
export function readRate(text: string): number {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)\/(s|m|h|d)$/.exec(text) ?? []
  const seconds = { s: 1, m: 60, h: 3600, d: 86_400 }[unit ?? ''] ?? 0
  const rate = Number(amount) / seconds
  if (rate > 0 && rate <= 1e6) return rate
  throw settingError(
    '--rate',
    `got ${JSON.stringify(text)}, expected events per unit of time like 10/s, 5/m, 100/h or 20/d`,
  )
}

// ---- sample ----------------------------------------------------------------------------------------------------------

async function sample(file: string, allPlans: readonly Plan[], { flags, printer }: Call): Promise<SampleFindings> {
  const { plans } = plansOfSource(allPlans, flags.source as string | undefined)
  const rowsMax = readWhole((flags.sampleRows as string | undefined) ?? '100000', '--sample-rows', 1, 10_000_000)
  const files = await findEventFiles([file], flags)
  const inputs = inputsOf(plans)
  const rejects = new Rejects((line) => printer.warn(line.replace(/^warning: /, '')))
  const open = (wanted: readonly InputColumn[]) =>
    openEventFiles(files, 'sample', { inputs: wanted, ...rejects.sourceOptions })
  await checkColumns(file, inputs, open)
  const findings = await lookAt(open(inputs), files.format, plans, rowsMax)
  rejects.finish()
  return findings
}

/** Every column that does not fit, not only the first. */
async function checkColumns(
  file: string,
  inputs: readonly InputColumn[],
  open: (inputs: readonly InputColumn[]) => ReturnType<typeof openEventFiles>,
): Promise<void> {
  const failures: TilefoldError[] = []
  for (const input of inputs) {
    const iterator = open([input]).read(0)[Symbol.asyncIterator]()
    try {
      await iterator.next()
    } catch (error) {
      if (!(error instanceof TilefoldError) || !error.code.startsWith('COLUMN_')) throw error
      failures.push(error)
    } finally {
      await iterator.return?.()
    }
  }
  if (failures.length <= 1) {
    if (failures[0]) throw failures[0]
    return
  }
  throw new TilefoldError(
    failures[0]!.code,
    `cannot use ${file} for these definitions: ${failures.length} columns do not fit${failures.map((each) => `\n  ${each.message}`).join('')}`,
    { columns: failures.map(({ code, message, details }) => ({ code, message, ...details })) },
  )
}

function sampleData({ rows, isCut, columns, views, warnings }: SampleFindings): object {
  return {
    rows,
    cut: isCut,
    columns: columns.map(({ name, nulls, nonFinite }) => ({ name, nulls, non_finite: nonFinite })),
    views: views.map(({ view, firstMs, lastMs, entities, hottest }) => ({
      view,
      first: firstMs === undefined ? null : formatTime(firstMs),
      last: lastMs === undefined ? null : formatTime(lastMs),
      entities,
      hottest: hottest.map(({ eventsPerSecond, ...each }) => ({ ...each, events_per_second: eventsPerSecond })),
    })),
    warnings,
  }
}

function sampleTable({ rows, isCut, columns, views }: SampleFindings, printer: Printer): string {
  const title = (text: string) => printer.style('bold', text)
  const percent = (share: number) => `${(share * 100).toFixed(1)} %`
  const nulls = renderTable(
    [{ title: 'COLUMN' }, { title: 'NULL', align: 'right' }, { title: 'NAN, INF', align: 'right' }],
    columns.map((column) => [column.name, percent(column.nulls), percent(column.nonFinite)]),
    title,
  )
  const tables = views.map(({ view, firstMs, lastMs, entities, hottest }) => {
    const span = firstMs === undefined ? 'no event times' : `${formatTime(firstMs)} to ${formatTime(lastMs!)}`
    const hot = renderTable(
      [
        { title: 'HOTTEST' },
        { title: 'ROWS', align: 'right' },
        { title: 'SHARE', align: 'right' },
        { title: 'EVENTS/S', align: 'right' },
        { title: 'ROW', align: 'right' },
      ],
      hottest.map((each) => [
        each.key.length > 40 ? `${each.key.slice(0, 39)}…` : each.key,
        formatCount(each.rows),
        percent(each.share),
        each.eventsPerSecond === undefined ? '-' : each.eventsPerSecond.toPrecision(3),
        each.bytes === undefined ? '-' : formatBytes(each.bytes),
      ]),
      title,
    )
    return `${view}: ${span}, ${formatCount(entities)} entities\n\n${indent(hot)}`
  })
  return `${title(`sample: ${isCut ? 'the first ' : ''}${formatCount(rows)} rows`)}\n\n${indent([nulls, ...tables].join('\n'))}`
}
