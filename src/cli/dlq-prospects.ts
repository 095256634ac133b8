/** What views will make of a record that is sent again: it stands at the end of its topic, with its old event time. */
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { formatDuration } from '../model/time.ts'
import type { Flags } from './command.ts'
import type { Settings } from './settings.ts'
import { readTopics } from './topics.ts'
import { loadViews } from './views.ts'

export interface Prospects {
  readonly views: readonly {
    readonly view: string
    readonly topic: string
    readonly late_policy: string
    readonly allowed_lateness: string
    readonly retention: string
    readonly dedupe: string | null
  }[]
  readonly text: string
}

/** Of the views that read these topics. Without definitions nobody can tell. */
export async function prospectsOf(settings: Settings, flags: Flags, topics: readonly string[]): Promise<Prospects> {
  let plans: readonly Plan[]
  try {
    ;({ plans } = await loadViews(settings))
  } catch (error) {
    const isNamed = settings.get('file')?.rank !== 'default'
    if (isNamed || !(error instanceof TilefoldError) || error.code !== 'CONFIG_INVALID') throw error
    return { views: [], text: 'There are no definitions here (--file): what views make of late records is not told.' }
  }
  const named = readTopics(flags, plans)
  const readers = plans.flatMap((plan) => {
    const topic = named.get(plan.state.source) ?? plan.state.source
    return topics.includes(topic) ? [{ plan, topic }] : []
  })
  return {
    views: readers.map(({ plan: { view, state }, topic }) => ({
      view,
      topic,
      late_policy: state.lateness.policy,
      allowed_lateness: formatDuration(state.lateness.allowedMs),
      retention: formatDuration(state.retentionMs),
      dedupe: state.dedupe === undefined ? null : formatDuration(state.dedupe.withinMs),
    })),
    text:
      readers.length === 0
        ? `No view of these definitions reads ${topics.join(', ')}.`
        : `A record that is sent again stands at the end of its topic, with its old event time:\n${readers.map(({ plan }) => `  ${sentenceOf(plan)}\n`).join('')}`,
  }
}

function sentenceOf({ view, state: { lateness, retentionMs, dedupe } }: Plan): string {
  const allowed = formatDuration(lateness.allowedMs)
  const late = {
    accept: 'counts it however late',
    side_output: `puts it aside again when it is more than ${allowed} late`,
    drop: `drops it when it is more than ${allowed} late`,
  }[lateness.policy]
  const twice =
    dedupe === undefined
      ? 'a record that it has counted already counts twice'
      : `one that it has counted already is a duplicate within ${formatDuration(dedupe.withinMs)}, and counts twice behind that`
  return `view ${view} ${late}, not beyond its retention of ${formatDuration(retentionMs)}; ${twice}`
}
