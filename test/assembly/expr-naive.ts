/**
 * SQL expressions the obvious way: one row, one operation, exact integers. Nothing here knows of registers, programs or the
 * compiler's types; every rule is written down again from the documentation of src/define/expression.ts.
 */

/** A cell as tests compare it: decimals are scaled integers. */
export type Cell = number | bigint | boolean | string | null

export type NaiveType =
  | { readonly kind: 'int64' | 'float64' | 'bool' | 'utf8' }
  | { readonly kind: 'decimal'; readonly scale: number }

const DIGITS_MAX = 38

export function clampInt(value: bigint): bigint | null {
  return value >= -(2n ** 63n) && value < 2n ** 63n ? value : null
}

export function clampFloat(value: number): number | null {
  return Number.isFinite(value) ? value + 0 : null
}

export function clampDecimal(value: bigint, digits = DIGITS_MAX): bigint | null {
  const limit = 10n ** BigInt(digits)
  return value > -limit && value < limit ? value : null
}

/** Rounded half away from zero. */
export function divideRounded(numerator: bigint, denominator: bigint): bigint {
  const isNegative = numerator < 0n !== denominator < 0n
  const a = numerator < 0n ? -numerator : numerator
  const b = denominator < 0n ? -denominator : denominator
  const quotient = (2n * a + b) / (2n * b)
  return isNegative ? -quotient : quotient
}

/** The decimal's value in another scale, without a limit. */
export function scaleTo(value: bigint, from: number, to: number): bigint {
  return to >= from ? value * 10n ** BigInt(to - from) : divideRounded(value, 10n ** BigInt(from - to))
}

/** The double nearest to a decimal: what reading its digits gives. */
export function floatOfDecimal(value: bigint, scale: number): number {
  return Number(`${value}e-${scale}`) + 0
}

/** A double's exact value times 10^scale, rounded half away from zero. */
export function decimalOfFloat(value: number, scale: number): bigint {
  const view = new DataView(new ArrayBuffer(8))
  view.setFloat64(0, value)
  const bits = view.getBigUint64(0)
  const biased = Number((bits >> 52n) & 0x7ffn)
  const mantissa = (bits & (2n ** 52n - 1n)) + (biased === 0 ? 0n : 2n ** 52n)
  const exponent = Math.max(biased, 1) - 1075
  const scaled = (value < 0 ? -mantissa : mantissa) * 10n ** BigInt(scale)
  return exponent >= 0 ? scaled * 2n ** BigInt(exponent) : divideRounded(scaled, 2n ** BigInt(-exponent))
}

/** Half to even. */
export function intOfFloat(value: number): bigint {
  const floor = Math.floor(value)
  const rest = value - floor
  const isUp = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0)
  return BigInt(isUp ? floor + 1 : floor)
}

/** The type two operands meet in. */
export function meet(left: NaiveType, right: NaiveType): NaiveType {
  if (left.kind === 'float64' || right.kind === 'float64') return { kind: 'float64' }
  if (left.kind === 'decimal' || right.kind === 'decimal') {
    return { kind: 'decimal', scale: Math.max(scaleOf(left), scaleOf(right)) }
  }
  return left
}

export function scaleOf(type: NaiveType): number {
  return type.kind === 'decimal' ? type.scale : 0
}

/** An implicit conversion; a decimal that needs too many digits is null. */
export function convert(cell: Cell, from: NaiveType, to: NaiveType): Cell {
  if (cell === null || from.kind === to.kind) {
    return cell !== null && to.kind === 'decimal'
      ? clampDecimal(scaleTo(cell as bigint, scaleOf(from), to.scale))
      : cell
  }
  if (to.kind === 'float64') {
    return from.kind === 'decimal' ? floatOfDecimal(cell as bigint, from.scale) : Number(cell as bigint)
  }
  return clampDecimal(scaleTo(cell as bigint, 0, scaleOf(to)))
}

export function arithmetic(operator: string, left: Cell, leftType: NaiveType, right: Cell, rightType: NaiveType): Cell {
  if (left === null || right === null) return null
  const type = meet(leftType, rightType)
  if (type.kind === 'decimal') return decimalArithmetic(operator, left, leftType, right, rightType, type.scale)
  if (type.kind === 'float64') {
    const a = convert(left, leftType, type) as number
    const b = convert(right, rightType, type) as number
    return clampFloat(
      operator === '+' ? a + b : operator === '-' ? a - b : operator === '*' ? a * b : operator === '/' ? a / b : a % b,
    )
  }
  const a = left as bigint
  const b = right as bigint
  if ((operator === '/' || operator === '%') && b === 0n) return null
  return clampInt(
    operator === '+' ? a + b : operator === '-' ? a - b : operator === '*' ? a * b : operator === '/' ? a / b : a % b,
  )
}

