/**
 * Whole rows outside the two walks: brought to one stage and added up, so that what different lanes, shards, replays and
 * hosts stored can be compared byte for byte. Same events, same bytes.
 */
import type { StatePlan } from '../model/plan.ts'
import { type CoreExports, type CoreModule, trapError } from './module.ts'
import { stateProgram } from './program.ts'
import { rowError } from './row-error.ts'

export class RowNormaliser {
  readonly #exports: CoreExports

  constructor(core: CoreModule, state: StatePlan) {
    this.#exports = core.instantiate()
    const shares = { lanes: 1, shard: 0, shards: 1, completeSinceMs: 0, layoutVersion: 0 }
    const program = stateProgram(state, shares)
    const at = this.#exports.reserveInput(program.length, 0) >>> 0
    new Uint8Array(this.#exports.memory.buffer).set(program, at)
    this.#exports.configure(at)
  }

  /**
   * The rows of one entity (its lanes), compacted and evicted to one head frontier (watermark - head length) and added up;
   * without applied positions and versions. `frontierMs` must not lie before any row's own. Throws ROW_CORRUPT.
   */
  normalise(rows: readonly Uint8Array[], frontierMs: number): Uint8Array {
    const advanced = rows.map((row) =>
      this.#write([row], (core, [at]) => core.advanceStoredRow(at!, row.length, frontierMs), rows.length === 1),
    )
    return advanced.reduce((sum, row, i) =>
      this.#write(
        [sum, row],
        (core, [a, b]) => core.uniteStoredRows(a!, sum.length, b!, row.length),
        i === advanced.length - 1,
      ),
    )
  }

  #write(
    inputs: readonly Uint8Array[],
    call: (core: CoreExports, addresses: number[]) => number,
    anonymise: boolean,
  ): Uint8Array {
    const core = this.#exports
    try {
      const bytes = inputs.reduce((sum, each) => sum + each.length + 8, 0)
      const base = core.reserveInput(bytes, 0) >>> 0
      const memory = new Uint8Array(core.memory.buffer)
      const addresses: number[] = []
      let at = base
      for (const input of inputs) {
        memory.set(input, at)
        addresses.push(at)
        at = (at + input.length + 7) & ~7
      }
      core.beginRows()
      const error = call(core, addresses)
      if (error !== 0) throw rowError(error, 'stored row')
      if (anonymise) core.anonymise()
      const from = core.rowAddress() >>> 0
      return new Uint8Array(core.memory.buffer).slice(from, from + core.rowBytes())
    } catch (cause) {
      throw trapError(core, 'normalise a row', cause)
    }
  }
}
