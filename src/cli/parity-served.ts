/** `tilefold parity --served-log`: what was answered against what the mirror gives for the same instants and positions. */
import { TilefoldError } from '../model/errors.ts'
import type { FeatureValue, Plan } from '../model/plan.ts'
import { sampleOf, sampleOfOne } from '../offline/parity-sample.ts'
import { compareServed, type ServedDifference, type ServedParityReport } from '../offline/parity-served.ts'
import { type Call, EXIT_FAILURE, EXIT_OK, type Flags } from './command.ts'
import { everyMsOf, runAsCanary } from './parity-canary.ts'
import { flagsAgain, openHistory, readParityFlags } from './parity-flags.ts'
import { stoppable } from './stoppable.ts'
import { formatCount, renderTable } from './table.ts'
import { readTopics } from './topics.ts'
import { filesOf } from './training-served.ts'

export async function runServedParity(call: Call, plan: Plan, plans: readonly Plan[]): Promise<number> {
  const { flags, settings, printer } = call
  refuse(flags)
  const { dir, key, sample, limit } = readParityFlags(flags, plan)
  const servedLog = flags.servedLog as string
  const requestId = flags.request as string | undefined
  const topics = readTopics(flags, plans)
  const source = await openHistory(flags, plan)
  const compare = (turn: number, signal: AbortSignal, onRows: (rows: number) => void = () => {}) => {
    const differences: ServedDifference[] = []
    return compareServed({
      plan,
      servedLog,
      mirror: dir,
      topics,
      ...(source && { history: filesOf(source) }),
      sample: key ? sampleOfOne(key) : sampleOf(Math.max(1, Math.round(1 / sample)), turn, []),
      ...(requestId === undefined ? {} : { requestId }),
      onRows,
      onDifference: (difference) => differences.length < limit && differences.push(difference),
      signal,
    }).then((report) => ({ report, differences }))
  }
  const again = ({ row }: ServedDifference) =>
    [
      'tilefold parity',
      plan.view,
      '--served-log',
      servedLog,
      '--mirror',
      dir,
      '--request',
      row.requestId,
      '--key',
      Buffer.from(row.key).toString('hex'),
      ...flagsAgain(flags, settings),
    ].join(' ')

  const everyMs = everyMsOf(flags)
  if (everyMs !== undefined) {
    return runAsCanary(call, plan.view, everyMs, async (turn, signal) => {
      const { report, differences } = await compare(turn, signal)
      return { ...report, extra: 0, commands: differences.map(again) }
    })
  }
  const about = { label: 'parity', unit: 'answers', stopped: 'Stopped before all was compared.' }
  return stoppable(call, about, async (progress, signal) => {
    const { report, differences } = await compare(0, signal, (done) => progress.update({ done }))
    progress.stop()
    const isOne = requestId !== undefined || key !== undefined
    summarise(call, report, differences, { isOne, again })
    if (report.compared === 0) printer.warn('nothing was compared')
    return report.compared > 0 && report.mismatched + report.missing === 0 ? EXIT_OK : EXIT_FAILURE
  })
}

/** Throws USAGE. */
function refuse(flags: Flags): void {
  const stored = flags.asOf !== undefined ? '--as-of' : flags.generation !== undefined ? '--generation' : undefined
  if (stored === undefined) return
  throw new TilefoldError(
    'USAGE',
    `cannot use ${stored}: it does not go with --served-log, which compares no stored rows`,
  )
}

interface Told {
  /** Both sides of each difference are shown, not only that there is one. */
  readonly isOne: boolean
  readonly again: (difference: ServedDifference) => string
}

function summarise(
  { printer }: Call,
  { view, otherDefinition, ...counts }: ServedParityReport,
  differences: readonly ServedDifference[],
  { isOne, again }: Told,
): void {
  const told = { ...counts, other_definition: otherDefinition }
  printer.result({
    data: {
      view,
      ...told,
      differences: differences.map((each) => ({
        kind: each.kind,
        request: each.row.requestId,
        row: each.row.requestRow,
        as_of_ms: each.row.asOfMs,
        lanes: each.lanes,
        command: again(each),
        ...(isOne ? { features: featuresOf(each) } : {}),
      })),
    },
    table: () => {
      const bold = (text: string) => printer.style('bold', text)
      const entries = Object.entries(told)
      const columns = entries.map(([name]) => ({
        title: name.toUpperCase().replace('_', ' '),
        align: 'right' as const,
      }))
      const lines = [renderTable(columns, [entries.map(([, count]) => formatCount(count))], bold)]
      for (const each of differences) {
        const where = each.lanes.length === 0 ? '' : `, no row in ${each.lanes.join(', ')}`
        lines.push(
          `${each.kind}: request ${each.row.requestId}, entity ${each.row.requestRow}${where}:\n  ${again(each)}\n`,
        )
        if (!isOne) continue
        const rows = featuresOf(each).map(({ feature, served, expected }) => [feature, served, expected])
        lines.push(renderTable([{ title: 'FEATURE' }, { title: 'SERVED' }, { title: 'EXPECTED' }], rows, bold))
      }
      return lines.join('\n')
    },
  })
}

function featuresOf({ features }: ServedDifference) {
  const text = (value: FeatureValue, status: string) => `${value === null ? '-' : String(value)} (${status})`
  return features.map(({ feature, served, expected }) => ({
    feature,
    served: text(served.value, served.status),
    expected: text(expected.value, expected.status),
  }))
}
