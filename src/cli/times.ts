/** Event times of a batch, as its definition reads them, and whether another unit would make more sense. */
import type { Column, TimeUnit } from '../model/columns.ts'
import type { InputColumn, Plan } from '../model/plan.ts'
import { suspectUnit } from '../source/match.ts'
import { cellReader } from './cells.ts'
import type { EventFormat } from './event-files.ts'

/** Units in a millisecond. */
const PER_MS: Record<TimeUnit, number> = { ms: 1, us: 1000, ns: 1_000_000, s: 1 / 1000, day: 1 / 86_400_000 }

export interface SampledTimes {
  readonly firstMs: number
  readonly lastMs: number
  /** Set where the values make sense in another unit only. */
  readonly suspicion?: string
}

/** The input that holds a view's event time. */
export function timeInput({ state }: Plan): InputColumn {
  const { time } = state.expressions
  // The expression is a column's name, quoted where SQL needs it.
  const name = time.startsWith('"') ? time.slice(1, -1).replaceAll('""', '"') : time
  return state.inputs.find((input) => input.name === name)!
}

/** Of the first `length` rows; undefined where all of them are null. */
export function sampleTimes(
  column: Column,
  input: InputColumn,
  format: EventFormat,
  length: number,
): SampledTimes | undefined {
  // JSON lines come converted to milliseconds; what they said was in the declared unit.
  const isConverted = format === 'ndjson'
  const declared = input.unit ?? 'ms'
  const unit = isConverted ? 'ms' : (column.unit ?? declared)
  const read = cellReader(column)
  const instants: number[] = []
  for (let row = 0; row < length; row++) {
    const cell = read(row)
    if (cell !== null) instants.push(Number(cell) / PER_MS[unit])
  }
  if (instants.length === 0) return undefined
  // A column that states its unit needs no guess.
  const isStated = !isConverted && column.unit !== undefined
  const suspicion = isStated
    ? undefined
    : suspectUnit(
        instants.map((ms) => Math.round(ms * PER_MS[declared])),
        declared,
      )
  return { firstMs: Math.floor(least(instants)), lastMs: Math.floor(-least(instants.map((ms) => -ms))), suspicion }
}

function least(values: readonly number[]): number {
  return values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY)
}
