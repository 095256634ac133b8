// Tiles into accumulators, read in place.
import {
  NUMERIC_MAX,
  NUMERIC_MIN,
  NUMERIC_PARAM_N_WIDTH,
  NUMERIC_PARAM_SQUARES_BASE,
  NUMERIC_PARAM_SUM_BASE,
  NUMERIC_SQUARES,
  NUMERIC_SUM,
  TYPE_F64,
} from '../../layout'
import { PartialPlan } from '../../plan'
import {
  WIDE_SQUARES_AT,
  WIDE_SQUARES_BASE,
  WIDE_SQUARES_LIMBS,
  WIDE_SUM_BASE,
  WIDE_SUM_LIMBS,
  addLimbs,
  addToWords,
} from '../../exact'
import { Run } from '../partial'
import {
  SUM_AT,
  WIDE_AT,
  maxAt,
  minAt,
  paramOf,
  paramSquaresBase,
  paramSquaresLimbs,
  paramSumBase,
  paramSumLimbs,
  squaresAt,
  squaresBase,
  squaresWords,
  sumBase,
  sumWords,
  valueBytes,
} from './offsets'
import { highestOf, lowerMin, lowestOf, raiseMax } from './bounds'
import { wideOf } from './wide'

/** Bytes of a cell under these parameters, or -1 when they can't be: a double's limbs, an integer's words, zero padding. */
export function numericCellBytes(plan: PartialPlan, params: usize): i32 {
  const param = paramOf(plan, params)
  const width = load<u8>(param, NUMERIC_PARAM_N_WIDTH)
  if (width != 0 && width != 4 && width != 8) return -1
  if (load<u16>(param, 5) != 0 || load<u8>(param, 7) != 0) return -1
  const sumFits = plan.flags & NUMERIC_SUM
    ? limbsFit(plan.type, paramSumBase(param), paramSumLimbs(param), WIDE_SUM_BASE, WIDE_SUM_LIMBS, sumWords(plan.type))
    : load<u16>(param, NUMERIC_PARAM_SUM_BASE) == 0
  const squaresFit = plan.flags & NUMERIC_SQUARES
    ? limbsFit(
        plan.type,
        paramSquaresBase(param),
        paramSquaresLimbs(param),
        WIDE_SQUARES_BASE,
        WIDE_SQUARES_LIMBS,
        squaresWords(plan.type),
      )
    : load<u16>(param, NUMERIC_PARAM_SQUARES_BASE) == 0
  if (!sumFits || !squaresFit) return -1
  let bytes = (width as i32) + ((paramSumLimbs(param) + paramSquaresLimbs(param)) << 2)
  if (plan.flags & NUMERIC_MIN) bytes += valueBytes(plan)
  if (plan.flags & NUMERIC_MAX) bytes += valueBytes(plan)
  return bytes
}

function limbsFit(type: i32, base: i32, limbs: i32, wideBase: i32, wideLimbs: i32, words: i32): bool {
  if (type == TYPE_F64) return base >= wideBase && base + limbs <= wideBase + wideLimbs
  return base >= 0 && base + limbs <= words << 1
}

/**
 * HOT. acc += `count` tiles of a run from `first` on, whose cells of this partial lie at `cellAt`; `rows` is the sum of the
 * tiles' rows.
 */
export function numericAddTiles(
  plan: PartialPlan,
  acc: usize,
  run: Run,
  first: usize,
  cellAt: usize,
  count: i32,
  rows: i64,
): void {
  const param = paramOf(plan, run.params)
  const stride = run.stride
  const flags = plan.flags
  const type = plan.type
  const width = load<u8>(param, NUMERIC_PARAM_N_WIDTH) as usize
  let at = first + cellAt

  // Counts of their own, where some cell is null.
  let total = rows
  if (width != 0) {
    total = 0
    for (let i = 0, cell = at; i < count; i++, cell += stride) {
      total += width == 8 ? load<i64>(cell) : (load<i32>(cell) as i64)
    }
  }
  store<i64>(acc, load<i64>(acc) + total)
  at += width

  const sumLimbs = paramSumLimbs(param)
  const squaresLimbs = paramSquaresLimbs(param)
  if (sumLimbs != 0) {
    sumTiles(acc, acc + SUM_AT, sumBase(type), sumWords(type), 0, at, paramSumBase(param), sumLimbs, stride, count)
    at += (sumLimbs as usize) << 2
  }
  if (squaresLimbs != 0) {
    const words = acc + (squaresAt(plan) as usize)
    const base = paramSquaresBase(param)
    sumTiles(acc, words, squaresBase(type), squaresWords(type), 1, at, base, squaresLimbs, stride, count)
    at += (squaresLimbs as usize) << 2
  }
  if (flags & NUMERIC_MIN) {
    const low = acc + (minAt(plan) as usize)
    if (type == TYPE_F64) lowestOf(low, at, stride, count)
    else for (let i = 0, cell = at; i < count; i++, cell += stride) lowerMin(type, low, cell)
    at += valueBytes(plan) as usize
  }
  if (flags & NUMERIC_MAX) {
    const high = acc + (maxAt(plan) as usize)
    if (type == TYPE_F64) highestOf(high, at, stride, count)
    else for (let i = 0, cell = at; i < count; i++, cell += stride) raiseMax(type, high, cell)
  }
}

/** Adds a column of limb numbers: in the run's own units while they are short, then once to the accumulator. */
function sumTiles(
  acc: usize,
  words: usize,
  wordsBase: i32,
  wordCount: i32,
  squares: i32,
  at: usize,
  base: i32,
  limbs: i32,
  stride: usize,
  count: i32,
): void {
  const inWords = base >= wordsBase && base + limbs <= wordsBase + (wordCount << 1) - (wordsBase == 0 ? 0 : 2)
  if (!inWords) {
    const wide = wideOf(acc + WIDE_AT)
    for (let i = 0; i < count; i++, at += stride) {
      if (squares) addLimbs(wide + WIDE_SQUARES_AT, WIDE_SQUARES_BASE, WIDE_SQUARES_LIMBS, at, base, limbs)
      else addLimbs(wide, WIDE_SUM_BASE, WIDE_SUM_LIMBS, at, base, limbs)
    }
    return
  }
  const limb = base - wordsBase
  if (limbs == 1) {
    let sum: i64 = 0
    for (let i = 0; i < count; i++, at += stride) sum += load<i32>(at) as i64
    addToWords(words, wordCount, sum as u64, sum >> 63, limb)
  } else if (limbs == 2) {
    let low: u64 = 0
    let high: i64 = 0
    for (let i = 0; i < count; i++, at += stride) {
      const value = load<i64>(at)
      low += value as u64
      high += (value >> 63) + ((low < (value as u64)) as i64)
    }
    addToWords(words, wordCount, low, high, limb)
  } else if (limbs == 3) {
    let low: u64 = 0
    let high: i64 = 0
    for (let i = 0; i < count; i++, at += stride) {
      const value = load<u64>(at)
      low += value
      high += (load<i32>(at, 8) as i64) + ((low < value) as i64)
    }
    addToWords(words, wordCount, low, high, limb)
  } else {
    for (let i = 0; i < count; i++, at += stride) addLimbs(words, 0, wordCount << 1, at, limb, limbs)
  }
}
