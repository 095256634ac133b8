/** Each law as a script of plain steps, drawn: in which order, over which logs and lanes, with which flushes and crashes events come. */
import { joinRanges, type TimeRange } from '../../src/model/covers.ts'
import { TIME_LIMIT_MS } from '../../src/model/time.ts'
import type { NaiveEvent } from '../oracle/naive.ts'
import type { Random } from '../support/random.ts'

export type Step =
  | { readonly kind: 'push'; readonly log: number; readonly rows: number }
  /** The last rows once more, at the positions they had. */
  | { readonly kind: 'redeliver'; readonly log: number; readonly rows: number }
  | { readonly kind: 'flush' }
  | { readonly kind: 'advance' }
  | { readonly kind: 'crash'; readonly storeCall?: number }
  /** Flush, then compare some answers with the oracle over what was pushed so far. */
  | { readonly kind: 'ask' }

export interface Script {
  readonly law: string
  readonly lanes: number
  /** Events of each log, in log order. */
  readonly logs: readonly (readonly NaiveEvent[])[]
  /** Events that come as history first. */
  readonly history: readonly NaiveEvent[]
  readonly steps: readonly Step[]
  readonly covers?: readonly TimeRange[]
  /** What is accepted isn't what the plain script accepts: its rows are others. */
  readonly isOther?: boolean
}

/** The plainest way: one log, one lane, batches of 64, one flush at the end. */
export function plainScript(events: readonly NaiveEvent[]): Script {
  return { law: 'plain', lanes: 1, logs: [events], history: [], steps: pushes(events.length, () => 64) }
}

/** One script for every law that holds for the plan. */
export function drawScripts(random: Random, events: readonly NaiveEvent[], orderFree: boolean): Script[] {
  const one = { lanes: 1, logs: [events], history: [] }
  const anySize = (): number => random.pick([1, 2, 3, 7, 16, 64, events.length])
  const plain = pushes(events.length, () => 64)
  const scripts: Script[] = [
    {
      ...one,
      law: 'lanes',
      lanes: random.between(2, 8),
      steps: scatter(random, plain, [{ kind: 'flush' }, { kind: 'ask' }], 2),
    },
    { ...one, law: 'batches', steps: redeliveries(random, pushes(events.length, anySize)) },
    {
      ...one,
      law: 'flushes',
      steps: scatter(
        random,
        pushes(events.length, anySize),
        [{ kind: 'flush' }, { kind: 'advance' }, { kind: 'ask' }],
        12,
      ),
    },
    { ...one, law: 'crashes', lanes: random.between(1, 4), steps: crashes(random, pushes(events.length, anySize)) },
    { ...one, law: 'backfill', lanes: random.between(1, 4), logs: [[]], history: events, steps: [{ kind: 'ask' }] },
  ]
  if (!orderFree) return [...scripts, drawCovered(random.fork(), events)]

  const shuffled = renumbered(random, random.shuffled(events))
  const logs = Array.from({ length: random.between(2, 4) }, (): NaiveEvent[] => [])
  for (const event of events) random.pick(logs).push(event)
  const cut = random.below(events.length + 1)
  const rest = random.shuffled(events.slice(cut))
  scripts.push(
    {
      ...one,
      law: 'shuffle',
      logs: [shuffled],
      steps: scatter(random, plain, [{ kind: 'flush' }, { kind: 'ask' }], 3),
    },
    {
      law: 'logs',
      lanes: random.between(1, 4),
      logs,
      history: [],
      steps: scatter(
        random,
        random.shuffled(logs.flatMap((log, i) => pushes(log.length, anySize, i))),
        [{ kind: 'flush' }, { kind: 'advance' }, { kind: 'ask' }],
        4,
      ),
    },
    {
      law: 'backfill, then stream',
      lanes: random.between(1, 4),
      logs: [rest.map((event, position) => ({ ...event, position }))],
      history: events.slice(0, cut),
      steps: crashes(random, pushes(rest.length, anySize)),
    },
  )
  scripts.push(drawCorrected(random.fork(), events))
  return scripts
}

/** Files and stream hold the same events; which of them counts one goes by its time. */
function drawCovered(random: Random, events: readonly NaiveEvent[]): Script {
  return {
    law: 'covers, in order',
    lanes: random.between(1, 4),
    logs: [events],
    history: events,
    steps: crashes(
      random,
      pushes(events.length, () => random.pick([1, 7, 64])),
    ),
    covers: drawCovers(random, events),
    isOther: true,
  }
}

