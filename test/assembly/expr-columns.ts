/** Random columns in every physical form, with what LOAD must make of each cell. */
import type { SourceColumn } from '../../src/define/view.ts'
import { type Column, type PhysicalType, sliceBatch } from '../../src/model/columns.ts'
import type { Random } from '../support/random.ts'
import type { Cell, NaiveType } from './expr-naive.ts'
import * as naive from './expr-naive.ts'
import { drawDecimal, drawFloat, drawInt, TEXTS } from './expr-values.ts'

export interface TestColumn {
  readonly declared: SourceColumn
  readonly type: NaiveType
  /** The batch's columns, cut out of longer ones. */
  readonly column: Column
  /** What LOAD must make of it. */
  readonly cells: readonly Cell[]
}

/** A column of `length` rows: the slice [pad, pad + length) of a longer one. */
function cut(column: Column, pad: number, length: number): Column {
  return sliceBatch({ length: pad + length, columns: [column], positions: 0 }, pad, pad + length).columns[0]!
}

function bitmap(bits: readonly boolean[]): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(bits.length / 8))
  for (const [i, bit] of bits.entries()) if (bit) bytes[i >> 3]! |= 1 << (i & 7)
  return bytes
}

const INT_ARRAYS = {
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
} as const

/** Draws raw cells, lays them out, and says what they load as. `undefined` load = null. */
function makeColumn(
  random: Random,
  declared: SourceColumn,
  type: NaiveType,
  physical: PhysicalType,
  length: number,
  draw: () => unknown,
  loaded: (raw: never) => Cell,
): TestColumn {
  const pad = random.below(20)
  const total = pad + length
  const raw = Array.from({ length: total }, draw)
  const nulls = random.pick(['none', 'unmarked', 'some', 'all'] as const)
  const present = raw.map(() => nulls === 'none' || nulls === 'unmarked' || (nulls === 'some' && random.chance(0.7)))
  const base = { name: declared.name, type: physical, validity: nulls === 'unmarked' ? undefined : bitmap(present) }
  let column: Column
  if (physical === 'utf8') {
    const texts = raw.map((each) => Buffer.from(each as string))
    const offsets = new Int32Array(total + 1)
    for (const [i, text] of texts.entries()) offsets[i + 1] = offsets[i]! + text.length
    column = { ...base, values: Buffer.concat(texts), offsets }
  } else if (physical === 'bool') column = { ...base, values: bitmap(raw as boolean[]) }
  else if (physical === 'decimal128') {
    const words = new BigInt64Array(total * 2)
    for (const [i, value] of (raw as bigint[]).entries()) {
      words[i * 2] = BigInt.asIntN(64, value)
      words[i * 2 + 1] = value >> 64n
    }
    column = { ...base, values: new Uint8Array(words.buffer), scale: declared.scale }
  } else if (physical === 'float64' || physical === 'float32') {
    const cells = physical === 'float64' ? Float64Array.from(raw as number[]) : Float32Array.from(raw as number[])
    column = { ...base, values: new Uint8Array(cells.buffer) }
  } else {
    const values = (INT_ARRAYS[physical] as { from(raw: unknown): BigInt64Array }).from(raw)
    column = { ...base, values: new Uint8Array(values.buffer) }
  }
  const cells = raw.map((each, i) => (present[i] ? loaded(each as never) : null)).slice(pad)
  return { declared, type, column: cut(column, pad, length), cells }
}

/** Two or three columns of each type, in random physical forms. */
export function drawColumns(random: Random, length: number): TestColumn[] {
  const columns: TestColumn[] = []
  const int = (name: string, physical: PhysicalType, draw: () => unknown, loaded: (raw: never) => Cell) =>
    columns.push(makeColumn(random, { name, type: 'int64' }, { kind: 'int64' }, physical, length, draw, loaded))
  int(
    'i',
    'int64',
    () => drawInt(random),
    (raw: bigint) => raw,
  )
  const bits = random.pick([8, 16, 32] as const)
  int(
    'j',
    `int${bits}`,
    () => Number(BigInt.asIntN(bits, drawInt(random))),
    (raw: number) => BigInt(raw),
  )
  int(
    'k',
    `uint${bits}`,
    () => Number(BigInt.asUintN(bits, drawInt(random))),
    (raw: number) => BigInt(raw),
  )
  int(
    'u',
    'uint64',
    () => BigInt.asUintN(64, drawInt(random)),
    (raw: bigint) => naive.clampInt(raw),
  )

  const float = (name: string, physical: PhysicalType, draw: () => unknown, loaded: (raw: never) => Cell) =>
    columns.push(makeColumn(random, { name, type: 'float64' }, { kind: 'float64' }, physical, length, draw, loaded))
  float('f', 'float64', () => drawFloat(random), naive.clampFloat)
  float('g', 'float32', () => Math.fround(drawFloat(random)), naive.clampFloat)
  float('h', random.pick(['int8', 'int16', 'int32']), () => random.between(-100, 100), naive.clampFloat)

  for (const [name, precision, scale] of [
    ['m', 12, 2],
    ['n', 38, 10],
    ['o', 38, 0],
    ['q', 20, 20],
  ] as const) {
    const declared = { name, type: 'decimal', precision, scale } as const
    const type = { kind: 'decimal', scale } as const
    // One digit too many now and then: no decimal, so a null cell.
    const draw = () => (random.chance(0.02) ? 10n ** 38n : drawDecimal(random, precision))
    columns.push(
      makeColumn(random, declared, type, 'decimal128', length, draw, (raw: bigint) => naive.clampDecimal(raw)),
    )
  }
  for (const name of ['b', 'c']) {
    const draw = () => random.chance(0.5)
    columns.push(
      makeColumn(random, { name, type: 'bool' }, { kind: 'bool' }, 'bool', length, draw, (raw: boolean) => raw),
    )
  }
  for (const name of ['s', 't']) {
    const draw = () => (random.chance(0.02) ? 'x'.repeat(4097) : random.pick(TEXTS))
    const loaded = (raw: string) => (raw.length > 4096 ? null : raw)
    columns.push(makeColumn(random, { name, type: 'utf8' }, { kind: 'utf8' }, 'utf8', length, draw, loaded))
  }
  return columns
}
