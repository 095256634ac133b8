/** The logs of a generation, and what they are read from again: the mirror for topics, files for history. */

import { type TakenTimes, takenTimes } from '../model/covers.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { type GenerationLayout, historyLane, liveLane, startOf } from '../model/view-layout.ts'
import { refuseRouted } from '../registry/routes.ts'
import { createMirrorSource } from '../source/mirror.ts'
import { findMirrored } from '../source/mirror-check.ts'
import { listMirror } from '../source/mirror-manifest.ts'
import type { Source } from '../source/port.ts'

export interface ParityLog {
  /** Names of the log's lanes by their number. */
  readonly lanes: readonly string[]
  readonly source: Source
  /** Last position that the source has. */
  readonly end: number
  /** The first that counts; the source's own first unless told. */
  readonly start?: number
  readonly notAfterMs: number
  readonly takes: TakenTimes | undefined
}

export interface ParityFiles {
  readonly source: Source
  /** Bounds the late clock, as the backfill's start did, where the layout does not tell it. */
  readonly notAfterMs: number
}

export interface LogsWanted {
  readonly plan: Plan
  readonly mirror?: string
  readonly topics?: ReadonlyMap<string, string>
  readonly history?: ParityFiles
}

export interface LogsFound {
  readonly logs: readonly ParityLog[]
  /** Lanes that nothing was given for. */
  readonly unchecked: readonly string[]
}

/** Why what is routed can't be told from a mirror. */
export const POSITIONS_DIFFER =
  'its rows are applied up to offsets of that topic, and a mirror knows those of the topic it comes from'

/** Throws SOURCE_NOT_FOUND where nothing can be compared, MIRROR_INVALID, CONFIG_INVALID. */
export async function findLogs(wanted: LogsWanted, generation: GenerationLayout): Promise<LogsFound> {
  const { plan, mirror, topics, history } = wanted
  const topic = topics?.get(plan.state.source) ?? plan.state.source
  const logs: ParityLog[] = []
  const unchecked: string[] = []
  const own = Array.from({ length: generation.history.lanes }, (_, i) => historyLane(i))
  if (own.length > 0 && history) logs.push(await historyLog(history, own, generation))
  else unchecked.push(...own)
  if (logs.length === 0) {
    const instead =
      own.length > 0 ? 'its history can be compared alone (--history)' : 'there is nothing else to compare'
    refuseRouted(generation, `compare view ${plan.view} with a mirror`, `${POSITIONS_DIFFER}; ${instead}`)
  }
  const mirrored = mirror === undefined ? [] : await listMirror(mirror)
  for (const { name, shards, notAfterMs } of generation.logs) {
    const lanes = Array.from({ length: shards }, (_, shard) => liveLane(name, shard))
    const part = mirrored.find((each) => each.topic === topic && `${topic}.${each.partition}` === name)
    const files = part === undefined ? [] : await findMirrored(mirror!, topic, part.partition)
    if (part === undefined || files.length === 0) {
      unchecked.push(...lanes)
      continue
    }
    const { partition } = part
    const start = startOf(generation, name)
    const own = { dir: mirror!, topic, partition, inputs: plan.state.inputs, onReject: () => {} }
    const source = createMirrorSource({ ...own, from: start })
    const takes = takenTimes(generation.covers, false)
    logs.push({ lanes, source, end: files.at(-1)!.entry.facts.end, start, notAfterMs, takes })
  }
  if (logs.length > 0) return { logs, unchecked }
  const expected = [...generation.logs.map(({ name }) => name), ...(own.length > 0 ? ['history'] : [])].join(', ')
  throw new TilefoldError(
    'SOURCE_NOT_FOUND',
    `cannot compare view ${plan.view}: none of its logs was given to read again; got ${mirror ?? 'no mirror'}, expected ${expected || 'a log'}`,
    { view: plan.view },
  )
}

/** Positions of history are rows of a plan of files: only the same files have them. */
async function historyLog(
  { source, notAfterMs }: ParityFiles,
  lanes: readonly string[],
  { history, covers }: GenerationLayout,
): Promise<ParityLog> {
  if (history.log !== undefined && history.log !== source.log) {
    throw new TilefoldError(
      'CONFIG_INVALID',
      `cannot compare history: it was folded from other files; got ${source.log}, expected ${history.log}`,
      { expected: history.log },
    )
  }
  return {
    lanes,
    source,
    end: Number.MAX_SAFE_INTEGER,
    notAfterMs: history.notAfterMs ?? notAfterMs,
    takes: takenTimes(covers, true),
  }
}
