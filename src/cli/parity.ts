/** `tilefold parity`: stored rows, or what was answered, against what the mirror's events give. */
import { inspectRow } from '../engine/inspect.ts'
import { loadCore } from '../engine/module.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { parseInstant } from '../model/time.ts'
import { compareWithMirror, type ParityReport, type RowDifference } from '../offline/parity.ts'
import { catalogOf, viewNamed } from '../serve/catalog.ts'
import { type Call, type Command, EXIT_FAILURE, EXIT_OK } from './command.ts'
import { FORMAT_OPTION } from './event-files.ts'
import { everyMsOf, runAsCanary } from './parity-canary.ts'
import { flagsAgain, openHistory, readParityFlags } from './parity-flags.ts'
import { runServedParity } from './parity-served.ts'
import type { Printer } from './printer.ts'
import { readWhole, settingError } from './settings.ts'
import { stoppable } from './stoppable.ts'
import { openStore } from './stores.ts'
import { formatCount, renderTable } from './table.ts'
import { readTopics } from './topics.ts'
import { loadViews } from './views.ts'

export const parity: Command = {
  name: 'parity',
  description: `Folds the mirror's events again, in memory, up to exactly the position where the stored rows stand, and compares the rows byte
for byte once both are compacted to one instant. Nothing is tolerated, since sums are exact. Workers may go on meanwhile: rows that
are ahead of the mirror are counted as unverified. Memory holds the rows of the sample.

Ends with 0 where every row is the same, with 1 where one is not (mismatched, missing in the store, or extra in it) or where
there was nothing to compare. For each a command is printed that shows both sides, field by field.

With --served-log no stored row is looked at, but what was answered: each logged answer is computed again from the mirror, as of its
instant and from the very positions that it came from, and its values and statuses are compared. No store is needed.

With --every it goes on until Ctrl-C or SIGTERM: every turn takes another share of the entities, so that in time all of them are
looked at, and a line tells what came of it. It ends with 1 if any turn found a difference.`,
  arguments: [{ name: '<view>', about: 'name of the view' }],
  options: [
    { flags: '--mirror <dir>', about: 'directory of the mirror (mirror)' },
    { flags: '--topic <source=topic>', about: 'topic of a source that is not named like it', isList: true },
    {
      flags: '--history <files>',
      about: 'files, a folder or a glob that history was folded from, in their order: its lanes are compared, too',
      isList: true,
    },
    FORMAT_OPTION,
    { flags: '--sample <share>', about: 'share of the entities, by a hash of their keys (1)' },
    { flags: '--entity <keys>', about: 'this one alone: key=value,key=value, or a JSON object' },
    { flags: '--key <hex>', about: 'this one alone, by its canonical key' },
    { flags: '--as-of <instant>', about: 'values are compared as of it (now)' },
    { flags: '--generation <n>', about: 'a generation that is not served yet, or no more (the one that is)' },
    { flags: '--served-log <dir>', about: 'compare what was answered, as `tilefold serve --served-log` logged it' },
    { flags: '--request <id>', about: 'with --served-log: this request alone' },
    { flags: '--every <duration>', about: 'again and again, another share each time' },
    { flags: '--metrics-port <number>', about: 'with --every: /metrics, /livez and /readyz on this port' },
    { flags: '--limit <n>', about: 'rows that differ to be told one by one (10)' },
  ],
  examples: [
    ['tilefold parity spend --mirror mirror --sample 0.01', 'one entity in a hundred'],
    ['tilefold parity spend --mirror mirror --entity card=4711', 'one, field by field'],
    ['tilefold parity spend --mirror mirror --served-log served', 'what was answered, bit for bit'],
    ['tilefold parity spend --mirror mirror --sample 0.01 --every 10m --metrics-port 9465', 'all of them in 17 hours'],
  ],
  run,
}

