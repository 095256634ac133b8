/** `tilefold backfill`: files of history into the store, in this machine's threads. */
import { cpus } from 'node:os'
import { IngestPool } from '../ingest/pool.ts'
import type { Counters } from '../model/counters.ts'
import type { TimeRange } from '../model/covers.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { parseInstant, TIME_LIMIT_MS } from '../model/time.ts'
import type { GenerationLayout, ViewLayout } from '../model/view-layout.ts'
import { type BackfillReport, backfill } from '../offline/backfill.ts'
import { plansOfGeneration } from '../registry/generations.ts'
import { type LayoutSeat, namedGeneration, refuseOtherCovers } from '../registry/layouts.ts'
import type { Call, Command } from './command.ts'
import { EXIT_OK } from './command.ts'
import { countersData, countersTable, warnOfNothing } from './counters.ts'
import { FORMAT_OPTION, findEventFiles, inputsOf, openEventFiles, planName } from './event-files.ts'
import { readGeneration } from './generation-number.ts'
import { ANY_TIMES_OPTION, checkEventFiles } from './preflight.ts'
import type { Printer } from './printer.ts'
import { Progress } from './progress.ts'
import { Rejects } from './rejects.ts'
import { settingError } from './settings.ts'
import { openStore } from './stores.ts'
import { formatCount } from './table.ts'
import { SIGNAL_CODES, type Signal } from './terminal.ts'
import { loadViews, plansOfSource } from './views.ts'

export const backfillCommand: Command = {
  name: 'backfill',
  description: `Folds files of history (Parquet, JSON lines, Arrow) into the store, for every view that takes their kind of events.
Views become visible when all of it is in. Files are read in the order given, folders and globs by name. Ctrl-C, a crash
or kill -9 lose nothing: the same call goes on where it stopped, and says so when there is nothing left to do. History
comes before live events: push those afterwards, and say with --until from when on they tell the events, if files and stream overlap.`,
  arguments: [{ name: '<files...>', about: 'files, folders or globs, all of one format' }],
  options: [
    {
      flags: '--source <name>',
      about: 'kind of events, where the views take several (source.name of the definitions)',
    },
    FORMAT_OPTION,
    { flags: '--threads <n>', about: 'threads that fold; 0 folds in this one (one less than the cores, at most 4)' },
    { flags: '--history-lanes <n>', about: 'lanes of a new history, fixed from then on (four per thread, at least 4)' },
    ANY_TIMES_OPTION,
    {
      flags: '--until <instant>',
      about: 'files give the events before it, live logs those from it on; each puts the others aside, counted',
    },
    {
      flags: '--generation <n>',
      about: 'into this generation, beside the one that is read (tilefold generation begin)',
    },
    {
      flags: '--complete-since <instant>',
      about: 'windows that start before are incomplete; complete since ever unless told',
    },
  ],
  examples: [
    ['tilefold backfill events.ndjson', 'one file'],
    ["tilefold backfill 'events/**/*.parquet' --threads 8 -o json", 'a folder of Parquet; a summary for scripts'],
  ],
  run,
}

async function run({ args, flags, settings, terminal, printer }: Call): Promise<number> {
  const { namespace, plans: allPlans } = await loadViews(settings)
  const { source: kind, plans } = plansOfSource(allPlans, flags.source as string | undefined)
  const files = await findEventFiles(args, flags)
  const log = await planName(kind, files.paths)
  const threads = settings.whole('threads', 0, 64) ?? Math.max(1, Math.min(4, cpus().length - 1))
  const historyLanes = settings.whole('history_lanes', 1, 4096)
  if (historyLanes !== undefined && historyLanes < threads) {
    throw settingError('--history-lanes', `got ${historyLanes}, expected at least one for each of ${threads} threads`)
  }

  const completeSinceMs = readInstant(flags.completeSince as string | undefined, '--complete-since')
  const untilMs = readInstant(flags.until as string | undefined, '--until')
  if (untilMs === 0 || (untilMs ?? 0) > TIME_LIMIT_MS) {
    throw settingError('--until', `got ${flags.until}, expected an instant behind 1970 and before 2106`)
  }
  const covers = untilMs === undefined ? undefined : [{ fromMs: 0, toMs: untilMs }]
  const generation = readGeneration(flags.generation as string | undefined)
  await checkEventFiles(files, plans, flags.anyTimes === true)

  const { store, path } = await openStore(settings, { readOnly: false, plans })
  const seat: LayoutSeat = { store, namespace, ...(generation === undefined ? {} : { generation }) }
  const progress = new Progress({ label: 'backfill', unit: 'events', stream: terminal.stderr, clock: terminal.clock })
  const rejects = new Rejects((line) => progress.log(line))
  try {
    const { complete, open } = await sortByState(seat, await plansOfGeneration(seat, plans), log, covers)
    if (open.length === 0) return nothingLeft(complete, log, printer)

    const source = openEventFiles(files, log, { inputs: inputsOf(open), ...rejects.sourceOptions })
    const onSide = rejects.addAside.bind(rejects)
    const pool = new IngestPool({
      threads: path === undefined ? 0 : threads,
      store,
      storePath: path,
      clock: terminal.clock,
      onSide,
    })
    const abort = new AbortController()
    let stoppedBy: Signal | undefined
    terminal.onSignal((signal) => {
      stoppedBy = signal
      progress.log('stopping: what is folded is being stored; another signal ends it now')
      abort.abort()
    })
    const startMs = terminal.clock()
    try {
      const report = await backfill({
        seat,
        plans: open,
        source,
        pool,
        clock: terminal.clock,
        historyLanes,
        newHistoryLanes: Math.max(4, 4 * threads),
        completeSinceMs,
        covers,
        onProgress: ({ rowsDone, rowsTotal }) => progress.update({ done: rowsDone, total: rowsTotal }),
        signal: abort.signal,
      })
      progress.stop()
      rejects.finish()
      const seconds = Math.max(0.001, (terminal.clock() - startMs) / 1000)
      summarise(report, { log, seconds, rejects, files: files.paths, printer })
      if (report.finished) return EXIT_OK
      printer.note('Stopped before the end: call the same again to go on.')
      return SIGNAL_CODES[stoppedBy ?? 'SIGINT']
    } finally {
      progress.stop()
      await pool.close()
    }
  } finally {
    await store.close()
  }
}

