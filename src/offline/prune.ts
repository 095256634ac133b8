/**
 * Which files of a history have to be read for events of `[from, to)`, and whether the others may be left out.
 *
 * What is left out must decide nothing about the rest. A row judges those behind it in one way alone without dedupe, by the late clock:
 *
 *   a mirror's partition   its manifest has the event times of each file, and the late clock in front of it: the replay starts with that
 *   any other files        directories tell the times (source/hive.ts), no clock is known: only under policy `accept`, where the clock
 *                          decides about retention, and only where no file that is left out could have moved it so far
 *   dedupe                 the ids of what is left out are in no manifest: never
 *
 * Files are left out whole: what else is in the others counts too. From when on answers are complete follows (`completeSinceMs`).
 */
import path from 'node:path'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { hiveInterval, type Interval } from '../source/hive.ts'
import { replayStart } from '../source/mirror-check.ts'
import { listMirror, type MirrorFile, readMirrorFiles } from '../source/mirror-manifest.ts'

export interface Bounds {
  readonly fromMs?: number | undefined
  readonly toMs?: number | undefined
}

export interface Pruned {
  readonly paths: readonly string[]
  /** Files that are left out. */
  readonly left: number
  /** Windows that start before it lack events; undefined where none was left out at the beginning. */
  readonly completeSinceMs?: number
  /** The late clock to start with, by state hash. */
  readonly startClocks: ReadonlyMap<string, number>
}

/** Throws CONFIG_INVALID where files must not be left out, or would all be, and MIRROR_INVALID. */
export async function pruneFiles(paths: readonly string[], bounds: Bounds, plans: readonly Plan[]): Promise<Pruned> {
  const { fromMs = Number.NEGATIVE_INFINITY, toMs = Number.POSITIVE_INFINITY } = bounds
  if (fromMs >= toMs) throw refused('--from is not before --to')
  const withIds = plans.find(({ state }) => state.dedupe !== undefined)
  if (withIds) {
    throw refused(
      `view ${withIds.view} tells duplicates by ids, and those of files that are left out are known nowhere`,
    )
  }
  const mirrored = await findMirrored(paths)
  const alone = mirrored && partitionOf(mirrored)
  const kept = alone
    ? prunePartition(alone, { fromMs, toMs }, plans)
    : pruneByTimes(paths, mirrored, { fromMs, toMs }, plans)
  if (kept.paths.length === 0) throw refused(`none of ${paths.length} files has events of that time`)
  return { ...kept, left: paths.length - kept.paths.length }
}

type Kept = Omit<Pruned, 'left'>

/** Late clocks are known: any policy will do. */
function prunePartition(files: readonly Mirrored[], { fromMs, toMs }: Interval, plans: readonly Plan[]): Kept {
  const entries = files.map(({ entry }) => entry)
  const starts = plans.map(({ state, stateHash }) => replayStart(entries, state, stateHash, fromMs).from)
  const hasClocks = ({ facts }: MirrorFile) => plans.every(({ stateHash }) => facts.clocks[stateHash] !== undefined)
  let first = entries.findIndex(({ facts }) => facts.start === Math.min(...starts))
  if (!hasClocks(entries[first]!)) first = 0
  // Only the end may go: in between, the clock would miss it.
  let end = files.length
  while (end > first && (entries[end - 1]!.facts.eventTimes?.[0] ?? Number.NEGATIVE_INFINITY) >= toMs) end--
  const startClocks = new Map<string, number>()
  if (first > 0) for (const { stateHash } of plans) startClocks.set(stateHash, entries[first]!.facts.clocks[stateHash]!)
  return {
    paths: files.slice(first, end).map((file) => file.path),
    startClocks,
    ...(first > 0 && { completeSinceMs: fromMs }),
  }
}

function pruneByTimes(
  paths: readonly string[],
  mirrored: readonly Mirrored[] | undefined,
  { fromMs, toMs }: Interval,
  plans: readonly Plan[],
): Kept {
  const files = paths.map((each, i) => ({ path: each, times: mirrored ? timesOf(mirrored[i]!.entry) : told(each) }))
  const isKept = ({ times }: (typeof files)[number]) => times.toMs > fromMs && times.fromMs < toMs
  const kept = files.filter(isKept)
  if (kept.length === files.length) return { paths, startClocks: new Map() }
  for (const { view, state } of plans) {
    if (state.lateness.policy !== 'accept') {
      throw refused(
        `what is late in view ${view} (policy ${state.lateness.policy}) follows from the rows before it, and only one partition of a mirror has the late clock in front of each file`,
      )
    }
    let clockMs = Number.NEGATIVE_INFINITY
    for (const file of files) {
      if (!isKept(file)) clockMs = Math.max(clockMs, file.times.toMs)
      else if (clockMs - state.retentionMs > file.times.fromMs) {
        throw refused(
          `in view ${view} events of ${file.path} may be older than the retention by what is left out before them; got files up to ${iso(clockMs)} in front of it`,
        )
      }
    }
  }
  const isBefore = files.some((file) => !isKept(file) && file.times.fromMs < fromMs)
  return {
    paths: kept.map((file) => file.path),
    startClocks: new Map(),
    ...(isBefore && { completeSinceMs: fromMs }),
  }
}

function told(file: string): Interval {
  const times = hiveInterval(file)
  if (times) return times
  throw refused(
    `the directories of ${file} don't tell when its events are of; expected names like ds=2026-11-20/hour=03`,
  )
}

/** One that has records without columns, or none with a time, may have any. */
function timesOf({ facts }: MirrorFile): Interval {
  if (facts.eventTimes === undefined || facts.failed > 0) {
    return { fromMs: Number.NEGATIVE_INFINITY, toMs: Number.POSITIVE_INFINITY }
  }
  return { fromMs: facts.eventTimes[0], toMs: facts.eventTimes[1] + 1 }
}

// ---- files of a mirror -------------------------------------------------------------------------------------------------

interface Mirrored {
  readonly path: string
  readonly entry: MirrorFile
}

/** The manifest's entry of every file; undefined where one is no mirror's. */
async function findMirrored(paths: readonly string[]): Promise<Mirrored[] | undefined> {
  const known = new Map<string, MirrorFile>()
  const dirs = new Set<string>()
  const found: Mirrored[] = []
  for (const each of paths) {
    const whole = path.resolve(each)
    const at = whole.lastIndexOf(`${path.sep}events${path.sep}`)
    if (at < 0) return undefined
    const dir = whole.slice(0, at)
    if (!dirs.has(dir)) {
      dirs.add(dir)
      const partitions = await listMirror(dir).catch(() => [])
      for (const { topic, partition } of partitions) {
        for (const entry of await readMirrorFiles(dir, topic, partition)) known.set(path.join(dir, entry.file), entry)
      }
    }
    const entry = known.get(whole)
    if (entry === undefined) return undefined
    found.push({ path: each, entry })
  }
  return found
}

/** Files of one partition, in log order and none missing in between. */
function partitionOf(files: readonly Mirrored[]): readonly Mirrored[] | undefined {
  const [first] = files
  const isNext = ({ entry }: Mirrored, i: number) =>
    entry.topic === first!.entry.topic &&
    entry.partition === first!.entry.partition &&
    (i === 0 || entry.facts.start === files[i - 1]!.entry.facts.end + 1)
  return files.every(isNext) ? files : undefined
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}

function refused(cause: string): TilefoldError {
  return new TilefoldError('CONFIG_INVALID', `cannot leave out files by time: ${cause}`)
}
