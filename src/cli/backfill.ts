/** `tilefold backfill`: files of history into the store, in this machine's threads. */
import { cpus } from 'node:os'
import { createPace } from '../ingest/pace.ts'
import { IngestPool } from '../ingest/pool.ts'
import type { Counters } from '../model/counters.ts'
import type { TimeRange } from '../model/covers.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { parseInstant, TIME_LIMIT_MS } from '../model/time.ts'
import type { GenerationLayout, ViewLayout } from '../model/view-layout.ts'
import { type BackfilledView, type BackfillReport, backfill } from '../offline/backfill.ts'
import { pruneFiles } from '../offline/prune.ts'
import type { Share } from '../registry/claims.ts'
import { plansOfGeneration } from '../registry/generations.ts'
import { type LayoutSeat, namedGeneration, refuseOtherCovers } from '../registry/layouts.ts'
import { dryRun, dryRunData, dryRunTable } from './backfill-dry-run.ts'
import { type MemoryPlan, planMemory } from './backfill-memory.ts'
import type { Call, Command, Flags } from './command.ts'
import { EXIT_OK } from './command.ts'
import { countersData, countersTable, warnOfNothing } from './counters.ts'
import { FORMAT_OPTION, findEventFiles, inputsOf, openEventFiles, planName } from './event-files.ts'
import { readGeneration } from './generation-number.ts'
import { ANY_TIMES_OPTION, checkEventFiles } from './preflight.ts'
import type { Printer } from './printer.ts'
import { Progress } from './progress.ts'
import { readRateLimit } from './rate-limit.ts'
import { Rejects } from './rejects.ts'
import { readBytes, settingError } from './settings.ts'
import { readShare } from './share.ts'
import { openStore } from './stores.ts'
import { formatCount } from './table.ts'
import { SIGNAL_CODES, type Signal } from './terminal.ts'
import { loadViews, plansOfSource } from './views.ts'

export const backfillCommand: Command = {
  name: 'backfill',
  description: `Folds files of history (Parquet, JSON lines, Arrow) into the store, for every view that takes their kind of events.
Views become visible when all of it is in. Files are read in the order given, folders and globs by name. Ctrl-C, a crash
or kill -9 lose nothing: the same call goes on where it stopped, and says so when there is nothing left to do. History
comes before live events: push those afterwards, and say with --until from when on they tell the events, if files and stream overlap.

With --shard i/n this process fills the history lanes that are i modulo n, beside n-1 others anywhere that reach the same Redis and
the same files under the same names. What each shard reads: all rows of all files, as an entity's lane follows from its key and the
clocks from all rows; it judges every row and folds its own. So n shards share the folding and the writing, not the reading.
Counters are of all rows in every shard; "written" is the shard's own. Whoever is done last makes the views visible, or any call
after that, with or without --shard. A shard that is killed is started again with the same words.

With --from and --to files are left out as a whole, which is refused where they would have decided about events of the others:
directories of event times under the policy accept, one partition of a mirror under any, never with dedupe. What else is in the
other files counts too; windows that start before --from are incomplete.`,
  arguments: [{ name: '<files...>', about: 'files, folders or globs, all of one format' }],
  options: [
    {
      flags: '--source <name>',
      about: 'kind of events, where the views take several (source.name of the definitions)',
    },
    FORMAT_OPTION,
    { flags: '--threads <n>', about: 'threads that fold; 0 folds in this one (one less than the cores, at most 4)' },
    { flags: '--history-lanes <n>', about: 'lanes of a new history, fixed from then on (four per thread, at least 4)' },
    {
      flags: '--shard <i/n>',
      about: "this process's share of the history lanes, from 0/n to n-1/n; the store is Redis",
    },
    {
      flags: '--memory <bytes>',
      about: 'the process takes no more: 1GiB; cores and batches are bounded by what the files leave (no bound)',
    },
    {
      flags: '--rate-limit <rate>',
      about: 'rows written a second at most, or their bytes: 2000rows/s, 20MiB/s; of this process',
    },
    {
      flags: '--dry-run',
      about: 'say what would be written and how long it would take, from a sample; touches no store',
    },
    {
      flags: '--from <instant>',
      about:
        'leave out files with nothing since then, by directories (ds=2026-11-20/hour=03, year=/month=) or a mirror',
    },
    { flags: '--to <instant>', about: 'leave out files with nothing before then' },
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
    [
      'tilefold backfill \'/mnt/events/**/*.parquet\' --shard "$JOB_COMPLETION_INDEX/8"',
      'an indexed Job of Kubernetes',
    ],
    [
      'tilefold backfill \'/mnt/events/**/*.parquet\' --shard "$SLURM_ARRAY_TASK_ID/8"',
      'an array of Slurm, --array=0-7',
    ],
  ],
  run,
}

