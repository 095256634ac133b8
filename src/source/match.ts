/** Does a source have the columns that a definition needs, and in a form that the core reads? */
import { CELL_BYTES, type Column, type PhysicalType, type TimeUnit } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import { didYouMean } from '../model/nearest.ts'
import type { InputColumn } from '../model/plan.ts'

/** A column as a source describes it. */
export interface SourceField {
  readonly name: string
  /** The source's own name of the type, for messages: `timestamp(us)`, `struct`. */
  readonly sourceType: string
  /** How its cells lie; `null` for a column that holds nothing else, undefined where no `Column` can hold it. */
  readonly physical: PhysicalType | 'null' | undefined
  /** Set where the source says that the column is an instant. */
  readonly unit?: TimeUnit
  /** Digits behind the point; decimals only. */
  readonly scale?: number
}

/**
 * The source's field for each input, in the order of `inputs`. A column of nulls alone fits every input.
 * Throws COLUMN_MISSING and COLUMN_TYPE, with `where` (a file, a batch) in the message.
 */
export function matchInputs(
  inputs: readonly InputColumn[],
  fields: readonly SourceField[],
  where: string,
): readonly SourceField[] {
  return inputs.map((input) => {
    const found = fields.filter((field) => field.name === input.name)
    const field = found[0]
    if (field === undefined) throw missingColumn(input, fields, where)
    if (found.length > 1) {
      throw new TilefoldError(
        'COLUMN_TYPE',
        `cannot read column ${JSON.stringify(input.name)} of ${where}: ${found.length} columns have this name`,
        { where, column: input.name },
      )
    }
    if (!fits(input, field)) {
      throw new TilefoldError(
        'COLUMN_TYPE',
        `cannot read column ${JSON.stringify(input.name)} of ${where}: got ${field.sourceType}, expected ${describeInput(input)}`,
        { where, column: input.name, got: field.sourceType, expected: describeInput(input) },
      )
    }
    return field
  })
}

export function missingColumn(input: InputColumn, fields: readonly { readonly name: string }[], where: string) {
  const names = fields.map((field) => field.name)
  const hint = didYouMean(input.name, names)
  return new TilefoldError(
    'COLUMN_MISSING',
    `cannot read column ${JSON.stringify(input.name)} of ${where}: it is not there; ${hint.text}`,
    { where, column: input.name, columns: names, suggestion: hint.name },
  )
}

function fits(input: InputColumn, field: SourceField): boolean {
  if (field.physical === 'null') return true
  if (field.physical === undefined || !input.accepts.includes(field.physical)) return false
  // An instant read as a plain number would silently depend on the file's unit.
  if (field.unit !== undefined && input.type !== 'timestamp') return false
  return field.physical !== 'decimal128' || input.type !== 'decimal' || field.scale === (input.scale ?? 0)
}

/** `decimal(scale 2)`, `timestamp (ms)`: the declared type, and what may be given for it. */
export function describeInput(input: InputColumn): string {
  const scale = input.type === 'decimal' ? ` with ${input.scale ?? 0} digits behind the point` : ''
  const unit = input.type === 'timestamp' && input.unit !== undefined ? ` in ${input.unit}` : ''
  return `${input.type}${scale}${unit} (${input.accepts.join(', ')})`
}

/** `length` nulls, for an input whose column holds nothing else. */
export function nullColumn(input: InputColumn, length: number): Column {
  const type = input.accepts[0] ?? 'float64'
  const validity = new Uint8Array((length + 7) >> 3)
  const column = { name: input.name, type, validity, unit: undefined, scale: input.scale }
  if (type === 'utf8') return { ...column, values: new Uint8Array(0), offsets: new Int32Array(length + 1) }
  return { ...column, values: new Uint8Array(type === 'bool' ? validity.length : length * CELL_BYTES[type]) }
}

const UNITS_PER_DAY: Record<TimeUnit, number> = {
  day: 1,
  s: 86_400,
  ms: 86_400_000,
  us: 86_400_000_000,
  ns: 86_400_000_000_000,
}
/** Days since the epoch at which 1971 begins and 2099 ends. */
const PLAUSIBLE_FROM_DAY = 365
const PLAUSIBLE_TO_DAY = 47_482
const SAMPLE_MAX = 1000

/**
 * A warning where integers make sense as instants in another unit only: most of the sampled values lie outside
 * 1971–2099 in the declared unit and inside it in the named one. The units' ranges do not touch, so one fits at most.
 * `validity` is an Arrow bitmap whose bit `bitOffset` is the first value's.
 */
export function suspectUnit(
  values: ArrayLike<bigint> | ArrayLike<number>,
  declared: TimeUnit,
  validity?: Uint8Array,
  bitOffset = 0,
): string | undefined {
  const counts = new Map<TimeUnit, number>()
  const stride = Math.max(1, Math.floor(values.length / SAMPLE_MAX))
  let sampled = 0
  let example: bigint | number | undefined
  for (let row = 0; row < values.length; row += stride) {
    const bit = bitOffset + row
    if (validity !== undefined && ((validity[bit >> 3]! >> (bit & 7)) & 1) === 0) continue
    const value = Number(values[row])
    sampled++
    for (const unit of Object.keys(UNITS_PER_DAY) as TimeUnit[]) {
      const day = value / UNITS_PER_DAY[unit]
      if (day < PLAUSIBLE_FROM_DAY || day >= PLAUSIBLE_TO_DAY) continue
      counts.set(unit, (counts.get(unit) ?? 0) + 1)
      if (unit !== declared) example ??= values[row]
    }
  }
  if (sampled === 0 || (counts.get(declared) ?? 0) * 2 >= sampled) return undefined
  for (const [unit, count] of counts) {
    if (unit === declared || count * 2 <= sampled) continue
    return `${count} of ${sampled} sampled times lie outside 1971-2099 when read in ${declared}, but inside when read in ${unit}; got ${example}: is the unit ${unit}?`
  }
  return undefined
}