interface Standing {
  /** Views whose history of these files is complete. */
  readonly complete: readonly { readonly view: string; readonly rows: number }[]
  readonly open: readonly Plan[]
}

/** Throws CONFIG_INVALID where a view has the history of other files: rows are numbered by the plan of files. */
async function sortByState(
  { store, namespace, generation }: LayoutSeat,
  plans: readonly Plan[],
  log: string,
  covers: readonly TimeRange[] | undefined,
): Promise<Standing> {
  const complete: { view: string; rows: number }[] = []
  const open: Plan[] = []
  for (const plan of plans) {
    const text = await store.readLayout(namespace, plan.view)
    const layout = text === undefined ? undefined : (JSON.parse(text) as ViewLayout)
    const own = generation ? layout && namedGeneration(layout, plan, generation) : newestOf(layout, plan.stateHash)
    const history = own?.history
    if (own) refuseOtherCovers(plan, own, covers)
    if (history?.log !== undefined && history.log !== log) throw otherFiles(plan, history, log)
    if (history?.endPosition === undefined) open.push(plan)
    else complete.push({ view: plan.view, rows: history.endPosition + 1 })
  }
  return { complete, open }
}

function newestOf(layout: ViewLayout | undefined, stateHash: string): GenerationLayout | undefined {
  const own = layout?.generations.filter((each) => each.stateHash === stateHash) ?? []
  return own.sort((a, b) => b.generation - a.generation)[0]
}

function otherFiles(plan: Plan, history: GenerationLayout['history'], log: string): TilefoldError {
  const state = history.endPosition === undefined ? 'an unfinished' : 'a complete'
  return new TilefoldError(
    'CONFIG_INVALID',
    `cannot backfill view ${plan.view} from these files: the store has ${state} history of others (by name, size and order); got ${log}, expected ${history.log}. Push newer events with "tilefold push", or start over in another --store`,
    { view: plan.view, got: log, expected: history.log },
  )
}

function nothingLeft(complete: Standing['complete'], log: string, printer: Printer): number {
  printer.result({
    data: { log, finished: true, rows: 0, complete },
    table: () =>
      complete
        .map(({ view, rows }) => `${view}: history is complete, ${formatCount(rows)} rows; nothing to do\n`)
        .join(''),
  })
  return EXIT_OK
}

function readInstant(text: string | undefined, flag: string): number | undefined {
  if (text === undefined) return undefined
  try {
    return parseInstant(text)
  } catch {
    throw settingError(flag, `got ${JSON.stringify(text)}, expected RFC 3339 with a zone or milliseconds`)
  }
}

interface Summary {
  readonly log: string
  readonly seconds: number
  readonly rejects: Rejects
  readonly files: readonly string[]
  readonly printer: Printer
}

function summarise(report: BackfillReport, { log, seconds, rejects, files, printer }: Summary): void {
  const { finished, rows, startedAt, views } = report
  const rate = Math.round(rows / seconds)
  const counted: { view: string; counters: Counters }[] = [...views]
  warnOfNothing(counted, printer)
  printer.result({
    data: {
      log,
      files,
      finished,
      rows,
      started_at: startedAt,
      seconds,
      rows_per_second: rate,
      unreadable: rejects.unreadable,
      put_aside: rejects.aside,
      views: countersData(counted),
    },
    table: () => {
      const from = startedAt > 0 ? `, going on from row ${formatCount(startedAt)}` : ''
      return `${formatCount(rows)} rows in ${seconds.toFixed(1)} s, ${formatCount(rate)}/s${from}\n\n${countersTable(counted, printer)}`
    },
  })
}
