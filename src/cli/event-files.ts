/** Files of events by their ending: which reader, and under which name they are a log. */
import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { TilefoldError } from '../model/errors.ts'
import type { InputColumn, Plan } from '../model/plan.ts'
import { createArrowSource } from '../source/arrow.ts'
import { listFiles } from '../source/files.ts'
import { createNdjsonSource } from '../source/ndjson.ts'
import { createParquetSource } from '../source/parquet.ts'
import type { Source, SourceOptions } from '../source/port.ts'
import type { Flags } from './command.ts'

const EXTENSIONS = {
  parquet: ['.parquet'],
  ndjson: ['.ndjson', '.jsonl', '.json'],
  arrow: ['.arrow', '.arrows', '.feather'],
} as const

export type EventFormat = keyof typeof EXTENSIONS

export const FORMAT_OPTION = {
  flags: '--format <format>',
  about: 'parquet, ndjson or arrow; by the ending of the files unless told',
}

export interface EventFiles {
  readonly format: EventFormat
  /** Each with its place in the log. */
  readonly paths: readonly string[]
}

/** Expands files, directories and globs. Throws SOURCE_NOT_FOUND, and USAGE where the format is not one. */
export async function findEventFiles(entries: readonly string[], flags: Flags): Promise<EventFiles> {
  const given = flags.format as string | undefined
  if (given !== undefined && !Object.hasOwn(EXTENSIONS, given)) {
    throw new TilefoldError(
      'USAGE',
      `cannot use --format: got ${JSON.stringify(given)}, expected ${Object.keys(EXTENSIONS).join(', ')}`,
    )
  }
  const known = Object.values(EXTENSIONS).flat()
  const paths = await listFiles(entries, given === undefined ? known : EXTENSIONS[given as EventFormat])
  if (given !== undefined) return { format: given as EventFormat, paths }
  const formats = [...new Set(paths.map(formatOf))]
  if (formats.length > 1) {
    throw new TilefoldError('USAGE', `cannot read ${formats.join(' and ')} files as one log; give files of one format`)
  }
  return { format: formats[0]!, paths }
}

function formatOf(path: string): EventFormat {
  for (const [format, endings] of Object.entries(EXTENSIONS)) {
    if (endings.some((ending) => path.toLowerCase().endsWith(ending))) return format as EventFormat
  }
  const endings = Object.values(EXTENSIONS).flat().join(', ')
  throw new TilefoldError(
    'USAGE',
    `cannot tell the format of ${path}: expected a file that ends with ${endings}, or --format`,
  )
}

/** One column each, whichever views read it. */
export function inputsOf(plans: readonly Plan[]): InputColumn[] {
  return [...new Map(plans.flatMap((plan) => plan.state.inputs).map((input) => [input.name, input])).values()]
}

export function openEventFiles({ format, paths }: EventFiles, log: string, options: SourceOptions): Source {
  const create = { parquet: createParquetSource, ndjson: createNdjsonSource, arrow: createArrowSource }[format]
  return create({ ...options, log, paths })
}

/**
 * A name for a plan of files that changes with it: positions are row numbers of the plan, so an interrupted backfill must
 * not go on with other files. Folders do not count; names, sizes and their order do. `choice`: what the files were chosen by, where folders
 * may be all that tells one choice from another.
 */
export async function planName(source: string, paths: readonly string[], choice?: string): Promise<string> {
  const hash = createHash('sha256')
  if (choice !== undefined) hash.update(JSON.stringify(choice))
  for (const path of paths) {
    const { size } = await stat(path).catch((error: Error) => {
      throw new TilefoldError('SOURCE_NOT_FOUND', `cannot find ${path}: ${error.message}`, { path })
    })
    hash.update(JSON.stringify([basename(path), size]))
  }
  return `${source}-${hash.digest('hex').slice(0, 12)}`
}
