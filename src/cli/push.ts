/** `tilefold push`: a file, or standard input, through the embedded engine as a live log. */
import { basename } from 'node:path'
import { createEngine, type Engine } from '../embed/engine.ts'
import type { ColumnBatch } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import { readArrowStream } from '../source/arrow.ts'
import { readNdjsonStream } from '../source/ndjson.ts'
import type { SourceBatch, SourceOptions } from '../source/port.ts'
import type { Call, Command } from './command.ts'
import { EXIT_OK } from './command.ts'
import { countersData, countersTable, warnOfNothing } from './counters.ts'
import { FORMAT_OPTION, findEventFiles, inputsOf, openEventFiles } from './event-files.ts'
import { ANY_TIMES_OPTION, checkEventFiles } from './preflight.ts'
import { Progress } from './progress.ts'
import { Rejects } from './rejects.ts'
import { openStore } from './stores.ts'
import { formatCount } from './table.ts'
import { SIGNAL_CODES, type Signal, type Terminal } from './terminal.ts'
import { loadViews, plansOfSource } from './views.ts'

export const push: Command = {
  name: 'push',
  description: `Folds a file of events, or standard input (-), as a live log, into every view that takes them. What was folded can be
asked for a second later.

A file is a log of its own, named after it, and a position in it is a line or row number: pushing it again goes on behind
what is stored already, so a file that has grown adds its new lines, and after a crash the same call loses and doubles
nothing. Standard input cannot be read twice: it is numbered on behind what is stored, and events that were read and not
yet stored when the process died are lost (at most once). The same goes for a file with --append.`,
  arguments: [{ name: '<file>', about: 'a file, or - for standard input (JSON lines, or Arrow with --format)' }],
  options: [
    { flags: '--log <name>', about: "name of the log (the file's, without its ending; stdin)" },
    { flags: '--append', about: 'number the rows on behind the log instead of from 0: several files as one log' },
    { flags: '--source <name>', about: 'kind of events, where the views take several' },
    FORMAT_OPTION,
    ANY_TIMES_OPTION,
    { flags: '--threads <n>', about: 'threads that fold; 0 folds in this one (one less than the cores, at most 4)' },
  ],
  examples: [
    ['tilefold push today.ndjson', 'a file; again after it has grown'],
    ['tail -F app.log | tilefold push - --log app', 'a stream, as it comes'],
  ],
  run,
}

async function run({ args, flags, settings, terminal, printer }: Call): Promise<number> {
  const { namespace, plans: allPlans } = await loadViews(settings)
  const { source, plans } = plansOfSource(allPlans, flags.source as string | undefined)
  const file = args[0]!
  const isStream = file === '-'
  const log = (flags.log as string | undefined) ?? (isStream ? 'stdin' : logName(file))
  const progress = new Progress({ label: 'push', unit: 'events', stream: terminal.stderr, clock: terminal.clock })
  const rejects = new Rejects((line) => progress.log(line))
  // Looked at before the store is opened: a file that is not there must not leave one behind.
  const files = isStream ? undefined : await findEventFiles([file], flags)
  if (files) await checkEventFiles(files, plans, flags.anyTimes === true)

  // A directory is opened by the engine, and by each of its threads.
  const isShared = settings.list('redis_url').length > 0
  const shared = isShared ? (await openStore(settings, { readOnly: false, plans })).store : undefined
  const engine = await createEngine({
    views: plans,
    store: shared ?? settings.text('store')!,
    namespace,
    threads: shared ? 0 : settings.whole('threads', 0, 64),
    clock: terminal.clock,
    onSide: rejects.addAside.bind(rejects),
  }).catch(async (error: unknown) => {
    await shared?.close()
    throw error
  })
  try {
    let stoppedBy: Signal | undefined
    const abort = new AbortController()
    terminal.onSignal((signal) => {
      stoppedBy = signal
      progress.log('stopping: what was read is being stored; another signal ends it now')
      abort.abort()
    })
    const before = await engine.applied({ log, source })
    const isAppended = isStream || flags.append === true
    if (before >= 0) progress.log(`log ${log} is stored up to position ${formatCount(before)}; going on behind it`)
    const options = { inputs: inputsOf(plans), ...rejects.sourceOptions }
    const batches = files
      ? openEventFiles(files, log, options).read(isAppended ? 0 : before + 1)
      : readStream(terminal, flags.format as string | undefined, options)
    const firstPosition = isAppended ? before + 1 : 0
    const rows = await pushAll(engine, until(batches, abort.signal), { log, source, firstPosition, progress })

    const applied = (await engine.flush())[log]!
    progress.stop()
    rejects.finish()
    const counters = await engine.counters(log)
    const views = plans.map(({ view }) => ({ view, counters: counters.get(view)! }))
    warnOfNothing(views, printer)
    printer.result({
      data: {
        log,
        finished: stoppedBy === undefined,
        rows,
        applied,
        unreadable: rejects.unreadable,
        put_aside: rejects.aside,
        views: countersData(views),
      },
      table: () =>
        `${formatCount(rows)} rows into log ${log}, stored up to position ${formatCount(applied)}\n\n${countersTable(views, printer)}`,
    })
    if (stoppedBy === undefined) return EXIT_OK
    printer.note(
      isAppended
        ? 'Stopped: everything that was read is stored.'
        : 'Stopped before the end: call the same again to go on.',
    )
    return SIGNAL_CODES[stoppedBy]
  } finally {
    progress.stop()
    // Whoever pipes into us may go on for ever.
    if (isStream) terminal.stdin.destroy()
    await engine.close()
    await shared?.close()
  }
}

