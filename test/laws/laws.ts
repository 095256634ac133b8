/**
 * The central law, as something any engine can be put to: the same events give the same bytes and the same answers.
 *
 *   shuffle    arrival in any order                                     (plans that accept everything)
 *   lanes      entities spread over 1..8 lanes
 *   logs       events spread over several input logs, entities too      (plans that accept everything)
 *   batches    any batch sizes, rows delivered again at their positions
 *   flushes    flushed and compacted early, late, often
 *   crashes    killed anywhere, a flush included, and resumed from what the store holds
 *   backfill   all as history, or a part of it with the rest behind it as a stream (plans that accept everything)
 *   covers     ranges of time told by history, all else by a stream; both hold the other's times too, as they are or wrong, and
 *              nothing shows of it (plans that accept everything); as the oracle has it (all others)
 *
 * Each is a script of plain steps, run from an empty store. Its rows, normalised to one watermark, must be the bytes that
 * the plainest script gives; its answers those of the oracle, at instants around every edge; its outcomes must add up.
 * Everything follows from the seed, which every failure names.
 */
import { compileView } from '../../src/define/compile.ts'
import { defineView } from '../../src/define/dsl.ts'
import type { ColumnBatch } from '../../src/model/columns.ts'
import { joinRanges, type TimeRange } from '../../src/model/covers.ts'
import type { KeyPart } from '../../src/model/key.ts'
import { encodeKey } from '../../src/model/key.ts'
import type { FeatureStatus, FeatureValue, Plan } from '../../src/model/plan.ts'
import { TIME_LIMIT_MS } from '../../src/model/time.ts'
import type { Acceptance, NaiveEvent, Verdict } from '../oracle/naive.ts'
import { countVerdicts, eventsOf, naiveAccept, naiveFeatures, timeOf } from '../oracle/naive.ts'
import { toBatches } from '../support/batches.ts'
import type { CaseOptions } from '../support/cases.ts'
import { drawCase, instantsOf, keysOf } from '../support/cases.ts'
import type { Random } from '../support/random.ts'
import { seededRandom } from '../support/random.ts'
import { viewOf } from '../support/views.ts'

// ---- what is put to the law -----------------------------------------------------------------------------------------

/** An engine over an empty store. Calls come one at a time. */
export interface Subject {
  /** Rows of one log, in log order; rows at positions already taken are redeliveries. */
  push(log: string, batch: ColumnBatch): Promise<void>
  /** After it, everything pushed is in the store. */
  flush(): Promise<void>
  /** Does now what may be put off: watermark, folding of the head, compaction, eviction. */
  advance(): Promise<void>
  /** Reads the whole plan of files into history lanes, before anything is pushed. */
  backfill(batches: readonly ColumnBatch[]): Promise<void>
  /**
   * Dies without warning and starts again on the same store. With `storeCall`, dies at that call to the store of a flush
   * begun now (counted from 0; a shorter flush ends well first). Returns for each log the first position that it must be
   * given again; a log not named goes on where it was.
   */
  crash(storeCall?: number): Promise<ReadonlyMap<string, number>>
  /** What a request answers, in the order of the plan's features. */
  features(key: readonly KeyPart[], asOfMs: number): Promise<readonly Answer[]>
  /**
   * Every stored row by the hex of its canonical key: merged over lanes, without run headers, compacted and evicted as of
   * the watermark. Rows that then hold neither a tile nor a raw event are left out.
   */
  rows(watermarkMs: number): Promise<ReadonlyMap<string, Uint8Array>>
  /** Outcomes of all logs (and the backfill) since the store was empty, where the engine counts them. */
  outcomes?(): Promise<Record<Verdict, number>>
  close(): Promise<void>
}

export interface Answer {
  readonly name: string
  readonly value: FeatureValue
  readonly status: FeatureStatus
}

export interface SubjectOptions {
  readonly plan: Plan
  /** Input logs that will be pushed to, by name. */
  readonly logs: readonly string[]
  /** Lanes that each log is spread over. */
  readonly lanes: number
  /** Creation instant of each log. */
  readonly notAfterMs: number
  /** What the wall clock is to show: behind every event. */
  readonly nowMs: number
  /** Times that history is authoritative for. */
  readonly covers?: readonly TimeRange[]
}

