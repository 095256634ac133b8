/**
 * Records of an internal topic: whatever is put in comes out, wherever the bytes lie, and bytes that are damaged or made up are
 * refused by name. Records of format 1 are kept in fixtures/routed/v1, beside what they must be read as for ever.
 *
 *   TILEFOLD_GOLDEN=update npx vitest run test/source/routed-record.test.ts     writes the one that has no files yet
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { bitAt, CELL_BYTES, type Column, type ColumnBatch, type PhysicalType } from '../../src/model/columns.ts'
import { type RoutedHead, type RowPiece, readRoutedRecord, writeRoutedRecord } from '../../src/source/routed-record.ts'
import { eachSeed } from '../fuzz/effort.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { thrown } from './support.ts'

const FILE = 'test/source/routed-record.test.ts'
const DIRECTORY = fileURLToPath(new URL('../../fixtures/routed/v1', import.meta.url))
const TYPES: readonly PhysicalType[] = ['bool', 'utf8', ...(Object.keys(CELL_BYTES) as (keyof typeof CELL_BYTES)[])]

/** A bit of `bool`, else the hex of the cell's bytes. */
type Cell = boolean | string | null

type Kind = Pick<Column, 'name' | 'type' | 'unit' | 'scale'>

interface Drawn {
  readonly head: RoutedHead
  readonly kinds: readonly Kind[]
  readonly pieces: readonly RowPiece[]
  /** By column, of the rows of all pieces. */
  readonly cells: readonly (readonly Cell[])[]
  /** In the source, of the same rows. */
  readonly positions: readonly number[]
}

// ---- what is written ---------------------------------------------------------------------------------------------------

function drawRecord(random: Random, kinds: readonly Kind[]): Drawn {
  const cells: Cell[][] = kinds.map(() => [])
  const positions: number[] = []
  let next = random.pick([0, 7, 2 ** 40])
  const pieces = Array.from({ length: random.below(4) }, (): RowPiece => {
    const length = random.below(random.pick([2, 20, 300]))
    const isDense = random.chance(0.5)
    const own = Array.from({ length }, () => {
      next += isDense ? 1 : random.between(1, 9)
      return next
    })
    const columns = kinds.map((kind) => drawCells(random, kind, length))
    const rows = Uint32Array.from(own.keys()).filter(() => random.chance(0.7))
    for (const row of rows) {
      positions.push(own[row]!)
      for (const [i, column] of columns.entries()) cells[i]!.push(column[row]!)
    }
    return {
      batch: {
        length,
        columns: random.shuffled(kinds.map((kind, i) => layOut(random, kind, columns[i]!))),
        positions: isDense ? (own[0] ?? next) : Float64Array.from(own),
      },
      rows,
    }
  })
  const from = random.chance(0.2) ? -1 : random.below(next + 2)
  const head = { log: random.pick(['payments/0', 'á"\n/1']), from, to: next + 1, clockMs: next * 1000 - 1 }
  return {
    head: { ...head, isIdle: random.chance(0.5), logs: random.between(1, 64), layoutVersion: random.below(99) },
    kinds,
    pieces,
    cells,
    positions,
  }
}

function drawKinds(random: Random): Kind[] {
  return random.shuffled(TYPES).map((type, i) => ({
    name: `${type} "${i}`,
    type,
    ...(type === 'int64' && { unit: random.pick([undefined, 's', 'us', 'day'] as const) }),
    ...(type === 'decimal128' && { scale: random.below(38) }),
  }))
}

/** Some columns have no nulls, and some nothing else. */
function drawCells(random: Random, { type }: Kind, length: number): Cell[] {
  const nulls = random.pick([0, 0, 0.3, 1])
  return Array.from({ length }, () => {
    if (random.chance(nulls)) return null
    if (type === 'bool') return random.chance(0.5)
    return hexOf(drawBytes(random, type))
  })
}

