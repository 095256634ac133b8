/**
 * Types of expressions. A parsed expression becomes a tree of the core's few operations, each with one type: SQL's richer
 * forms (BETWEEN, IN, CASE, COALESCE, greatest, ...) are rewritten to them here, and every conversion is explicit.
 *
 * Numbers: int64 meets decimal as decimal, and either meets float64 as float64. A literal with a point (or too large for
 * int64) is a decimal next to a decimal, else a float64.
 *
 *   int64    + - * / %   int64, division truncates; overflow and division by zero are null
 *   float64  + - * / %   float64; a non-finite result is null
 *   decimal  + - %       the larger scale     *  both scales added     /  the larger scale, 6 at least; more than 38
 *                        digits are null
 */
import { ExpressionError, type SqlNode } from './sql.ts'
import {
  asBool,
  bool,
  type CommonType,
  castNode,
  commonType,
  constant,
  convert,
  DIGITS_MAX,
  decimalLiteral,
  isLoose,
  loadColumn,
  nullOf,
  type Operation,
  operate,
  ownScale,
  rescale,
  select,
  settle,
  settleAs,
  type Term,
  type TypedNode,
  toDecimal,
  typeNumber,
} from './typed.ts'
import type { SourceColumn } from './view.ts'

const DIVISION_SCALE_MIN = 6

/** Types a parsed expression. Throws ExpressionError. */
export function typeExpression(node: SqlNode, columns: readonly SourceColumn[]): TypedNode {
  const term = typeNode(node, columns)
  if (isLoose(term) && term.loose === 'null')
    throw new ExpressionError('got null alone, expected a value with a type', node.at)
  return settle(term)
}

function typeNode(node: SqlNode, columns: readonly SourceColumn[]): Term {
  const type = (each: SqlNode): Term => typeNode(each, columns)
  switch (node.kind) {
    case 'column':
      return loadColumn(columns.find((each) => each.name === node.name)!)
    case 'number':
      return typeNumber(node.text, node.at)
    case 'text':
      return constant('utf8', node.value)
    case 'bool':
      return constant('bool', node.value)
    case 'null':
      return { loose: 'null', at: node.at }
    case 'binary':
      return typeBinary(node.operator, type(node.left), type(node.right), node.at)
    case 'negate':
      return typeBinary('-', constant('int64', 0n), type(node.operand), node.at)
    case 'not':
      return bool('not', asBool(type(node.operand), node.at))
    case 'is_null':
      return bool('is_null', settle(type(node.operand)))
    case 'is_bool': {
      const operand = asBool(type(node.operand), node.at)
      if (node.test === null) return bool('is_null', operand)
      return bool('is_true', node.test ? operand : bool('not', operand))
    }
    case 'distinct':
      return typeDistinct(type(node.left), type(node.right), node.at)
    case 'between': {
      const operand = type(node.operand)
      const above = typeBinary('>=', operand, type(node.low), node.at)
      return bool('and', above, typeBinary('<=', operand, type(node.high), node.at))
    }
    case 'in': {
      const operand = type(node.operand)
      return node.items
        .map((each) => typeBinary('=', operand, type(each), each.at))
        .reduce((left, right) => bool('or', left, right))
    }
    case 'and':
    case 'or':
      return node.operands
        .map((each) => asBool(type(each), each.at))
        .reduce((left, right) => bool(node.kind, left, right))
    case 'call':
      return typeCall(node.name, node.operands.map(type), node.at)
    case 'case':
      return typeCase(node, type)
    case 'cast':
      return typeCast(type(node.operand), node.to, node.at)
  }
}

// ---- operations ------------------------------------------------------------------------------------------------------

function typeBinary(operator: string, left: Term, right: Term, at: number): TypedNode {
  const isComparison = !['+', '-', '*', '/', '%'].includes(operator)
  const type = commonType([left, right], at)
  if (isComparison) return compare(operator, left, right, type)
  if (type.type === 'bool' || type.type === 'utf8') {
    throw new ExpressionError(`got ${type.type} ${operator} ${type.type}, expected numbers`, at)
  }
  if (type.type === 'decimal') return decimalArithmetic(operator, left, right, type.scale, at)
  return operate(ARITHMETIC[operator]!, type.type, 0, convert(left, type), convert(right, type))
}

const ARITHMETIC: Record<string, Operation> = { '+': 'add', '-': 'sub', '*': 'mul', '/': 'div', '%': 'rem' }

