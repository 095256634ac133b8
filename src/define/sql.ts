/**
 * SQL expressions: text to a small tree of our own, through PostgreSQL's parser. Everything the parser knows and we do not
 * support ends here, with the place in the text. The only file that knows libpg-query.
 */
import { loadModule, parseSync, SqlError } from 'libpg-query'
import { suggest } from './problems.ts'

export type SqlNode = { readonly at: number } & (
  | { readonly kind: 'column'; readonly name: string }
  /** Digits, maybe with a point or an exponent, maybe negative. */
  | { readonly kind: 'number'; readonly text: string }
  | { readonly kind: 'text'; readonly value: string }
  | { readonly kind: 'bool'; readonly value: boolean }
  | { readonly kind: 'null' }
  | { readonly kind: 'binary'; readonly operator: BinaryOperator; readonly left: SqlNode; readonly right: SqlNode }
  | { readonly kind: 'negate' | 'not' | 'is_null'; readonly operand: SqlNode }
  | { readonly kind: 'is_bool'; readonly operand: SqlNode; readonly test: boolean | null }
  | { readonly kind: 'distinct'; readonly left: SqlNode; readonly right: SqlNode }
  | { readonly kind: 'between'; readonly operand: SqlNode; readonly low: SqlNode; readonly high: SqlNode }
  | { readonly kind: 'in'; readonly operand: SqlNode; readonly items: readonly SqlNode[] }
  | { readonly kind: 'and' | 'or'; readonly operands: readonly SqlNode[] }
  | { readonly kind: 'call'; readonly name: CallName; readonly operands: readonly SqlNode[] }
  | {
      readonly kind: 'case'
      readonly subject?: SqlNode
      readonly branches: readonly { readonly when: SqlNode; readonly result: SqlNode }[]
      readonly otherwise?: SqlNode
    }
  | { readonly kind: 'cast'; readonly operand: SqlNode; readonly to: CastType }
)

export type BinaryOperator = (typeof BINARY_OPERATORS)[number]
export type CallName = 'abs' | 'coalesce' | 'greatest' | 'least' | 'nullif'

export interface CastType {
  readonly type: 'float64' | 'int64' | 'bool' | 'decimal' | 'utf8'
  readonly precision: number
  readonly scale: number
}

const BINARY_OPERATORS = ['+', '-', '*', '/', '%', '=', '<>', '<', '<=', '>', '>='] as const

export const SUPPORTED =
  'supported are columns, numbers, texts, true, false, null, + - * / %, = <> < <= > >=, IS [NOT] NULL, IS [NOT] TRUE, ' +
  'IS [NOT] FALSE, IS [NOT] DISTINCT FROM, AND, OR, NOT, BETWEEN, IN (list), CASE, COALESCE, NULLIF, abs, greatest, least, ' +
  'and CAST or :: to float64, int64, bool, decimal(precision,scale), utf8'

/** What is wrong with an expression; `at` counts characters from its start. */
export class ExpressionError extends Error {
  readonly at: number

  constructor(message: string, at: number) {
    super(message)
    this.name = 'ExpressionError'
    this.at = at
  }
}

/** The parser is a WebAssembly module of its own; await once before `parseExpression`. */
export async function loadSqlParser(): Promise<void> {
  await loadModule()
}

const PREFIX = 'SELECT '

/** A chain like a + b + c is as deep as it is long; registers end at 256 operations anyway. */
const DEPTH_MAX = 256
const TOO_DEEP = `got an expression nested more than ${DEPTH_MAX} deep, expected less`

/**
 * Parses one expression. Names match columns as they are spelled, else in lower case as SQL folds them. Throws
 * ExpressionError.
 */
export function parseExpression(text: string, columns: readonly string[]): SqlNode {
  const reader = new Reader(text, columns)
  return reader.node(reader.parse())
}

/** The parser's trees are JSON; every node is an object with one key, its type. Zero, false and '' are left out. */
type Json = Record<string, unknown>

class Reader {
  readonly #text: string
  readonly #bytes: Buffer
  readonly #columns: readonly string[]
  #depth = 0

