/** What a subject answers, holds and counts against what the oracle says and the plainest script gives. */
import type { KeyPart } from '../../src/model/key.ts'
import { encodeKey } from '../../src/model/key.ts'
import type { FeatureStatus } from '../../src/model/plan.ts'
import type { Acceptance, NaiveEvent, Verdict } from '../oracle/naive.ts'
import { countVerdicts, eventsOf, naiveAccept, naiveFeatures, timeOf } from '../oracle/naive.ts'
import { instantsOf, keysOf } from '../support/cases.ts'
import { fail, type Run, show } from './run.ts'
import type { Answer } from './subject.ts'

/** Verdicts of everything pushed so far, by log; history first. */
function acceptedSoFar(run: Run): Acceptance[] {
  const { covers, history, logs } = run.script
  const parts = [history, ...logs.map((events, log) => events.slice(0, run.reached[log]))]
  return parts.map((events, i) =>
    naiveAccept(events, run.plan.state, { notAfterMs: run.notAfterMs, ...(covers && { covers, isHistory: i === 0 }) }),
  )
}

/** Asks for some entities at some instants, and compares every feature with the oracle. */
export async function compareAnswers(run: Run, count: number): Promise<void> {
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

export function compareRows(
  run: Run,
  rows: ReadonlyMap<string, Uint8Array>,
  plain: ReadonlyMap<string, Uint8Array>,
): void {
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
export async function compareOutcomes(run: Run): Promise<void> {
  const outcomes = await run.subject.outcomes?.()
  if (!outcomes) return
  const counts = acceptedSoFar(run).map(countVerdicts)
  for (const verdict of Object.keys(counts[0]!) as Verdict[]) {
    const expected = counts.reduce((sum, each) => sum + each[verdict], 0)
    if (outcomes[verdict] !== expected) fail(run, `${outcomes[verdict]} records ${verdict}, expected ${expected}`)
  }
}

/** Rows are named by canonical keys, and only of entities that have events. */
export function checkKeys(
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
