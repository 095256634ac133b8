/**
 * What a mirror's directory says about itself.
 *
 *   events/<topic>/ds=2026-11-23/hour=09/<topic>+<partition>+<start>+<end>.parquet     complete files, for every reader
 *   _manifest/<topic>/<partition>/<number>.json                                        entries, for ever, numbered from 1
 *   _tmp/                                                                              what is being written
 *
 * An entry is a file or a claim. A file covers the offsets `start..end`, both included; the next one starts right behind,
 * so holes of the log (transactions' marks, compaction) lie inside of files and a missing file is seen. A claim says that
 * another process writes from now on; offline/manifest.ts has its meaning.
 */
import { promises as fs } from 'node:fs'
import path from 'node:path'
import { TilefoldError } from '../model/errors.ts'
import type { InputColumn } from '../model/plan.ts'

export interface MirrorClaim {
  readonly format: 1
  readonly kind: 'claim'
  readonly number: number
  readonly topic: string
  readonly partition: number
  readonly nonce: string
}

export interface MirrorFile {
  readonly format: 1
  readonly kind: 'file'
  readonly number: number
  readonly topic: string
  readonly partition: number
  readonly nonce: string
  /** Relative to the mirror's directory. */
  readonly file: string
  /** Where it lies until it has been moved to `file`. */
  readonly temp: string
  readonly bytes: number
  readonly sha256: string
  readonly facts: MirrorFacts
}

/** The same stand in the file's footer. */
export interface MirrorFacts {
  readonly start: number
  readonly end: number
  readonly rows: number
  /** Offsets in `start..end` that no record has. */
  readonly holes: number
  /** Records without columns: payloads that could not be decoded, and tombstones. */
  readonly failed: number
  readonly recordTimes: readonly [min: number, max: number]
  /** Absent where the views have no event time in common, or no row has one. */
  readonly eventTimes?: readonly [min: number, max: number]
  /**
   * By state hash, the late clock before the first record, -1 where the log begins. A state that was not mirrored from the
   * beginning has none: what its clock would be is not known, so nothing before the file may be left out for it.
   */
  readonly clocks: Readonly<Record<string, number>>
  /** And behind the last one. */
  readonly endClocks: Readonly<Record<string, number>>
  /** Hashes of the last decoded record of each row group, by offset: what a marker holds there. */
  readonly hashes: readonly (readonly [offset: number, hash: string])[]
  /** The columns as they were declared: what a cell means, not only how it lies. */
  readonly inputs: readonly DeclaredColumn[]
  /** Every record's payload is kept, not only those that could not be decoded. */
  readonly keepsValues: boolean
  /** Definition hashes by view. */
  readonly definitions: Readonly<Record<string, string>>
  readonly engine: string
}

export type DeclaredColumn = Pick<InputColumn, 'name' | 'type' | 'scale' | 'unit'>

export type MirrorEntry = MirrorClaim | MirrorFile

export const TEMP_FOLDER = '_tmp'
const NUMBER_DIGITS = 10
const OFFSET_DIGITS = 20
const NO_TIME = '__HIVE_DEFAULT_PARTITION__'
const HOUR_MS = 3_600_000
/** Year 9999 ends before it. */
const TIME_MAX = 253_402_300_800_000

export function manifestFolder(topic: string, partition: number): string {
  return path.join('_manifest', folderOf(topic), String(partition))
}

export function entryName(number: number): string {
  return `${String(number).padStart(NUMBER_DIGITS, '0')}.json`
}

/** Where a file goes whose first record has this record time. */
export function mirrorFileName(topic: string, partition: number, start: number, end: number, timeMs: number): string {
  const [from, to] = [start, end].map((offset) => String(offset).padStart(OFFSET_DIGITS, '0'))
  const hour = hourOf(timeMs)
  const date = hour === undefined ? undefined : new Date(hour * HOUR_MS).toISOString()
  return path.join(
    'events',
    folderOf(topic),
    `ds=${date?.slice(0, 10) ?? NO_TIME}`,
    `hour=${date?.slice(11, 13) ?? NO_TIME}`,
    `${topic}+${partition}+${from}+${to}.parquet`,
  )
}

/** Hours since the epoch; undefined where the log has no record time, or one that no calendar has. */
export function hourOf(timeMs: number): number | undefined {
  return timeMs >= 0 && timeMs < TIME_MAX ? Math.floor(timeMs / HOUR_MS) : undefined
}

/** Readers of directories ignore what begins with a dot or an underscore; a topic may. */
export function folderOf(topic: string): string {
  return topic.replace(/^[._]/, (char) => (char === '.' ? '%2E' : '%5F'))
}

