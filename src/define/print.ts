/**
 * One spelling for every expression: equal trees print alike, so `delay>5` and `(delay > 5)` are the same projected column
 * and hash to the same state. What is printed parses back to the tree it came from.
 */
import { KEYWORDS, type SqlNode } from './sql.ts'

export function printExpression(node: SqlNode): string {
  switch (node.kind) {
    case 'column':
      return printColumn(node.name)
    case 'number':
      return node.text
    case 'text':
      return printText(node.value)
    case 'bool':
      return String(node.value)
    case 'null':
      return 'null'
    case 'binary':
      return `${operand(node.left)} ${node.operator} ${operand(node.right)}`
    case 'negate':
      return `- ${operand(node.operand)}`
    case 'not':
      return TESTS.includes(node.operand.kind) ? printTest(node.operand, ' not') : `not ${operand(node.operand)}`
    case 'is_null':
    case 'is_bool':
    case 'distinct':
    case 'between':
    case 'in':
      return printTest(node, '')
    case 'and':
    case 'or':
      return node.operands.map(operand).join(` ${node.kind} `)
    case 'call':
      return `${node.name}(${node.operands.map(printExpression).join(', ')})`
    case 'cast': {
      const digits = node.to.type === 'decimal' ? `(${node.to.precision},${node.to.scale})` : ''
      return `cast(${printExpression(node.operand)} as ${node.to.type}${digits})`
    }
    case 'case': {
      const subject = node.subject === undefined ? '' : ` ${operand(node.subject)}`
      const branches = node.branches.map(
        (each) => ` when ${printExpression(each.when)} then ${printExpression(each.result)}`,
      )
      const otherwise = node.otherwise === undefined ? '' : ` else ${printExpression(node.otherwise)}`
      return `case${subject}${branches.join('')}${otherwise} end`
    }
  }
}

const TESTS: readonly SqlNode['kind'][] = ['is_null', 'is_bool', 'distinct', 'between', 'in']

/** Tests that take their NOT in the middle. */
function printTest(node: SqlNode, not: '' | ' not'): string {
  switch (node.kind) {
    case 'is_null':
      return `${operand(node.operand)} is${not} null`
    case 'is_bool':
      return `${operand(node.operand)} is${not} ${node.test === null ? 'unknown' : node.test}`
    case 'distinct':
      return `${operand(node.left)} is${not} distinct from ${operand(node.right)}`
    case 'between':
      return `${operand(node.operand)}${not} between ${operand(node.low)} and ${operand(node.high)}`
    case 'in':
      return `${operand(node.operand)}${not} in (${node.items.map(printExpression).join(', ')})`
    default:
      return printExpression(node)
  }
}

/** Everything but names, literals and calls stands in parentheses inside something else. */
function operand(node: SqlNode): string {
  const text = printExpression(node)
  const bare = ['column', 'text', 'bool', 'null', 'call', 'cast', 'case'].includes(node.kind)
  return bare || (node.kind === 'number' && !text.startsWith('-')) ? text : `(${text})`
}

/** A column's name as SQL reads it; plain names stay as they are. */
export function printColumn(name: string): string {
  const isPlain = /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !KEYWORDS.has(name.toLowerCase())
  return isPlain ? name : `"${name.replaceAll('"', '""')}"`
}

function printText(value: string): string {
  return `'${value.replaceAll("'", "''")}'`
}
