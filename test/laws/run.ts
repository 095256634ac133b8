/** One script on its way through one subject, and how it ends where a law is broken. */
import type { Plan } from '../../src/model/plan.ts'
import type { Random } from '../support/random.ts'
import type { Script } from './scripts.ts'
import type { Subject } from './subject.ts'

export interface Run {
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

export function fail(run: Run, what: string): never {
  const { law, lanes, logs, history, steps } = run.script
  const sizes = `${lanes} lanes, logs of ${logs.map((log) => log.length).join(' + ')} events, history of ${history.length}`
  throw new Error(
    `law "${law}" is broken with seed ${run.report.seed}: ${what}\n  ${sizes}\n  ${show(steps)}\n  ${show(run.plan.state)}`,
  )
}

export function show(value: unknown): string {
  return (
    JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? `${each}n` : Object.is(each, -0) ? '-0' : each)) ??
    'nothing'
  )
}
