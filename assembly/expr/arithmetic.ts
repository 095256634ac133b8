/**
 * + - * / %: one tight loop per operation and type. An operation is a class without fields whose methods the compiler
 * inlines (its `this` is never read). A result that its type can't hold makes the cell null; as this is rare, the loop only
 * notes that it happened and a second one then finds the rows. Cells of null rows are undefined and may raise that alarm
 * for nothing: that costs time, not truth.
 */
import { scratch } from '../arena'
import { Register } from '../columns'
import { EXPR_ADD, EXPR_DIV, EXPR_MUL, EXPR_REM, EXPR_SUB, TYPE_DEC, TYPE_F64, TYPE_I64 } from '../layout'
import { addDecimals, divideDecimals, multiplyDecimals, remainderDecimals, subtractDecimals } from './decimal'
import { bothValid, ownMask } from './mask'

export function arithmetic(operation: i32, target: Register, left: Register, right: Register, c: i32, n: i32): void {
  assert(left.type == right.type)
  const type = left.type
  target.type = type
  target.offsets = 0
  target.valid = bothValid(left.valid, right.valid, n)
  if (type == TYPE_DEC) {
    target.step = 16
    decimalCells(operation, target, left, right, c, n)
    return
  }
  target.step = 8
  if (type == TYPE_F64) {
    if (operation == EXPR_ADD) cells<f64, AddFloat>(target, left, right, n)
    else if (operation == EXPR_SUB) cells<f64, SubFloat>(target, left, right, n)
    else if (operation == EXPR_MUL) cells<f64, MulFloat>(target, left, right, n)
    else if (operation == EXPR_DIV) cells<f64, DivFloat>(target, left, right, n)
    else {
      assert(operation == EXPR_REM)
      cells<f64, RemFloat>(target, left, right, n)
    }
    return
  }
  assert(type == TYPE_I64)
  if (operation == EXPR_ADD) cells<i64, AddInt>(target, left, right, n)
  else if (operation == EXPR_SUB) cells<i64, SubInt>(target, left, right, n)
  else if (operation == EXPR_MUL) cells<i64, MulInt>(target, left, right, n)
  else if (operation == EXPR_DIV) cells<i64, DivInt>(target, left, right, n)
  else {
    assert(operation == EXPR_REM)
    cells<i64, RemInt>(target, left, right, n)
  }
}

function cells<T, Operation>(target: Register, left: Register, right: Register, n: i32): void {
  const operation = changetype<Operation>(0)
  const stepA = left.step
  const stepB = right.step
  const data = scratch((n as usize) << 3)
  const end = data + ((n as usize) << 3)
  let a = left.data
  let b = right.data
  let failed: i32 = 0
  for (let at = data; at < end; at += 8, a += stepA, b += stepB) {
    const x = load<T>(a)
    const y = load<T>(b)
    const result = operation.apply(x, y)
    store<T>(at, result)
    failed |= operation.fails(x, y, result) as i32
  }
  target.data = data
  if (failed == 0) return

  const valid = ownMask(target.valid, n)
  a = left.data
  b = right.data
  for (let i: usize = 0; i < (n as usize); i++, a += stepA, b += stepB) {
    if (operation.fails(load<T>(a), load<T>(b), load<T>(data + (i << 3)))) store<u8>(valid + i, 0)
  }
  target.valid = valid
}

// ---- float64: a non-finite result is null; + 0.0 turns -0 into +0 (sums of numbers that are no -0 are none either) ----

@inline
function isNotFinite(value: f64): bool {
  return (reinterpret<u64>(value) & 0x7ff0_0000_0000_0000) == 0x7ff0_0000_0000_0000
}

@final @unmanaged
class AddFloat {
  @inline apply(x: f64, y: f64): f64 {
    return x + y
  }
  @inline fails(_x: f64, _y: f64, result: f64): bool {
    return isNotFinite(result)
  }
}

@final @unmanaged
class SubFloat {
  @inline apply(x: f64, y: f64): f64 {
    return x - y
  }
  @inline fails(_x: f64, _y: f64, result: f64): bool {
    return isNotFinite(result)
  }
}

@final @unmanaged
class MulFloat {
  @inline apply(x: f64, y: f64): f64 {
    return x * y + 0.0
  }
  @inline fails(_x: f64, _y: f64, result: f64): bool {
    return isNotFinite(result)
  }
}

@final @unmanaged
class DivFloat {
  @inline apply(x: f64, y: f64): f64 {
    return x / y + 0.0
  }
  @inline fails(_x: f64, _y: f64, result: f64): bool {
    return isNotFinite(result)
  }
}

/** The rest of the truncating division, exact; the sign is the left side's. */
@final @unmanaged
class RemFloat {
  @inline apply(x: f64, y: f64): f64 {
    return (x % y) + 0.0
  }
  @inline fails(_x: f64, _y: f64, result: f64): bool {
    return isNotFinite(result)
  }
}

// ---- int64: overflow and division by zero are null -------------------------------------------------------------------

@final @unmanaged
class AddInt {
  @inline apply(x: i64, y: i64): i64 {
    return x + y
  }
  @inline fails(x: i64, y: i64, result: i64): bool {
    return ((x ^ result) & (y ^ result)) < 0
  }
}

@final @unmanaged
class SubInt {
  @inline apply(x: i64, y: i64): i64 {
    return x - y
  }
  @inline fails(x: i64, y: i64, result: i64): bool {
    return ((x ^ y) & (x ^ result)) < 0
  }
}

@final @unmanaged
class MulInt {
  @inline apply(x: i64, y: i64): i64 {
    return x * y
  }
  @inline fails(x: i64, y: i64, result: i64): bool {
    // Two factors of 31 bits and a sign can't overflow; only others pay for a division.
    if ((((x + 0x4000_0000) as u64) | ((y + 0x4000_0000) as u64)) >> 31 == 0) return false
    if (x == 0) return false
    if (x == -1) return y == i64.MIN_VALUE
    return result / x != y
  }
}

@final @unmanaged
class DivInt {
  /** Truncates, as SQL does. */
  @inline apply(x: i64, y: i64): i64 {
    return y == 0 ? 0 : y == -1 ? 0 - x : x / y
  }
  @inline fails(x: i64, y: i64, _result: i64): bool {
    return y == 0 || (y == -1 && x == i64.MIN_VALUE)
  }
}

@final @unmanaged
class RemInt {
  @inline apply(x: i64, y: i64): i64 {
    return y == 0 || y == -1 ? 0 : x % y
  }
  @inline fails(_x: i64, y: i64, _result: i64): bool {
    return y == 0
  }
}

// ---- decimals --------------------------------------------------------------------------------------------------------

function decimalCells(operation: i32, target: Register, left: Register, right: Register, c: i32, n: i32): void {
  const data = scratch((n as usize) << 4)
  let valid: usize = 0
  let a = left.data
  let b = right.data
  let at = data
  for (let i: usize = 0; i < (n as usize); i++, at += 16, a += left.step, b += right.step) {
    let fits: bool
    if (operation == EXPR_ADD) fits = addDecimals(at, a, b)
    else if (operation == EXPR_SUB) fits = subtractDecimals(at, a, b)
    else if (operation == EXPR_MUL) fits = multiplyDecimals(at, a, b)
    else if (operation == EXPR_DIV) fits = divideDecimals(at, a, b, c)
    else {
      assert(operation == EXPR_REM)
      fits = remainderDecimals(at, a, b)
    }
    if (fits) continue
    if (valid == 0) valid = ownMask(target.valid, n)
    store<u8>(valid + i, 0)
  }
  target.data = data
  if (valid != 0) target.valid = valid
}
