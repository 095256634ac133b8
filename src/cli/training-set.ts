/** `tilefold training-set`: features as of the instants of a spine, from files of history into a file. */
import { TilefoldError } from '../model/errors.ts'
import { didYouMean } from '../model/nearest.ts'
import type { Plan } from '../model/plan.ts'
import { parseInstant } from '../model/time.ts'
import { openSpine } from '../offline/spine.ts'
import {
  type AskedView,
  SPINE_TIME,
  type TrainingOptions,
  type TrainingReport,
  trainingSet,
} from '../offline/training.ts'
import { checkLeakage, type LeakageReport } from '../offline/training-leakage.ts'
import { outputFormat, writeTrainingSet } from '../offline/training-output.ts'
import type { Source } from '../source/port.ts'
import { type Call, type Command, EXIT_FAILURE, EXIT_OK, type Flags } from './command.ts'
import { FORMAT_OPTION, findEventFiles, inputsOf, openEventFiles, planName } from './event-files.ts'
import { ANY_TIMES_OPTION, checkEventFiles, checkSpineTimes } from './preflight.ts'
import type { Printer } from './printer.ts'
import { Rejects } from './rejects.ts'
import { readBytes, settingError } from './settings.ts'
import { stoppable } from './stoppable.ts'
import { formatCount } from './table.ts'
import { BUILDING, checkMode, runServed, SERVED_OPTIONS } from './training-served.ts'
import { loadViews } from './views.ts'

export const trainingSetCommand: Command = {
  name: 'training-set',
  description: `Adds features to the rows of a spine, each as of its row's instant: the value that a request for that instant
would have been answered from the events before it, bit for bit. No store is needed and none is touched. The spine's
columns and its order are kept; features come behind them as view__feature. An event at exactly the instant is not seen.
Which events count (duplicate, late, filtered, rejected) is decided in the order of the files, as live. Instants may be of any
unit, without a zone they are UTC, a date is its first moment; plain integers are milliseconds. Text is no instant. Several
files of a spine have the same columns, of the same types. Rows whose key is null or whose instant is null or out of range get nulls,
and are counted; an entity without events before the instant gets what it would be served: counts of 0, defaults, nulls.

With --as-served the features are those that were served: the log of answers says from which positions of the topics an answer
came, by _request_id (and _request_row, or the keys, where requests ask about several entities), or else by entity and
instant; the mirror is folded again up to each of them, and the values come out bit for bit. A feature that was defined later is
recomputed from the same positions, as long as the view counts the same events (entity, time, filter, lateness, dedupe). With --ledger a row that is in no
log gets what was readable at its instant by the flush ledgers, to within one flush. A row that is in neither gets nulls, and
is counted; where that is every row, nothing is written. <view>__served_from tells log and ledger apart. The store that the settings
name, where there is one, says which entities were asked to be forgotten: their events from before count for nothing.`,
  arguments: [],
  options: [
    {
      flags: '--spine <files>',
      about: 'Parquet or Arrow files, a folder or a glob: entity keys, an instant, labels',
      isList: true,
    },
    { flags: '--time <column>', about: `the spine's column of instants (${SPINE_TIME})` },
    {
      flags: '--features <names>',
      about: 'view or view:feature, separated by commas; every view unless told',
      isList: true,
    },
    {
      flags: '--events <files>',
      about: 'history in the order of the log; with several kinds of events kind=files',
      isList: true,
    },
    FORMAT_OPTION,
    { flags: '--out <file>', about: '.parquet, .arrow or .feather; there when it is complete' },
    { flags: '--memory <bytes>', about: 'what may be held before temporary files are used (1GiB)' },
    { flags: '--temp <folder>', about: 'where temporary files go' },
    { flags: '--complete-since <instant>', about: 'rows with windows that start before are counted as incomplete' },
    {
      flags: '--check-leakage',
      about: 'builds drawn rows again from a history with another future; exit code 1 if any changes',
    },
    { flags: '--sample <rows>', about: 'rows per view that --check-leakage draws (1000)' },
    { flags: '--seed <n>', about: 'draws the same rows again (1)' },
    ANY_TIMES_OPTION,
    ...SERVED_OPTIONS,
  ],
  examples: [
    [
      'tilefold training-set --spine labels.parquet --events events/ --out train.parquet',
      'every feature of every view',
    ],
    [
      'tilefold training-set --spine labels.parquet --features orders:count_1h,orders:amount_sum_24h --events orders.ndjson --out train.arrow --check-leakage',
      'two features, and proof that they know no future',
    ],
    [
      'tilefold training-set --as-served --spine labels.parquet --served-log served --mirror mirror --out train.parquet',
      'labels with _request_id: what was served for them, out of the mirror',
    ],
    [
      'tilefold training-set --as-served --from-log --spine labels.parquet --served-log served --out train.parquet',
      'the same as it was logged; no mirror is needed',
    ],
  ],
  run,
}

