/**
 * The module's only owner of memory. Nothing else calls `memory.grow`; no runtime, no garbage collector.
 *
 * Two kinds of memory:
 *
 *   blocks    `allocate` / `release`: powers of two from 64 bytes, a free list per size. A block is never moved; whoever
 *             allocated it owns it. Growable arrays are blocks that are replaced by one of twice the size.
 *   scratch   `scratch`: a bump pointer through one block, reset by `resetScratch` at the start of each call that takes a
 *             batch. Good until the next reset.
 *
 * Traps carry a code in `trapCode` that the host reads after the trap (model/errors.ts: CORE_TRAP, CORE_MEMORY).
 */

const SIZE_CLASSES: i32 = 32
const MIN_CLASS: i32 = 6
/** Growing page by page costs 0.7 ms each once the memory is large, so grow by at least this: 4 MiB. */
const GROW_PAGES: i32 = 64

export const TRAP_ASSERT: i32 = 1
export const TRAP_MEMORY: i32 = 2

/** Code of the last trap; 0 when there was none. */
export let trapCode: i32 = 0
/** Line of the last failed assertion. */
export let trapLine: i32 = 0

/** `assert` and `throw` end here (asconfig: --use abort=). No import, so any host can run the module. */
export function abort(_message: usize, _file: usize, line: u32, _column: u32): void {
  trapCode = TRAP_ASSERT
  trapLine = line
  unreachable()
}

const freeLists = memory.data(SIZE_CLASSES * 4)
let top: usize = 0

/** A block of at least `bytes`, 64-byte aligned (so that a 64-byte slot is one cache line), contents undefined. */
export function allocate(bytes: usize): usize {
  let sizeClass = MIN_CLASS
  if (bytes > 64) sizeClass = 32 - clz<i32>((bytes as i32) - 1)
  if (bytes > 0x4000_0000) outOfMemory()
  const list = freeLists + ((sizeClass as usize) << 2)
  const free = load<u32>(list) as usize
  if (free != 0) {
    store<u32>(list, load<u32>(free))
    return free
  }
  if (top == 0) top = (__heap_base + 63) & ~63
  const block = top
  const end = (block as u64) + (1 << (sizeClass as u64))
  // `top` is an address: the last block of a full 4 GiB would make it 0.
  if (end > 0xffff_ffff) outOfMemory()
  if (end > ((memory.size() as u64) << 16)) {
    const missing = (((end - ((memory.size() as u64) << 16)) + 0xffff) >> 16) as i32
    if (memory.grow(max(missing, GROW_PAGES)) < 0) if (memory.grow(missing) < 0) outOfMemory()
  }
  top = end as usize
  return block
}

/** Gives a block back; `bytes` is what it was allocated with. */
export function release(block: usize, bytes: usize): void {
  if (block == 0) return
  let sizeClass = MIN_CLASS
  if (bytes > 64) sizeClass = 32 - clz<i32>((bytes as i32) - 1)
  const list = freeLists + ((sizeClass as usize) << 2)
  store<u32>(block, load<u32>(list))
  store<u32>(list, block as u32)
}

/** A block of `newBytes` with the first `oldBytes` of `block`, which is given back. */
export function reallocate(block: usize, oldBytes: usize, newBytes: usize): usize {
  const next = allocate(newBytes)
  if (block != 0) {
    memory.copy(next, block, oldBytes)
    release(block, oldBytes)
  }
  return next
}

function outOfMemory(): void {
  trapCode = TRAP_MEMORY
  unreachable()
}

/** Bytes handed out so far, free lists included. */
export function arenaBytes(): usize {
  return top
}

// ---- scratch -------------------------------------------------------------------------------------------------------

const SCRATCH_CHUNK: usize = 1 << 20
const SCRATCH_CHUNKS_MAX: i32 = 1024
const scratchChunks = memory.data(SCRATCH_CHUNKS_MAX * 8)
let scratchCount: i32 = 0
let scratchCurrent: i32 = -1
let scratchNext: usize = 0
let scratchEnd: usize = 0

/** Forgets everything handed out by `scratch`. */
export function resetScratch(): void {
  scratchCurrent = -1
  scratchNext = 0
  scratchEnd = 0
}

/** `bytes` of memory, 16-byte aligned, contents undefined, good until the next `resetScratch`. */
export function scratch(bytes: usize): usize {
  const size = (bytes + 15) & ~15
  if (size > scratchEnd - scratchNext || scratchNext == 0) nextScratchChunk(size)
  const at = scratchNext
  scratchNext = at + size
  return at
}

function nextScratchChunk(size: usize): void {
  while (++scratchCurrent < scratchCount) {
    const entry = scratchChunks + ((scratchCurrent as usize) << 3)
    if ((load<u32>(entry, 4) as usize) >= size) {
      scratchNext = load<u32>(entry)
      scratchEnd = scratchNext + load<u32>(entry, 4)
      return
    }
  }
  if (scratchCount == SCRATCH_CHUNKS_MAX || size > 0x4000_0000) outOfMemory()
  // All of the block that `allocate` gives, so that batches of slowly growing size do not leave one behind each time.
  const bytes: usize = size <= SCRATCH_CHUNK ? SCRATCH_CHUNK : (1 as usize) << (32 - clz<u32>((size as u32) - 1))
  const entry = scratchChunks + ((scratchCount as usize) << 3)
  store<u32>(entry, allocate(bytes))
  store<u32>(entry, bytes, 4)
  scratchCurrent = scratchCount++
  scratchNext = load<u32>(entry)
  scratchEnd = scratchNext + bytes
}
