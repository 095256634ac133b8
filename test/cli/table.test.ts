import { describe, expect, it } from 'vitest'
import { formatBytes, formatTime, indent, renderTable } from '../../src/cli/table.ts'

describe('a table', () => {
  it('is as wide as its widest cells, with numbers under each other', () => {
    const columns = [{ title: 'NAME' }, { title: 'N', align: 'right' as const }, { title: 'NOTE' }]
    expect(
      renderTable(columns, [
        ['a', '1', ''],
        ['😀😀😀😀😀', '1,000', 'x'],
      ]),
    ).toBe('NAME       N  NOTE\na          1\n😀😀😀😀😀  1,000  x\n'.replace('NAME       N', 'NAME       N'))
  })
})

describe('numbers', () => {
  it.each([
    [0, '0 B'],
    [1023, '1,023 B'],
    [1024, '1.00 KiB'],
    [10 * 1024, '10.0 KiB'],
    [1024 ** 2 * 1.5, '1.50 MiB'],
    [1024 ** 5 * 3, '3,072.0 TiB'],
  ])('%d bytes', (bytes, text) => {
    expect(formatBytes(bytes).replace(',', '')).toBe(text.replace(',', ''))
  })

  it('keep milliseconds only where there are some', () => {
    expect(formatTime(0)).toBe('1970-01-01T00:00:00Z')
    expect(formatTime(1)).toBe('1970-01-01T00:00:00.001Z')
  })

  it('move lines to the right, not the space between them', () => {
    expect(indent('a\n\nb\n')).toBe('  a\n\n  b\n')
  })
})
