/** The rows of a run as a table for people and as JSON for tools. */
import { cpus, totalmem } from 'node:os'
import type { RatioKind, Row, Target } from './contest.ts'
import { compilerOf } from './yardstick.ts'

export interface Report {
  readonly seed: number
  readonly short: boolean
  readonly machine: Readonly<Record<string, string | number>>
  readonly rows: readonly Row[]
}

export function describeMachine(): Record<string, string | number> {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cpuCount: cpus().length,
    memoryGb: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    v8: process.versions.v8,
    platform: `${process.platform} ${process.arch}`,
    compiler: compilerOf(),
  }
}

/** One contest's rows, the engine's first. */
export function formatContest(rows: readonly Row[]): string {
  const [head] = rows
  if (!head) return ''
  const lines = rows.map((row) => [
    row.contender,
    `${formatTime(row.ns, row)}/${row.unit}`,
    row.rounds === 1 ? '' : `${formatTime(row.nsMin, row)} – ${formatTime(row.nsMax, row)}`,
    row.ratio === undefined ? '' : formatRatio(row.ratio, row.ratioKind, true),
    row.ratio === undefined || row.rounds === 1
      ? ''
      : `${formatRatio(row.ratioMin!, row.ratioKind)} – ${formatRatio(row.ratioMax!, row.ratioKind)}`,
    row.target ? formatTarget(row.target) : '',
    row.reached === undefined ? '' : row.reached ? 'yes' : 'NO',
  ])
  const titles = ['', 'time', 'min–max', 'ratio', 'min–max', 'target', 'reached']
  return `\n${head.claim}: ${head.title} (${head.rounds} rounds)\n${formatTable([titles, ...lines])}`
}

export function formatSummary(rows: readonly Row[]): string {
  const judged = rows.filter((row) => row.reached !== undefined)
  const missed = judged.filter((row) => !row.reached)
  const lines = missed.map(
    (row) =>
      `  ${row.claim}: ${row.title}, ${row.contender}: ${formatRatio(row.ratio!, row.ratioKind, true)}, target ${formatTarget(row.target!)}`,
  )
  return [`\n${judged.length - missed.length} of ${judged.length} targets reached`, ...lines].join('\n')
}

/** Rows of cells in columns: the first one to the left, the others to the right. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows
    .map((row) => row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))))
    .map((row) => `  ${row.join('  ').trimEnd()}`)
    .join('\n')
}

/** In the unit that fits the row's median, so that a row's times compare at a glance. */
function formatTime(ns: number, { ns: middle }: Row): string {
  if (middle >= 1e9) return `${formatNumber(ns / 1e9)} s`
  if (middle >= 1e6) return `${formatNumber(ns / 1e6)} ms`
  if (middle >= 1e4) return `${formatNumber(ns / 1e3)} µs`
  return `${formatNumber(ns)} ns`
}

function formatRatio(ratio: number, kind?: RatioKind, inWords = false): string {
  if (kind === 'share') return `${formatNumber(ratio * 100)} %`
  return `${formatNumber(ratio)}x${inWords ? (kind === 'gain' ? ' faster' : ' its time') : ''}`
}

function formatTarget(target: Target): string {
  if (target.kind === 'share') return `≤ ${formatNumber(target.limit * 100)} %`
  return `${target.kind === 'gain' ? '≥' : '≤'} ${target.limit}x`
}

/** Three significant digits, no exponent. */
function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return String(value)
  if (value >= 100) return Math.round(value).toLocaleString('en-US')
  return value.toFixed(value >= 10 ? 1 : 2)
}
