/** A row's checksum, computed on this side of the core. */
import { ROW_CHECKED_FROM } from '../../assembly/layout.ts'

const MIX_1 = 0x9e37_79b1_85eb_ca87n
const MIX_2 = 0xc2b2_ae3d_27d4_eb4fn
const WORD = 0xffff_ffff_ffff_ffffn

/** The same sum as assembly/row.ts's `checksum`, over everything behind the applied position. */
export function rowChecksum(view: DataView): number {
  const end = view.byteLength
  const sums = [0n, 0n, 0n, 0n]
  const sumsOfSums = [0n, 0n, 0n, 0n]
  const add = (lane: number, word: bigint) => {
    sums[lane] = (sums[lane]! + word) & WORD
    sumsOfSums[lane] = (((sumsOfSums[lane]! << 5n) | (sumsOfSums[lane]! >> 59n)) + sums[lane]!) & WORD
  }
  let at = ROW_CHECKED_FROM
  for (; at + 32 <= end; at += 32) {
    for (let lane = 0; lane < 4; lane++) add(lane, view.getBigUint64(at + lane * 8, true))
  }
  for (; at < end; at += 4) add(0, BigInt(view.getUint32(at, true)))
  let hash = (BigInt(end - ROW_CHECKED_FROM) * MIX_1) & WORD
  for (let lane = 0; lane < 4; lane++) {
    hash = ((hash ^ sums[lane]!) * MIX_1) & WORD
    hash ^= hash >> 32n
    hash = ((hash ^ sumsOfSums[lane]!) * MIX_2) & WORD
    hash ^= hash >> 29n
  }
  return Number((hash ^ (hash >> 32n)) & 0xffff_ffffn)
}