function decimalArithmetic(operator: string, left: Term, right: Term, scale: number, at: number): TypedNode {
  if (operator === '+' || operator === '-' || operator === '%') {
    const type = { type: 'decimal', scale } as const
    return operate(ARITHMETIC[operator]!, 'decimal', scale, convert(left, type), convert(right, type))
  }
  // Products and quotients take each side in its own scale.
  const a = convert(left, { type: 'decimal', scale: ownScale(left) })
  const b = convert(right, { type: 'decimal', scale: ownScale(right) })
  if (operator === '*') {
    if (a.scale + b.scale > DIGITS_MAX) {
      throw new ExpressionError(
        `got a product with ${a.scale + b.scale} digits behind the point, expected at most ${DIGITS_MAX}: cast a side to a smaller scale`,
        at,
      )
    }
    return operate('mul', 'decimal', a.scale + b.scale, a, b)
  }
  // The dividend is multiplied by 10^(result scale - its scale + divisor's scale), which must stay within 38 digits.
  const wanted = Math.max(a.scale, b.scale, DIVISION_SCALE_MIN)
  return operate('div', 'decimal', Math.min(wanted, DIGITS_MAX + a.scale - b.scale), a, b)
}

/** Comparisons of decimals saturate instead of turning null: 10^37 > 0.01 is true although 10^39 has too many digits. */
function compare(operator: string, left: Term, right: Term, type: CommonType): TypedNode {
  let a = convert(left, type, true)
  let b = convert(right, type, true)
  if (type.type === 'bool') {
    a = castNode(a, 'int64', 0)
    b = castNode(b, 'int64', 0)
  }
  if (operator === '=') return bool('eq', a, b)
  if (operator === '<>') return bool('ne', a, b)
  if (operator === '<') return bool('lt', a, b)
  if (operator === '<=') return bool('le', a, b)
  return operator === '>' ? bool('lt', b, a) : bool('le', b, a)
}

/** NOT (a = b is true, or both are null). */
function typeDistinct(left: Term, right: Term, at: number): TypedNode {
  const type = commonType([left, right], at)
  const same = bool('is_true', compare('=', left, right, type))
  const bothNull = bool('and', bool('is_null', settleAs(left, type)), bool('is_null', settleAs(right, type)))
  return bool('not', bool('or', same, bothNull))
}

function typeCall(name: string, operands: readonly Term[], at: number): TypedNode {
  if (name === 'abs') {
    const value = settle(operands[0]!)
    if (value.type === 'bool' || value.type === 'utf8')
      throw new ExpressionError(`got abs of ${value.type}, expected a number`, at)
    const zero = constant('int64', 0n)
    return select(typeBinary('<', value, zero, at), typeBinary('-', zero, value, at), value)
  }
  const type = commonType(operands, at)
  const values = operands.map((each) => convert(each, type))
  if (name === 'nullif') {
    const equal = compare('=', operands[0]!, operands[1]!, type)
    const value = settleAs(operands[0]!, type)
    return select(equal, nullOf(value), value)
  }
  if (name === 'coalesce') {
    return values.reduceRight((rest, each) => select(bool('not', bool('is_null', each)), each, rest))
  }
  // Nulls are skipped: the left side is taken where it wins or stands alone.
  const operator = name === 'greatest' ? '>=' : '<='
  return values.reduce((left, right) =>
    select(bool('or', bool('is_true', compare(operator, left, right, type)), bool('is_null', right)), left, right),
  )
}

function typeCase(node: Extract<SqlNode, { kind: 'case' }>, typeOf: (each: SqlNode) => Term): TypedNode {
  const subject = node.subject && typeOf(node.subject)
  const conditions = node.branches.map(({ when }) =>
    subject === undefined ? asBool(typeOf(when), when.at) : typeBinary('=', subject, typeOf(when), when.at),
  )
  const results = node.branches.map(({ result }) => typeOf(result))
  const otherwise: Term = node.otherwise === undefined ? { loose: 'null', at: node.at } : typeOf(node.otherwise)
  const type = commonType([...results, otherwise], node.at)
  return conditions.reduceRight<TypedNode>(
    (rest, condition, i) => select(condition, convert(results[i]!, type), rest),
    convert(otherwise, type),
  )
}

function typeCast(operand: Term, to: CommonType & { precision: number }, at: number): TypedNode {
  if (isLoose(operand) && operand.loose === 'null')
    return { operation: 'null', type: to.type, scale: to.scale, operands: [] }
  // A number with a point is a decimal until it is cast, so that 0.1::decimal(2,1) is exact.
  const value = isLoose(operand)
    ? to.type === 'decimal'
      ? decimalLiteral(operand.text, operand.at)
      : settle(operand)
    : operand
  const refuse = () =>
    new ExpressionError(`got a cast from ${value.type} to ${to.type}, expected numbers or bool on both sides`, at)
  if (value.type === 'utf8' || to.type === 'utf8') {
    if (value.type === to.type) return value
    throw refuse()
  }
  const from = value.type === 'bool' && to.type !== 'bool' ? castNode(value, 'int64', 0) : value
  if (to.type === 'bool') {
    return value.type === 'bool'
      ? value
      : compare('<>', value, constant('int64', 0n), commonType([value, constant('int64', 0n)], at))
  }
  if (to.type === 'decimal') {
    if (from.type === 'float64') return { ...castNode(from, 'decimal', to.scale), digits: to.precision }
    return rescale(toDecimal(from), to.scale, to.precision, true)
  }
  return castNode(from, to.type, 0)
}
