/**
 * Typed expressions to a column program (assembly/expr.ts): equal subtrees are computed once, loads come first, in the order
 * of the columns' names, so the bytes do not depend on how a definition was arranged.
 */
import {
  EXPR_ADD,
  EXPR_AND,
  EXPR_CAST,
  EXPR_CONST,
  EXPR_DIV,
  EXPR_EQ,
  EXPR_FILL,
  EXPR_IS_NULL,
  EXPR_IS_TRUE,
  EXPR_LE,
  EXPR_LOAD,
  EXPR_LT,
  EXPR_MUL,
  EXPR_NE,
  EXPR_NOT,
  EXPR_NULL,
  EXPR_OR,
  EXPR_REM,
  EXPR_RESCALE,
  EXPR_SELECT,
  EXPR_SUB,
  INSTRUCTION_BYTES,
  PROGRAM_HEADER_BYTES,
  PROGRAM_INPUTS_AT,
  PROGRAM_INSTRUCTIONS_AT,
  PROGRAM_REGISTERS_MAX,
  PROGRAM_VERSION,
  PROGRAM_VERSION_AT,
  TYPE_BOOL,
  TYPE_DEC,
  TYPE_F64,
  TYPE_I64,
  TYPE_UTF8,
  UNIT_DAY,
  UNIT_MS,
  UNIT_NS,
  UNIT_S,
  UNIT_US,
} from '../../assembly/layout.ts'
import type { PhysicalType, TimeUnit } from '../model/columns.ts'
import type { InputColumn, ValueType } from '../model/plan.ts'
import { ExpressionError } from './sql.ts'
import type { Operation, TypedNode } from './typed.ts'
import { LIMITS, type SourceColumn } from './view.ts'

const REGISTER_TYPES: Record<ValueType, number> = {
  float64: TYPE_F64,
  int64: TYPE_I64,
  bool: TYPE_BOOL,
  decimal: TYPE_DEC,
  utf8: TYPE_UTF8,
}

const UNITS: Record<TimeUnit, number> = { ms: UNIT_MS, s: UNIT_S, us: UNIT_US, ns: UNIT_NS, day: UNIT_DAY }

/** Physical types that LOAD turns into each declared type without losing a value. */
const ACCEPTS: Record<SourceColumn['type'], readonly PhysicalType[]> = {
  float64: ['float64', 'float32', 'int8', 'int16', 'int32', 'uint8', 'uint16', 'uint32'],
  int64: ['int64', 'int8', 'int16', 'int32', 'uint8', 'uint16', 'uint32', 'uint64'],
  bool: ['bool'],
  decimal: ['decimal128'],
  utf8: ['utf8'],
  timestamp: ['int64', 'int32', 'uint32', 'uint64'],
}

const CODES: Record<Exclude<Operation, 'load' | 'const' | 'null' | 'cast' | 'rescale'>, number> = {
  fill: EXPR_FILL,
  add: EXPR_ADD,
  sub: EXPR_SUB,
  mul: EXPR_MUL,
  div: EXPR_DIV,
  rem: EXPR_REM,
  eq: EXPR_EQ,
  ne: EXPR_NE,
  lt: EXPR_LT,
  le: EXPR_LE,
  and: EXPR_AND,
  or: EXPR_OR,
  not: EXPR_NOT,
  is_null: EXPR_IS_NULL,
  is_true: EXPR_IS_TRUE,
  select: EXPR_SELECT,
}

/** Collects instructions; `register` of an expression may be asked for any number of times. */
export class ProgramBuilder {
  readonly inputs: readonly InputColumn[]
  readonly #instructions: number[][] = []
  readonly #registers = new Map<string, number>()
  /** Trees share subtrees: abs(abs(x)) is a small graph, but a tree that doubles with every level. */
  readonly #nodes = new Map<TypedNode, number>()
  #constants = Buffer.alloc(0)

  /** `columns`: every column that will be loaded. */
  constructor(columns: readonly SourceColumn[]) {
    const sorted = [...columns].sort((a, b) => (a.name < b.name ? -1 : 1))
    this.inputs = sorted.map((each) => ({
      name: each.name,
      type: each.type,
      scale: each.scale,
      unit: each.unit,
      accepts: ACCEPTS[each.type],
    }))
    for (const [i, column] of sorted.entries()) {
      const type = REGISTER_TYPES[column.type === 'timestamp' ? 'int64' : column.type]
      this.#emit(`load ${column.name}`, [EXPR_LOAD, i, type, column.unit === undefined ? 0 : UNITS[column.unit], 0])
    }
  }