export type SubjectFactory = (options: SubjectOptions) => Promise<Subject>

// ---- scripts --------------------------------------------------------------------------------------------------------

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
function renumbered(random: Random, events: readonly NaiveEvent[]): NaiveEvent[] {
  const holes = random.chance(0.3)
  let position = holes ? random.below(1_000) : 0
  return events.map((event) => {
    const moved = { ...event, position }
    position += holes ? random.between(1, 3) : 1
    return moved
  })
}

// ---- running a script -----------------------------------------------------------------------------------------------

interface Run {
  readonly script: Script
  readonly subject: Subject
  readonly plan: Plan
  readonly notAfterMs: number
  readonly random: Random
  /** Per log: the next event to push, and the first that was never pushed. */
  readonly next: number[]
  readonly reached: number[]
  readonly report: LawReport
}

export interface LawReport {
  readonly seed: number
  scripts: number
  rowsCompared: number
  valuesCompared: number
}

/** Runs the steps, pushes what they left, flushes. */
async function runScript(run: Run): Promise<void> {
  const { script, subject } = run
  if (script.history.length > 0) await subject.backfill(batchesOf(run, script.history, [run.random.between(1, 100)]))
  for (const step of script.steps) await runStep(run, step)
  await pushAll(run)
  await subject.flush()
}

async function runStep(run: Run, step: Step): Promise<void> {
  switch (step.kind) {
    case 'push': {
      const from = run.next[step.log]!
      return pushRows(run, step.log, from, Math.min(from + step.rows, run.script.logs[step.log]!.length))
    }
    case 'redeliver':
      return pushRows(run, step.log, Math.max(0, run.next[step.log]! - step.rows), run.next[step.log]!)
    case 'flush':
      return run.subject.flush()
    case 'advance':
      return run.subject.advance()
    case 'crash':
      return crash(run, step.storeCall)
    case 'ask':
      // Rows may be ahead of a replay: what an answer holds is only fixed once the log is where it was.
      for (const log of run.script.logs.keys()) await pushRows(run, log, run.next[log]!, run.reached[log]!)
      await run.subject.flush()
      return compareAnswers(run, 2)
  }
}

async function crash(run: Run, storeCall: number | undefined): Promise<void> {
  const resume = await run.subject.crash(storeCall)
  for (const [log, events] of run.script.logs.entries()) {
    const position = resume.get(logName(log))
    if (position === undefined) continue
    const index = events.findIndex((event) => event.position >= position)
    const next = index < 0 ? events.length : index
    if (next > run.next[log]!) {
      fail(run, `a crash resumes log ${log} at position ${position}, which was never pushed: events are lost`)
    }
    run.next[log] = next
  }
}

async function pushAll(run: Run): Promise<void> {
  for (const [log, events] of run.script.logs.entries()) await pushRows(run, log, run.next[log]!, events.length)
}

async function pushRows(run: Run, log: number, from: number, to: number): Promise<void> {
  if (to <= from) return
  for (const batch of batchesOf(run, run.script.logs[log]!.slice(from, to))) await run.subject.push(logName(log), batch)
  run.next[log] = to
  run.reached[log] = Math.max(run.reached[log]!, to)
}

function batchesOf(run: Run, events: readonly NaiveEvent[], sizes?: readonly number[]): ColumnBatch[] {
  return toBatches(events, run.plan.state, run.random, { sizes })
}

function logName(log: number): string {
  return `log${log}`
}

// ---- comparisons ----------------------------------------------------------------------------------------------------

/** Verdicts of everything pushed so far, by log; history first. */
function acceptedSoFar(run: Run): Acceptance[] {
  const { covers, history, logs } = run.script
  const parts = [history, ...logs.map((events, log) => events.slice(0, run.reached[log]))]
  return parts.map((events, i) =>
    naiveAccept(events, run.plan.state, { notAfterMs: run.notAfterMs, ...(covers && { covers, isHistory: i === 0 }) }),
  )
}

