/**
 * Random plans: every mix of columns, operations, windows, ladders, heads and policies, with a column program that loads
 * and hardly more. With `slackMs` they are plans that a definition can say (views.ts says it); without, they also reach
 * corners that no definition would.
 */
import {
  EXPR_CAST,
  EXPR_LOAD,
  INSTRUCTION_BYTES,
  PROGRAM_HEADER_BYTES,
  PROGRAM_INPUTS_AT,
  PROGRAM_INSTRUCTIONS_AT,
  PROGRAM_VERSION,
  PROGRAM_VERSION_AT,
  TYPE_BOOL,
  TYPE_DEC,
  TYPE_F64,
  TYPE_I64,
  TYPE_UTF8,
  UNIT_MS,
} from '../../assembly/layout.ts'
import { hashDefinition, hashState } from '../../src/define/hash.ts'
import type { PhysicalType } from '../../src/model/columns.ts'
import type {
  InputColumn,
  LevelPlan,
  PartialPlan,
  Plan,
  ProjectedColumn,
  StatePlan,
  ValueType,
  WindowPlan,
} from '../../src/model/plan.ts'
import { drawFeatures, drawProjections } from './aggregations.ts'
import { ID_INPUT, KEEP_INPUT, TIME_INPUT } from './batches.ts'
import type { Random } from './random.ts'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
const YEAR = 365 * DAY

/** What a caller fixes; everything else is drawn. */
export interface PlanOptions {
  readonly head?: 'raw' | 'step'
  /**
   * Only plans whose answers do not depend on the order of the log: policy accept, no dedupe, nothing near retention. Left
   * out, all policies come up.
   */
  readonly orderFree?: boolean
  readonly ladderMs?: readonly number[]
  /** Columns at most. */
  readonly columns?: number
  /** Given: a plan that a definition with this slack would compile to, with tail steps by the rule. */
  readonly slackMs?: number
}

export function drawPlan(random: Random, options: PlanOptions = {}): Plan {
  const head = options.head ?? (random.chance(0.75) ? 'raw' : 'step')
  const ladderMs = options.ladderMs ?? random.pick(LADDERS_MS[head])
  const windows = drawWindows(random, tileSteps(head, ladderMs), options.slackMs !== undefined)
  const columns = drawProjections(random, options.columns ?? 4)
  const { partials, features } = drawFeatures(random, columns, windows)
  const slackMs = options.slackMs ?? random.pick([0, 0, MINUTE, HOUR])
  const state = drawState(random, options, { head, ladderMs, windows, columns, partials, slackMs })
  const plan = { view: 'drawn', state, features, windows }
  const stateHash = hashState(state)
  return { ...plan, stateHash, definitionHash: hashDefinition(plan, stateHash) }
}

const LADDERS_MS: Record<'raw' | 'step', readonly (readonly number[])[]> = {
  raw: [
    [5 * MINUTE, HOUR, DAY],
    [MINUTE, HOUR],
    [HOUR],
    [10 * SECOND, MINUTE, 10 * MINUTE],
    [5 * MINUTE, 15 * MINUTE, HOUR, DAY],
    // Steps that are no calendar's: tiles count from the epoch all the same.
    [7 * SECOND, 70 * SECOND, 700 * SECOND],
    [SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND, 16 * SECOND],
  ],
  // The first is the head's own step.
  step: [
    [SECOND, MINUTE, HOUR],
    [10 * SECOND, 5 * MINUTE, HOUR, DAY],
    [SECOND, 5 * SECOND],
    [MINUTE, HOUR],
  ],
}

/** The steps that windows go by: a head's own sub-tiles are kept for the head alone. */
function tileSteps(head: 'raw' | 'step', ladderMs: readonly number[]): readonly number[] {
  return head === 'raw' ? ladderMs : ladderMs.slice(1)
}

