/** Compiles the column program's own module and runs programs over columns laid out as a host would. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { TYPE_BOOL, TYPE_DEC, TYPE_F64, TYPE_I64 } from '../../assembly/layout.ts'
import { type InputRegion, writeBatch } from '../../src/engine/batch.ts'
import type { Column } from '../../src/model/columns.ts'
import type { Cell } from './expr-naive.ts'

interface Exports extends InputRegion {
  trapCode: WebAssembly.Global
  trapLine: WebAssembly.Global
  reserveProgram(bytes: number): number
  run(program: number, programBytes: number, columns: number, n: number): void
  registerType(index: number): number
  registerData(index: number): number
  registerValid(index: number): number
  registerOffsets(index: number): number
  registerStep(index: number): number
}

const ENTRY = `
import { reallocate, resetScratch } from '../assembly/arena'
import { register } from '../assembly/columns'
import { evaluate } from '../assembly/expr'

export { trapCode, trapLine } from '../assembly/arena'

let inputAt: usize = 0
let inputBytes: usize = 0
let programAt: usize = 0
let programBytes: usize = 0

export function reserveInput(bytes: usize, _keep: usize): usize {
  if (bytes > inputBytes) {
    inputAt = reallocate(inputAt, inputBytes, bytes)
    inputBytes = bytes
  }
  return inputAt
}
export function reserveProgram(bytes: usize): usize {
  if (bytes > programBytes) {
    programAt = reallocate(programAt, programBytes, bytes)
    programBytes = bytes
  }
  return programAt
}
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

  constructor(module: WebAssembly.Module) {
    this.exports = new WebAssembly.Instance(module, {}).exports as unknown as Exports
  }

  run(program: Uint8Array, columns: readonly Column[], length: number): void {
    this.runAt(program, this.write(columns, length), length)
  }

  /** Lays out columns as the engine does; returns the address of their descriptors, good until the next call. */
  write(columns: readonly Column[], length: number): number {
    return writeBatch(this.exports, columns, { length, columns, positions: 0 }).columns
  }

  /** Runs a program over descriptors that `write` placed. */
  runAt(program: Uint8Array, descriptors: number, length: number): void {
    const at = this.exports.reserveProgram(program.length) >>> 0
    new Uint8Array(this.exports.memory.buffer).set(program, at)
    this.exports.run(at, program.length, descriptors, length)
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