/** Asks for some entities at some instants, and compares every feature with the oracle. */
async function compareAnswers(run: Run, count: number): Promise<void> {
  const { plan, random } = run
  const accepted = acceptedSoFar(run)
  const applied = accepted.flatMap((each) => each.applied)
  const keys = keysOf(applied, plan.state)
  // No head may be folded further than this, so from here on every as-of must be answered.
  const clockMs = Math.max(0, ...accepted.map((each) => each.lateClockMs))
  const headMs = plan.state.head.lengthMs
  const answerableMs = Math.max(0, clockMs - plan.state.disorderMs - headMs)
  for (const key of [random.pick(keys), random.pick(keys), keys[keys.length - 1]!]) {
    for (const asOfMs of instantsOf(random, plan, eventsOf(applied, key), answerableMs, count)) {
      const answers = await run.subject.features(key, asOfMs)
      compareAnswer(run, applied, key, asOfMs, answers)
    }
    // Earlier, a feature may be refused but not be wrong.
    const earlierMs = Math.max(0, answerableMs - random.below(2 * headMs + 120_000))
    const answers = await run.subject.features(key, earlierMs)
    compareAnswer(run, applied, key, earlierMs, answers, true)
  }
}

function compareAnswer(
  run: Run,
  applied: readonly NaiveEvent[],
  key: readonly KeyPart[],
  asOfMs: number,
  answers: readonly Answer[],
  mayRefuse = false,
): void {
  const expected = naiveFeatures(applied, run.plan, key, asOfMs)
  const where = `key ${show(key)} as of ${asOfMs}`
  if (answers.length !== expected.length) fail(run, `${where}: ${answers.length} answers, expected ${expected.length}`)
  for (const [i, { name, value, status }] of expected.entries()) {
    const answer = answers[i]!
    if (mayRefuse && answer.status === 'too_old') continue
    const isSame =
      answer.name === name && Object.is(answer.value, value) && statusFits(run, applied, key, status, answer.status)
    if (!isSame) {
      const got = `${answer.name} = ${show(answer.value)} (${answer.status})`
      fail(run, `${where}: got ${got}, expected ${name} = ${show(value)} (${status})`)
    }
    run.report.valuesCompared++
  }
}

/**
 * Statuses are equal, but for an entity whose events were all too old to be kept: whether its row was ever written depends
 * on when they came, so it may be unknown.
 */
function statusFits(
  run: Run,
  applied: readonly NaiveEvent[],
  key: readonly KeyPart[],
  expected: FeatureStatus,
  got: FeatureStatus,
): boolean {
  if (got === expected) return true
  if (expected !== 'empty' || got !== 'unknown_entity') return false
  const { ladder, head, disorderMs } = run.plan.state
  const newestMs = applied.reduce((newest, event) => Math.max(newest, timeOf(event)), 0)
  const coarsestMs = ladder[ladder.length - 1]!.stepMs
  const keptMs = Math.max(...ladder.map((level) => level.keepMs))
  const goneMs = newestMs - disorderMs - head.lengthMs - keptMs - coarsestMs
  return eventsOf(applied, key).every((event) => timeOf(event) < goneMs)
}

function compareRows(run: Run, rows: ReadonlyMap<string, Uint8Array>, plain: ReadonlyMap<string, Uint8Array>): void {
  for (const [key, bytes] of plain) {
    const other = rows.get(key)
    if (!other) fail(run, `row ${key} is missing`)
    const at = firstDifference(bytes, other)
    if (at >= 0) {
      fail(run, `row ${key} differs at byte ${at}: got ${hexAround(other, at)}, expected ${hexAround(bytes, at)}`)
    }
    run.report.rowsCompared++
  }
  for (const key of rows.keys()) {
    if (!plain.has(key)) fail(run, `row ${key} should not be there`)
  }
}

function firstDifference(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    if (a[i] !== b[i]) return i
  }
  return -1
}

