/**
 * numeric: count of non-null cells of one column and, as flagged, exact sum, exact sum of squares, min, max.
 *
 *   laws        commutative, associative, exact; count, sum and squares are invertible, min and max are not
 *   error       none: sums are integers in limbs (exact.ts), rounded once when read
 *   source      Kulisch's long accumulator, trimmed per run
 *   types       F64 (finite, no -0), I64 (also BOOL as 0 / 1), DEC (128-bit integers), UTF8 (count only)
 *
 *   slot        n u32 · wide u32 (F64) · sum · min · max · squares, cut behind the last one that is flagged
 *                 sum      F64 2 words, lowest bit 2^-64 · I64 2 words · DEC 3 words
 *                 squares  F64 4 words, lowest bit 2^-128 · I64 3 words · DEC 5 words
 *               fields lie at constants from the block's start: an add less for each access of the hot loops
 *   accumulator n i64 · wide u32, pad · sum F64 4, I64 2, DEC 3 words · squares F64 6, I64 3, DEC 5 words · min · max
 *   tile        n (0, 4 or 8 bytes) · sum limbs · squares limbs · min · max
 *
 * Doubles with 2^-12 <= |v| < 2^52 go to the words; the others, and what overflows the words, to the wide block.
 *
 *   numeric/offsets   sizes and fields of the forms above          numeric/slot, slot-f64   the hot loops
 *   numeric/bounds    min and max                                  numeric/acc              accumulators
 *   numeric/integers  squares of integers, decimals                numeric/tile, plain      tiles into accumulators
 *   numeric/wide      doubles beyond the words                     numeric/write            accumulators into tiles
 *   numeric/number    words and wide block as one number           numeric/value            what a request gets
 */
export { numericAccBytes, numericSlotBytes } from './numeric/offsets'
export { numericDropSlot, numericFold, numericInitSlot, numericTakesEdge } from './numeric/slot'
export {
  numericAddAcc,
  numericAddEvents,
  numericAddSlot,
  numericDropAcc,
  numericInitAcc,
  numericOwnWide,
} from './numeric/acc'
export { numericAddTiles, numericCellBytes } from './numeric/tile'
export { numericAddPlainTiles, numericPlainForm } from './numeric/plain'
export {
  numericBoundShape,
  numericCopyTile,
  numericInitShape,
  numericMeasureAcc,
  numericMeasureTile,
  numericWriteAcc,
  numericWriteParams,
} from './numeric/write'
export { numericLower } from './numeric/value'
