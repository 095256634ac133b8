/** Column batches back to plain events, cell by cell, by the contract of model/columns.ts and by nothing else. */
import type { ColumnBatch } from '../../src/model/columns.ts'
import { bitAt, CELL_BYTES } from '../../src/model/columns.ts'
import type { KeyPart } from '../../src/model/key.ts'
import type { InputColumn, StatePlan } from '../../src/model/plan.ts'
import type { Cell, NaiveEvent } from '../oracle/event.ts'
import { ID_INPUT, KEEP_INPUT, TIME_INPUT } from './batches.ts'

const PER_MS = { s: 0n, day: 0n, ms: 1n, us: 1_000n, ns: 1_000_000n }

/** The events that a batch holds, by the contract of model/columns.ts. */
export function readEvents(batch: ColumnBatch, state: StatePlan): NaiveEvent[] {
  const cell = (name: string, row: number): Cell => {
    const input = state.inputs.find((each) => each.name === name)
    return input ? readCell(batch, input, row) : null
  }
  return Array.from({ length: batch.length }, (_, row) => ({
    position: typeof batch.positions === 'number' ? batch.positions + row : batch.positions[row]!,
    time: cell(TIME_INPUT, row) as bigint | null,
    ...(batch.recordTimes && { recordTime: batch.recordTimes[row]! }),
    key: state.entity.map((part) => cell(part.name, row) as KeyPart | null),
    cells: Object.fromEntries(state.columns.map((column) => [column.name, cell(column.name, row)])),
    id: cell(ID_INPUT, row) as string | bigint | null,
    keep: cell(KEEP_INPUT, row) as boolean | null,
  }))
}

function readCell(batch: ColumnBatch, input: InputColumn, row: number): Cell {
  const column = batch.columns.find((each) => each.name === input.name)!
  const bit = (column.bitOffset ?? 0) + row
  if (column.validity && !bitAt(column.validity, bit)) return null
  if (column.type === 'bool') return bitAt(column.values, bit)
  if (column.type === 'utf8') {
    const text = column.values.subarray(column.offsets![row], column.offsets![row + 1])
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(text)
  }
  const width = CELL_BYTES[column.type]
  const view = new DataView(column.values.buffer, column.values.byteOffset + row * width, width)
  if (column.type === 'float64') return view.getFloat64(0, true)
  if (column.type === 'float32') return view.getFloat32(0, true)
  let whole = 0n
  for (let i = width - 1; i >= 0; i--) whole = (whole << 8n) | BigInt(view.getUint8(i))
  if (!column.type.startsWith('u')) whole = BigInt.asIntN(8 * width, whole)
  if (input.type === 'decimal') return { dec: whole }
  if (input.type === 'float64') return Number(whole)
  const perMs = PER_MS[column.unit ?? 'ms']
  return (whole - (((whole % perMs) + perMs) % perMs)) / perMs
}
