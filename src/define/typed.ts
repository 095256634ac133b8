/**
 * Typed nodes: the core's operations, and how values of several types come to have one.
 */
import type { ValueType } from '../model/plan.ts'
import { ExpressionError } from './sql.ts'
import type { SourceColumn } from './view.ts'

/** One operation of the core on typed operands; a tree of them is an expression. */
export interface TypedNode {
  readonly operation: Operation
  /** What the register holds. Instants are int64 milliseconds. */
  readonly type: ValueType
  /** decimal only, else 0. */
  readonly scale: number
  readonly operands: readonly TypedNode[]
  /** `load`: the column. */
  readonly column?: string
  /** `const`: decimals as scaled integers. */
  readonly constant?: number | bigint | boolean | string
  /** Digits at most of a decimal that `cast` or `rescale` makes; 0 saturates. */
  readonly digits?: number
}

export type Operation =
  | 'load'
  | 'const'
  | 'null'
  | 'fill'
  | 'add'
  | 'sub'
  | 'mul'
  | 'div'
  | 'rem'
  | 'eq'
  | 'ne'
  | 'lt'
  | 'le'
  | 'and'
  | 'or'
  | 'not'
  | 'is_null'
  | 'is_true'
  | 'select'
  | 'cast'
  | 'rescale'

/** Not yet typed: a null, or a number that takes the type of what it meets. */
export type Loose =
  | { readonly loose: 'null'; readonly at: number }
  | { readonly loose: 'number'; readonly text: string; readonly at: number }
export type Term = TypedNode | Loose

export const DIGITS_MAX = 38
const INT64_MIN = -(2n ** 63n)
const INT64_MAX = 2n ** 63n - 1n

/** The column itself, as a register holds it. */
export function loadColumn(column: SourceColumn): TypedNode {
  const type = column.type === 'timestamp' ? 'int64' : column.type
  return { operation: 'load', type, scale: column.scale ?? 0, operands: [], column: column.name }
}

// ---- types of several terms ------------------------------------------------------------------------------------------

export interface CommonType {
  readonly type: ValueType
  readonly scale: number
}

export function commonType(terms: readonly Term[], at: number): CommonType {
  const types = new Set(terms.flatMap((each) => (isLoose(each) ? [] : [each.type])))
  const numbers = terms.filter((each) => isLoose(each) && each.loose === 'number').length
  for (const type of ['utf8', 'bool'] as const) {
    if (!types.has(type)) continue
    if (types.size > 1 || numbers > 0) {
      const other = [...types].find((each) => each !== type) ?? 'a number'
      throw new ExpressionError(`got ${type} and ${other} together, expected two of one type`, at)
    }
    return { type, scale: 0 }
  }
  if (types.has('float64')) return { type: 'float64', scale: 0 }
  if (types.has('decimal')) return { type: 'decimal', scale: Math.max(...terms.map(ownScale)) }
  if (numbers > 0) return { type: 'float64', scale: 0 }
  if (types.has('int64')) return { type: 'int64', scale: 0 }
  throw new ExpressionError('got nothing but nulls, expected a value with a type', at)
}

export function ownScale(term: Term): number {
  if (!isLoose(term)) return term.scale
  return term.loose === 'number' ? decimalLiteral(term.text, term.at).scale : 0
}

/** The term as the common type; `saturate` keeps comparisons right where a rescaled decimal has too many digits. */
export function convert(term: Term, to: CommonType, saturate = false): TypedNode {
  const value = settleAs(term, to)
  if (to.type === 'float64') return value.type === 'float64' ? value : castNode(value, 'float64', 0)
  if (to.type === 'decimal') return rescale(toDecimal(value), to.scale, saturate ? 0 : DIGITS_MAX)
  return value
}

/** A loose term takes the type of the others. */
export function settleAs(term: Term, to: CommonType): TypedNode {
  if (!isLoose(term)) return term
  if (term.loose === 'null') return { operation: 'null', type: to.type, scale: to.scale, operands: [] }
  return to.type === 'decimal' ? decimalLiteral(term.text, term.at) : settle(term)
}