/** A float is often one of the many that are not a number: its bits are to stay, too. */
function drawBytes(random: Random, type: Exclude<PhysicalType, 'bool'>): Uint8Array {
  const bytes = random.bytes(type === 'utf8' ? random.below(12) : CELL_BYTES[type])
  if (type === 'float32' && random.chance(0.5)) bytes.set([random.pick([0x80, 0xa0, 0xc0]), 0x7f], 2)
  if (type === 'float64' && random.chance(0.5)) bytes.set([random.pick([0xf0, 0xf4, 0xf8]), 0xff], 6)
  return bytes
}

/** As a slice of something larger: at any address and bit, with text that does not begin at 0, and rubbish between. */
function layOut(random: Random, kind: Kind, cells: readonly Cell[]): Column {
  const bitOffset = random.pick([undefined, random.below(8)])
  const bits = (isSet: (cell: Cell) => boolean) => {
    const bitmap = placed(random, ((bitOffset ?? 0) + cells.length + 7) >> 3)
    for (const [row, cell] of cells.entries()) {
      const bit = (bitOffset ?? 0) + row
      bitmap[bit >> 3]! &= ~(1 << (bit & 7))
      if (isSet(cell)) bitmap[bit >> 3]! |= 1 << (bit & 7)
    }
    return bitmap
  }
  const hasNulls = cells.includes(null) || random.chance(0.2)
  const base = { ...kind, bitOffset, ...(hasNulls && { validity: bits((cell) => cell !== null) }) }
  if (kind.type === 'bool')
    return { ...base, values: bits((cell) => (cell === null ? random.chance(0.5) : cell === true)) }
  const bytes = cells.map((cell) => (cell === null ? drawBytes(random, kind.type as 'utf8') : bytesOf(cell as string)))
  if (kind.type !== 'utf8') return { ...base, values: placed(random, 0, Buffer.concat(bytes)) }
  const offsets = new Int32Array(cells.length + 1).fill(random.below(9))
  for (const [row, each] of bytes.entries()) offsets[row + 1] = offsets[row]! + each.length
  const values = placed(random, offsets.at(-1)! + random.below(9))
  values.set(Buffer.concat(bytes), offsets[0]!)
  return { ...base, offsets, values }
}

/** Somewhere in a larger buffer: `bytes`, or so many at random. */
function placed(random: Random, length: number, bytes = random.bytes(length)): Uint8Array {
  const before = random.below(9)
  const all = random.bytes(before + bytes.length + random.below(9))
  all.set(bytes, before)
  return all.subarray(before, before + bytes.length)
}

function writeDrawn({ head, kinds, pieces }: Drawn): Buffer {
  const names = kinds.map(({ name }) => name)
  return writeRoutedRecord(head, names, pieces)
}

// ---- what is read ------------------------------------------------------------------------------------------------------

/** By the descriptions of `Column` alone. */
function cellsOf({ length }: ColumnBatch, { type, values, offsets, validity, bitOffset = 0 }: Column): Cell[] {
  return Array.from({ length }, (_, row) => {
    if (validity && !bitAt(validity, bitOffset + row)) return null
    if (type === 'bool') return bitAt(values, bitOffset + row)
    if (type === 'utf8') return hexOf(values.subarray(offsets![row]!, offsets![row + 1]!))
    return hexOf(values.subarray(row * CELL_BYTES[type], (row + 1) * CELL_BYTES[type]))
  })
}

/** Where the rows stood: the last part of a record, behind its head's base. Nothing reads it but people. */
function sourcePositions(record: Buffer): number[] {
  const { base } = headOf(record) as { base: number }
  const at = record.length - ((record.readUInt32LE(4) * 4 + 7) & ~7)
  return Array.from({ length: record.readUInt32LE(4) }, (_, row) => base + record.readUInt32LE(at + 4 * row))
}

function headOf(record: Buffer): unknown {
  return JSON.parse(record.subarray(16, 16 + record.readUInt32LE(8)).toString())
}

