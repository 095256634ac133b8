/** The columns of a source: `name: type`, types as short texts. */
import type { TimeUnit } from '../model/columns.ts'
import { type Path, type Problems, show } from './problems.ts'
import { LIMITS, RESERVED_NAMES, type SourceColumn } from './view.ts'

export const COLUMN_TYPES_TEXT = 'int64, float64, bool, utf8, decimal(precision,scale), timestamp[s|ms|us|ns|day]'

const TIME_UNITS: readonly string[] = ['s', 'ms', 'us', 'ns', 'day'] satisfies TimeUnit[]

/** What people write who think of another system's types. */
const FOREIGN_TYPES: Record<string, string> = {
  string: 'utf8',
  text: 'utf8',
  varchar: 'utf8',
  double: 'float64',
  float: 'float64',
  float32: 'float64',
  number: 'float64',
  int: 'int64',
  integer: 'int64',
  bigint: 'int64',
  long: 'int64',
  int32: 'int64',
  boolean: 'bool',
  numeric: 'decimal(12,2)',
  decimal: 'decimal(12,2)',
  timestamp: 'timestamp[ms]',
  datetime: 'timestamp[ms]',
  date: 'timestamp[day]',
  time: 'timestamp[ms]',
}

/** Columns in the order of their names, so that their order in the file decides nothing. */
export function readColumns(value: unknown, path: Path, problems: Problems): SourceColumn[] | undefined {
  if (value === undefined) return undefined
  const names = typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.keys(value) : undefined
  if (names === undefined || names.length === 0 || names.length > LIMITS.sourceColumnsMax) {
    problems.add(path, `got ${show(value)}, expected 1 to ${LIMITS.sourceColumnsMax} columns as name: type`)
    return undefined
  }
  const columns: SourceColumn[] = []
  for (const name of names.sort()) {
    if (!isColumnName(name)) {
      problems.add(
        [...path, name],
        `got column name ${show(name)}, expected 1 to ${LIMITS.nameCharsMax} printable characters`,
      )
      continue
    }
    const column = parseColumn(name, (value as Record<string, unknown>)[name], [...path, name], problems)
    if (column !== undefined) columns.push(column)
  }
  // With a type missing, every use of the column would be reported as well.
  return columns.length === names.length ? columns : undefined
}

function parseColumn(name: string, value: unknown, path: Path, problems: Problems): SourceColumn | undefined {
  const text = typeof value === 'string' ? value.replaceAll(/\s+/g, '').toLowerCase() : ''
  if (text === 'int64' || text === 'float64' || text === 'bool' || text === 'utf8') return { name, type: text }
  const decimal = /^decimal\((\d{1,3}),(\d{1,3})\)$/.exec(text)
  if (decimal) {
    const precision = Number(decimal[1])
    const scale = Number(decimal[2])
    if (precision >= 1 && precision <= 38 && scale <= precision) return { name, type: 'decimal', precision, scale }
    problems.add(path, `got ${show(value)}, expected a precision of 1 to 38 digits and a scale of at most as many`)
    return undefined
  }
  const timestamp = /^timestamp\[(\w+)\]$/.exec(text)
  if (timestamp && TIME_UNITS.includes(timestamp[1]!))
    return { name, type: 'timestamp', unit: timestamp[1] as TimeUnit }
  const meant = Object.hasOwn(FOREIGN_TYPES, text) ? `, did you mean ${JSON.stringify(FOREIGN_TYPES[text])}?` : ''
  problems.add(path, `got type ${show(value)}${meant || `, expected one of ${COLUMN_TYPES_TEXT}`}`)
  return undefined
}

function isColumnName(name: string): boolean {
  return name.length > 0 && name.length <= LIMITS.nameCharsMax && !/\p{C}/u.test(name) && !RESERVED_NAMES.includes(name)
}

export function columnNames(columns: readonly SourceColumn[] | undefined): string[] {
  return columns?.map((each) => each.name) ?? []
}