/** Numbers of the entries there are, ascending; none where the partition was never mirrored. */
export async function listEntries(dir: string, topic: string, partition: number): Promise<number[]> {
  const folder = path.join(dir, manifestFolder(topic, partition))
  const names = await fs.readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw invalid(`${folder}: ${error.message}`)
  })
  return names
    .filter((name) => /^\d{10}\.json$/.test(name))
    .map((name) => Number(name.slice(0, NUMBER_DIGITS)))
    .sort((a, b) => a - b)
}

/** Throws MIRROR_INVALID. */
export async function readEntry(dir: string, topic: string, partition: number, number: number): Promise<MirrorEntry> {
  const file = path.join(dir, manifestFolder(topic, partition), entryName(number))
  let entry: MirrorEntry
  try {
    entry = JSON.parse(await fs.readFile(file, 'utf8')) as MirrorEntry
  } catch (error) {
    throw invalid(`${file}: ${(error as Error).message}`)
  }
  const { format, kind } = entry ?? {}
  if (format !== 1 || (kind !== 'file' && kind !== 'claim')) {
    throw invalid(`${file} is of another version; got format ${format}, kind ${kind}, expected format 1`)
  }
  if (entry.number !== number || entry.topic !== topic || entry.partition !== partition) {
    throw invalid(`${file} belongs elsewhere; got entry ${entry.number} of ${entry.topic}.${entry.partition}`)
  }
  const fault = kind === 'file' ? faultOf(entry) : undefined
  if (fault !== undefined) throw invalid(`${file} is no entry of a file: ${fault} is not what it should be`)
  return entry
}

const isWhole = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0
const isObject = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value)
/** A path below `folder`, without a way out of it. */
const isBelow = (folder: string) => (value: unknown) =>
  typeof value === 'string' && path.normalize(value) === value && value.startsWith(folder + path.sep)

const ENTRY_SHAPE: Readonly<Record<string, (value: unknown) => boolean>> = {
  file: isBelow('events'),
  temp: isBelow(TEMP_FOLDER),
  bytes: isWhole,
  sha256: (value) => typeof value === 'string',
  facts: isObject,
}
const FACTS_SHAPE: typeof ENTRY_SHAPE = {
  start: isWhole,
  end: isWhole,
  rows: isWhole,
  failed: isWhole,
  clocks: isObject,
  endClocks: isObject,
  hashes: Array.isArray,
  inputs: Array.isArray,
}

/** The first field of a file's entry that is not what it should be. */
function faultOf(entry: MirrorEntry): string | undefined {
  const oddOf = (shape: typeof ENTRY_SHAPE, value: object) =>
    Object.keys(shape).find((name) => !shape[name]!((value as Record<string, unknown>)[name]))
  const odd = oddOf(ENTRY_SHAPE, entry)
  if (odd !== undefined) return odd
  const fact = oddOf(FACTS_SHAPE, (entry as MirrorFile).facts)
  return fact === undefined ? undefined : `facts.${fact}`
}

/** The files of a partition in log order, each right behind the one before. Throws MIRROR_INVALID. */
export async function readMirrorFiles(dir: string, topic: string, partition: number): Promise<MirrorFile[]> {
  const numbers = await listEntries(dir, topic, partition)
  const files: MirrorFile[] = []
  for (const [index, number] of numbers.entries()) {
    if (number !== index + 1) {
      throw invalid(`manifest of ${topic}.${partition}: got entry ${number}, expected ${index + 1}`)
    }
    const entry = await readEntry(dir, topic, partition, number)
    if (entry.kind === 'claim') continue
    const { start, end } = entry.facts
    const next = files.length === 0 ? start : files.at(-1)!.facts.end + 1
    if (start !== next || end < start) {
      const what = start < next ? 'overlaps the file before' : 'is not right behind the file before'
      throw invalid(`${entry.file} ${what}; got offsets ${start} to ${end}, expected a start at ${next}`)
    }
    files.push(entry)
  }
  return files
}

/** Topics and partitions that a mirror holds, in order. */
export async function listMirror(dir: string): Promise<{ topic: string; partition: number }[]> {
  const root = path.join(dir, '_manifest')
  const found: { topic: string; partition: number }[] = []
  const topics = await fs.readdir(root).catch((error: NodeJS.ErrnoException) => {
    throw new TilefoldError('SOURCE_NOT_FOUND', `cannot find a mirror in ${dir}: ${error.message}`, { dir })
  })
  for (const topic of topics.sort()) {
    const partitions = (await fs.readdir(path.join(root, topic))).filter((name) => /^\d+$/.test(name)).map(Number)
    for (const partition of partitions.sort((a, b) => a - b))
      found.push({ topic: decodeURIComponent(topic), partition })
  }
  return found
}

export function invalid(what: string, details: Record<string, unknown> = {}): TilefoldError {
  return new TilefoldError('MIRROR_INVALID', `cannot use the mirror: ${what}`, details)
}