async function run(call: Call): Promise<number> {
  const { args, flags, settings, terminal, printer } = call
  const { namespace, plans } = await loadViews(settings)
  const { plan } = viewNamed(catalogOf(plans), args[0]!)
  if (flags.servedLog !== undefined) return runServedParity(call, plan, plans)
  if (flags.request !== undefined) throw settingError('--request', 'it goes with --served-log only')
  const { dir, key, sample, limit } = readParityFlags(flags, plan)
  const everyMs = everyMsOf(flags)
  const asOfMs = flags.asOf === undefined ? undefined : readAsOf(flags.asOf as string)
  const generation =
    flags.generation === undefined ? undefined : readWhole(flags.generation as string, '--generation', 1, 1e9)
  const topic = readTopics(flags, plans).get(plan.state.source)
  const history = await openHistory(flags, plan)
  const { store } = await openStore(settings, { readOnly: true, plans })
  const options = {
    seat: { store, namespace },
    plan,
    dir,
    core: loadCore(),
    clock: terminal.clock,
    sample,
    ...(asOfMs === undefined ? {} : { asOfMs }),
    ...(generation === undefined ? {} : { generation }),
    ...(topic === undefined ? {} : { topic }),
    ...(key && { key }),
    ...(history && { history: { source: history, notAfterMs: terminal.clock() } }),
  }
  const again = (each: RowDifference) =>
    [
      'tilefold parity',
      plan.view,
      '--mirror',
      dir,
      '--key',
      Buffer.from(each.key).toString('hex'),
      ...(generation === undefined ? [] : ['--generation', String(generation)]),
      ...flagsAgain(flags, settings),
    ].join(' ')
  if (everyMs !== undefined) {
    try {
      return await runAsCanary(call, plan.view, everyMs, async (turn, signal) => {
        const report = await compareWithMirror({ ...options, share: turn, signal })
        return { ...report, commands: report.differences.slice(0, limit).map(again) }
      })
    } finally {
      await store.close()
    }
  }
  const about = { label: 'parity', unit: 'records', stopped: 'Stopped before all was compared.' }
  return stoppable(call, about, async (progress, signal) => {
    const report = await compareWithMirror({
      ...options,
      onProgress: ({ recordsDone, recordsTotal }) => progress.update({ done: recordsDone, total: recordsTotal }),
      signal,
    })
    progress.stop()
    summarise(report, { plan, limit, isOne: key !== undefined, again, printer })
    // A gate shall not open because there was nothing to look at.
    if (report.compared === 0) printer.warn('nothing was compared')
    const isEqual = report.compared > 0 && report.mismatched + report.missing + report.extra === 0
    return isEqual ? EXIT_OK : EXIT_FAILURE
  }).finally(() => store.close())
}

/** Throws USAGE. */
function readAsOf(text: string): number {
  try {
    return parseInstant(text)
  } catch (error) {
    throw settingError('--as-of', (error as Error).message)
  }
}

interface Summary {
  readonly plan: Plan
  readonly limit: number
  /** Both sides of each difference are shown, not only that there is one. */
  readonly isOne: boolean
  readonly again: (difference: RowDifference) => string
  readonly printer: Printer
}

function summarise(report: ParityReport, { plan, limit, isOne, again, printer }: Summary): void {
  const { differences, unchecked, ...counts } = report
  if (unchecked.length > 0)
    printer.warn(`not compared, neither mirror nor --history holds anything of them: lanes ${unchecked.join(', ')}`)
  const shown = differences.slice(0, limit)
  printer.result({
    data: {
      view: plan.view,
      ...counts,
      unchecked,
      differences: shown.map((each) => ({
        kind: kindOf(each),
        lane: each.lane,
        key: Buffer.from(each.key).toString('hex'),
        position: each.position,
        command: again(each),
        ...(isOne ? { fields: fieldsOf(each, plan) } : {}),
      })),
    },
    table: () => {
      const bold = (text: string) => printer.style('bold', text)
      const names = Object.keys(counts) as (keyof typeof counts)[]
      const columns = names.map((name) => ({ title: name.toUpperCase(), align: 'right' as const }))
      const lines = [renderTable(columns, [names.map((name) => formatCount(counts[name]))], bold)]
      for (const each of shown) {
        lines.push(`${kindOf(each)} in lane ${each.lane} at position ${each.position}:\n  ${again(each)}\n`)
        if (!isOne) continue
        const fields = fieldsOf(each, plan).map(({ field, stored, expected }) => [field, stored, expected])
        lines.push(renderTable([{ title: 'FIELD' }, { title: 'STORED' }, { title: 'EXPECTED' }], fields, bold))
      }
      return lines.join('\n')
    },
  })
}

function kindOf({ stored, expected }: RowDifference): 'mismatched' | 'missing' | 'extra' {
  if (stored === undefined) return 'missing'
  return expected === undefined ? 'extra' : 'mismatched'
}

interface FieldDifference {
  readonly field: string
  readonly stored: string
  readonly expected: string
}

/** Fields in which the two rows differ; what one of them lacks is `-`. */
function fieldsOf({ stored, expected }: RowDifference, plan: Plan): FieldDifference[] {
  const [left, right] = [stored, expected].map((row) => leavesOf(row, plan))
  const names = new Set([...left!.keys(), ...right!.keys()])
  return [...names]
    .map((field) => ({ field, stored: left!.get(field) ?? '-', expected: right!.get(field) ?? '-' }))
    .filter((each) => each.stored !== each.expected)
}

function leavesOf(row: Uint8Array | undefined, plan: Plan): Map<string, string> {
  const leaves = new Map<string, string>()
  if (row === undefined) return leaves
  const walk = (value: unknown, path: string): void => {
    if (value !== null && typeof value === 'object') {
      for (const [name, each] of Object.entries(value)) walk(each, path === '' ? name : `${path}.${name}`)
    } else leaves.set(path, String(value))
  }
  try {
    const { parts, bytes, ...fields } = inspectRow(row, plan.state)
    walk(fields, '')
  } catch (error) {
    if (!(error instanceof TilefoldError)) throw error
    leaves.set('row', `${error.code}: ${error.message}`)
  }
  return leaves
}
