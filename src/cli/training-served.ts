/** `tilefold training-set --as-served`: the features that were served for the rows of a spine. */
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import type { ParityFiles } from '../offline/parity-logs.ts'
import type { Spine } from '../offline/spine.ts'
import type { AskedView } from '../offline/training.ts'
import { writeTrainingSet } from '../offline/training-output.ts'
import { type ServedTrainingOptions, type ServedTrainingReport, servedTrainingSet } from '../offline/training-served.ts'
import type { Source } from '../source/port.ts'
import { holdsLmdbStore } from '../store/lmdb.ts'
import { type Call, EXIT_OK, type Flags, type Option } from './command.ts'
import type { Printer } from './printer.ts'
import { readDuration, type Settings, settingError } from './settings.ts'
import { stoppable } from './stoppable.ts'
import { openStore } from './stores.ts'
import { formatCount } from './table.ts'
import { readTopics } from './topics.ts'

export const SERVED_OPTIONS: readonly Option[] = [
  { flags: '--as-served', about: 'what was served for each row, not what happened before its instant' },
  { flags: '--served-log <dir>', about: 'as served: the log of answers that `tilefold serve --served-log` writes' },
  { flags: '--mirror <dir>', about: 'as served: the mirror that values are recomputed from (mirror)' },
  { flags: '--topic <source=topic>', about: 'as served: topic of a source that is not named like it', isList: true },
  {
    flags: '--from-log',
    about: 'as served: take the logged values; recompute only with a --mirror what the log lacks',
  },
  { flags: '--ledger', about: "as served: rows that are in no log by the store's flush ledgers (a model)" },
  { flags: '--serving-delay <duration>', about: "with --ledger: requests come so long after a row's instant (0s)" },
]

/** How either mode shows that it is at work. */
export const BUILDING = { label: 'training set', unit: 'rows', stopped: 'Stopped: nothing was written.' }

/** Of the other mode: they would silently do nothing. */
const HAPPENED_ONLY = ['events', 'memory', 'temp', 'complete-since', 'sample', 'seed'] as const
const SERVED_ONLY = ['served-log', 'mirror', 'topic', 'history', 'from-log', 'ledger', 'serving-delay'] as const

/** Throws USAGE where flags of the two modes are mixed. */
export function checkMode(flags: Flags): void {
  const isServed = flags.asServed === true
  if (isServed && flags.checkLeakage === true) {
    throw new TilefoldError(
      'USAGE',
      'cannot check for leakage what was served: an answer knew no event that had not come; `tilefold parity <view> --served-log` compares it with the mirror',
    )
  }
  const wrong = (isServed ? HAPPENED_ONLY : SERVED_ONLY).find((name) => {
    const value = flags[name.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase())]
    return Array.isArray(value) ? value.length > 0 : value !== undefined && value !== false
  })
  if (wrong === undefined) return
  const cause = isServed ? 'does not go with --as-served' : 'goes with --as-served only'
  throw new TilefoldError('USAGE', `cannot use --${wrong}: it ${cause}`)
}

export interface ServedCall {
  readonly out: string
  readonly namespace: string
  readonly plans: readonly Plan[]
  readonly views: readonly AskedView[]
  readonly spine: Spine
  /** By the name of the views' source. */
  readonly history: Readonly<Record<string, Source>>
  readonly metadata: Readonly<Record<string, string>>
}

