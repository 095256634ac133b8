/** What a claim file exports: what it claims, and how to measure it. */
import type { Contest, Row, Turns } from './contest.ts'
import { runContest } from './contest.ts'

export interface Settings {
  /** Small inputs and few turns: does everything run and agree? The ratios mean little. */
  readonly short: boolean
  readonly seed: number
  readonly turns: Turns
  /** Says what is going on, between the tables. */
  readonly note: (line: string) => void
  /** Takes a contest's rows as soon as they are known. */
  readonly emit: (rows: readonly Row[]) => void
}

export interface Claim {
  /** The claim's name on the command line. */
  readonly name: string
  readonly about: string
  readonly run: (settings: Settings) => Promise<void>
}

/** Runs the contest and hands its rows on. */
export async function hold(contest: Contest, settings: Settings): Promise<void> {
  settings.emit(await runContest(contest, settings.turns))
}

export function atMost(limit: number): { kind: 'cost'; limit: number } {
  return { kind: 'cost', limit }
}

export function atLeast(limit: number): { kind: 'gain'; limit: number } {
  return { kind: 'gain', limit }
}