async function run(call: Call): Promise<number> {
  const { flags, settings, terminal, printer } = call
  const out = needed(flags, 'out')
  outputFormat(out)
  checkMode(flags)
  const { namespace, plans } = await loadViews(settings)
  const views = askedViews(plans, listOf(flags, 'features'))
  const spine = await openSpine(listOf(flags, 'spine', true))
  const metadata = { 'tilefold.mode': 'as_happened', 'tilefold.definitions': definitions(views) }
  if (flags.asServed === true) {
    const rejects = new Rejects((line) => printer.warn(line))
    const history = await openEvents(listOf(flags, 'history'), flags, views, rejects, planName)
    return runServed(call, { out, namespace, plans, views, spine, history, metadata })
  }
  return stoppable(call, BUILDING, async (progress, signal) => {
    const rejects = new Rejects((line) => progress.log(line))
    const options: TrainingOptions = {
      spine,
      time: flags.time as string | undefined,
      views,
      events: await openEvents(listOf(flags, 'events', true), flags, views, rejects),
      clock: terminal.clock,
      memoryBytes: readMemory(flags.memory as string | undefined),
      tempFolder: flags.temp as string | undefined,
      completeSinceMs: readInstant(flags, 'complete-since'),
      signal,
      onProgress: ({ step, done, total }) => progress.update({ done, total, note: NOTES[step] }),
    }
    const startMs = terminal.clock()
    const training = trainingSet(options)
    if (flags.anyTimes !== true) await checkSpineTimes(spine, options.time ?? SPINE_TIME)
    const bytes = await writeTrainingSet(out, training.read(), metadata)
    const leakage = flags.checkLeakage === true ? await checkLeakage(leakageOptions(options, flags)) : undefined
    progress.stop()
    rejects.finish()
    const seconds = Math.max(0.001, (terminal.clock() - startMs) / 1000)
    summarise({ report: training.report, leakage, out, bytes, seconds, printer })
    return leakage?.views.some(({ leaks }) => leaks.length > 0) ? EXIT_FAILURE : EXIT_OK
  })
}

const NOTES = { keys: 'reading the spine', events: 'events', rows: 'writing rows' } as const

function definitions(views: readonly AskedView[]): string {
  return JSON.stringify(Object.fromEntries(views.map(({ plan }) => [plan.view, plan.definitionHash])))
}

function leakageOptions(options: TrainingOptions, flags: Flags) {
  return { ...options, sample: wholeOf(flags, 'sample'), seed: wholeOf(flags, 'seed'), onProgress: undefined }
}

// ---- flags -----------------------------------------------------------------------------------------------------------

function needed(flags: Flags, name: string): string {
  const value = flags[name]
  if (typeof value === 'string') return value
  throw new TilefoldError('USAGE', `cannot build a training set: --${name} is missing`)
}

function listOf(flags: Flags, name: string, isNeeded = false): readonly string[] {
  const values = (flags[name] ?? []) as readonly string[]
  if (values.length === 0 && isNeeded) needed(flags, name)
  return values
}

function wholeOf(flags: Flags, name: string): number | undefined {
  const text = flags[name] as string | undefined
  if (text === undefined) return undefined
  if (/^\d{1,9}$/.test(text)) return Number(text)
  throw settingError(`--${name}`, `got ${JSON.stringify(text)}, expected a whole number`)
}

/** Below it the spine's own batches would not fit. */
const MEMORY_BYTES_MIN = 64 << 20

function readMemory(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const bytes = readBytes(text, '--memory')
  if (bytes >= MEMORY_BYTES_MIN) return bytes
  throw settingError('--memory', `got ${JSON.stringify(text)}, expected at least 64MiB`)
}

function readInstant(flags: Flags, name: string): number | undefined {
  const text = flags.completeSince as string | undefined
  if (text === undefined) return undefined
  try {
    return parseInstant(text)
  } catch {
    throw settingError(`--${name}`, `got ${JSON.stringify(text)}, expected RFC 3339 with a zone or milliseconds`)
  }
}

/** Views in the order they are first named, each with the features named of it. Throws VIEW_UNKNOWN. */
function askedViews(plans: readonly Plan[], names: readonly string[]): AskedView[] {
  const asked = new Map<Plan, string[] | undefined>()
  for (const name of names.flatMap((each) => each.split(',')).map((each) => each.trim())) {
    const [view = '', feature] = name.split(':')
    const plan = plans.find((each) => each.view === view)
    if (plan === undefined) {
      const hint = didYouMean(
        view,
        plans.map((each) => each.view),
      )
      throw new TilefoldError('VIEW_UNKNOWN', `cannot ask for ${name}: there is no view ${view}; ${hint.text}`, {
        view,
      })
    }
    const before = asked.has(plan) ? asked.get(plan) : []
    asked.set(plan, feature === undefined || before === undefined ? undefined : [...before, feature])
  }
  if (names.length === 0) return plans.map((plan) => ({ plan }))
  return [...asked].map(([plan, features]) => ({ plan, features }))
}