async function run({ args, flags, settings, terminal, printer }: Call): Promise<number> {
  const { namespace, plans: allPlans } = await loadViews(settings)
  const { source: kind, plans } = plansOfSource(allPlans, flags.source as string | undefined)
  const found = await findEventFiles(args, flags)
  const times = { fromMs: readInstant(flags.from, '--from'), toMs: readInstant(flags.to, '--to') }
  const isChosen = times.fromMs !== undefined || times.toMs !== undefined
  const chosen = isChosen ? await pruneFiles(found.paths, times, plans) : undefined
  const files = { ...found, paths: chosen?.paths ?? found.paths }
  const log = await planName(kind, files.paths, chosen?.left ? JSON.stringify(times) : undefined)
  const threads = settings.whole('threads', 0, 64) ?? Math.max(1, Math.min(4, cpus().length - 1))
  const historyLanes = settings.whole('history_lanes', 1, 4096)
  if (historyLanes !== undefined && historyLanes < threads) {
    throw settingError('--history-lanes', `got ${historyLanes}, expected at least one for each of ${threads} threads`)
  }

  const share = readShare(flags.shard as string | undefined)
  if (share !== undefined && settings.list('redis_url').length === 0) {
    throw settingError('--shard', 'a directory has one writing process; got no --redis-url, expected one')
  }
  const limit = readRateLimit(flags.rateLimit as string | undefined)
  const memory = flags.memory === undefined ? undefined : readBytes(flags.memory as string, '--memory')
  const untilMs = readInstant(flags.until, '--until')
  if (untilMs === 0 || (untilMs ?? 0) > TIME_LIMIT_MS) {
    throw settingError('--until', `got ${flags.until}, expected an instant behind 1970 and before 2106`)
  }
  const covers = untilMs === undefined ? undefined : [{ fromMs: 0, toMs: untilMs }]
  const generation = readGeneration(flags.generation as string | undefined)
  const told = readInstant(flags.completeSince, '--complete-since')
  const completeSinceMs =
    chosen?.completeSinceMs === undefined ? told : Math.max(chosen.completeSinceMs, told ?? chosen.completeSinceMs)
  const states = new Set(plans.map((plan) => plan.stateHash)).size
  const ingests = states * Math.max(1, Math.floor(threads / plans.length))
  const { sliceBytesMax, ...bounds } =
    memory === undefined
      ? ({} as Partial<MemoryPlan>)
      : await planMemory(memory, '--memory', { threads, ingests, files })
  await checkEventFiles(files, plans, flags.anyTimes === true)

  if (flags.dryRun === true) {
    const source = { inputs: inputsOf(plans), ...(sliceBytesMax && { sliceBytesMax }) }
    const expected = await dryRun({ files, plans, source, threads, clock: terminal.clock })
    printer.result({ data: { log, ...dryRunData(expected) }, table: () => dryRunTable(expected, printer) })
    return EXIT_OK
  }

  const progress = new Progress({ label: 'backfill', unit: 'events', stream: terminal.stderr, clock: terminal.clock })
  // From here on a signal ends it cleanly, however long the store takes to open.
  const abort = new AbortController()
  let stoppedBy: Signal | undefined
  terminal.onSignal((signal) => {
    stoppedBy = signal
    progress.log('stopping: what is folded is being stored; another signal ends it now')
    abort.abort()
  })
  const { store, path, redis } = await openStore(settings, { readOnly: false, plans })
  const seat: LayoutSeat = { store, namespace, ...(generation === undefined ? {} : { generation }) }
  const rejects = new Rejects((line) => progress.log(line))
  try {
    const { complete, open } = await sortByState(seat, await plansOfGeneration(seat, plans), log, covers)
    if (open.length === 0) return nothingLeft(complete, log, printer)

    const source = openEventFiles(files, log, {
      inputs: inputsOf(open),
      ...(sliceBytesMax && { sliceBytesMax }),
      ...rejects.sourceOptions,
    })
    const onSide = rejects.addAside.bind(rejects)
    const pool = new IngestPool({
      threads,
      store,
      ...(redis === undefined ? { storePath: path } : { redis }),
      ...(limit && { pace: createPace(limit) }),
      clock: terminal.clock,
      onSide,
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
        newHistoryLanes: Math.min(4096, Math.max(4, 4 * threads * (share?.count ?? 1))),
        ...(share && { share }),
        // A directory is locked as a whole.
        ...(redis && { claim: { onWait: (text: string) => progress.log(text) } }),
        completeSinceMs,
        covers,
        ...(chosen && { startClocks: chosen.startClocks }),
        ...bounds,
        onProgress: ({ rowsDone, rowsTotal }) => progress.update({ done: rowsDone, total: rowsTotal }),
        signal: abort.signal,
      })
      progress.stop()
      rejects.finish()
      const seconds = Math.max(0.001, (terminal.clock() - startMs) / 1000)
      summarise(report, { log, seconds, rejects, files: files.paths, printer, share, memory, left: chosen?.left })
      if (report.finished) {
        noteOthers(report, printer)
        return EXIT_OK
      }
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

function readInstant(text: Flags[string], flag: string): number | undefined {
  if (text === undefined) return undefined
  try {
    return parseInstant(text as string)
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
  readonly share: Share | undefined
  readonly memory: number | undefined
  /** Files left out for their times. */
  readonly left: number | undefined
}

/** Done, but not the last. */
function noteOthers({ views }: BackfillReport, printer: Printer): void {
  for (const { view, lanes, lanesDone, isComplete } of views) {
    if (isComplete) continue
    printer.note(
      `This shard is done. View ${view} becomes visible when the others are: ${lanesDone} of ${lanes} history lanes are at the end.`,
    )
  }
}

function laneData({ lanes, ownLanes, lanesDone, written }: BackfilledView): object {
  return { lanes, own_lanes: ownLanes, lanes_done: lanesDone, written_rows: written.rows, written_bytes: written.bytes }
}

/** The most memory that this process has held, as the system counts it. */
function peakRssBytes(): number {
  return process.resourceUsage().maxRSS * 1024
}

function summarise(
  report: BackfillReport,
  { log, seconds, rejects, files, printer, share, memory, left }: Summary,
): void {
  const { finished, rows, startedAt, views } = report
  const rate = Math.round(rows / seconds)
  const counted: { view: string; counters: Counters }[] = [...views]
  warnOfNothing(counted, printer)
  printer.result({
    data: {
      log,
      files,
      finished,
      ...(left === undefined ? {} : { files_left_out: left }),
      ...(share && { shard: `${share.index}/${share.count}` }),
      complete: report.isComplete,
      rows,
      started_at: startedAt,
      seconds,
      rows_per_second: rate,
      unreadable: rejects.unreadable,
      put_aside: rejects.aside,
      ...(memory === undefined ? {} : { memory_bytes: memory }),
      peak_rss_bytes: peakRssBytes(),
      views: countersData(counted).map((each, i) => ({ ...each, ...laneData(views[i]!) })),
    },
    table: () => {
      const from = startedAt > 0 ? `, going on from row ${formatCount(startedAt)}` : ''
      return `${formatCount(rows)} rows in ${seconds.toFixed(1)} s, ${formatCount(rate)}/s${from}\n\n${countersTable(counted, printer)}`
    },
  })
}