/** One to four window lengths; the start goes by a step that divides the window and is at most a twelfth of it. */
function drawWindows(random: Random, stepsMs: readonly number[], byRule: boolean): WindowPlan[] {
  const finestMs = stepsMs[0]!
  const coarsestMs = stepsMs[stepsMs.length - 1]!
  const candidates = [
    12 * finestMs,
    13 * finestMs,
    ...stepsMs.map((stepMs) => 24 * stepMs),
    12 * coarsestMs + finestMs,
    Math.max(7 * coarsestMs, 12 * finestMs),
  ]
  const lengths = new Set(Array.from({ length: random.between(1, 4) }, () => random.pick(candidates)))
  return [...lengths]
    .sort((a, b) => a - b)
    .map((lengthMs) => {
      const allowed = stepsMs.filter((stepMs) => stepMs * 12 <= lengthMs && lengthMs % stepMs === 0)
      return {
        lengthMs,
        tailStepMs: byRule || random.chance(0.7) ? allowed[allowed.length - 1]! : random.pick(allowed),
      }
    })
}

interface Shape {
  readonly head: 'raw' | 'step'
  readonly ladderMs: readonly number[]
  readonly windows: readonly WindowPlan[]
  readonly columns: readonly ProjectedColumn[]
  readonly partials: readonly PartialPlan[]
  readonly slackMs: number
}

function drawState(random: Random, options: PlanOptions, shape: Shape): StatePlan {
  const orderFree = options.orderFree === true
  const entity = drawEntity(random)
  const hasFilter = random.chance(0.4)
  const dedupe = !orderFree && random.chance(0.5)
  const idType = dedupe ? random.pick(['utf8', 'int64'] as const) : undefined
  const coarsestMs = shape.ladderMs[shape.ladderMs.length - 1]!
  const longestMs = shape.windows[shape.windows.length - 1]!.lengthMs
  const retentionMs = orderFree ? 9 * YEAR : longestMs + random.pick([coarsestMs, 3 * coarsestMs, 10 * longestMs])
  const headMs = random.pick(HEADS_MS.filter((each) => shape.head === 'raw' || each % shape.ladderMs[0]! === 0))

  const inputs: InputColumn[] = [
    { name: TIME_INPUT, type: 'timestamp', unit: 'ms', accepts: INTEGERS },
    ...entity.map(({ name, type }): InputColumn => ({ name, type, accepts: ACCEPTS[type] })),
    ...shape.columns.map(({ name, type, scale }): InputColumn => ({ name, type, scale, accepts: ACCEPTS[type] })),
  ]
  if (hasFilter) inputs.push({ name: KEEP_INPUT, type: 'bool', accepts: ACCEPTS.bool })
  if (idType) inputs.push({ name: ID_INPUT, type: idType, accepts: ACCEPTS[idType] })
  inputs.sort((a, b) => (a.name < b.name ? -1 : 1))
  const registerOf = (name: string): number => inputs.findIndex((input) => input.name === name)
  const bools = shape.columns.filter(({ type }) => type === 'bool').map(({ name }) => registerOf(name))

  return {
    semantics: 1,
    source: 'events',
    inputs,
    program: columnProgram(inputs, bools),
    registers: {
      time: registerOf(TIME_INPUT),
      entity: entity.map(({ name }) => registerOf(name)),
      filter: registerOf(KEEP_INPUT),
      columns: shape.columns.map(({ name, type }) =>
        type === 'bool' ? inputs.length + bools.indexOf(registerOf(name)) : registerOf(name),
      ),
      id: registerOf(ID_INPUT),
    },
    expressions: { time: TIME_INPUT, ...(hasFilter && { filter: KEEP_INPUT }), ...(idType && { id: ID_INPUT }) },
    entity,
    columns: shape.columns,
    ...(idType && { id: { type: idType } }),
    partials: shape.partials,
    ladder: keepTimes(shape, headMs),
    head: { kind: shape.head, lengthMs: headMs },
    edges: 'aligned',
    retentionMs,
    lateness: {
      allowedMs: Math.min(retentionMs, random.pick([0, SECOND, shape.ladderMs[0]!, coarsestMs])),
      policy: orderFree ? 'accept' : random.pick(['accept', 'side_output', 'drop']),
    },
    maxFutureMs: orderFree ? 9 * YEAR : random.pick([0, MINUTE, DAY, 9 * YEAR]),
    ...(dedupe && { dedupe: { withinMs: Math.min(retentionMs, random.pick([1, MINUTE, HOUR, longestMs])) } }),
    disorderMs: random.pick([0, SECOND, MINUTE, HOUR]),
  }
}

