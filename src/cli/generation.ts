/** `tilefold generation`: a view built beside itself, and the pointer that readers follow. */

import { formatRanges, parseRange, type TimeRange } from '../model/covers.ts'
import { TilefoldError } from '../model/errors.ts'
import { formatInstant } from '../model/time.ts'
import { generationOf, type LogStart } from '../model/view-layout.ts'
import { surveyStates } from '../registry/gc.ts'
import { beginGeneration, dropGeneration, missingHistory, switchGeneration } from '../registry/generations.ts'
import { catalogOf, viewNamed } from '../serve/catalog.ts'
import type { Call, Command } from './command.ts'
import { coversData } from './covers-data.ts'
import { FROM_OPTIONS, readStart } from './generation-from.ts'
import { readGeneration } from './generation-number.ts'
import { readDuration, settingError } from './settings.ts'
import { openStore } from './stores.ts'
import { loadViews } from './views.ts'

export const generation: Command = {
  name: 'generation',
  description: `Builds a view beside itself, for a correction or another state, and moves its readers in one step.
begin gives a number that nobody reads yet. Fill it from the mirror ("tilefold rebuild --generation n", as often as needed), from
Kafka ("tilefold run --generation n", beside the other workers), or from one and then the other: the rows are the same. With
--from it starts there and nowhere else: lateness and duplicates are decided anew from that record on, and windows that reach
further back are incomplete. With --replace, files give the events of those times in the place of the log: "tilefold backfill
--generation n" takes from them what lies inside, the other lanes what lies outside, so that nothing counts twice and a bad range
is corrected. Ranges need not lie on tiles' edges.

switch moves readers to --generation, and refuses while its files are not all in or one of its lanes is behind what they see now;
with --wait it looks again until none is, so that nothing has to be stopped. Workers stay with the generation that they began
with. The old one stays, to go back to (--allow-behind). drop takes a generation out of the layout; "tilefold gc --delete"
deletes its rows.`,
  arguments: [
    { name: '<action>', about: 'begin, switch or drop' },
    { name: '<view>', about: 'name of the view' },
  ],
  options: [
    {
      flags: '--replace <from..to>',
      about: 'begin: event times that files give instead of the log, from the first instant to before the second',
      isList: true,
    },
    { flags: '--generation <n>', about: 'to switch to, or to drop' },
    { flags: '--state <hash>', about: "drop: of this state (the definition's)" },
    ...FROM_OPTIONS,
    {
      flags: '--wait <duration>',
      about: 'switch: how long to look again while a lane is behind; not at all unless told',
    },
    { flags: '--max-lag <records>', about: 'switch: readers may see a lane step back by so many records (0)' },
    {
      flags: '--allow-behind',
      about: 'switch to a generation that is behind what readers see, or lacks files that they see: to go back',
    },
  ],
  examples: [
    ['tilefold generation begin spend', 'prints the number for tilefold rebuild --generation'],
    [
      'tilefold generation begin spend --replace 2026-11-24T00:00:00Z..2026-11-25T00:00:00Z',
      'then backfill and rebuild, both with its number',
    ],
    ['tilefold generation begin spend --from 2026-11-20T00:00Z', 'from the records of that instant on'],
    ['tilefold generation switch spend --generation 2', 'readers see generation 2'],
    ['tilefold generation switch spend --generation 2 --wait 1m', 'while both are being written'],
  ],
  run,
}

