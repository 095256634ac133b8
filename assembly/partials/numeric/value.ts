// Values: rounded once, here.
import {
  OP_COUNT,
  OP_MAX,
  OP_MEAN,
  OP_MIN,
  OP_STDDEV_POP,
  OP_STDDEV_SAMP,
  OP_SUM,
  OP_VAR_POP,
  OP_VAR_SAMP,
  STATUS_EMPTY,
  STATUS_OK,
  STATUS_OVERFLOW,
  TYPE_DEC,
  TYPE_F64,
  TYPE_I64,
} from '../../layout'
import { PartialPlan, column } from '../../plan'
import { meanOf, roundToDouble, roundWords, varianceOf } from '../../exact'
import { maxAt, minAt, valueBytes } from './offsets'
import { numberAt, numberBase, numberLimbs, readSquares, readSum, settle } from './number'

/** Writes 16 bytes at `out` and returns a STATUS_: f64 in the first 8; int64 in the first 8; decimal in all 16. */
export function numericLower(plan: PartialPlan, acc: usize, op: i32, out: usize): i32 {
  const n = load<i64>(acc)
  if (op == OP_COUNT) {
    store<f64>(out, n as f64)
    return STATUS_OK
  }
  if (n == 0) return STATUS_EMPTY
  if (op == OP_MIN || op == OP_MAX) {
    memory.copy(out, acc + ((op == OP_MIN ? minAt(plan) : maxAt(plan)) as usize), valueBytes(plan) as usize)
    return STATUS_OK
  }
  settle(plan, acc)
  readSum(plan, acc)
  if (op == OP_SUM) return lowerSum(plan, out)
  const scale = plan.type == TYPE_DEC ? column(plan.column).scale : 0
  if (op == OP_MEAN) return finish(out, meanOf(numberAt, numberBase, numberLimbs, n, scale))

  const sample = op == OP_VAR_SAMP || op == OP_STDDEV_SAMP
  if (sample && n < 2) return STATUS_EMPTY
  const sum = numberAt
  const base = numberBase
  const limbs = numberLimbs
  readSquares(plan, acc)
  const divisor = sample ? n - 1 : n
  const variance = varianceOf(sum, base, limbs, numberAt, numberBase, numberLimbs, n, divisor, scale)
  if (op == OP_VAR_POP || op == OP_VAR_SAMP) return finish(out, variance)
  assert(op == OP_STDDEV_POP || op == OP_STDDEV_SAMP)
  return finish(out, Math.sqrt(variance))
}

function finish(out: usize, value: f64): i32 {
  store<f64>(out, value)
  return value == Infinity || value == -Infinity ? STATUS_OVERFLOW : STATUS_OK
}

// 10^38 = 0x4B3B4CA8_5A86C47A_098A2240_00000000
const DECIMAL_LIMIT_HIGH: i64 = 0x4b3b_4ca8_5a86_c47a
const DECIMAL_LIMIT_LOW: u64 = 0x098a_2240_0000_0000

function lowerSum(plan: PartialPlan, out: usize): i32 {
  if (plan.type == TYPE_F64) {
    if (numberBase == -2 && numberLimbs == 8) return finish(out, roundWords(numberAt))
    return finish(out, roundToDouble(numberAt, numberBase, numberLimbs))
  }
  const lo = load<u64>(numberAt)
  const hi = load<i64>(numberAt, 8)
  store<u64>(out, lo)
  if (plan.type == TYPE_I64) return hi == (lo as i64) >> 63 ? STATUS_OK : STATUS_OVERFLOW
  store<i64>(out, hi, 8)
  if (load<i64>(numberAt, 16) != hi >> 63) return STATUS_OVERFLOW
  let sizeLo = lo
  let sizeHi = hi
  if (hi < 0) {
    sizeLo = 0 - lo
    sizeHi = ~hi + (sizeLo == 0 ? 1 : 0)
  }
  const fits = sizeHi >= 0 && (sizeHi < DECIMAL_LIMIT_HIGH || (sizeHi == DECIMAL_LIMIT_HIGH && sizeLo < DECIMAL_LIMIT_LOW))
  return fits ? STATUS_OK : STATUS_OVERFLOW
}