const HEADS_MS = [SECOND, 10 * SECOND, MINUTE, 5 * MINUTE]

function drawEntity(random: Random): StatePlan['entity'] {
  const first = random.chance(0.6) ? 1 : random.between(2, 3)
  return Array.from({ length: first }, (_, i) => ({
    name: `key${i}`,
    type: i === 0 && random.chance(0.7) ? 'utf8' : random.pick(['utf8', 'int64', 'bool'] as const),
  }))
}

/**
 * How long each level is kept, in whole tiles: as long as a window's start may fall on its tiles, or cut its parent's for the
 * longer windows; until its parent is built; and the coarsest through the longest window; sub-tiles for the head and one tile.
 * No more than that at times, so that a level that goes too early shows.
 */
function keepTimes(shape: Shape, headMs: number): LevelPlan[] {
  const longestMs = shape.windows[shape.windows.length - 1]!.lengthMs
  return shape.ladderMs.map((stepMs, level) => {
    const parentMs = shape.ladderMs[level + 1]
    const starts = shape.windows
      .filter(({ tailStepMs }) => tailStepMs === stepMs)
      .map(({ lengthMs }) => lengthMs + stepMs)
    const cuts = shape.windows
      .filter(({ lengthMs, tailStepMs }) => parentMs !== undefined && tailStepMs <= stepMs && lengthMs < longestMs)
      .map(({ lengthMs, tailStepMs }) => lengthMs + tailStepMs + parentMs!)
    const isHead = shape.head === 'step' && level === 0
    const needsMs = isHead ? [headMs + parentMs!] : [...starts, ...cuts, parentMs ?? longestMs + stepMs]
    return { stepMs, keepMs: Math.ceil((Math.max(...needsMs) + (isHead ? 0 : shape.slackMs)) / stepMs) * stepMs }
  })
}

const INTEGERS: readonly PhysicalType[] = ['int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64']
const ACCEPTS: Record<ValueType, readonly PhysicalType[]> = {
  float64: ['float64', 'float32', 'int8', 'int16', 'int32', 'uint8', 'uint16', 'uint32'],
  int64: INTEGERS,
  decimal: ['decimal128'],
  bool: ['bool'],
  utf8: ['utf8'],
}

const LOAD_TYPES: Record<InputColumn['type'], number> = {
  timestamp: TYPE_I64,
  float64: TYPE_F64,
  int64: TYPE_I64,
  decimal: TYPE_DEC,
  bool: TYPE_BOOL,
  utf8: TYPE_UTF8,
}

/**
 * Loads input i into register i; then, for each register in `bools`, one more that holds it as the int64 0 or 1, which is
 * what partials fold.
 */
export function columnProgram(inputs: readonly InputColumn[], bools: readonly number[] = []): string {
  const loads = inputs.map(({ type }, i) => [EXPR_LOAD, i, LOAD_TYPES[type], type === 'timestamp' ? UNIT_MS : 0, 0])
  const instructions = [...loads, ...bools.map((register) => [EXPR_CAST, register, TYPE_I64, 0, 0])]
  const bytes = new Uint8Array(PROGRAM_HEADER_BYTES + instructions.length * INSTRUCTION_BYTES)
  const words = new DataView(bytes.buffer)
  words.setUint32(PROGRAM_VERSION_AT, PROGRAM_VERSION, true)
  words.setUint32(PROGRAM_INSTRUCTIONS_AT, instructions.length, true)
  words.setUint32(PROGRAM_INPUTS_AT, inputs.length, true)
  for (const [i, instruction] of instructions.entries()) {
    for (const [word, value] of instruction.entries()) {
      words.setInt32(PROGRAM_HEADER_BYTES + i * INSTRUCTION_BYTES + 4 * word, value, true)
    }
  }
  return Buffer.from(bytes).toString('base64')
}