/** Scale of what an arithmetic operator returns for decimals. */
export function resultScale(operator: string, left: NaiveType, right: NaiveType): number {
  const [a, b] = [scaleOf(left), scaleOf(right)]
  if (operator === '*') return a + b
  return operator === '/' ? Math.min(Math.max(a, b, 6), DIGITS_MAX + a - b) : Math.max(a, b)
}

function decimalArithmetic(
  operator: string,
  left: Cell,
  leftType: NaiveType,
  right: Cell,
  rightType: NaiveType,
  scale: number,
): Cell {
  if (operator === '*') return clampDecimal((left as bigint) * (right as bigint))
  if (operator === '/') {
    if (right === 0n) return null
    const power = resultScale('/', leftType, rightType) - scaleOf(leftType) + scaleOf(rightType)
    return clampDecimal(divideRounded((left as bigint) * 10n ** BigInt(power), right as bigint))
  }
  const a = convert(left, leftType, { kind: 'decimal', scale }) as bigint | null
  const b = convert(right, rightType, { kind: 'decimal', scale }) as bigint | null
  if (a === null || b === null || (operator === '%' && b === 0n)) return null
  return clampDecimal(operator === '+' ? a + b : operator === '-' ? a - b : a % b)
}

/** -1, 0 or 1; decimals as exact numbers; null when a side is. */
export function order(left: Cell, leftType: NaiveType, right: Cell, rightType: NaiveType): number | null {
  if (left === null || right === null) return null
  if (leftType.kind === 'utf8')
    return Math.sign(Buffer.compare(Buffer.from(left as string), Buffer.from(right as string)))
  const type = leftType.kind === 'bool' ? leftType : meet(leftType, rightType)
  let [a, b]: (number | bigint)[] = [Number(left), Number(right)]
  if (type.kind === 'int64') [a, b] = [left as bigint, right as bigint]
  else if (type.kind === 'decimal') {
    a = scaleTo(left as bigint, scaleOf(leftType), type.scale)
    b = scaleTo(right as bigint, scaleOf(rightType), type.scale)
  } else if (type.kind === 'float64') {
    a = convert(left, leftType, type) as number
    b = convert(right, rightType, type) as number
  }
  return a < b ? -1 : a > b ? 1 : 0
}

/** A comparison, of the sign that `order` gave. */
export function holds(operator: string, sign: number | null): Cell {
  if (sign === null) return null
  switch (operator) {
    case '=':
      return sign === 0
    case '<>':
      return sign !== 0
    case '<':
      return sign < 0
    case '<=':
      return sign <= 0
    case '>':
      return sign > 0
    default:
      return sign >= 0
  }
}

export function and(cells: readonly Cell[]): Cell {
  return cells.includes(false) ? false : cells.includes(null) ? null : true
}

export function or(cells: readonly Cell[]): Cell {
  return cells.includes(true) ? true : cells.includes(null) ? null : false
}

export function not(cell: Cell): Cell {
  return cell === null ? null : !cell
}

/** CAST as SQL says it. */
export function castTo(cell: Cell, from: NaiveType, to: NaiveType, precision: number): Cell {
  if (cell === null || to.kind === 'utf8') return cell
  const value = from.kind === 'bool' ? (cell ? 1n : 0n) : cell
  const source: NaiveType = from.kind === 'bool' ? { kind: 'int64' } : from
  if (to.kind === 'bool') return Number(value) !== 0
  if (to.kind === 'float64') return convert(value, source, to)
  if (to.kind === 'int64') {
    if (source.kind === 'float64') return clampInt(intOfFloat(value as number))
    return clampInt(scaleTo(value as bigint, scaleOf(source), 0))
  }
  if (source.kind === 'float64') return clampDecimal(decimalOfFloat(value as number, scaleOf(to)), precision)
  return clampDecimal(scaleTo(value as bigint, scaleOf(source), scaleOf(to)), precision)
}