/** The record with another head. */
function withHead(record: Buffer, head: unknown): Buffer {
  const text = Buffer.from(JSON.stringify(head) ?? '')
  const start = Buffer.from(record.subarray(0, 16))
  start.writeUInt32LE(text.length, 8)
  const parts = record.subarray(16 + ((record.readUInt32LE(8) + 7) & ~7))
  return Buffer.concat([start, text, Buffer.alloc(-text.length & 7), parts])
}

/** Reads them where they lie in something larger; what comes out must lie within them. True where they are a record. */
function isRead(random: Random, bytes: Uint8Array): boolean {
  const record = placed(random, 0, bytes)
  const end = record.byteOffset + record.length
  let batch: ReturnType<typeof readRoutedRecord>
  try {
    batch = readRoutedRecord(record, 5)
  } catch (error) {
    expect(error, (error as Error).stack).toMatchObject({ code: 'SOURCE_CORRUPT' })
    return false
  }
  const { length, columns, positions, routed } = batch
  expect(length * 4).toBeLessThan(record.length)
  expect(positions).toHaveLength(length)
  for (const { name, type, values, offsets, validity } of columns) {
    expect(typeof name).toBe('string')
    expect(TYPES).toContain(type)
    for (const part of [values, validity]) {
      if (part === undefined) continue
      expect(part.buffer).toBe(record.buffer)
      expect(part.byteOffset).toBeGreaterThanOrEqual(record.byteOffset)
      expect(part.byteOffset + part.length).toBeLessThanOrEqual(end)
    }
    if (validity) expect(validity.length).toBe((length + 7) >> 3)
    if (type === 'bool') expect(values.length).toBe((length + 7) >> 3)
    else if (type !== 'utf8') expect(values.length).toBe(length * CELL_BYTES[type])
    else {
      expect(offsets).toHaveLength(length + 1)
      const bounds = [0, ...offsets!, values.length]
      expect(bounds.every((each, i) => i === 0 || each >= bounds[i - 1]!)).toBe(true)
    }
  }
  const { from, to, clockMs, logs, layoutVersion, isIdle, log } = routed
  expect([from, to, clockMs, logs, layoutVersion].every(Number.isSafeInteger)).toBe(true)
  expect([typeof log, typeof isIdle]).toEqual(['string', 'boolean'])
  return true
}

describe('a routed record', () => {
  it('gives the cells, positions and range that went in, whatever form and place they had', async () => {
    let rows = 0
    const seeds = await eachSeed(FILE, 0, 300, (seed) => {
      const random = seededRandom(seed)
      const drawn = drawRecord(random, drawKinds(random))
      const record = writeDrawn(drawn)
      const batch = readRoutedRecord(placed(random, 0, record), 77)
      expect(batch.length).toBe(drawn.positions.length)
      expect([...(batch.positions as Float64Array)]).toEqual(drawn.positions.map(() => 77))
      expect(batch.routed).toEqual({ position: 77, ...drawn.head })
      expect(sourcePositions(record)).toEqual(drawn.positions)
      const kinds = batch.columns.map(({ name, type, unit, scale }) => ({ name, type, unit, scale }))
      if (batch.length > 0) expect(kinds).toEqual(drawn.kinds)
      expect(batch.columns.map((column) => cellsOf(batch, column))).toEqual(batch.length > 0 ? drawn.cells : [])
      rows += batch.length
    })
    expect(seeds === 1 || rows > 1000).toBe(true)
  })

  it('that is cut off is refused, or whole without its last padding', async () => {
    await eachSeed(FILE, 1000, 4, (seed) => {
      const random = seededRandom(seed)
      const record = writeDrawn(drawRecord(random, drawKinds(random)))
      for (let length = 0; length < record.length; length++) {
        const found = isRead(random, record.subarray(0, length))
        if (found) expect(record.length - length, `of ${length} bytes`).toBeLessThan(8)
      }
    })
  })

  it('that is damaged, or made up, is refused by name, or lies within its bytes', async () => {
    const found = { read: 0, refused: 0 }
    await eachSeed(FILE, 2000, 40, (seed) => {
      const random = seededRandom(seed)
      const record = writeDrawn(drawRecord(random, drawKinds(random)))
      for (let i = 0; i < 100; i++) {
        found[isRead(random, damaged(random, record)) ? 'read' : 'refused']++
        isRead(random, random.bytes(random.below(200)))
      }
    })
    expect(Math.min(found.read, found.refused)).toBeGreaterThan(0)
  })

  it('whose head says anything at all is refused by name, or lies within its bytes', async () => {
    await eachSeed(FILE, 3000, 40, (seed) => {
      const random = seededRandom(seed)
      const record = writeDrawn(drawRecord(random, drawKinds(random)))
      for (let i = 0; i < 100; i++) isRead(random, withHead(record, perverted(random, headOf(record))))
    })
  })

  it.each([2 ** 32 - 1, 2 ** 31, 2 ** 28, 2 ** 20])(
    'that claims %i rows is refused before there is room for them',
    async (rows) => {
      const head = { log: 'a/0', from: -1, to: 5, clockMs: 9, isIdle: false, logs: 1, layoutVersion: 1 }
      const record = writeRoutedRecord(head, [], [])
      record.writeUInt32LE(rows, 4)
      const before = process.memoryUsage().arrayBuffers
      expect(await thrown(async () => readRoutedRecord(record, 0))).toMatchObject({ code: 'SOURCE_CORRUPT' })
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20)
    },
  )
})

