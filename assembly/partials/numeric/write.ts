// Canonical cells: what a run needs, measured, then written in those widths.
import {
  NUMERIC_MAX,
  NUMERIC_MIN,
  NUMERIC_PARAM_N_WIDTH,
  NUMERIC_PARAM_SQUARES_BASE,
  NUMERIC_PARAM_SQUARES_LIMBS,
  NUMERIC_PARAM_SUM_BASE,
  NUMERIC_PARAM_SUM_LIMBS,
  NUMERIC_SQUARES,
  NUMERIC_SUM,
} from '../../layout'
import { PartialPlan } from '../../plan'
import { lowestLimb, signedLimbs, storeLimbs } from '../../exact'
import { Run, Shape } from '../partial'
import {
  maxAt,
  minAt,
  paramOf,
  paramSquaresBase,
  paramSquaresLimbs,
  paramSumBase,
  paramSumLimbs,
  valueBytes,
} from './offsets'
import { numberAt, numberBase, numberLimbs, readSquares, readSum, settle } from './number'

export function numericInitShape(shape: Shape): void {
  shape.countsDiffer = 0
  shape.sumLow = i32.MAX_VALUE
  shape.sumHigh = i32.MIN_VALUE
  shape.squaresLow = i32.MAX_VALUE
  shape.squaresHigh = i32.MIN_VALUE
}

/** A run whose counts all equal their tiles' rows keeps none of them. */
function measureCount(shape: Shape, n: i64, rows: i64): void {
  if (n != rows) shape.countsDiffer = 1
}

function measureSum(shape: Shape, value: usize, base: i32, limbs: i32): void {
  const high = signedLimbs(value, limbs)
  if (high == 0) return
  shape.sumLow = min(shape.sumLow, base + lowestLimb(value, limbs))
  shape.sumHigh = max(shape.sumHigh, base + high)
}

function measureSquares(shape: Shape, value: usize, base: i32, limbs: i32): void {
  const high = signedLimbs(value, limbs)
  if (high == 0) return
  shape.squaresLow = min(shape.squaresLow, base + lowestLimb(value, limbs))
  shape.squaresHigh = max(shape.squaresHigh, base + high)
}

export function numericMeasureAcc(plan: PartialPlan, shape: Shape, acc: usize, rows: i64): void {
  settle(plan, acc)
  measureCount(shape, load<i64>(acc), rows)
  if (plan.flags & NUMERIC_SUM) {
    readSum(plan, acc)
    measureSum(shape, numberAt, numberBase, numberLimbs)
  }
  if (plan.flags & NUMERIC_SQUARES) {
    readSquares(plan, acc)
    measureSquares(shape, numberAt, numberBase, numberLimbs)
  }
}

/** The union of what was measured so far and of a run's parameters. */
export function numericBoundShape(plan: PartialPlan, shape: Shape, bound: Shape, params: usize): void {
  const param = paramOf(plan, params)
  bound.countsDiffer = shape.countsDiffer | ((load<u8>(param, NUMERIC_PARAM_N_WIDTH) != 0) as i32)
  bound.sumLow = shape.sumLow
  bound.sumHigh = shape.sumHigh
  bound.squaresLow = shape.squaresLow
  bound.squaresHigh = shape.squaresHigh
  if (paramSumLimbs(param) != 0) {
    bound.sumLow = min(shape.sumLow, paramSumBase(param))
    bound.sumHigh = max(shape.sumHigh, paramSumBase(param) + paramSumLimbs(param))
  }
  if (paramSquaresLimbs(param) != 0) {
    bound.squaresLow = min(shape.squaresLow, paramSquaresBase(param))
    bound.squaresHigh = max(shape.squaresHigh, paramSquaresBase(param) + paramSquaresLimbs(param))
  }
}

export function numericMeasureTile(plan: PartialPlan, shape: Shape, run: Run, cell: usize, rows: i64): void {
  const param = paramOf(plan, run.params)
  measureCount(shape, cellCount(param, cell, rows), rows)
  let at = cell + (load<u8>(param, NUMERIC_PARAM_N_WIDTH) as usize)
  measureSum(shape, at, paramSumBase(param), paramSumLimbs(param))
  at += (paramSumLimbs(param) as usize) << 2
  measureSquares(shape, at, paramSquaresBase(param), paramSquaresLimbs(param))
}

