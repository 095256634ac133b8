/** Compiles the column program's own module and runs programs over columns laid out as a host would. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import {
  COLUMN_BIT_OFFSET,
  COLUMN_BYTES,
  COLUMN_OFFSET_BASE,
  COLUMN_OFFSETS,
  COLUMN_PHYS,
  COLUMN_UNIT,
  COLUMN_VALID,
  COLUMN_VALUES,
  COLUMN_VALUES_BYTES,
  PHYS_BOOL,
  PHYS_DECIMAL128,
  PHYS_FLOAT32,
  PHYS_FLOAT64,
  PHYS_INT8,
  PHYS_INT16,
  PHYS_INT32,
  PHYS_INT64,
  PHYS_UINT8,
  PHYS_UINT16,
  PHYS_UINT32,
  PHYS_UINT64,
  PHYS_UTF8,
  TYPE_BOOL,
  TYPE_DEC,
  TYPE_F64,
  TYPE_I64,
  UNIT_DAY,
  UNIT_MS,
  UNIT_NS,
  UNIT_S,
  UNIT_US,
} from '../../assembly/layout.ts'
import type { Column, PhysicalType, TimeUnit } from '../../src/model/columns.ts'

const PHYSICAL: Record<PhysicalType, number> = {
  bool: PHYS_BOOL,
  int8: PHYS_INT8,
  int16: PHYS_INT16,
  int32: PHYS_INT32,
  int64: PHYS_INT64,
  uint8: PHYS_UINT8,
  uint16: PHYS_UINT16,
  uint32: PHYS_UINT32,
  uint64: PHYS_UINT64,
  float32: PHYS_FLOAT32,
  float64: PHYS_FLOAT64,
  decimal128: PHYS_DECIMAL128,
  utf8: PHYS_UTF8,
}

const UNITS: Record<TimeUnit, number> = { ms: UNIT_MS, s: UNIT_S, us: UNIT_US, ns: UNIT_NS, day: UNIT_DAY }

/** A cell as tests compare it: decimals are scaled integers. */
export type Cell = number | bigint | boolean | string | null

interface Exports {
  memory: WebAssembly.Memory
  trapCode: WebAssembly.Global
  trapLine: WebAssembly.Global
  reserve(bytes: number): number
  run(program: number, programBytes: number, columns: number, n: number): void
  registerType(index: number): number
  registerData(index: number): number
  registerValid(index: number): number
  registerOffsets(index: number): number
  registerStep(index: number): number
}

const ENTRY = `
import { allocate, resetScratch } from '../assembly/arena'
import { register } from '../assembly/columns'
import { evaluate } from '../assembly/expr'

export { trapCode, trapLine } from '../assembly/arena'

export function reserve(bytes: usize): usize { return allocate(bytes) }
export function run(program: usize, programBytes: usize, columns: usize, n: i32): void {
  resetScratch()
  evaluate(program, programBytes, columns, n)
}
export function registerType(index: i32): i32 { return register(index).type }
export function registerData(index: i32): usize { return register(index).data }
export function registerValid(index: i32): usize { return register(index).valid }
export function registerOffsets(index: i32): usize { return register(index).offsets }
export function registerStep(index: i32): usize { return register(index).step }
`

/** Compiles the column program alone into dist/expr-test.wasm. */
export function compileExprModule(): WebAssembly.Module {
  mkdirSync('dist', { recursive: true })
  const entry = 'dist/expr-test.entry.ts'
  const out = 'dist/expr-test.wasm'
  writeFileSync(entry, ENTRY)
  const flags = [
    '--config',
    'none',
    '--runtime',
    'stub',
    '--use',
    'abort=assembly/arena/abort',
    '-O3',
    '--debug',
    '-o',
    out,
  ]
  execFileSync('node', ['node_modules/assemblyscript/bin/asc.js', entry, ...flags], { stdio: 'pipe' })
  return new WebAssembly.Module(readFileSync(out))
}

export class ExprModule {
  readonly exports: Exports
  #start = 0
  #at = 0
  #end = 0

