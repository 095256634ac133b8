/** A test case whole: a plan, the events of its log, and where to ask. Everything follows from the seed. */
import type { KeyPart } from '../../src/model/key.ts'
import type { Plan, StatePlan } from '../../src/model/plan.ts'
import type { NaiveEvent } from '../oracle/event.ts'
import { sameKey, timeOf } from '../oracle/event.ts'
import type { PlanOptions } from './definitions.ts'
import { drawPlan } from './definitions.ts'
import type { EventShape } from './events.ts'
import { drawColumns, generateEvents, TIME_SHAPES } from './events.ts'
import type { Random } from './random.ts'
import { seededRandom } from './random.ts'

export interface Case {
  readonly seed: number
  readonly plan: Plan
  /** In log order, positions ascending from 0. */
  readonly events: readonly NaiveEvent[]
  /** The log's creation instant: bounds the late clock where events have no record times. */
  readonly notAfterMs: number
  readonly shape: EventShape
}

export interface CaseOptions extends PlanOptions {
  readonly count?: number
  /** No bad keys and times, for cases that are not about acceptance. */
  readonly clean?: boolean
}

export function drawCase(seed: number, options: CaseOptions = {}): Case {
  const random = seededRandom(seed)
  const plan = drawPlan(random.fork(), options)
  const shape = drawShape(random.fork(), plan, options)
  const events = generateEvents(random.fork(), shape)
  // Mostly created after everything happened; at times in the middle, so that some events are from its future.
  const notAfterMs = shape.startMs + (random.chance(0.8) ? 2 * shape.spanMs : Math.floor(shape.spanMs / 2))
  return { seed, plan, events, notAfterMs, shape }
}

function drawShape(random: Random, plan: Plan, options: CaseOptions): EventShape {
  const { state } = plan
  const longestMs = plan.windows[plan.windows.length - 1]!.lengthMs
  // From a few steps to several times the longest window: so that rows compact and evict, and so that they do not.
  const spanMs = Math.floor(longestMs * random.pick([0.02, 0.3, 1, 3])) + 60_000
  return {
    count: options.count ?? random.between(1, 200),
    entities: random.pick([1, 2, 5, 20]),
    keys: random.pick(['zipf', 'uniform']),
    entity: state.entity.map((part) => part.type),
    times: random.pick(TIME_SHAPES),
    startMs: drawStart(random, longestMs),
    spanMs,
    disorderMs: random.pick([1_000, 60_000]),
    stepsMs: state.ladder.map((level) => level.stepMs),
    columns: drawColumns(random, state),
    nulls: random.pick([0, 0.1, 0.6]),
    ties: random.pick([0, 0.1, 0.4]),
    ...(state.id && {
      ids: { type: state.id.type, duplicates: random.pick([0, 0.1, 0.5]), nulls: random.pick([0, 0.1]) },
    }),
    keep: random.pick([1, 0.7]),
    hostile: options.clean ? 0 : random.pick([0, 0.05]),
    recordTimes: random.chance(0.3),
  }
}

/** The epoch itself, so that windows reach before it; a time of day that is no step's edge; and late in the range. */
function drawStart(random: Random, longestMs: number): number {
  const june2001 = Date.UTC(2001, 5, 17)
  return random.pick([
    0,
    Math.floor(longestMs / 2),
    june2001,
    june2001 + random.below(86_400_000),
    Date.UTC(2090, 0, 1),
  ])
}

/** The keys of the events that count, hottest first, and one that no event has. */
export function keysOf(applied: readonly NaiveEvent[], state: StatePlan): KeyPart[][] {
  const counts: { key: KeyPart[]; count: number }[] = []
  for (const event of applied) {
    const known = counts.find((each) => sameKey(each.key, event.key))
    if (known) known.count++
    else counts.push({ key: event.key as KeyPart[], count: 1 })
  }
  const unknown = state.entity.map(
    (part): KeyPart => (part.type === 'utf8' ? 'nobody' : part.type === 'int64' ? 424_242n : true),
  )
  const keys = counts.sort((a, b) => b.count - a.count).map((each) => each.key)
  return keys.some((key) => sameKey(key, unknown)) ? keys : [...keys, unknown]
}

/**
 * Instants worth asking at, none before `oldestMs`: right at an event and 1 ms beside it; where an event leaves a window,
 * by its own time and by the floored start, at every level, and 1 ms beside.
 */
export function instantsOf(
  random: Random,
  plan: Plan,
  events: readonly NaiveEvent[],
  oldestMs: number,
  count: number,
): number[] {
  const newestMs = events.reduce((newest, event) => Math.max(newest, timeOf(event)), oldestMs)
  const instants = new Set<number>()
  for (let i = 0; i < 20 * count && instants.size < count; i++) {
    const near = random.between(-1, 1)
    const timeMs =
      events.length > 0 && random.chance(0.7) ? timeOf(random.pick(events)) : random.between(oldestMs, newestMs + 1)
    const { stepMs } = random.pick(plan.state.ladder)
    const { lengthMs } = random.pick(plan.windows)
    const edgeMs = Math.floor(timeMs / stepMs) * stepMs + random.below(2) * stepMs
    const asOfMs = near + random.pick([timeMs, timeMs + lengthMs, edgeMs, edgeMs + lengthMs])
    if (asOfMs >= oldestMs && asOfMs >= 0) instants.add(asOfMs)
  }
  return [...instants]
}
