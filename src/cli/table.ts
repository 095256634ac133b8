/** Text in columns, and numbers as people read them. */
import { formatInstant } from '../model/time.ts'

export interface TableColumn {
  readonly title: string
  /** Numbers stand under each other's ends. */
  readonly align?: 'right'
}

/** Columns as wide as their widest cell, two spaces apart; the last one is not padded. */
export function renderTable(
  columns: readonly TableColumn[],
  rows: readonly (readonly string[])[],
  title: (text: string) => string = (text) => text,
): string {
  const widths = columns.map((column, i) => Math.max(column.title.length, ...rows.map((row) => widthOf(row[i]!))))
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => {
        const space = ' '.repeat(widths[i]! - widthOf(cell))
        if (columns[i]!.align === 'right') return space + cell
        return i === cells.length - 1 ? cell : cell + space
      })
      .join('  ')
      .trimEnd()
  const head = title(line(columns.map((column) => column.title)))
  return [head, ...rows.map(line)].map((each) => `${each}\n`).join('')
}

function widthOf(text: string): number {
  return [...text].length
}

/** 2,880,452 */
export function formatCount(value: number): string {
  return Math.round(value).toLocaleString('en-US')
}

/** 812 B, 12.4 KiB, 1.2 MiB */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${formatCount(bytes)} B`
  const units = ['KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes / 1024
  let unit = 0
  for (; value >= 1024 && unit + 1 < units.length; unit++) value /= 1024
  return `${value.toFixed(value < 10 ? 2 : 1)} ${units[unit]}`
}

/** RFC 3339, without milliseconds where there are none; as a number where no date can say it. */
export function formatTime(ms: number): string {
  return Math.abs(ms) <= 8.64e15 ? formatInstant(ms).replace('.000Z', 'Z') : `${ms} ms`
}

/** Lines moved to the right. */
export function indent(text: string, by = '  '): string {
  return text.replaceAll(/^(?=.)/gm, by)
}