  constructor(module: WebAssembly.Module) {
    this.exports = new WebAssembly.Instance(module, {}).exports as unknown as Exports
  }

  /** Copies bytes into a block of the module, `pad` bytes behind a 16-byte boundary, and returns their address. */
  put(bytes: Uint8Array, pad = 0): number {
    const size = (bytes.length + pad + 31) & ~15
    if (this.#at + size > this.#end) {
      const block = Math.max(size, 1 << 23)
      this.#start = this.exports.reserve(block) >>> 0
      this.#at = this.#start
      this.#end = this.#at + block
    }
    const address = this.#at + pad
    this.#at += size
    new Uint8Array(this.exports.memory.buffer).set(bytes, address)
    return address
  }

  /** Forgets what `put` placed; the block is used again. */
  reset(): void {
    this.#at = this.#start
  }

  /** Lays out a column as the engine does; returns its descriptor. */
  describe(column: Column, length: number): Uint8Array {
    const view = new DataView(new ArrayBuffer(COLUMN_BYTES))
    const set = (at: number, value: number) => view.setUint32(at, value, true)
    set(COLUMN_PHYS, PHYSICAL[column.type])
    if (column.type === 'utf8') {
      const offsets = column.offsets!
      const base = offsets[0]!
      const bytes = column.values.subarray(base, offsets[length]!)
      set(COLUMN_VALUES, this.put(bytes, 3))
      set(COLUMN_VALUES_BYTES, bytes.length)
      set(COLUMN_OFFSETS, this.put(new Uint8Array(offsets.buffer, offsets.byteOffset, (length + 1) * 4)))
      set(COLUMN_OFFSET_BASE, base)
    } else {
      set(COLUMN_VALUES, this.put(column.values))
      set(COLUMN_VALUES_BYTES, column.values.length)
    }
    if (column.validity) set(COLUMN_VALID, this.put(column.validity, 1))
    set(COLUMN_BIT_OFFSET, column.bitOffset ?? 0)
    set(COLUMN_UNIT, column.unit === undefined ? 0 : UNITS[column.unit])
    return new Uint8Array(view.buffer)
  }

  run(program: Uint8Array, columns: readonly Column[], length: number): void {
    const descriptors = new Uint8Array(Math.max(1, columns.length) * COLUMN_BYTES)
    for (const [i, column] of columns.entries()) descriptors.set(this.describe(column, length), i * COLUMN_BYTES)
    this.exports.run(this.put(program, 4), program.length, this.put(descriptors), length)
  }

  /** Cells of a register, nulls as null. Asserts what registers promise: clean masks, bools of 0 and 1, no -0. */
  read(index: number, length: number): Cell[] {
    const { exports } = this
    const view = new DataView(exports.memory.buffer)
    const type = exports.registerType(index)
    const data = exports.registerData(index)
    const valid = exports.registerValid(index)
    const offsets = exports.registerOffsets(index)
    const decoder = new TextDecoder('utf-8', { fatal: true })
    return Array.from({ length }, (_, i) => {
      const present = valid === 0 ? 1 : view.getUint8(valid + i)
      if (present > 1) throw new Error(`register ${index} row ${i}: mask byte ${present}`)
      if (present === 0) return null
      if (type === TYPE_F64) {
        const value = view.getFloat64(data + i * 8, true)
        if (!Number.isFinite(value) || Object.is(value, -0))
          throw new Error(`register ${index} row ${i}: float64 ${value}`)
        return value
      }
      if (type === TYPE_I64) return view.getBigInt64(data + i * 8, true)
      if (type === TYPE_DEC)
        return (view.getBigInt64(data + i * 16 + 8, true) << 64n) | view.getBigUint64(data + i * 16, true)
      if (type === TYPE_BOOL) {
        const byte = view.getUint8(data + i)
        if (byte > 1) throw new Error(`register ${index} row ${i}: bool byte ${byte}`)
        return byte === 1
      }
      const from = view.getUint32(offsets + i * 4, true)
      const to = view.getUint32(offsets + i * 4 + 4, true)
      return decoder.decode(new Uint8Array(exports.memory.buffer, data + from, to - from))
    })
  }
}