  constructor(text: string, columns: readonly string[]) {
    this.#text = text
    this.#bytes = Buffer.from(PREFIX + text, 'utf8')
    this.#columns = columns
  }

  /** The single expression of `SELECT <text>`. */
  parse(): Json {
    // The parser reads up to the first NUL: what stands behind it would be ignored.
    const nul = this.#text.indexOf('\0')
    if (nul >= 0) throw new ExpressionError('got a NUL character, expected none', nul)
    let statements: readonly { stmt?: Json }[]
    try {
      statements = (parseSync(PREFIX + this.#text) as { stmts?: { stmt?: Json }[] }).stmts ?? []
    } catch (error) {
      if (error instanceof RangeError) throw new ExpressionError(TOO_DEEP, 0)
      if (!(error instanceof SqlError)) throw error
      const at = Math.max(0, (error.sqlDetails?.cursorPosition ?? 0) - PREFIX.length)
      throw new ExpressionError(`${error.message}${this.#reservedHint()}`, at)
    }
    const select = statements[0]?.stmt?.SelectStmt as Json | undefined
    const targets = (select?.targetList ?? []) as { ResTarget: { val: Json; name?: string; indirection?: unknown } }[]
    const extra = Object.keys(select ?? {}).filter((key) => !['targetList', 'limitOption', 'op'].includes(key))
    const target = targets[0]?.ResTarget
    if (statements.length !== 1 || targets.length !== 1 || extra.length > 0 || target?.name !== undefined) {
      throw new ExpressionError('got more or less than one SQL expression, expected exactly one', 0)
    }
    return target!.val
  }

  node(tree: unknown): SqlNode {
    if (++this.#depth > DEPTH_MAX) throw new ExpressionError(TOO_DEEP, 0)
    const node = this.#convert(tree)
    this.#depth--
    return node
  }

  #convert(tree: unknown): SqlNode {
    const [type, value] = Object.entries((tree ?? {}) as Json)[0] ?? ['nothing', {}]
    const body = value as Json
    const at = this.#at(body)
    switch (type) {
      case 'ColumnRef':
        return this.#column(body, at)
      case 'A_Const':
        return this.#constant(body, at)
      case 'A_Expr':
        return this.#operator(body, at)
      case 'BoolExpr':
        return this.#logic(body, at)
      case 'NullTest': {
        const test: SqlNode = { kind: 'is_null', operand: this.node(body.arg), at }
        return body.nulltesttype === 'IS_NULL' ? test : { kind: 'not', operand: test, at }
      }
      case 'BooleanTest':
        return this.#booleanTest(body, at)
      case 'CaseExpr':
        return this.#caseOf(body, at)
      case 'CoalesceExpr':
        return { kind: 'call', name: 'coalesce', operands: this.#nodes(body.args), at }
      case 'MinMaxExpr': {
        const name = body.op === 'IS_LEAST' ? 'least' : 'greatest'
        return { kind: 'call', name, operands: this.#nodes(body.args), at }
      }
      case 'FuncCall':
        return this.#call(body, at)
      case 'TypeCast':
        return { kind: 'cast', operand: this.node(body.arg), to: this.#castType(body), at }
      case 'SQLValueFunction': {
        // `user`, `current_date` and their like: functions we don't have, so a column of that name is meant.
        const word = /^\w+/.exec(this.#text.slice(at))?.[0] ?? ''
        if (this.#columns.includes(word)) return { kind: 'column', name: word, at }
        throw unsupported(word || type, at)
      }
      default:
        throw unsupported(describe(type), at)
    }
  }

  #nodes(trees: unknown): SqlNode[] {
    return ((trees ?? []) as unknown[]).map((each) => this.node(each))
  }

  /** Locations are bytes into the statement. */
  #at(body: Json): number {
    const location = typeof body.location === 'number' ? body.location : PREFIX.length
    return Math.max(0, this.#bytes.subarray(PREFIX.length, location).toString('utf8').length)
  }

  #column(body: Json, at: number): SqlNode {
    const fields = (body.fields ?? []) as { String?: { sval?: string } }[]
    const folded = fields[0]?.String?.sval
    if (fields.length !== 1 || folded === undefined) {
      throw new ExpressionError('got a qualified name or "*", expected a column of the source', at)
    }
    // From the text, not from the tree: the parser folds to lower case and cuts names after 63 bytes.
    const source = this.#text.slice(at)
    const quoted = /^"((?:[^"]|"")*)"/.exec(source)
    const spelled = quoted ? quoted[1]!.replaceAll('""', '"') : (/^[\p{L}\p{M}\p{N}_$]+/u.exec(source)?.[0] ?? folded)
    const name = [spelled, folded].find((each) => this.#columns.includes(each))
    if (name === undefined) {
      throw new ExpressionError(`got unknown column ${JSON.stringify(spelled)}${suggest(spelled, this.#columns)}`, at)
    }
    return { kind: 'column', name, at }
  }

  #constant(body: Json, at: number): SqlNode {
    if (body.isnull) return { kind: 'null', at }
    if (body.ival) return { kind: 'number', text: String((body.ival as Json).ival ?? 0), at }
    if (body.fval) return { kind: 'number', text: String((body.fval as Json).fval).replaceAll('_', ''), at }
    if (body.boolval) return { kind: 'bool', value: (body.boolval as Json).boolval === true, at }
    if (body.sval) return { kind: 'text', value: String((body.sval as Json).sval ?? ''), at }
    throw unsupported('this kind of literal', at)
  }

  #operator(body: Json, at: number): SqlNode {
    const name = ((body.name ?? []) as { String?: { sval?: string } }[])
      .map((each) => each.String?.sval ?? '')
      .join('.')
    const left = () => this.node(body.lexpr)
    const right = () => this.node(body.rexpr)
    const list = () => this.#nodes(((body.rexpr as Json)?.List as Json)?.items)
    switch (body.kind) {
      case 'AEXPR_OP': {
        if (body.lexpr === undefined && name === '-') return { kind: 'negate', operand: right(), at }
        if (body.lexpr === undefined && name === '+') return right()
        const operator = BINARY_OPERATORS.find((each) => each === name)
        if (operator === undefined || body.lexpr === undefined) throw unsupported(`operator ${name}`, at)
        return { kind: 'binary', operator, left: left(), right: right(), at }
      }
      case 'AEXPR_IN': {
        const test: SqlNode = { kind: 'in', operand: left(), items: list(), at }
        return name === '=' ? test : { kind: 'not', operand: test, at }
      }
      case 'AEXPR_BETWEEN':
      case 'AEXPR_NOT_BETWEEN': {
        const [low, high] = list()
        const test: SqlNode = { kind: 'between', operand: left(), low: low!, high: high!, at }
        return body.kind === 'AEXPR_BETWEEN' ? test : { kind: 'not', operand: test, at }
      }
      case 'AEXPR_DISTINCT':
        return { kind: 'distinct', left: left(), right: right(), at }
      case 'AEXPR_NOT_DISTINCT':
        return { kind: 'not', operand: { kind: 'distinct', left: left(), right: right(), at }, at }
      case 'AEXPR_NULLIF':
        return { kind: 'call', name: 'nullif', operands: [left(), right()], at }
      case 'AEXPR_LIKE':
        throw unsupported('LIKE', at)
      case 'AEXPR_ILIKE':
        throw unsupported('ILIKE', at)
      case 'AEXPR_SIMILAR':
        throw unsupported('SIMILAR TO', at)
      default:
        throw unsupported(`this use of ${name}`, at)
    }
  }

  #logic(body: Json, at: number): SqlNode {
    const operands = this.#nodes(body.args)
    if (body.boolop === 'NOT_EXPR') return { kind: 'not', operand: operands[0]!, at }
    return { kind: body.boolop === 'AND_EXPR' ? 'and' : 'or', operands, at }
  }

