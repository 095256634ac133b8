// The output region: new rows and checkpoints.
import { reallocate } from '../arena'

/** New rows, one behind the other, each 8-byte aligned. */
export let outAt: usize = 0
let outCapacity: usize = 0
export let outEnd: usize = 0

export function clearOut(): void {
  outEnd = 0
}

/** Room for `bytes` more behind outEnd; moves what is there, so addresses into it are good until the next call. */
export function reserveOut(bytes: usize): usize {
  const end = outEnd + bytes
  if (end > outCapacity) {
    const capacity = max(end << 1, 1 << 18)
    outAt = reallocate(outAt, outCapacity, capacity)
    outCapacity = capacity
  }
  return outAt + outEnd
}

/** The next `bytes` behind outEnd have been written. */
@inline
export function takeOut(bytes: usize): void {
  outEnd += bytes
}

export function alignOut(): void {
  outEnd = (outEnd + 7) & ~7
}