function damaged(random: Random, record: Buffer): Buffer {
  const bytes = Buffer.from(record)
  for (let flips = random.between(1, 3); flips > 0; flips--) {
    // Half of them where the lengths are.
    const at = random.below(random.chance(0.5) ? Math.min(200, bytes.length) : bytes.length)
    bytes[at]! ^= 1 << random.below(8)
  }
  if (random.chance(0.3)) bytes.writeUInt32LE(random.bits() >>> random.below(32), random.pick([4, 8]))
  return bytes
}

const PERVERSIONS: readonly unknown[] = [
  ...[null, true, '', 'int8', [], ['int8'], {}, -1, 0, 1.5, 8, '8', 2 ** 31, 2 ** 53, 1e308],
  ...['utf8', 'bool', '__proto__', 'toString', undefined],
]

/** One of its values, at any depth, is another. */
function perverted(random: Random, value: unknown): unknown {
  const keys = typeof value === 'object' && value !== null ? Object.keys(value) : []
  if (keys.length === 0 || random.chance(0.1)) return random.pick(PERVERSIONS)
  const key = random.pick(keys)
  const copy = Array.isArray(value) ? [...value] : { ...(value as object) }
  ;(copy as Record<string, unknown>)[key] = perverted(random, (value as Record<string, unknown>)[key])
  return copy
}

describe('a kept record of format 1', () => {
  const file = (kind: 'bin' | 'json') => join(DIRECTORY, `every-type.${kind}`)
  if (process.env.TILEFOLD_GOLDEN === 'update' && !existsSync(file('bin'))) {
    const random = seededRandom(5)
    const drawn = drawRecord(random, drawKinds(random))
    const { head, kinds, cells, positions } = drawn
    writeFileSync(file('bin'), writeDrawn(drawn))
    writeFileSync(file('json'), `${JSON.stringify({ head, kinds, positions, cells }, null, 1)}\n`)
  }

  it('is read as ever', () => {
    const record = readFileSync(file('bin'))
    const { head, kinds, cells, positions } = JSON.parse(readFileSync(file('json'), 'utf8')) as Drawn
    const batch = readRoutedRecord(record, 5)
    expect(batch.length).toBeGreaterThan(50)
    expect(batch.routed).toEqual({ position: 5, ...head })
    expect(sourcePositions(record)).toEqual(positions)
    expect(batch.columns.map(({ name, type, unit, scale }) => ({ name, type, unit, scale }))).toEqual(kinds)
    expect(batch.columns.map((column) => cellsOf(batch, column))).toEqual(cells)
  })
})

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')
}

function bytesOf(hex: string): Uint8Array {
  return Buffer.from(hex, 'hex')
}
