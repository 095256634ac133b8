/**
 * One JSON object to a row of cells: the rules that JSON lines and the messages of a log share.
 *
 * JSON's numbers are doubles to `JSON.parse`; where a number may have lost digits, its text is looked up. Of two fields
 * with one name the last counts. A field that is absent is null.
 */
import type { Column } from '../model/columns.ts'
import type { InputColumn } from '../model/plan.ts'
import { type ColumnBuilder, createBuilder } from './build.ts'
import { describeValue, readDecimal } from './cells.ts'
import { hasLongNumber, numberTexts } from './json-text.ts'
import { describeInput } from './match.ts'
import type { RejectReason } from './port.ts'

/** Why a record gives no row. */
export interface RowFault {
  readonly reason: RejectReason
  readonly message: string
}

/** Deeper values are rejected. */
export const JSON_DEPTH_MAX = 64

/** Rows of one batch, until `finish`. */
export class JsonRows {
  rows = 0
  /** Which inputs any row had so far. */
  readonly seen: boolean[]
  /** Fields of the first row. */
  firstKeys: readonly string[] = []
  readonly builders: readonly ColumnBuilder[]
  private readonly depthMax: number
  /** Inputs with exact cells: their numbers may need a second look at the text. */
  private readonly exact: readonly boolean[]
  /** Inputs whose name every object inherits: only an own property is data. */
  private readonly inherited: readonly boolean[]

  constructor(inputs: readonly InputColumn[], rowsMax: number, depthMax = JSON_DEPTH_MAX) {
    this.builders = inputs.map((input) => createBuilder(input, rowsMax))
    this.depthMax = depthMax
    this.exact = inputs.map(({ type }) => type === 'int64' || type === 'decimal' || type === 'timestamp')
    this.inherited = inputs.map(({ name }) => name in Object.prototype)
    this.seen = inputs.map(() => false)
  }

  /** Takes what `JSON.parse` made of `text`: a row more, or why there is none. */
  add(record: unknown, text: string): RowFault | undefined {
    if (typeof record !== 'object' || record === null || Array.isArray(record)) {
      return { reason: 'object', message: `got ${describeValue(record)}, expected a JSON object` }
    }
    const row = record as Record<string, unknown>
    if (isDeeper(row, this.depthMax)) {
      return { reason: 'too_deep', message: `got a value nested deeper than ${this.depthMax}` }
    }
    const message = this.fill(row, text)
    if (message !== undefined) return { reason: 'cell', message }
    if (this.firstKeys.length === 0) this.firstKeys = Object.keys(row)
    this.rows++
    return undefined
  }

  /** The columns of the rows so far; the builders start anew. */
  finish(): { readonly length: number; readonly columns: readonly Column[] } {
    const length = this.rows
    this.rows = 0
    return { length, columns: this.builders.map((builder) => builder.finish(length)) }
  }

  /** Writes a row's cells; what does not fit, or undefined. */
  private fill(row: Record<string, unknown>, text: string): string | undefined {
    let texts: ReadonlyMap<string, string> | undefined
    for (let i = 0; i < this.builders.length; i++) {
      const builder = this.builders[i]!
      const { name } = builder.input
      let value = this.inherited[i] && !Object.hasOwn(row, name) ? undefined : row[name]
      if (value !== undefined) this.seen[i] = true
      if (this.exact[i] && typeof value === 'number' && mayHaveLost(value, builder.input, text)) {
        texts ??= numberTexts(text)
        value = exactNumber(texts.get(name), builder.input) ?? value
      }
      if (!builder.set(this.rows, value)) {
        return `column ${JSON.stringify(name)}: got ${describeValue(value)}, expected ${describeInput(builder.input)}`
      }
    }
    return undefined
  }
}

/** May the double stand for another number than the text said? */
function mayHaveLost(value: number, input: InputColumn, text: string): boolean {
  if (input.type !== 'decimal') return !Number.isSafeInteger(value)
  // A zero may be a number too small for a double.
  if (value === 0 && (text.includes('e-') || text.includes('E-'))) return true
  return hasLongNumber(text)
}

/** A number's text as what the column's builder takes exactly: whole numbers may be written `1e17`. */
function exactNumber(text: string | undefined, input: InputColumn): unknown {
  return text === undefined || input.type === 'decimal' ? text : readDecimal(text, 0)
}

/** Level by level, so that no depth can exhaust the stack. */
function isDeeper(row: Record<string, unknown>, depthMax: number): boolean {
  let level = nestedOf([row])
  for (let depth = 1; level.length > 0; depth++) {
    if (depth >= depthMax) return true
    level = nestedOf(level)
  }
  return false
}

const NOTHING: readonly object[] = []

function nestedOf(values: readonly object[]): readonly object[] {
  let nested: object[] | undefined
  for (const value of values) {
    for (const name in value) {
      const inner: unknown = (value as Record<string, unknown>)[name]
      if (typeof inner !== 'object' || inner === null) continue
      nested ??= []
      nested.push(inner)
    }
  }
  return nested ?? NOTHING
}
