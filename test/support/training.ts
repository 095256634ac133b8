/** Spines and histories from memory, and training sets as plain rows. */

import { bitAt, type Column, type ColumnBatch } from '../../src/model/columns.ts'
import { formatDecimal } from '../../src/model/decimal.ts'
import type { KeyPart } from '../../src/model/key.ts'
import type { FeatureValue, Plan, StatePlan } from '../../src/model/plan.ts'
import type { Spine } from '../../src/offline/spine.ts'
import { featureColumnName } from '../../src/offline/training-columns.ts'
import type { Source } from '../../src/source/port.ts'

export interface SpineRow {
  readonly key: readonly (KeyPart | null)[]
  readonly asOfMs: number | null
}

/** Batches of `size` rows, with the row's number beside key and instant. */
export function spineOf(state: StatePlan, rows: readonly SpineRow[], size = 7): Spine {
  const columns = columnsOf(state, rows)
  return {
    name: 'the spine',
    rowsTotal: rows.length,
    fields: columns.map(({ name, type, unit }) => ({ name, sourceType: type, physical: type, unit })),
    async *read(inputs) {
      for (let start = 0; start < rows.length; start += size) {
        const part = rows.slice(start, start + size)
        const own = columnsOf(state, part, start)
        yield {
          length: part.length,
          columns: inputs.map((input) => own.find((column) => column.name === input.name)!),
          positions: start,
        }
      }
    },
  }
}

function columnsOf(state: StatePlan, rows: readonly SpineRow[], start = 0): Column[] {
  const keys = state.entity.map(({ name, type }, i) =>
    columnOf(
      name,
      type,
      rows.map((row) => row.key[i] ?? null),
    ),
  )
  const numbers = columnOf(
    'label',
    'int64',
    rows.map((_, i) => start + i),
  )
  const times = columnOf(
    't',
    'int64',
    rows.map((row) => row.asOfMs),
  )
  return [numbers, ...keys, times]
}

function columnOf(name: string, type: 'utf8' | 'int64' | 'bool', cells: readonly (KeyPart | null)[]): Column {
  const validity = new Uint8Array((cells.length + 7) >> 3)
  for (const [i, cell] of cells.entries()) if (cell !== null) validity[i >> 3]! |= 1 << (i & 7)
  if (type === 'int64') {
    const values = BigInt64Array.from(cells, (cell) => BigInt(cell ?? 0))
    return { name, type, validity, values: new Uint8Array(values.buffer) }
  }
  if (type === 'bool') {
    const values = new Uint8Array(validity.length)
    for (const [i, cell] of cells.entries()) if (cell === true) values[i >> 3]! |= 1 << (i & 7)
    return { name, type, validity, values }
  }
  const texts = cells.map((cell) => Buffer.from(String(cell ?? '')))
  const offsets = new Int32Array(cells.length + 1)
  for (const [i, text] of texts.entries()) offsets[i + 1] = offsets[i]! + text.length
  return { name, type, validity, values: new Uint8Array(Buffer.concat(texts)), offsets }
}

export function sourceOf(batches: readonly ColumnBatch[]): Source {
  const rowsTotal = batches.reduce((sum, batch) => sum + batch.length, 0)
  return {
    log: 'history',
    async *read() {
      let rowsDone = 0
      for (const batch of batches) {
        rowsDone += batch.length
        yield { batch, origin: 'memory', rowsDone, rowsTotal }
      }
    },
    rowsTotal: async () => rowsTotal,
  }
}

/** The features' values by row, as a request would give them. */
export async function valuesOf(batches: AsyncIterable<ColumnBatch>, plan: Plan): Promise<FeatureValue[][]> {
  const rows: FeatureValue[][] = []
  for await (const { length, columns } of batches) {
    const own = plan.features.map((feature) => {
      const column = columns.find(({ name }) => name === featureColumnName(plan.view, feature))!
      return (row: number) => (feature.op === 'count' ? Number(cellOf(column, row)) : cellOf(column, row))
    })
    for (let row = 0; row < length; row++) {
      rows.push(own.map((read, i) => (isNull(columnAt(columns, plan, i), row) ? null : read(row))))
    }
  }
  return rows
}

function columnAt(columns: readonly Column[], plan: Plan, feature: number): Column {
  return columns.find(({ name }) => name === featureColumnName(plan.view, plan.features[feature]!))!
}

export function isNull({ validity, bitOffset = 0 }: Column, row: number): boolean {
  return validity !== undefined && !bitAt(validity, bitOffset + row)
}

function cellOf({ type, values, offsets, scale }: Column, row: number): FeatureValue {
  const view = new DataView(values.buffer, values.byteOffset)
  switch (type) {
    case 'float64':
      return view.getFloat64(row * 8, true)
    case 'int64':
      return view.getBigInt64(row * 8, true)
    case 'decimal128':
      return formatDecimal(view.getBigInt64(row * 16 + 8, true), view.getBigUint64(row * 16, true), scale ?? 0)
    case 'bool':
      return bitAt(values, row)
    default:
      return Buffer.from(values.subarray(offsets![row], offsets![row + 1])).toString()
  }
}
