/** Answers of a view to rows of a batch, as columns beside the spine's own: `view__feature`. */
import { type Answers, isValue, isVoid } from '../engine/asof.ts'
import type { Column, PhysicalType } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import type { FeaturePlan, FeatureValue, InputColumn, Plan, ValueType } from '../model/plan.ts'

/** A count is a whole number. */
const TYPES: Record<ValueType, PhysicalType> = {
  float64: 'float64',
  int64: 'int64',
  decimal: 'decimal128',
  bool: 'bool',
  utf8: 'utf8',
}

export function featureType(feature: FeaturePlan): PhysicalType {
  return feature.op === 'count' ? 'int64' : TYPES[feature.type]
}

export function featureColumnName(view: string, feature: FeaturePlan): string {
  return `${view}__${feature.name}`
}

/** Beside it in the log of answers. */
export function featureStatusName(view: string, feature: FeaturePlan): string {
  return `${featureColumnName(view, feature)}__status`
}

/** The column of a feature, as it is built from values, and read again. */
export function featureInput(view: string, feature: FeaturePlan): InputColumn {
  const type = feature.op === 'count' ? 'int64' : feature.type
  const scale = type === 'decimal' ? { scale: feature.scale } : {}
  return { name: featureColumnName(view, feature), type, ...scale, accepts: [featureType(feature)] }
}

/** Answers, and the row of the batch that each of them is for. */
export interface PlacedAnswers {
  readonly rows: Uint32Array
  readonly answers: Answers
}

/** The answers to rows [from, to), in a batch that begins with row `from`. `rows` ascend. */
export function answersBetween(
  { rows, answers }: PlacedAnswers,
  from: number,
  to: number,
  features: number,
): PlacedAnswers {
  const [first, end] = [placeOf(rows, from), placeOf(rows, to)]
  const cut = rows.slice(first, end)
  if (from > 0) for (let i = 0; i < cut.length; i++) cut[i]! -= from
  const statuses = answers.statuses.subarray(first * features, end * features)
  const values = answers.values.subarray(first * features * 16, end * features * 16)
  return { rows: cut, answers: { count: cut.length, statuses, values, text: answers.text } }
}

/** How many of the ascending rows lie before `row`. */
function placeOf(rows: Uint32Array, row: number): number {
  let [low, high] = [0, rows.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (rows[middle]! < row) low = middle + 1
    else high = middle
  }
  return low
}

/** The view's columns of a batch of `length` rows; a row without an answer is null in all of them. */
export function featureColumns(plan: Plan, length: number, parts: readonly PlacedAnswers[]): Column[] {
  return plan.features.map((feature, index) => featureColumn(plan, feature, index, length, parts))
}

function featureColumn(
  plan: Plan,
  feature: FeaturePlan,
  index: number,
  length: number,
  parts: readonly PlacedAnswers[],
): Column {
  const type = featureType(feature)
  const name = featureColumnName(plan.view, feature)
  const validity = new Uint8Array((length + 7) >> 3)
  const cells = cellsOf(type, length, feature)
  const stride = plan.features.length
  let present = 0
  for (const { rows, answers } of parts) {
    if (cells.copy !== undefined && isFull(answers.statuses, index, stride, feature.op === 'count')) {
      cells.copy(rows, answers, index, stride)
      present += rows.length
      // Where every row has a value there is no bitmap.
      if (rows.length < length) for (const row of rows) validity[row >> 3]! |= 1 << (row & 7)
      continue
    }
    const read = cells.reader(answers)
    for (let i = 0, at = index; i < rows.length; i++, at += stride) {
      const status = answers.statuses[at]!
      const row = rows[i]!
      if (isValue(status) || (isVoid(status) && feature.op === 'count')) read(row, at)
      else if (isVoid(status) && feature.default !== undefined) cells.put(row, defaultOf(feature))
      else continue
      validity[row >> 3]! |= 1 << (row & 7)
      present++
    }
  }
  return { name, type, scale: feature.scale, ...cells.finish(), validity: present === length ? undefined : validity }
}

/** Has every row a value? */
function isFull(statuses: Uint8Array, index: number, stride: number, isCount: boolean): boolean {
  for (let at = index; at < statuses.length; at += stride) {
    if (!isValue(statuses[at]!) && !(isCount && isVoid(statuses[at]!))) return false
  }
  return true
}

function defaultOf(feature: FeaturePlan): FeatureValue {
  return feature.type === 'int64' ? BigInt(feature.default!) : feature.default!
}

interface Cells {
  /** Copies the value at `at` to `row`. */
  reader(answers: Answers): (row: number, at: number) => void
  put(row: number, value: FeatureValue): void
  /** Copies every row's value: the usual columns have a loop for it. */
  copy?(rows: Uint32Array, answers: Answers, index: number, stride: number): void
  finish(): Pick<Column, 'values' | 'offsets'>
}

function cellsOf(type: PhysicalType, length: number, feature: FeaturePlan): Cells {
  if (type === 'float64') return floatCells(length)
  if (type === 'int64') return feature.op === 'count' ? countCells(length) : longCells(length)
  if (type === 'decimal128') return decimalCells(length, feature.scale ?? 0)
  if (type === 'bool') return boolCells(length)
  return textCells(length)
}