async function run(call: Call): Promise<undefined> {
  const { args, flags, settings, printer } = call
  const [action, name] = args as [string, string]
  if (!['begin', 'switch', 'drop'].includes(action)) {
    throw new TilefoldError(
      'USAGE',
      `cannot use generation: got ${JSON.stringify(action)}, expected begin, switch or drop`,
    )
  }
  const number = readGeneration(flags.generation as string | undefined)
  if (action !== 'begin' && number === undefined) {
    throw settingError('--generation', `got none, expected the number of the generation to ${action}`)
  }
  const replace = readRanges(flags.replace as readonly string[] | undefined)
  if (action !== 'begin' && replace.length > 0) throw settingError('--replace', `got it with ${action}, expected begin`)
  if (action !== 'begin' && flags.from !== undefined) {
    throw settingError('--from', `got it with ${action}, expected it where a generation begins`)
  }
  const { namespace, plans } = await loadViews(settings)
  const { plan } = viewNamed(catalogOf(plans), name)
  const start = action === 'begin' ? await readStart(call, plan, plans) : undefined
  const waitMs = flags.wait === undefined ? 0 : readDuration(flags.wait as string, '--wait')
  const maxLag = readLag(flags.maxLag as string | undefined)
  const { store } = await openStore(settings, { readOnly: false, plans })
  try {
    const seat = { store, namespace }
    const stateHash = (flags.state as string | undefined) ?? plan.stateHash
    const done =
      action === 'begin'
        ? await beginGeneration(seat, plan, {
            ...start,
            above: highestOf(await surveyStates(store, namespace), plan.stateHash),
            replace,
          })
        : action === 'switch'
          ? await switchGeneration(seat, plan, number!, { allowBehind: flags.allowBehind === true, maxLag, waitMs })
          : await dropGeneration(seat, plan, { stateHash, generation: number! })
    const { current, version } = done.layout
    const { covers } = done.generation
    // Better said now than at the switch, when all the work is done.
    const lacking = action === 'begin' ? missingHistory(done.layout, done.generation) : undefined
    if (lacking !== undefined) {
      printer.warn(
        `readers see history that this generation is without so far: it needs files of ${lacking}${covers ? ', so begin one with --replace for those times, too' : ' (tilefold backfill --generation)'}`,
      )
    }
    const { route } = (current && generationOf(done.layout, current.stateHash, current.generation)) ?? {}
    if (action === 'begin' && route) {
      printer.note(
        `Readers see topic ${route.source} by way of a router; before any worker fills this generation, begin its route too, or it reads the topic itself (tilefold route ${plan.view} --generation ${done.generation.generation}).`,
      )
    }
    const about = { state_hash: done.generation.stateHash, generation: done.generation.generation }
    const { starts, completeSinceMs } = done.generation
    const since = completeSinceMs === undefined ? undefined : formatInstant(completeSinceMs)
    printer.result({
      data: {
        action,
        view: plan.view,
        ...about,
        layout_version: version,
        ...(current && { current }),
        ...(covers && { covers: coversData(covers) }),
        ...(starts && { starts }),
        ...(since && { complete_since: since }),
      },
      table: () =>
        [
          `View ${plan.view}, ${action}: generation ${about.generation} of state ${about.state_hash}. Readers see generation ${current?.generation ?? '-'}.`,
          ...(covers ? [`Its files give ${formatRanges(covers)}, the log all else.`] : []),
          ...(starts && action === 'begin' ? startLines(starts, since) : []),
        ].join('\n'),
    })
    return undefined
  } finally {
    await store.close()
  }
}

/** Throws USAGE. */
function readRanges(texts: readonly string[] = []): TimeRange[] {
  return texts.map((text) => {
    try {
      return parseRange(text)
    } catch (error) {
      throw settingError('--replace', (error as Error).message)
    }
  })
}

function startLines(starts: readonly LogStart[], since: string | undefined): string[] {
  const logs = starts.map(({ log, position }) => `${log} at ${position}`).join(', ')
  return [`It starts with ${logs || 'every log at 0'}; complete since ${since ?? 'ever'}.`]
}

/** Throws USAGE. */
function readLag(text: string | undefined): number {
  if (text === undefined) return 0
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw settingError('--max-lag', `got ${JSON.stringify(text)}, expected a whole number of records`)
}

/** Views of one state share its rows, so a number another one used is taken. */
function highestOf(
  states: readonly { readonly stateHash: string; readonly generation: number }[],
  stateHash: string,
): number {
  return Math.max(0, ...states.filter((each) => each.stateHash === stateHash).map((each) => each.generation))
}