interface Target {
  readonly log: string
  readonly source: string
  /** Position of the source's row 0. */
  readonly firstPosition: number
  readonly progress: Progress
}

async function pushAll(engine: Engine, batches: AsyncIterable<SourceBatch>, target: Target): Promise<number> {
  const { log, source, firstPosition, progress } = target
  let rows = 0
  for await (const { batch, rowsTotal } of batches) {
    await engine.push(moved(batch, firstPosition), { log, source })
    rows += batch.length
    progress.update({ done: rows, total: rowsTotal })
  }
  return rows
}

function moved(batch: ColumnBatch, by: number): ColumnBatch {
  const { positions } = batch
  return { ...batch, positions: typeof positions === 'number' ? positions + by : positions.map((each) => each + by) }
}

/** Ends at the abort, even while a stream has nothing to say. */
async function* until(batches: AsyncIterable<SourceBatch>, signal: AbortSignal): AsyncGenerator<SourceBatch> {
  const iterator = batches[Symbol.asyncIterator]()
  const aborted = new Promise<IteratorResult<SourceBatch>>((resolve) => {
    signal.addEventListener('abort', () => resolve({ done: true, value: undefined }), { once: true })
  })
  for (;;) {
    if (signal.aborted) return
    const next = await Promise.race([iterator.next(), aborted])
    if (next.done) return
    yield next.value
  }
}

function readStream(
  terminal: Terminal,
  format: string | undefined,
  options: SourceOptions,
): AsyncIterable<SourceBatch> {
  if (format === 'parquet') {
    throw new TilefoldError(
      'USAGE',
      'cannot read Parquet from standard input: its index is at its end; give a file, or pipe JSON lines or Arrow',
    )
  }
  if (format !== undefined && format !== 'ndjson' && format !== 'arrow') {
    throw new TilefoldError(
      'USAGE',
      `cannot use --format: got ${JSON.stringify(format)}, expected ndjson or arrow for standard input`,
    )
  }
  const read = format === 'arrow' ? readArrowStream : readNdjsonStream
  return read(terminal.stdin, 'stdin', { ...options, yieldAtOnce: true })
}

/** `data/today.ndjson` -> `today`. Throws USAGE where nothing of the name is left. */
function logName(file: string): string {
  const name = basename(file)
    .replace(/\.[^.]*$/, '')
    .replaceAll(/[^A-Za-z0-9_.-]/g, '_')
    .replace(/^\.+/, '')
    .slice(0, 100)
  if (name !== '') return name
  throw new TilefoldError('USAGE', `cannot name a log after ${file}; give --log`)
}