  #booleanTest(body: Json, at: number): SqlNode {
    const test = String(body.booltesttype)
    const wanted = test.endsWith('TRUE') ? true : test.endsWith('FALSE') ? false : null
    const node: SqlNode = { kind: 'is_bool', operand: this.node(body.arg), test: wanted, at }
    return test.startsWith('IS_NOT_') ? { kind: 'not', operand: node, at } : node
  }

  #caseOf(body: Json, at: number): SqlNode {
    const branches = ((body.args ?? []) as { CaseWhen: Json }[]).map((each) => ({
      when: this.node(each.CaseWhen.expr),
      result: this.node(each.CaseWhen.result),
    }))
    return {
      kind: 'case',
      subject: body.arg === undefined ? undefined : this.node(body.arg),
      branches,
      otherwise: body.defresult === undefined ? undefined : this.node(body.defresult),
      at,
    }
  }

  #call(body: Json, at: number): SqlNode {
    const names = ((body.funcname ?? []) as { String?: { sval?: string } }[]).map((each) => each.String?.sval ?? '')
    const plain = Object.keys(body).every((key) => ['funcname', 'args', 'funcformat', 'location'].includes(key))
    const name = names.at(-1) ?? ''
    if (name !== 'abs' || !plain || names.length > 2) throw unsupported(`function ${name}`, at)
    const operands = this.#nodes(body.args)
    if (operands.length !== 1) throw new ExpressionError(`got abs of ${operands.length} values, expected one`, at)
    return { kind: 'call', name: 'abs', operands, at }
  }

  #castType(body: Json): CastType {
    const typeName = body.typeName as Json
    const at = this.#at(typeName)
    const names = ((typeName.names ?? []) as { String?: { sval?: string } }[]).map((each) => each.String?.sval ?? '')
    const name = names.at(-1) ?? ''
    const numbers = ((typeName.typmods ?? []) as { A_Const?: { ival?: { ival?: number } } }[]).map(
      (each) => each.A_Const?.ival?.ival ?? 0,
    )
    const type = CAST_TYPES[name]
    const [precision = 0, scale = 0] = numbers
    if (type === undefined || typeName.arrayBounds !== undefined || (type !== 'decimal' && numbers.length > 0)) {
      throw new ExpressionError(
        `got a cast to ${name}, expected float64, int64, bool, decimal(precision,scale) or utf8`,
        at,
      )
    }
    if (type === 'decimal' && (precision < 1 || precision > 38 || scale < 0 || scale > precision)) {
      throw new ExpressionError(
        'got a cast to decimal, expected decimal(precision,scale) with 1 to 38 digits and a scale of at most as many',
        at,
      )
    }
    return { type, precision, scale }
  }

  /** A syntax error is often a column whose name is a keyword. */
  #reservedHint(): string {
    const reserved = this.#columns.find((each) => KEYWORDS.has(each.toLowerCase()) && this.#text.includes(each))
    return reserved === undefined
      ? ''
      : `; ${reserved} is a SQL keyword, write the column as "${reserved}" in double quotes`
  }
}