  /** The register that holds the expression with a cell for each row. Throws ExpressionError when registers run out. */
  root(node: TypedNode): number {
    const needsFill = (node.operation === 'const' || node.operation === 'null') && node.type !== 'bool'
    return this.register(needsFill ? { ...node, operation: 'fill', operands: [node], constant: undefined } : node)
  }

  register(node: TypedNode): number {
    if (node.operation === 'load') return this.#registers.get(`load ${node.column}`)!
    const known = this.#nodes.get(node)
    if (known !== undefined) return known
    const register = this.#registerNew(node)
    this.#nodes.set(node, register)
    return register
  }

  #registerNew(node: TypedNode): number {
    const operands = node.operands.map((each) => this.register(each))
    const key = JSON.stringify([
      node.operation,
      node.type,
      node.scale,
      operands,
      constantKey(node.constant),
      node.digits ?? -1,
    ])
    return this.#registers.get(key) ?? this.#emit(key, this.#encode(node, operands))
  }

  #emit(key: string, words: number[]): number {
    if (this.#instructions.length === PROGRAM_REGISTERS_MAX) {
      throw new ExpressionError(
        `got expressions of more than ${PROGRAM_REGISTERS_MAX} operations in one view, expected fewer`,
        0,
      )
    }
    this.#registers.set(key, this.#instructions.length)
    return this.#instructions.push(words) - 1
  }

  #encode(node: TypedNode, operands: readonly number[]): number[] {
    const [a = 0, b = 0, c = 0] = operands
    const type = REGISTER_TYPES[node.type]
    const source = node.operands[0]
    switch (node.operation) {
      case 'load':
        throw new Error('a load is an input')
      case 'null':
        return [EXPR_NULL, type, 0, 0, 0]
      case 'const': {
        const bytes = constantBytes(node)
        const from = this.#constants.length
        this.#constants = Buffer.concat([this.#constants, bytes])
        return [EXPR_CONST, type, from, bytes.length, 0]
      }
      case 'cast':
        return [EXPR_CAST, a, type, node.type === 'decimal' ? node.scale : source!.scale, node.digits ?? 0]
      case 'rescale':
        return [EXPR_RESCALE, a, 0, node.scale - source!.scale, node.digits ?? 0]
      case 'div':
        // decimal: the power of ten that brings the quotient to its scale
        return [EXPR_DIV, a, b, node.scale - source!.scale + node.operands[1]!.scale, 0]
      default:
        return [CODES[node.operation], a, b, c, 0]
    }
  }

  /** Header, instructions, constants. */
  bytes(): Uint8Array {
    const program = Buffer.alloc(PROGRAM_HEADER_BYTES + this.#instructions.length * INSTRUCTION_BYTES)
    program.writeUInt32LE(PROGRAM_VERSION, PROGRAM_VERSION_AT)
    program.writeUInt32LE(this.#instructions.length, PROGRAM_INSTRUCTIONS_AT)
    program.writeUInt32LE(this.inputs.length, PROGRAM_INPUTS_AT)
    for (const [i, words] of this.#instructions.entries()) {
      for (const [j, word] of words.entries())
        program.writeInt32LE(word, PROGRAM_HEADER_BYTES + i * INSTRUCTION_BYTES + j * 4)
    }
    return Buffer.concat([program, this.#constants])
  }
}

function constantKey(value: TypedNode['constant']): string {
  return `${typeof value} ${value}`
}

/** A cell as a register holds it; text behind its two offsets (select.ts). */
function constantBytes(node: TypedNode): Buffer {
  const value = node.constant!
  if (node.type === 'utf8') {
    const text = Buffer.from(value as string, 'utf8')
    if (text.length > LIMITS.textLiteralBytesMax) {
      throw new ExpressionError(`got a text of ${text.length} bytes, expected at most ${LIMITS.textLiteralBytesMax}`, 0)
    }
    const offsets = Buffer.alloc(8)
    offsets.writeUInt32LE(text.length, 4)
    return Buffer.concat([offsets, text])
  }
  if (node.type === 'bool') return Buffer.of(value ? 1 : 0)
  const bytes = Buffer.alloc(node.type === 'decimal' ? 16 : 8)
  if (node.type === 'float64') bytes.writeDoubleLE(value as number)
  else {
    bytes.writeBigUInt64LE(BigInt.asUintN(64, value as bigint))
    if (node.type === 'decimal') bytes.writeBigInt64LE((value as bigint) >> 64n, 8)
  }
  return bytes
}

/** Every column that an expression loads. */
export function loadedColumns(node: TypedNode): string[] {
  const seen = new Set<TypedNode>()
  const visit = (each: TypedNode): void => {
    if (seen.has(each)) return
    seen.add(each)
    each.operands.forEach(visit)
  }
  visit(node)
  return [...seen].flatMap((each) => each.column ?? [])
}
