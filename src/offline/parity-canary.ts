/**
 * Parity as a canary: the same comparison again and again, another share of the entities each time, until it is told to stop.
 *
 *   turn n: share n of the entities -> compared, counted, told -> a rest until the next one is due
 *
 * A turn that could not be carried out (a store that does not answer, a mirror that is not there) is counted and told, and the
 * next one comes when it is due: a canary that falls silent is noticed by the age of its last turn.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { TilefoldError } from '../model/errors.ts'
import type { ParityMetrics } from '../observe/port.ts'

export interface CanaryCounts {
  readonly compared: number
  readonly mismatched: number
  readonly missing: number
  readonly extra: number
}

export interface CanaryTurn extends CanaryCounts {
  readonly turn: number
  readonly seconds: number
}

export interface CanaryOptions {
  readonly view: string
  readonly everyMs: number
  readonly clock: () => number
  /** Takes the share of the turn's number: turns count on, so that in time every share is taken. */
  readonly compare: (turn: number) => Promise<CanaryCounts>
  readonly metrics: ParityMetrics
  readonly onTurn: (turn: CanaryTurn) => void
  readonly onFailure: (turn: number, error: TilefoldError) => void
  /** Ends it; the turn under way does not count. */
  readonly signal: AbortSignal
}

export interface CanaryReport {
  readonly turns: number
  readonly failures: number
  /** Turns that found a difference. */
  readonly different: number
}

/** Resolves when the signal comes. Throws only what is no error of ours. */
export async function runCanary(options: CanaryOptions): Promise<CanaryReport> {
  const { view, everyMs, clock, compare, metrics, onTurn, onFailure, signal } = options
  const report = { turns: 0, failures: 0, different: 0 }
  metrics.compared(view, { compared: 0, mismatched: 0, missing: 0, extra: 0 })
  // By the clock, so that one that is started again and again does not look at the first share alone.
  for (let turn = Math.floor(clock() / everyMs); !signal.aborted; turn++) {
    const startMs = clock()
    try {
      const { compared, mismatched, missing, extra } = await compare(turn)
      if (signal.aborted) break
      const seconds = (clock() - startMs) / 1000
      report.turns++
      if (mismatched + missing + extra > 0) report.different++
      metrics.compared(view, { compared, mismatched, missing, extra })
      metrics.turnDone(view, clock())
      onTurn({ turn, compared, mismatched, missing, extra, seconds })
    } catch (error) {
      if (signal.aborted) break
      if (!(error instanceof TilefoldError)) throw error
      report.failures++
      metrics.turnFailed(view)
      onFailure(turn, error)
    }
    await delay(Math.max(0, startMs + everyMs - clock()), undefined, { signal }).catch(() => {})
  }
  return report
}
