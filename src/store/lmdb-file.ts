/**
 * A look at an LMDB data file before LMDB maps it: given a file that is no LMDB file, or one whose end is missing, it would
 * take the process down instead of answering.
 *
 *   page 0 and page 1, each (u64 little-endian where not said):
 *    0        16  18     20        24          28           48             88               136              152
 *   +---------+---+------+---------+-----------+------------+--------------+----------------+----------------+-------+
 *   | page no |   | flags| bounds  | magic u32 | version u32| page size u32| root, free list| root, main tree| txn id|
 *   +---------+---+------+---------+-----------+------------+--------------+----------------+----------------+-------+
 */
import { closeSync, existsSync, fstatSync, ftruncateSync, openSync, readSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { TilefoldError } from '../model/errors.ts'

const META_BYTES = 160
const MAGIC = 0xbeefc0de
/** More free pages than this at the end of a file that lacks them: somebody cut it. One write never makes as many. */
const TAIL_BYTES_MAX = 256 << 20
const NO_PAGE = 2n ** 64n - 1n

/** The files of a new environment, and its first records. */
const ROOM_BYTES = 256 << 10

/**
 * Throws STORE_UNAVAILABLE where a new environment would not fit. LMDB maps its lock file before that has blocks, and touching
 * one that the disk has no room for is a signal that ends the process.
 */
export function checkRoom(folder: string): void {
  const isThere = (name: string) => (statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0) > 0
  if (isThere('data.mdb') && isThere('lock.mdb')) return
  const { bavail, bsize, blocks } = statfsSync(folder)
  // Some file systems don't say how large they are.
  if (blocks === 0 || bavail * bsize >= ROOM_BYTES) return
  throw new TilefoldError(
    'STORE_UNAVAILABLE',
    `cannot open store ${folder}: there is no room for a new one; ${bavail * bsize} bytes are free there, expected at least ${ROOM_BYTES}`,
    { path: folder },
  )
}

/** Throws STORE_FORMAT where the file cannot be an LMDB data file that is all there. A missing or empty file is new. */
export function checkDataFile(path: string): void {
  if (!existsSync(path)) return
  const file = openSync(path, 'r+')
  try {
    const bytes = fstatSync(file).size
    if (bytes === 0) return
    const first = readMeta(file, 0, path)
    const second = readMeta(file, first.pageBytes, path)
    const newest = first.txn >= second.txn ? first : second
    const pages = BigInt(Math.floor(bytes / first.pageBytes))
    for (const root of newest.roots) {
      if (root !== NO_PAGE && root >= pages) {
        throw new TilefoldError(
          'STORE_FORMAT',
          `cannot open ${path}: the file is cut off; got ${pages} pages, expected more than ${root}`,
        )
      }
    }
    // The last pages may rightly be missing, being free; mapping beyond the end of the file must still not be fatal.
    const end = Number(newest.lastPage + 1n) * first.pageBytes
    if (end - bytes > TAIL_BYTES_MAX) {
      throw new TilefoldError(
        'STORE_FORMAT',
        `cannot open ${path}: the file is cut off; got ${bytes} bytes, expected ${end}`,
      )
    }
    if (bytes < end) ftruncateSync(file, end)
  } finally {
    closeSync(file)
  }
}

function readMeta(file: number, at: number, path: string) {
  const meta = Buffer.alloc(META_BYTES)
  const got = readSync(file, meta, 0, META_BYTES, at)
  const pageBytes = meta.readUInt32LE(48)
  if (got < META_BYTES || meta.readUInt32LE(24) !== MAGIC || pageBytes < 512 || pageBytes > 65_536) {
    throw new TilefoldError(
      'STORE_FORMAT',
      `cannot open ${path}: it is not a data file of this store, or it is damaged`,
    )
  }
  return {
    pageBytes,
    roots: [meta.readBigUInt64LE(88), meta.readBigUInt64LE(136)],
    lastPage: meta.readBigUInt64LE(144),
    txn: meta.readBigUInt64LE(152),
  }
}
