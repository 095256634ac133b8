/** Do the files of a mirrored partition agree with its manifest, and which of them does a replay need? */
import { createHash } from 'node:crypto'
import { createReadStream, promises as fs } from 'node:fs'
import path from 'node:path'
import { TilefoldError } from '../model/errors.ts'
import type { StatePlan } from '../model/plan.ts'
import { folderOf, invalid, type MirrorFile, readMirrorFiles } from './mirror-manifest.ts'

/** A file, and where it lies now. */
export interface FoundFile {
  readonly entry: MirrorFile
  readonly path: string
}

/**
 * The files of a partition in log order: each is there with the bytes it was written with, right behind the one before, and
 * none lies beside them. Throws SOURCE_NOT_FOUND where nothing is mirrored, MIRROR_INVALID.
 */
export async function checkMirror(dir: string, topic: string, partition: number): Promise<FoundFile[]> {
  const found = await findMirrored(dir, topic, partition)
  if (found.length > 0) return found
  throw new TilefoldError(
    'SOURCE_NOT_FOUND',
    `cannot find ${topic}.${partition} in the mirror ${dir}: it holds none of it`,
  )
}

/** The same; none where a mirror has looked at the partition and not met a record yet. Throws MIRROR_INVALID. */
export async function findMirrored(dir: string, topic: string, partition: number): Promise<FoundFile[]> {
  const entries = await readMirrorFiles(dir, topic, partition)
  if (entries.length === 0) return []
  const found: FoundFile[] = []
  for (const [index, entry] of entries.entries()) {
    found.push({ entry, path: await locate(dir, entry, index === entries.length - 1) })
  }
  await checkStrangers(dir, topic, partition, new Set(entries.map(({ file }) => path.basename(file))))
  return found
}

/** The last file may not have been given its name yet. */
async function locate(dir: string, { file, temp, bytes }: MirrorFile, isLast: boolean): Promise<string> {
  // Moved between two looks, it is found by the third.
  for (const name of isLast ? [file, temp, file] : [file]) {
    const at = path.join(dir, name)
    const size = await fs.stat(at).then(
      (stat) => stat.size,
      () => undefined,
    )
    if (size === undefined) continue
    if (size !== bytes) throw invalid(`${at} has changed; got ${size} bytes, expected ${bytes}`, { file })
    return at
  }
  throw invalid(`${path.join(dir, file)} is missing`, { file })
}

/**
 * Is it byte for byte what was written? Flipped bits in a page of numbers decode to other numbers without a fault, and a
 * replay would store them. Throws MIRROR_INVALID.
 */
export async function checkContent(
  { entry: { file, sha256 }, path: at }: FoundFile,
  signal?: AbortSignal,
): Promise<void> {
  const hash = createHash('sha256')
  try {
    for await (const bytes of createReadStream(at, { highWaterMark: 1 << 20, signal })) hash.update(bytes)
  } catch (error) {
    signal?.throwIfAborted()
    throw invalid(`${at}: ${(error as Error).message}`, { file })
  }
  const got = hash.digest('hex')
  if (got !== sha256) throw invalid(`${at} has changed; got SHA-256 ${got}, expected ${sha256}`, { file })
}

async function checkStrangers(dir: string, topic: string, partition: number, known: ReadonlySet<string>) {
  const root = path.join(dir, 'events', folderOf(topic))
  const names = await fs.readdir(root, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw invalid(`${root}: ${error.message}`)
  })
  for (const name of names) {
    const base = path.basename(name)
    if (base.startsWith(`${topic}+${partition}+`) && base.endsWith('.parquet') && !known.has(base)) {
      // Written between the look at the manifest and this one?
      const entries = await readMirrorFiles(dir, topic, partition)
      if (entries.some(({ file }) => path.basename(file) === base)) continue
      throw invalid(`${path.join(root, name)} is not in the manifest`, { file: name })
    }
  }
}

/** The files that hold offsets of `[from, to)`. Throws LOG_GAP where the mirror does not reach as far. */
export function filesBetween(files: readonly FoundFile[], from: number, to: number): FoundFile[] {
  const { topic, partition } = files[0]!.entry
  const [start, next] = [files[0]!.entry.facts.start, files.at(-1)!.entry.facts.end + 1]
  if (from < start || to > next || from > to) {
    throw new TilefoldError(
      'LOG_GAP',
      `cannot read ${topic}.${partition} from its mirror: got offsets ${from} to ${to}, expected some within ${start} to ${next}`,
      { start, next },
    )
  }
  return files.filter(({ entry }) => entry.facts.end >= from && entry.facts.start < to)
}

/** Where a replay begins, and the late clock it begins with. */
export interface ReplayStart {
  readonly from: number
  readonly lateClockMs: number
}

/**
 * Where a replay may begin that wants events of `sinceMs` and later, and no others: in front of the first file that has one.
 * What is left out decides nothing about the rest, if the late clock goes on as if it had been read. So files are left out
 * only where that clock is stored, and none for a state with dedupe, whose ids are nowhere but in the records.
 */
export function replayStart(
  files: readonly MirrorFile[],
  state: Pick<StatePlan, 'dedupe'>,
  stateHash: string,
  sinceMs: number,
): ReplayStart {
  let start: ReplayStart = { from: files[0]!.facts.start, lateClockMs: -1 }
  if (state.dedupe !== undefined) return start
  for (const { facts } of files) {
    const clock = facts.clocks[stateHash]
    if (clock !== undefined) start = { from: facts.start, lateClockMs: clock }
    const newest =
      facts.eventTimes?.[1] ?? (facts.failed === facts.rows ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY)
    // Records without columns may have some for other views.
    if (newest >= sinceMs || facts.failed > 0) break
  }
  return start
}