function floatCells(length: number): Cells {
  const cells = new Float64Array(length)
  return {
    reader: ({ values }) => {
      const from = new Float64Array(values.buffer, values.byteOffset, values.length >> 3)
      return (row, at) => {
        cells[row] = from[at * 2]!
      }
    },
    copy: (rows, { values }, index, stride) => {
      const from = new Float64Array(values.buffer, values.byteOffset, values.length >> 3)
      for (let i = 0, at = index * 2; i < rows.length; i++, at += stride * 2) cells[rows[i]!] = from[at]!
    },
    put: (row, value) => {
      cells[row] = Number(value)
    },
    finish: () => ({ values: new Uint8Array(cells.buffer) }),
  }
}

/** Counts come as doubles below 2^53; no BigInt is made for one. */
function countCells(length: number): Cells {
  const cells = new Uint32Array(length * 2)
  const put = (row: number, count: number) => {
    // Stored modulo 2^32, as any number is.
    cells[row * 2] = count
    cells[row * 2 + 1] = Math.floor(count / 2 ** 32)
  }
  return {
    reader: ({ values }) => {
      const from = new Float64Array(values.buffer, values.byteOffset, values.length >> 3)
      return (row, at) => put(row, from[at * 2]!)
    },
    copy: (rows, { values }, index, stride) => {
      const from = new Float64Array(values.buffer, values.byteOffset, values.length >> 3)
      for (let i = 0, at = index * 2; i < rows.length; i++, at += stride * 2) put(rows[i]!, from[at]!)
    },
    put: (row, value) => put(row, Number(value)),
    finish: () => ({ values: new Uint8Array(cells.buffer) }),
  }
}

function longCells(length: number): Cells {
  const cells = new BigInt64Array(length)
  const words = new Uint32Array(cells.buffer)
  return {
    reader: ({ values }) => {
      const from = new Uint32Array(values.buffer, values.byteOffset, values.length >> 2)
      return (row, at) => {
        words[row * 2] = from[at * 4]!
        words[row * 2 + 1] = from[at * 4 + 1]!
      }
    },
    put: (row, value) => {
      cells[row] = BigInt(value as bigint)
    },
    finish: () => ({ values: new Uint8Array(cells.buffer) }),
  }
}

function decimalCells(length: number, scale: number): Cells {
  const cells = new BigInt64Array(length * 2)
  const bytes = new Uint8Array(cells.buffer)
  return {
    reader:
      ({ values }) =>
      (row, at) =>
        bytes.set(values.subarray(at * 16, at * 16 + 16), row * 16),
    put: (row, value) => {
      const digits = unscaled(String(value), scale)
      cells[row * 2] = BigInt.asIntN(64, digits)
      cells[row * 2 + 1] = digits >> 64n
    },
    finish: () => ({ values: bytes }),
  }
}

/** `-12.5` at scale 2 is -1250. */
function unscaled(text: string, scale: number): bigint {
  const [whole = '0', fraction = ''] = text.replace(/^[+-]/, '').split('.')
  const digits = BigInt(whole + fraction.slice(0, scale).padEnd(scale, '0'))
  return text.startsWith('-') ? -digits : digits
}

function boolCells(length: number): Cells {
  const bits = new Uint8Array((length + 7) >> 3)
  const put = (row: number, value: boolean) => {
    if (value) bits[row >> 3]! |= 1 << (row & 7)
  }
  return {
    reader: ({ values }) => {
      const from = new Uint32Array(values.buffer, values.byteOffset, values.length >> 2)
      return (row, at) => put(row, from[at * 4] !== 0)
    },
    put: (row, value) => put(row, value === true),
    finish: () => ({ values: bits }),
  }
}

function textCells(length: number): Cells {
  const texts: (Uint8Array | undefined)[] = new Array(length)
  return {
    reader: ({ values, text }) => {
      const from = new Uint32Array(values.buffer, values.byteOffset, values.length >> 2)
      return (row, at) => {
        const start = from[at * 4]!
        texts[row] = text.subarray(start, start + from[at * 4 + 1]!)
      }
    },
    put: (row, value) => {
      texts[row] = Buffer.from(String(value))
    },
    finish: () => {
      const offsets = new Int32Array(length + 1)
      for (let row = 0; row < length; row++) offsets[row + 1] = offsets[row]! + (texts[row]?.length ?? 0)
      const values = new Uint8Array(offsets[length]!)
      for (let row = 0; row < length; row++) if (texts[row]) values.set(texts[row]!, offsets[row]!)
      return { values, offsets }
    },
  }
}

// ---- names ------------------------------------------------------------------------------------------------------------

/** One of each name. */
export function uniqueInputs(inputs: readonly InputColumn[]): InputColumn[] {
  const unique = new Map<string, InputColumn>()
  for (const input of inputs) if (!unique.has(input.name)) unique.set(input.name, input)
  return [...unique.values()]
}

/** Throws COLUMN_TYPE where a name would stand twice. */
export function checkNames(names: readonly string[]): void {
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice === undefined) return
  throw new TilefoldError('COLUMN_TYPE', `cannot name the columns: two of them would be ${JSON.stringify(twice)}`, {
    column: twice,
  })
}
