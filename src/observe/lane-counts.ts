/**
 * What lanes' totals add to a process' counters. A lane that restarts from its checkpoint counts again what it had counted
 * before: verdicts are the same each time, so whatever lies above the highest total told is new, and nothing else is.
 */
import type { Counters } from '../model/counters.ts'

export class LaneCounts {
  readonly #highest = new Map<string, Record<keyof Counters, number>>()

  /** How much each total is above the highest told of the lane; undefined for its first. */
  added(lane: string, totals: Counters): Record<keyof Counters, number> | undefined {
    const highest = this.#highest.get(lane)
    if (highest === undefined) {
      this.#highest.set(lane, { ...totals })
      return undefined
    }
    const added = { ...totals }
    for (const name of Object.keys(totals) as (keyof Counters)[]) {
      added[name] = Math.max(0, totals[name] - highest[name])
      highest[name] += added[name]
    }
    return added
  }

  forget(lane: string): void {
    this.#highest.delete(lane)
  }
}
