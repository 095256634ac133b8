/** What a view means and costs, from its plan: as data, and as a table. */
import { type EntityEstimate, estimateEntity } from '../define/estimate.ts'
import type { FeaturePlan, Plan } from '../model/plan.ts'
import { formatDuration } from '../model/time.ts'
import type { Printer } from './printer.ts'
import { formatBytes, formatCount, indent, renderTable } from './table.ts'

/** `rate`: events per second of the entity that is weighed. */
export function viewData(plan: Plan, rate: number): object {
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

export function viewTable(plan: Plan, rate: number, printer: Printer): string {
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