export async function runServed(call: Call, asked: ServedCall): Promise<number> {
  const { flags, settings, terminal, printer } = call
  const { out, namespace, plans, views, spine } = asked
  const fromLog = flags.fromLog === true
  const servedLog = flags.servedLog as string | undefined
  const mirror = (flags.mirror as string | undefined) ?? (fromLog && flags.ledger !== true ? undefined : 'mirror')
  const servingDelayMs = readDelay(flags)
  // A ledger needs the store; who was forgotten is asked where there is one.
  const opened =
    flags.ledger === true || isStoreThere(settings) ? await openStore(settings, { readOnly: true, plans }) : undefined
  const seat = opened && { store: opened.store, namespace }
  const startMs = terminal.clock()
  return stoppable(call, BUILDING, async (progress, signal) => {
    const options: ServedTrainingOptions = {
      spine,
      views,
      fromLog,
      servingDelayMs,
      ...(flags.time === undefined ? {} : { time: flags.time as string }),
      ...(servedLog === undefined ? {} : { servedLog }),
      ...(mirror === undefined ? {} : { mirror }),
      topics: readTopics(flags, plans),
      history: Object.fromEntries(Object.entries(asked.history).map(([kind, source]) => [kind, filesOf(source)])),
      ...(seat && { forgotten: seat, ...(flags.ledger === true && { ledger: seat }) }),
      clock: terminal.clock,
      signal,
      onProgress: ({ step, done, total }) => progress.update({ done, total, note: NOTES[step] }),
    }
    const training = servedTrainingSet(options)
    const metadata = {
      ...asked.metadata,
      'tilefold.mode': 'as_served',
      'tilefold.values': fromLog ? 'log' : 'mirror',
      ...(flags.ledger === true && { 'tilefold.serving_delay_ms': String(servingDelayMs) }),
    }
    const bytes = await writeTrainingSet(out, training.read(), metadata)
    progress.stop()
    const seconds = Math.max(0.001, (terminal.clock() - startMs) / 1000)
    summarise(training.report, { out, bytes, seconds, printer })
    return EXIT_OK
  }).finally(() => opened?.store.close())
}

/** Redis's address, or a directory with a store in it. */
function isStoreThere(settings: Settings): boolean {
  return settings.list('redis_url').length > 0 || holdsLmdbStore(settings.text('store')!)
}

const NOTES = { keys: 'the log of answers', events: 'the mirror', rows: 'writing rows' } as const

/** When they were folded is known to the layout of who was served from them, if to anybody. */
export function filesOf(source: Source): ParityFiles {
  return { source, notAfterMs: Number.MAX_SAFE_INTEGER }
}

/** Throws USAGE. */
function readDelay(flags: Flags): number {
  const text = flags.servingDelay as string | undefined
  if (text === undefined) return 0
  if (flags.ledger === true) return readDuration(text, '--serving-delay')
  throw settingError('--serving-delay', 'it is for rows that are looked up with --ledger')
}

interface Told {
  readonly out: string
  readonly bytes: number
  readonly seconds: number
  readonly printer: Printer
}

function summarise({ rows, unusable, views }: ServedTrainingReport, { out, bytes, seconds, printer }: Told): void {
  const warn = (count: number, text: string) => count > 0 && printer.warn(`${formatCount(count)} rows ${text}`)
  warn(
    unusable,
    'have no request id, and no usable key or instant (null, empty or out of range): their features are null',
  )
  for (const { view, ...of } of views) {
    warn(of.unknown - of.lacking - unusable, `of view ${view} are in no log and no ledger: their features are null`)
    warn(of.forgotten, `of view ${view} are of entities that were asked to be forgotten: their features are null`)
    warn(of.lacking, `of view ${view} came from records that the mirror lacks: what was to be recomputed is null`)
    warn(of.otherState, `of view ${view} were served when it counted other events, and are not used`)
    warn(of.ahead, `ask view ${view} about an instant to come: their features are null`)
    warn(of.repeated, `of view ${view} were answered several times: the first answer is taken`)
    warn(of.unanswered, `of view ${view} were answered without a value: their features are null`)
  }
  printer.result({
    data: {
      out,
      bytes,
      rows,
      seconds,
      unusable,
      mode: 'as_served',
      views: views.map(({ otherState, ledgerUnsure, ledgerOpen, ...of }) => ({
        ...of,
        other_state: otherState,
        ledger_unsure: ledgerUnsure,
        ledger_open: ledgerOpen,
      })),
    },
    table: () => {
      const lines = [`${out}: ${formatCount(rows)} rows in ${seconds.toFixed(1)} s`]
      for (const { view, log, ledger, unknown, forgotten, ledgerUnsure } of views) {
        const model = ledger === 0 ? '' : ` (to within ${formatCount(ledgerUnsure)} positions of a log)`
        lines.push(
          `${view}: ${formatCount(log)} rows as logged, ${formatCount(ledger)} by the flush ledgers${model}, ${formatCount(unknown)} unknown${forgotten === 0 ? '' : `, ${formatCount(forgotten)} forgotten`}`,
        )
      }
      return lines.map((line) => `${line}\n`).join('')
    },
  })
}
