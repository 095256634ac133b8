/** lmdb's errors carry its own numbers (below -30,000) or the system's; here they become the coded errors of the store. */
import { statfsSync } from 'node:fs'
import { type ErrorCode, TilefoldError } from '../model/errors.ts'

/** MDB_CORRUPTED, MDB_PAGE_NOTFOUND, MDB_INVALID, MDB_VERSION_MISMATCH, MDB_INCOMPATIBLE. */
const FORMAT_ERRORS = new Set([-30796, -30797, -30793, -30794, -30784])
/** EIO, EFBIG, ENOSPC, EDQUOT: LMDB reports a write that was cut short by a full disk as EIO. */
const SPACE_ERRORS = new Set([5, 27, 28, 122])

/** What lmdb or the file system threw, as an error that a user can act on. `verb` completes `cannot ...`. */
export function coded(error: unknown, verb: string, path: string): unknown {
  if (error instanceof TilefoldError || !(error instanceof Error)) return error
  const { code } = error as { code?: unknown }
  // What is neither the system's nor LMDB's is a bug or comes from a sink: pass it on as it is.
  if (typeof code !== 'number' && typeof code !== 'string') return error
  const kind: ErrorCode = FORMAT_ERRORS.has(code as number) ? 'STORE_FORMAT' : 'STORE_UNAVAILABLE'
  const hint = SPACE_ERRORS.has(code as number) ? `; ${freeBytes(path)} bytes are free there` : ''
  return new TilefoldError(kind, `cannot ${verb}: ${error.message}${hint}`, { path }, { cause: error })
}

function freeBytes(path: string): number | string {
  try {
    const { bavail, bsize } = statfsSync(path)
    return bavail * bsize
  } catch {
    return 'an unknown number of'
  }
}
