/**
 * Rows of a spine as questions to the log of answers: request ids, keys and instants, whichever of them it has.
 *
 * A key or an instant means what it means to a request: a key that no request could ask for, and an instant before 1970 or
 * beyond 2106, is none.
 */
import type { ColumnBatch } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import { encodeKey } from '../model/key.ts'
import type { InputColumn, Plan } from '../model/plan.ts'
import { readTimestamp } from '../source/cells.ts'
import { type CellValue, cellReader } from '../source/column-values.ts'
import { matchInputs } from '../source/match.ts'
import type { AskedRow } from './served-match.ts'
import type { Spine } from './spine.ts'
import { askedState } from './spine-plan.ts'

const ID: InputColumn = { name: '_request_id', type: 'utf8', accepts: ['utf8'] }
const ROW: InputColumn = {
  name: '_request_row',
  type: 'int64',
  accepts: ['int64', 'int32', 'uint32', 'int16', 'uint16', 'int8', 'uint8', 'uint64'],
}
const END_MS = 2 ** 32 * 1000

export interface SpineQuestions {
  readonly inputs: readonly InputColumn[]
  /** The keys of the view are in the spine. */
  readonly hasKeys: boolean
  readonly hasTime: boolean
  /** In the order of the rows. */
  read(batch: ColumnBatch): AskedRow[]
}

/** Throws COLUMN_MISSING where the spine has neither request ids nor the view's keys and an instant, COLUMN_TYPE. */
export function questionsOf(spine: Spine, plan: Plan, time: string, takesIds: boolean): SpineQuestions {
  const has = ({ name }: { name: string }) => spine.fields.some((field) => field.name === name)
  const parts = plan.state.entity
  const whole = askedState(parts, time).inputs
  const hasIds = takesIds && has(ID)
  const hasKeys = parts.every(has)
  const hasTime = has({ name: time })
  const own = hasIds ? whole.filter(({ name }) => (name === time ? hasTime : hasKeys)) : whole
  const inputs = [...own, ...(hasIds ? [ID, ...(has(ROW) ? [ROW] : [])] : [])]
  matchInputs(inputs, spine.fields, spine.name)
  return {
    inputs,
    hasKeys: hasKeys || !hasIds,
    hasTime: hasTime || !hasIds,
    read(batch) {
      const cells = new Map(inputs.map(({ name }) => [name, cellReader(columnOf(batch, name))]))
      const keys = parts.flatMap(({ name }) => cells.get(name) ?? [])
      const unit = hasTime ? (columnOf(batch, time).unit ?? 'ms') : 'ms'
      return Array.from({ length: batch.length }, (_, row): AskedRow => {
        const requestId = cells.get(ID.name)?.(row) ?? undefined
        const requestRow = cells.get(ROW.name)?.(row) ?? undefined
        const key =
          keys.length === parts.length
            ? keyOf(
                plan,
                keys.map((read) => read(row)),
              )
            : undefined
        const instant = cells.get(time)?.(row) ?? undefined
        const asOfMs = instant === undefined ? Number.NaN : Number(readTimestamp(instant, unit))
        return {
          ...(requestId === undefined ? {} : { requestId: requestId as string }),
          ...(requestRow === undefined ? {} : { requestRow: Number(requestRow) }),
          ...(key && { key }),
          ...(asOfMs >= 0 && asOfMs < END_MS ? { asOfMs } : {}),
        }
      })
    },
  }
}

function columnOf(batch: ColumnBatch, name: string) {
  return batch.columns.find((column) => column.name === name)!
}

function keyOf(plan: Plan, values: readonly CellValue[]): Uint8Array | undefined {
  try {
    return encodeKey(plan.state.entity, values)
  } catch (error) {
    if (error instanceof TilefoldError) return undefined
    throw error
  }
}