/** A term on its own: a loose number is a float64, a loose null any type will do for. */
export function settle(term: Term): TypedNode {
  if (!isLoose(term)) return term
  if (term.loose === 'null') return { operation: 'null', type: 'int64', scale: 0, operands: [] }
  const value = Number(term.text)
  if (!Number.isFinite(value))
    throw new ExpressionError(`got number ${term.text}, expected one that a float64 can hold`, term.at)
  return constant('float64', value === 0 ? 0 : value)
}

export function isLoose(term: Term): term is Loose {
  return 'loose' in term
}

export function asBool(term: Term, at: number): TypedNode {
  if (isLoose(term) && term.loose === 'null') return { operation: 'null', type: 'bool', scale: 0, operands: [] }
  const value = settle(term)
  if (value.type !== 'bool') throw new ExpressionError(`got ${value.type}, expected bool`, at)
  return value
}

// ---- literals --------------------------------------------------------------------------------------------------------

export function typeNumber(text: string, at: number): Term {
  if (/^-?\d+$/.test(text)) {
    const value = BigInt(text)
    if (value >= INT64_MIN && value <= INT64_MAX) return constant('int64', value)
  }
  return { loose: 'number', text, at }
}

/** Digits, point and exponent exactly. */
export function decimalLiteral(text: string, at: number): TypedNode {
  const [, sign, whole = '', fraction = '', exponent = '0'] =
    /^(-?)(\d*)\.?(\d*)(?:[eE]([+-]?\d{1,4}))?$/.exec(text) ?? []
  const scale = Math.max(0, fraction.length - Number(exponent))
  const digits =
    `${whole}${fraction}${'0'.repeat(Math.max(0, Math.min(99, Number(exponent) - fraction.length)))}`.replace(/^0+/, '')
  if (sign === undefined || digits.length > DIGITS_MAX || scale > DIGITS_MAX) {
    throw new ExpressionError(`got number ${text} next to a decimal, expected at most ${DIGITS_MAX} digits`, at)
  }
  return { operation: 'const', type: 'decimal', scale, operands: [], constant: BigInt(`${sign}${digits || '0'}`) }
}

export function constant(type: ValueType, value: number | bigint | boolean | string): TypedNode {
  return { operation: 'const', type, scale: 0, operands: [], constant: value }
}

export function nullOf(node: TypedNode): TypedNode {
  return { operation: 'null', type: node.type, scale: node.scale, operands: [] }
}

// ---- nodes -----------------------------------------------------------------------------------------------------------

export function operate(operation: Operation, type: ValueType, scale: number, ...operands: TypedNode[]): TypedNode {
  return { operation, type, scale, operands }
}

export function bool(operation: Operation, ...operands: TypedNode[]): TypedNode {
  return { operation, type: 'bool', scale: 0, operands }
}

export function select(condition: TypedNode, left: TypedNode, right: TypedNode): TypedNode {
  return { operation: 'select', type: left.type, scale: left.scale, operands: [condition, left, right] }
}

/** A cast to a plain type; of constants it is done here. */
export function castNode(value: TypedNode, type: ValueType, scale: number): TypedNode {
  if (value.type === type) return value
  if (value.operation === 'null') return { ...value, type, scale }
  if (value.operation === 'const' && value.type === 'int64' && type === 'float64')
    return constant('float64', Number(value.constant))
  return { operation: 'cast', type, scale, operands: [value] }
}

export function toDecimal(value: TypedNode): TypedNode {
  if (value.type === 'decimal') return value
  if (value.operation === 'const') return { ...value, type: 'decimal', scale: 0 }
  return castNode(value, 'decimal', 0)
}

/** `always`: also where the scale stays, to hold a result to its digits. */
export function rescale(value: TypedNode, scale: number, digits: number, always = false): TypedNode {
  if (value.operation === 'null') return { ...value, scale }
  if (value.scale === scale && !always) return value
  if (value.operation === 'const' && value.scale <= scale) {
    const scaled = (value.constant as bigint) * 10n ** BigInt(scale - value.scale)
    if (scaled < 10n ** BigInt(digits || DIGITS_MAX) && scaled > -(10n ** BigInt(digits || DIGITS_MAX))) {
      return { ...value, scale, constant: scaled }
    }
  }
  return { operation: 'rescale', type: 'decimal', scale, operands: [value], digits }
}
