/**
 * Arrow's buffers to columns, as they are where the core reads them as they are, and text by way of arrow-text.ts.
 *
 * Lengths are checked: a batch from a file or a program may claim more than its buffers hold. Faults are RangeErrors;
 * the caller knows the file or the push.
 */
import { CELL_BYTES, type Column, type PhysicalType, type TimeUnit } from '../model/columns.ts'
import type { InputColumn } from '../model/plan.ts'
import {
  type ArrowBatch,
  type ArrowData,
  type ArrowSchema,
  bytesOf,
  TYPE_BOOL,
  TYPE_DATE,
  TYPE_DECIMAL,
  TYPE_DICTIONARY,
  TYPE_FLOAT,
  TYPE_INT,
  TYPE_NULL,
  TYPE_TIMESTAMP,
  validityOf,
} from './arrow-data.ts'
import { TEXT_TYPES, textColumn } from './arrow-text.ts'
import { nullColumn, type SourceField } from './match.ts'

const TIMESTAMP_UNITS: readonly TimeUnit[] = ['s', 'ms', 'us', 'ns']

export function fieldsOfSchema(schema: ArrowSchema): readonly SourceField[] {
  return schema.fields.map(({ name, type }): SourceField => {
    const sourceType = String(type)
    switch (type.typeId) {
      case TYPE_NULL:
        return { name, sourceType, physical: 'null' }
      case TYPE_BOOL:
        return { name, sourceType, physical: 'bool' }
      case TYPE_INT:
        return { name, sourceType, physical: `${type.isSigned ? '' : 'u'}int${type.bitWidth}` as PhysicalType }
      case TYPE_FLOAT:
        return { name, sourceType, physical: ([undefined, 'float32', 'float64'] as const)[type.precision ?? 0] }
      case TYPE_DECIMAL:
        return { name, sourceType, physical: type.bitWidth === 128 ? 'decimal128' : undefined, scale: type.scale }
      case TYPE_DATE:
        return type.unit === 0
          ? { name, sourceType, physical: 'int32', unit: 'day' }
          : { name, sourceType, physical: 'int64', unit: 'ms' }
      case TYPE_TIMESTAMP:
        return { name, sourceType, physical: 'int64', unit: TIMESTAMP_UNITS[type.unit ?? 1] }
      case TYPE_DICTIONARY:
        return { name, sourceType, physical: TEXT_TYPES.includes(type.dictionary?.typeId ?? 0) ? 'utf8' : undefined }
      default:
        return { name, sourceType, physical: TEXT_TYPES.includes(type.typeId) ? 'utf8' : undefined }
    }
  })
}

/** The columns of a record batch for `inputs`; `fields` are the inputs' own, as `matchInputs` returned them. */
export function columnsOfBatch(
  batch: ArrowBatch,
  inputs: readonly InputColumn[],
  fields: readonly SourceField[],
): readonly Column[] {
  return inputs.map((input, index) => {
    const at = batch.schema.fields.findIndex((field) => field.name === input.name)
    const data = batch.data.children[at]
    if (data === undefined) throw new RangeError(`column ${JSON.stringify(input.name)} is not in the batch`)
    if (data.length !== batch.numRows) {
      throw new RangeError(`column ${JSON.stringify(input.name)} has ${data.length} rows, the batch ${batch.numRows}`)
    }
    try {
      return convert(data, batch.numRows, input, fields[index]!)
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      throw new RangeError(`column ${JSON.stringify(input.name)}: ${error.message}`, { cause: error })
    }
  })
}

function convert(data: ArrowData, length: number, input: InputColumn, field: SourceField): Column {
  const type = field.physical
  if (type === undefined || type === 'null') return nullColumn(input, length)
  const nulls = validityOf(data, length)
  if (type === 'utf8') return textColumn(data, length, input.name, nulls)
  const bits = type === 'bool' ? (data.offset & 7) + length : length * CELL_BYTES[type] * 8
  const bytes = bytesOf(data.values)
  const values = type === 'bool' ? bytes.subarray(data.offset >> 3) : bytes
  if (values.length * 8 < bits) throw new RangeError(`its values take ${values.length} bytes, ${length} rows need more`)
  return {
    name: input.name,
    type,
    unit: field.unit,
    scale: field.scale,
    values: values.subarray(0, (bits + 7) >> 3),
    validity: nulls,
    bitOffset: data.offset & 7,
  }
}