/** `files`, or `kind=files`: one log of each kind. */
async function openEvents(
  entries: readonly string[],
  flags: Flags,
  views: readonly AskedView[],
  rejects: Rejects,
  nameOf: (kind: string, paths: readonly string[]) => string | Promise<string> = (kind) => kind,
): Promise<Record<string, Source>> {
  const kinds = [...new Set(views.map(({ plan }) => plan.state.source))]
  const byKind = new Map<string, string[]>()
  for (const entry of entries) {
    const named = kinds.find((kind) => entry.startsWith(`${kind}=`))
    if (named === undefined && kinds.length > 1) {
      throw new TilefoldError(
        'USAGE',
        `cannot tell which kind of events ${entry} holds: the views take ${kinds.join(', ')}; say --events ${kinds[0]}=${entry}`,
      )
    }
    const kind = named ?? kinds[0]!
    const files = named === undefined ? entry : entry.slice(named.length + 1)
    byKind.set(kind, [...(byKind.get(kind) ?? []), files])
  }
  const sources: Record<string, Source> = {}
  for (const [kind, given] of byKind) {
    const plans = views.map(({ plan }) => plan).filter((plan) => plan.state.source === kind)
    const files = await findEventFiles(given, flags)
    await checkEventFiles(files, plans, flags.anyTimes === true)
    sources[kind] = openEventFiles(files, await nameOf(kind, files.paths), {
      inputs: inputsOf(plans),
      reuseBuffers: true,
      ...rejects.sourceOptions,
    })
  }
  return sources
}

// ---- results ---------------------------------------------------------------------------------------------------------

interface Summary {
  readonly report: TrainingReport
  readonly leakage: LeakageReport | undefined
  readonly out: string
  readonly bytes: number
  readonly seconds: number
  readonly printer: Printer
}

function summarise({ report, leakage, out, bytes, seconds, printer }: Summary): void {
  const { rows, unusable, spilledBytes, views } = report
  if (unusable > 0) {
    printer.warn(
      `${formatCount(unusable)} rows have no usable key or instant (null, empty or out of range): their features are null`,
    )
  }
  for (const { view, unknown, ahead, incomplete, overflow } of views) {
    if (unknown === rows && rows > 0)
      printer.warn(`view ${view} knows none of the entities: are the keys of the same form?`)
    if (ahead > 0) printer.warn(`${formatCount(ahead)} rows ask view ${view} about instants after its last event`)
    if (incomplete > 0)
      printer.warn(`${formatCount(incomplete)} rows of view ${view} reach back before the history's start`)
    if (overflow > 0)
      printer.warn(`${formatCount(overflow)} values of view ${view} do not fit their type: they are null`)
  }
  for (const { view, leaks } of leakage?.views ?? []) {
    if (leaks.length === 0) continue
    const [{ row, feature }] = leaks as [(typeof leaks)[number]]
    printer.warn(
      `${formatCount(leaks.length)} values of view ${view} changed with the future, first ${feature} of row ${row}`,
    )
  }
  printer.result({
    data: { out, bytes, rows, seconds, unusable, spilled_bytes: spilledBytes, views, leakage },
    table: () => {
      const lines = [`${out}: ${formatCount(rows)} rows in ${seconds.toFixed(1)} s`]
      for (const { view, outcomes, unknown } of views) {
        const { consumed, applied, duplicate, late, expired, filtered, rejected } = outcomes
        const aside = { duplicate, late, expired, filtered, rejected }
        const others = Object.entries(aside).flatMap(([name, count]) =>
          count > 0 ? [`${formatCount(count)} ${name}`] : [],
        )
        lines.push(
          `${view}: ${formatCount(applied)} of ${formatCount(consumed)} events applied${others.map((each) => `, ${each}`).join('')}; ${formatCount(unknown)} rows of unknown entities`,
        )
      }
      for (const { view, rows: drawn, removed, moved, leaks } of leakage?.views ?? []) {
        lines.push(
          `leakage: ${view}: ${formatCount(drawn)} rows built again with ${formatCount(removed)} later events removed and ${formatCount(moved)} moved, ${formatCount(leaks.length)} values changed (seed ${leakage!.seed})`,
        )
      }
      return lines.map((line) => `${line}\n`).join('')
    },
  })
}
