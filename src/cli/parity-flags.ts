/** What the comparisons of `tilefold parity` read from the command line in common. */
import { encodeKey } from '../model/key.ts'
import type { Plan } from '../model/plan.ts'
import type { Source } from '../source/port.ts'
import type { Flags } from './command.ts'
import { parseEntity } from './entity-args.ts'
import { findEventFiles, openEventFiles, planName } from './event-files.ts'
import { readRatio, readWhole, type Settings, settingError } from './settings.ts'

export interface ParityFlags {
  /** Directory of the mirror. */
  readonly dir: string
  readonly key: Uint8Array | undefined
  /** Share of the entities. */
  readonly sample: number
  /** Differences that are told one by one. */
  readonly limit: number
}

/** Throws USAGE. */
export function readParityFlags(flags: Flags, plan: Plan): ParityFlags {
  return {
    dir: (flags.mirror as string | undefined) ?? 'mirror',
    key: readKey(flags, plan),
    sample: readSample(flags.sample as string | undefined),
    limit: flags.limit === undefined ? 10 : readWhole(flags.limit as string, '--limit', 0, 1e6),
  }
}

function readKey(flags: Flags, plan: Plan): Uint8Array | undefined {
  if (typeof flags.key === 'string') {
    if (/^([0-9a-f]{2})+$/i.test(flags.key)) return Buffer.from(flags.key, 'hex')
    throw settingError('--key', `got ${JSON.stringify(flags.key)}, expected a key in hex`)
  }
  if (typeof flags.entity !== 'string') return undefined
  const given = parseEntity(flags.entity, [plan])
  const parts = plan.state.entity
  return encodeKey(
    parts,
    parts.map((part) => given[part.name]),
  )
}

function readSample(text: string | undefined): number {
  const share = text === undefined ? 1 : readRatio(text, '--sample')
  if (share > 0) return share
  throw settingError('--sample', `got ${JSON.stringify(text)}, expected a share above 0, to 1`)
}

/** The log that a backfill of the same files is; undefined where none are named. Throws SOURCE_NOT_FOUND, USAGE. */
export async function openHistory(flags: Flags, plan: Plan): Promise<Source | undefined> {
  const entries = (flags.history ?? []) as readonly string[]
  if (entries.length === 0) return undefined
  const files = await findEventFiles(entries, flags)
  const log = await planName(plan.state.source, files.paths)
  return openEventFiles(files, log, { inputs: plan.state.inputs, onReject: () => {} })
}

/** What the command was told of definitions and store, to be told again; an address with a password in it is not printed. */
export function flagsAgain(flags: Flags, settings: Settings): string[] {
  const history = ((flags.history ?? []) as readonly string[]).flatMap((files) => ['--history', files])
  const topics = ((flags.topic ?? []) as readonly string[]).flatMap((topic) => ['--topic', topic])
  const own = (['file', 'namespace', 'store', 'redis_url'] as const).flatMap((name) => {
    const setting = settings.get(name)
    if (setting?.rank !== 'flag' || setting.text.includes('@')) return []
    return [`--${name.replaceAll('_', '-')}`, setting.text]
  })
  return [...history, ...topics, ...own]
}