function hexAround(bytes: Uint8Array, at: number): string {
  const from = Math.max(0, at - 4)
  return `${Buffer.from(bytes.subarray(from, at + 12)).toString('hex')} (from byte ${from} of ${bytes.length})`
}

/** Every record has one outcome, however often it was replayed. */
async function compareOutcomes(run: Run): Promise<void> {
  const outcomes = await run.subject.outcomes?.()
  if (!outcomes) return
  const counts = acceptedSoFar(run).map(countVerdicts)
  for (const verdict of Object.keys(counts[0]!) as Verdict[]) {
    const expected = counts.reduce((sum, each) => sum + each[verdict], 0)
    if (outcomes[verdict] !== expected) fail(run, `${outcomes[verdict]} records ${verdict}, expected ${expected}`)
  }
}

function fail(run: Run, what: string): never {
  const { law, lanes, logs, history, steps } = run.script
  const sizes = `${lanes} lanes, logs of ${logs.map((log) => log.length).join(' + ')} events, history of ${history.length}`
  throw new Error(
    `law "${law}" is broken with seed ${run.report.seed}: ${what}\n  ${sizes}\n  ${show(steps)}\n  ${show(run.plan.state)}`,
  )
}

function show(value: unknown): string {
  return (
    JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? `${each}n` : Object.is(each, -0) ? '-0' : each)) ??
    'nothing'
  )
}

// ---- the law --------------------------------------------------------------------------------------------------------

/**
 * Draws a case from the seed and puts the subject to every law that holds for it. With `slackMs` the plan is said as a
 * definition and compiled. Throws naming law, seed and script.
 */
export async function checkLaws(
  makeSubject: SubjectFactory,
  seed: number,
  options: CaseOptions = {},
): Promise<LawReport> {
  const random = seededRandom(seed)
  const orderFree = options.orderFree ?? random.chance(0.5)
  const drawn = drawCase(random.bits(), { ...options, orderFree })
  const { notAfterMs, shape } = drawn
  const { slackMs } = options
  const plan = slackMs === undefined ? drawn.plan : await compileView(defineView(viewOf(drawn.plan, slackMs)))
  const events = renumbered(random, drawn.events)
  const report: LawReport = { seed, scripts: 0, rowsCompared: 0, valuesCompared: 0 }
  const whole = naiveAccept(events, plan.state, { notAfterMs })
  const watermarkMs = Math.max(0, whole.lateClockMs - plan.state.disorderMs)
  const nowMs = Math.max(notAfterMs, shape.startMs + 100 * shape.spanMs)

  const plain = plainScript(events)
  let expected: ReadonlyMap<string, Uint8Array> | undefined
  for (const script of [plain, ...drawScripts(random, events, orderFree)]) {
    const names = script.logs.map((_, log) => logName(log))
    const subject = await makeSubject({
      plan,
      logs: names,
      lanes: script.lanes,
      notAfterMs,
      nowMs,
      ...(script.covers && { covers: script.covers }),
    })
    const nothing = script.logs.map(() => 0)
    const run: Run = {
      script,
      subject,
      plan,
      notAfterMs,
      random: random.fork(),
      next: [...nothing],
      reached: [...nothing],
      report,
    }
    try {
      await runScript(run)
      await compareAnswers(run, 6)
      await compareOutcomes(run)
      const rows = await subject.rows(watermarkMs)
      expected ??= checkKeys(run, rows, whole.applied)
      if (!script.isOther) compareRows(run, rows, expected)
      report.scripts++
    } finally {
      await subject.close()
    }
  }
  return report
}

/** Rows are named by canonical keys, and only of entities that have events. */
function checkKeys(
  run: Run,
  rows: ReadonlyMap<string, Uint8Array>,
  applied: readonly NaiveEvent[],
): ReadonlyMap<string, Uint8Array> {
  const known = new Set(
    applied.map((event) => Buffer.from(encodeKey(run.plan.state.entity, event.key)).toString('hex')),
  )
  for (const key of rows.keys()) {
    if (!known.has(key)) fail(run, `row ${key} belongs to no entity that has events`)
  }
  return rows
}
