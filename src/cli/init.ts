/** `tilefold init`: a folder to start in. */
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { TilefoldError } from '../model/errors.ts'
import { formatInstant } from '../model/time.ts'
import type { Call, Command } from './command.ts'
import { EXIT_OK } from './command.ts'
import { FORMAT_OPTION, findEventFiles } from './event-files.ts'
import { profileFile } from './profile.ts'
import { type Proposal, propose } from './propose.ts'
import { SAMPLE_PROPOSAL, sampleEvents } from './sample-events.ts'
import { formatTime } from './table.ts'
import { definitionText } from './template.ts'
import { packageVersion } from './version.ts'

export const init: Command = {
  name: 'init',
  description: `Writes a commented definition file and a small file of sample events, so that there is something to run at once. With
--from it looks at a file of yours instead, and proposes a view: columns and their types, event time, entity, windows.
Nothing that exists is overwritten without --force.`,
  arguments: [{ name: '[dir]', about: 'folder to write to; made if absent (.)' }],
  options: [
    { flags: '--from <file>', about: 'Parquet or JSON lines to propose a definition for' },
    FORMAT_OPTION,
    { flags: '--force', about: 'overwrite files' },
  ],
  examples: [
    ['tilefold init', 'tilefold.yaml and events.ndjson, here'],
    ['tilefold init --from data/trips.parquet', 'a definition for events of your own'],
  ],
  run,
}

async function run({ args, flags, printer }: Call): Promise<number> {
  const folder = args[0] ?? '.'
  const from = flags.from as string | undefined
  const proposal =
    from === undefined ? SAMPLE_PROPOSAL : propose(await profileFile(await findEventFiles([from], flags)))
  const texts = [['tilefold.yaml', definitionText(proposal, schemaOf(folder))]]
  if (from === undefined) texts.push(['events.ndjson', sampleEvents()])

  const files = texts.map(([name, text]) => ({ path: join(folder, name!), text: text! }))
  const isForced = flags.force === true
  // Looked for before anything is written: all of it or nothing.
  for (const { path } of files) if (!isForced && existsSync(path)) throw taken(path)
  await mkdir(folder, { recursive: true }).catch((error: Error) => {
    throw unwritable(folder, error)
  })
  for (const { path, text } of files) await write(path, text, isForced)

  const next = nextSteps(proposal, folder, from)
  printer.result({
    data: { written: files.map((each) => each.path), next },
    table: () =>
      `${files.map(({ path }) => `wrote ${path}\n`).join('')}\nNext:\n${next.map((line) => `  ${line}\n`).join('')}`,
  })
  return EXIT_OK
}

async function write(path: string, text: string, isForced: boolean): Promise<void> {
  try {
    await writeFile(path, text, { flag: isForced ? 'w' : 'wx' })
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === 'EEXIST' ? taken(path) : unwritable(path, error as Error)
  }
}

function taken(path: string): TilefoldError {
  return new TilefoldError('CONFIG_INVALID', `cannot write ${path}: it exists; --force overwrites it`, { path })
}

function unwritable(path: string, cause: Error): TilefoldError {
  return new TilefoldError('CONFIG_INVALID', `cannot write ${path}: ${cause.message}`, { path }, { cause })
}

/** The installed package's own schema where an editor finds it; else the published one. */
function schemaOf(folder: string): string {
  const inside = join('node_modules', 'tilefold', 'dist', 'schema.json')
  const start = resolve(folder)
  for (let at = start; ; at = dirname(at)) {
    if (existsSync(join(at, inside)))
      return `./${relative(start, join(at, inside)).split('\\').join('/')}`.replace('./..', '..')
    if (at === dirname(at)) return `https://unpkg.com/tilefold@${packageVersion()}/dist/schema.json`
  }
}

function nextSteps({ view, entity, example }: Proposal, folder: string, from: string | undefined): string[] {
  const enter = resolve(folder) === resolve('.') ? [] : [`cd ${shellWord(folder)}`]
  const events = from === undefined ? 'events.ndjson' : relative(folder, from)
  const asOf = from === undefined ? formatTime(example.asOfMs) : formatInstant(example.asOfMs)
  return [
    ...enter,
    'npx tilefold validate',
    `npx tilefold backfill ${shellWord(events)}`,
    `npx tilefold get ${view} --entity ${shellWord(`${entity}=${example.key}`)} --as-of ${asOf}`,
    'npx tilefold serve',
  ]
}

function shellWord(text: string): string {
  return /^[\w./=:@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