const CAST_TYPES: Record<string, CastType['type'] | undefined> = {
  float64: 'float64',
  float8: 'float64',
  int64: 'int64',
  int8: 'int64',
  bool: 'bool',
  decimal: 'decimal',
  numeric: 'decimal',
  utf8: 'utf8',
  text: 'utf8',
  varchar: 'utf8',
}

/** PostgreSQL's reserved words: as a column's name each needs double quotes. */
export const KEYWORDS: ReadonlySet<string> = new Set(
  'all and any array as asc both case cast check collate column constraint create default desc distinct do else end except false fetch for foreign from grant group having in initially into leading limit not null offset on only or order placing primary references returning select some table then to trailing true union unique using variadic when where window with'.split(
    ' ',
  ),
)

const DESCRIPTIONS: Record<string, string> = {
  SubLink: 'a subquery',
  ParamRef: 'a parameter',
  A_Indirection: 'a subscript',
  RowExpr: 'a row',
  A_ArrayExpr: 'an array',
  GroupingFunc: 'GROUPING',
  CollateClause: 'COLLATE',
}

function describe(type: string): string {
  return DESCRIPTIONS[type] ?? type
}

function unsupported(what: string, at: number): ExpressionError {
  return new ExpressionError(`got ${what}, which is not supported; ${SUPPORTED}`, at)
}
