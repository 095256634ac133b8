/** `tilefold validate`: what definitions mean and cost, before anything is stored; and whether real events fit them. */
import { type EntityEstimate, estimateEntity } from '../define/estimate.ts'
import { TilefoldError } from '../model/errors.ts'
import type { FeaturePlan, InputColumn, Plan } from '../model/plan.ts'
import { formatDuration } from '../model/time.ts'
import type { Call, Command } from './command.ts'
import { EXIT_OK } from './command.ts'
import { FORMAT_OPTION, findEventFiles, inputsOf, openEventFiles } from './event-files.ts'
import type { Printer } from './printer.ts'
import { Rejects } from './rejects.ts'
import { lookAt, type SampleFindings } from './sample.ts'
import { readWhole, settingError } from './settings.ts'
import { formatBytes, formatCount, formatTime, indent, renderTable } from './table.ts'
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
function readRate(text: string): number {
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
      first: firstMs === undefined ? null : timeText(firstMs),
      last: lastMs === undefined ? null : timeText(lastMs),
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
    const span = firstMs === undefined ? 'no event times' : `${timeText(firstMs)} to ${timeText(lastMs!)}`
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

/** Times in the wrong unit may lie outside what a date can say. */
function timeText(ms: number): string {
  return Math.abs(ms) <= 8.64e15 ? formatTime(ms) : `${ms} ms`
}

// ---- views -----------------------------------------------------------------------------------------------------------

function viewData(plan: Plan, rate: number): object {
  const { state } = plan
  const estimate = estimateEntity(plan, rate)
  return {
    view: plan.view,
    source: state.source,
    entity: state.entity,
    time: state.expressions.time,
    filter: state.expressions.filter,
    state_hash: plan.stateHash,
    definition_hash: plan.definitionHash,
    head:
      state.head.kind === 'raw'
        ? formatDuration(state.head.lengthMs)
        : `steps of ${formatDuration(state.ladder[0]!.stepMs)}`,
    ladder: state.ladder.map(({ stepMs, keepMs }) => ({ step: formatDuration(stepMs), keep: formatDuration(keepMs) })),
    windows: plan.windows.map(({ lengthMs, tailStepMs }) => ({
      length: formatDuration(lengthMs),
      start_step: formatDuration(tailStepMs),
    })),
    features: plan.features.map(({ name, op, type, window }) => ({
      name,
      op,
      type,
      window: formatDuration(plan.windows[window]!.lengthMs),
    })),
    estimate: {
      events_per_second: rate,
      head_events: estimate.headEvents,
      head_bytes: estimate.headBytes,
      levels: estimate.levels.map(({ stepMs, tiles, tileBytes, bytes }) => ({
        step: formatDuration(stepMs),
        tiles,
        tile_bytes: tileBytes,
        bytes,
      })),
      total_bytes: estimate.totalBytes,
    },
  }
}

function viewTable(plan: Plan, rate: number, printer: Printer): string {
  const { state } = plan
  const title = (text: string) => printer.style('bold', text)
  const estimate = estimateEntity(plan, rate)
  const facts: [string, string][] = [
    [
      'events',
      `${state.source}, by ${state.entity.map((part) => part.name).join(', ')}, time ${state.expressions.time}`,
    ],
    ...(state.expressions.filter ? ([['filter', state.expressions.filter]] as [string, string][]) : []),
    ['state', plan.stateHash],
    ['definition', plan.definitionHash],
    ['features', featureText(plan)],
    ['row', `${formatBytes(estimate.totalBytes)} at most at ${rateText(rate)}: ${sizeText(estimate)}`],
  ]
  const width = Math.max(...facts.map(([name]) => name.length))
  const ladder = renderTable(
    [
      { title: 'TILE' },
      { title: 'KEPT' },
      { title: 'TILES', align: 'right' },
      { title: 'BYTES EACH', align: 'right' },
      { title: 'START OF WINDOWS' },
    ],
    estimate.levels.map(({ stepMs, tiles, tileBytes }, i) => [
      formatDuration(stepMs),
      formatDuration(state.ladder[i]!.keepMs),
      formatCount(tiles),
      formatCount(tileBytes),
      plan.windows
        .filter((each) => each.tailStepMs === stepMs)
        .map((each) => formatDuration(each.lengthMs))
        .join(', '),
    ]),
    title,
  )
  return `${title(plan.view)}\n${indent(`${facts.map(([name, text]) => `${name.padEnd(width)}  ${text}\n`).join('')}\n${ladder}`)}`
}

/** Features of one operation and column differ in their windows alone: one entry for all of them. */
function featureText(plan: Plan): string {
  const groups = new Map<string, FeaturePlan[]>()
  for (const feature of plan.features) {
    const base = feature.name.replace(/_[^_]*$/, '')
    groups.set(base, [...(groups.get(base) ?? []), feature])
  }
  const texts = [...groups].map(([base, features]) =>
    features.length === 1
      ? features[0]!.name
      : `${base}_{${features.map((each) => each.name.slice(base.length + 1)).join(',')}}`,
  )
  return `${plan.features.length}: ${texts.join(', ')}`
}

function rateText(rate: number): string {
  for (const [unit, seconds] of [
    ['s', 1],
    ['m', 60],
    ['h', 3600],
  ] as const) {
    if (rate * seconds >= 1) return rateOf(rate * seconds, unit)
  }
  return rateOf(rate * 86_400, 'd')
}

function rateOf(count: number, unit: string): string {
  const text = String(Number(count.toPrecision(3)))
  return `${text} ${text === '1' ? 'event' : 'events'}/${unit}`
}

function sizeText({ headEvents, headBytes, levels }: EntityEstimate): string {
  const parts = levels.map(({ stepMs, bytes }) => `${formatDuration(stepMs)} ${formatBytes(bytes)}`)
  if (headEvents > 0) parts.unshift(`head ${formatBytes(headBytes)}`)
  return parts.join(', ')
}