/** The stream has it wrong inside the ranges, the files outside; what comes of both is what is right in each. */
function drawCorrected(random: Random, events: readonly NaiveEvent[]): Script {
  const covers = drawCovers(random, events)
  const isInside = ({ time }: NaiveEvent) =>
    time !== null && covers.some(({ fromMs, toMs }) => time >= fromMs && time < toMs)
  const wrong = (event: NaiveEvent): NaiveEvent => ({ ...random.pick(events), ...onlyTimes(event) })
  const history = random.shuffled(
    events.flatMap((event) => {
      if (isInside(event)) return [event]
      return random.chance(0.5) || event.time === null ? [] : [random.chance(0.5) ? event : wrong(event)]
    }),
  )
  const stream = random.shuffled(
    events.flatMap((event) => {
      if (!isInside(event)) return [event]
      return random.chance(0.3) ? [] : [random.chance(0.5) ? event : wrong(event)]
    }),
  )
  const numbered = (list: readonly NaiveEvent[]) => list.map((event, position) => ({ ...event, position }))
  return {
    law: 'covers',
    lanes: random.between(1, 4),
    logs: [numbered(stream)],
    history: numbered(history),
    steps: crashes(
      random,
      pushes(stream.length, () => random.pick([1, 7, 64])),
    ),
    covers,
  }
}

function onlyTimes({ time, recordTime }: NaiveEvent): Pick<NaiveEvent, 'time' | 'recordTime'> {
  return { time, ...(recordTime === undefined ? {} : { recordTime }) }
}

/** Up to three ranges between the first event and the last; often on an event's own time. */
function drawCovers(random: Random, events: readonly NaiveEvent[]): TimeRange[] {
  const times = events.flatMap(({ time }) => (time !== null && time >= 0 && time < TIME_LIMIT_MS ? [Number(time)] : []))
  if (times.length === 0) return [{ fromMs: 0, toMs: 1 }]
  return joinRanges(
    Array.from({ length: random.between(1, 3) }, () => {
      const [a, b] = [random.pick(times), random.pick(times)].map((time) => Math.max(0, time + random.between(-1, 1)))
      return { fromMs: random.chance(0.2) ? 0 : Math.min(a!, b!), toMs: Math.max(a!, b!) + 1 }
    }),
  )
}

function pushes(rows: number, size: () => number, log = 0): Step[] {
  const steps: Step[] = []
  for (let left = rows; left > 0; ) {
    const taken = Math.min(left, size())
    steps.push({ kind: 'push', log, rows: taken })
    left -= taken
  }
  return steps
}

/** `count` of the extra steps, at random places. */
function scatter(random: Random, steps: readonly Step[], extra: readonly Step[], count: number): Step[] {
  const mixed = [...steps]
  for (let i = 0; i < count; i++) mixed.splice(random.below(mixed.length + 1), 0, random.pick(extra))
  return mixed
}

function redeliveries(random: Random, steps: readonly Step[]): Step[] {
  return steps.flatMap((step) =>
    random.chance(0.3) ? [step, { kind: 'redeliver', log: 0, rows: random.between(1, 40) }] : [step],
  )
}

/** Flushes, and crashes between and inside them; a crash right behind a crash is one during the replay. */
function crashes(random: Random, steps: readonly Step[]): Step[] {
  const extra: Step[] = [{ kind: 'flush' }, { kind: 'advance' }, { kind: 'crash' }]
  for (let storeCall = 0; storeCall < 8; storeCall++) extra.push({ kind: 'crash', storeCall })
  return scatter(random, scatter(random, steps, extra, random.between(2, 8)), [{ kind: 'flush' }, { kind: 'ask' }], 3)
}

/** New positions in the new order, ascending, with holes at times: logs that are compacted or transactional have them. */
export function renumbered(random: Random, events: readonly NaiveEvent[]): NaiveEvent[] {
  const holes = random.chance(0.3)
  let position = holes ? random.below(1_000) : 0
  return events.map((event) => {
    const moved = { ...event, position }
    position += holes ? random.between(1, 3) : 1
    return moved
  })
}
