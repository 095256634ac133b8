/** CAST between the numeric types and bool, and the rescaling of decimals. What the target can't hold is a null cell. */
import { scratch } from '../arena'
import { Register } from '../columns'
import { TYPE_BOOL, TYPE_DEC, TYPE_F64, TYPE_I64 } from '../layout'
import { decimalOfDouble, decimalOfInt, doubleOfDecimal, exactPower, intOfDecimal, rescaleDecimal } from './decimal'
import { ownMask } from './mask'

/** `scale`: of the decimal side. `digits`: most digits of a decimal result. */
export function cast(target: Register, source: Register, type: i32, scale: i32, digits: i32, n: i32): void {
  const from = source.type
  target.type = type
  target.valid = source.valid
  target.offsets = 0
  target.step = type == TYPE_DEC ? 16 : 8
  target.data = scratch((n as usize) << (type == TYPE_DEC ? 4 : 3))
  if (from == TYPE_BOOL) {
    assert(type == TYPE_I64)
    for (let i: usize = 0; i < (n as usize); i++) store<u64>(target.data + (i << 3), load<u8>(source.data + i))
  } else if (from == TYPE_I64 && type == TYPE_F64) {
    let at = source.data
    for (let i: usize = 0; i < (n as usize); i++, at += source.step) {
      store<f64>(target.data + (i << 3), load<i64>(at) as f64)
    }
  } else if (from == TYPE_I64 && type == TYPE_DEC) {
    let at = source.data
    for (let i: usize = 0; i < (n as usize); i++, at += source.step) decimalOfInt(target.data + (i << 4), load<i64>(at))
  } else if (from == TYPE_DEC && type == TYPE_F64) {
    const power = exactPower(scale)
    let at = source.data
    for (let i: usize = 0; i < (n as usize); i++, at += source.step) {
      // A null row's cell is undefined and may be no decimal at all.
      const present = source.valid == 0 || load<u8>(source.valid + i) != 0
      store<f64>(target.data + (i << 3), present ? doubleOfDecimal(at, scale, power) : 0)
    }
  } else if (from == TYPE_F64 && type == TYPE_I64) {
    castFloats(target, source, n)
  } else {
    assert((from == TYPE_F64 && type == TYPE_DEC) || (from == TYPE_DEC && type == TYPE_I64))
    castChecked(target, source, scale, digits, n)
  }
}

/** Rounds half to even. */
function castFloats(target: Register, source: Register, n: i32): void {
  let at = source.data
  let failed: i32 = 0
  for (let i: usize = 0; i < (n as usize); i++, at += source.step) {
    const value = nearest<f64>(load<f64>(at))
    const fits = isInt64(value)
    failed |= i32(!fits)
    store<i64>(target.data + (i << 3), fits ? (value as i64) : 0)
  }
  if (failed == 0) return
  const valid = ownMask(target.valid, n)
  at = source.data
  for (let i: usize = 0; i < (n as usize); i++, at += source.step) {
    if (!isInt64(nearest<f64>(load<f64>(at)))) store<u8>(valid + i, 0)
  }
  target.valid = valid
}

@inline
function isInt64(value: f64): bool {
  return value >= -9223372036854775808.0 && value < 9223372036854775808.0
}

function castChecked(target: Register, source: Register, scale: i32, digits: i32, n: i32): void {
  let valid: usize = 0
  let at = source.data
  for (let i: usize = 0; i < (n as usize); i++, at += source.step) {
    if (source.valid != 0 && load<u8>(source.valid + i) == 0) continue
    const fits =
      target.type == TYPE_DEC
        ? decimalOfDouble(target.data + (i << 4), load<f64>(at), scale, digits)
        : intOfDecimal(target.data + (i << 3), at, scale)
    if (fits) continue
    if (valid == 0) valid = ownMask(target.valid, n)
    store<u8>(valid + i, 0)
  }
  if (valid != 0) target.valid = valid
}

export function rescale(target: Register, source: Register, shift: i32, digits: i32, n: i32): void {
  assert(source.type == TYPE_DEC)
  target.type = TYPE_DEC
  target.valid = source.valid
  target.offsets = 0
  target.step = 16
  target.data = scratch((n as usize) << 4)
  let valid: usize = 0
  let at = source.data
  for (let i: usize = 0; i < (n as usize); i++, at += source.step) {
    if (source.valid != 0 && load<u8>(source.valid + i) == 0) continue
    if (rescaleDecimal(target.data + (i << 4), at, shift, digits)) continue
    if (valid == 0) valid = ownMask(target.valid, n)
    store<u8>(valid + i, 0)
  }
  if (valid != 0) target.valid = valid
}