function cellCount(param: usize, cell: usize, rows: i64): i64 {
  const width = load<u8>(param, NUMERIC_PARAM_N_WIDTH)
  return width == 0 ? rows : width == 4 ? (load<i32>(cell) as i64) : load<i64>(cell)
}

/** Writes the run's parameters. `rowsWidth`: a count can be no wider than a tile's rows. */
export function numericWriteParams(plan: PartialPlan, shape: Shape, params: usize, rowsWidth: i32): void {
  const param = paramOf(plan, params)
  store<u64>(param, 0)
  store<u8>(param, (shape.countsDiffer ? rowsWidth : 0) as u8, NUMERIC_PARAM_N_WIDTH)
  if (shape.sumHigh > shape.sumLow) {
    store<i8>(param, shape.sumLow as i8, NUMERIC_PARAM_SUM_BASE)
    store<u8>(param, (shape.sumHigh - shape.sumLow) as u8, NUMERIC_PARAM_SUM_LIMBS)
  }
  if (shape.squaresHigh > shape.squaresLow) {
    store<i8>(param, shape.squaresLow as i8, NUMERIC_PARAM_SQUARES_BASE)
    store<u8>(param, (shape.squaresHigh - shape.squaresLow) as u8, NUMERIC_PARAM_SQUARES_LIMBS)
  }
}

function writeCount(param: usize, cell: usize, n: i64): usize {
  const width = load<u8>(param, NUMERIC_PARAM_N_WIDTH)
  if (width == 4) store<i32>(cell, n as i32)
  else if (width == 8) store<i64>(cell, n)
  return cell + (width as usize)
}

export function numericWriteAcc(plan: PartialPlan, params: usize, cell: usize, acc: usize): void {
  const param = paramOf(plan, params)
  let at = writeCount(param, cell, load<i64>(acc))
  if (paramSumLimbs(param) != 0) {
    readSum(plan, acc)
    storeLimbs(at, paramSumBase(param), paramSumLimbs(param), numberAt, numberBase, numberLimbs)
    at += (paramSumLimbs(param) as usize) << 2
  }
  if (paramSquaresLimbs(param) != 0) {
    readSquares(plan, acc)
    storeLimbs(at, paramSquaresBase(param), paramSquaresLimbs(param), numberAt, numberBase, numberLimbs)
    at += (paramSquaresLimbs(param) as usize) << 2
  }
  const bytes = valueBytes(plan) as usize
  if (plan.flags & NUMERIC_MIN) {
    memory.copy(at, acc + (minAt(plan) as usize), bytes)
    at += bytes
  }
  if (plan.flags & NUMERIC_MAX) memory.copy(at, acc + (maxAt(plan) as usize), bytes)
}

/** A cell of another run, in this run's widths. */
export function numericCopyTile(plan: PartialPlan, params: usize, cell: usize, run: Run, from: usize, rows: i64): void {
  const param = paramOf(plan, params)
  const old = paramOf(plan, run.params)
  let at = writeCount(param, cell, cellCount(old, from, rows))
  from += load<u8>(old, NUMERIC_PARAM_N_WIDTH) as usize
  storeLimbs(at, paramSumBase(param), paramSumLimbs(param), from, paramSumBase(old), paramSumLimbs(old))
  at += (paramSumLimbs(param) as usize) << 2
  from += (paramSumLimbs(old) as usize) << 2
  storeLimbs(at, paramSquaresBase(param), paramSquaresLimbs(param), from, paramSquaresBase(old), paramSquaresLimbs(old))
  at += (paramSquaresLimbs(param) as usize) << 2
  from += (paramSquaresLimbs(old) as usize) << 2
  let bytes = 0
  if (plan.flags & NUMERIC_MIN) bytes += valueBytes(plan)
  if (plan.flags & NUMERIC_MAX) bytes += valueBytes(plan)
  memory.copy(at, from, bytes as usize)
}
