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
import type { NaiveEvent } from '../oracle/naive.ts'
import { naiveAccept } from '../oracle/naive.ts'
import { toBatches } from '../support/batches.ts'
import type { CaseOptions } from '../support/cases.ts'
import { drawCase } from '../support/cases.ts'
import { seededRandom } from '../support/random.ts'
import { viewOf } from '../support/views.ts'
import { checkKeys, compareAnswers, compareOutcomes, compareRows } from './compare.ts'
import { fail, type LawReport, type Run } from './run.ts'
import { drawScripts, plainScript, renumbered, type Step } from './scripts.ts'
import type { SubjectFactory } from './subject.ts'

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
