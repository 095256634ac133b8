/**
 * Keeps a thread from being ended in the middle of an LMDB transaction. lmdb cleans up after a thread that ends, and
 * waits there for a lock that the ended transaction holds: the thread never ends, no other thread can write, and the
 * process cannot exit. So whoever ends threads (`worker.terminate()`, `process.exit()`) closes their guards first.
 *
 * One guard per writing thread, made by the thread that starts it and handed over in `workerData`:
 *
 *   0 free  <->  1 writing          the writing thread
 *   0 free   ->  2 closed           the other one, for ever; it waits while a write is under way (some 10 ms)
 */
import { TilefoldError } from '../model/errors.ts'

const FREE = 0
const WRITING = 1
const CLOSED = 2

export type WriteGuard = Int32Array<SharedArrayBuffer>

export function createWriteGuard(): WriteGuard {
  return new Int32Array(new SharedArrayBuffer(4))
}

/** Runs `work` while the guard cannot be closed. Throws ENGINE_CLOSED once it is. */
export function guardWrite<T>(guard: WriteGuard | undefined, work: () => T): T {
  if (guard === undefined) return work()
  if (Atomics.compareExchange(guard, 0, FREE, WRITING) !== FREE) {
    throw new TilefoldError('ENGINE_CLOSED', 'cannot write to the store: this thread is being ended')
  }
  try {
    return work()
  } finally {
    Atomics.store(guard, 0, FREE)
    Atomics.notify(guard, 0)
  }
}

/** Waits for the write under way, if any, and lets no other begin. The thread may be ended from then on. */
export function closeGuard(guard: WriteGuard): void {
  while (Atomics.compareExchange(guard, 0, FREE, CLOSED) === WRITING) Atomics.wait(guard, 0, WRITING)
}

const guards = new Set<WriteGuard>()

/** Closes the guard when the process exits, by whatever way but a kill, unless it is forgotten before. */
export function closeAtExit(guard: WriteGuard): void {
  if (guards.size === 0) process.on('exit', closeAll)
  guards.add(guard)
}

/** For a guard that is closed already. */
export function forgetGuard(guard: WriteGuard): void {
  guards.delete(guard)
  if (guards.size === 0) process.off('exit', closeAll)
}

function closeAll(): void {
  for (const guard of guards) closeGuard(guard)
}
