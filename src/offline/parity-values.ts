/** Feature values of stored rows against those of the same rows out of the log, as of one instant. */

import { Merger } from '../engine/merger.ts'
import { loadCore } from '../engine/module.ts'
import type { FeatureValue, Plan } from '../model/plan.ts'

export interface ValueDifference {
  readonly feature: string
  readonly stored: FeatureValue
  readonly recomputed: FeatureValue
}

export class ValueComparer {
  readonly #plan: Plan
  readonly #merger: Merger

  constructor(plan: Plan) {
    this.#plan = plan
    this.#merger = Merger.create(loadCore(), plan)
  }

  /** Rows of one entity, one of each lane. Throws ROW_CORRUPT through the merge's statuses: a row that can't be read has no value. */
  compare(stored: readonly Uint8Array[], recomputed: readonly Uint8Array[], asOfMs: number): ValueDifference[] {
    const merger = this.#merger
    merger.begin(2, asOfMs)
    for (const row of stored) merger.addRow(0, row)
    for (const row of recomputed) merger.addRow(1, row)
    merger.run()
    const found: ValueDifference[] = []
    for (const [i, { name }] of this.#plan.features.entries()) {
      // Which instants a row can still answer depends on when it was flushed, and nothing else of it does.
      if (merger.status(0, i) === 'too_old' || merger.status(1, i) === 'too_old') continue
      const [was, is] = [merger.value(0, i), merger.value(1, i)]
      if (!Object.is(was, is)) found.push({ feature: name, stored: was, recomputed: is })
    }
    return found
  }
}
