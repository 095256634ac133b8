/** `tilefold forget`: an entity out of every row that is stored of it, and out of every rebuild. */
import { randomUUID } from 'node:crypto'
import { loadCore } from '../engine/module.ts'
import { type ForgetReport, forget as forgetEntity } from '../ingest/erase-request.ts'
import { TilefoldError } from '../model/errors.ts'
import { encodeKey } from '../model/key.ts'
import type { Plan } from '../model/plan.ts'
import { catalogOf, viewNamed } from '../serve/catalog.ts'
import { type Call, type Command, EXIT_FAILURE, EXIT_OK } from './command.ts'
import { parseEntity } from './entity-args.ts'
import type { Printer } from './printer.ts'
import { readDuration } from './settings.ts'
import { openStore } from './stores.ts'
import { formatTime, renderTable } from './table.ts'
import { loadViews } from './views.ts'

export const forget: Command = {
  name: 'forget',
  description: `Forgets an entity. What is stored of it is erased in every lane of every generation, and its events from before now don't
count any more, wherever they come from: a late event, a replay, a backfill, a new version of the view. Events from now on count
again. The request stays on a list in the store, with the entity's key, for whoever builds the view anew.

The worker that owns a lane erases within seconds; lanes without an owner are erased here. Ends with 1 where a lane has not
said that it is done: its request stands, and is done when a worker next owns the lane. The topic itself, dead letters and
files are not touched.`,
  arguments: [{ name: '[view]', about: 'name of the view; or --all' }],
  options: [
    { flags: '--entity <keys>', about: 'key=value,key=value, or a JSON object' },
    { flags: '--all', about: 'in every view that has these keys' },
    { flags: '--wait <duration>', about: 'how long to wait for the owners of lanes (15s)' },
    { flags: '--take', about: 'take lanes whose owner does not answer; a worker that lives on takes them back' },
  ],
  examples: [
    ['tilefold forget spend --entity card=4711', 'in one view'],
    ['tilefold forget --all --entity card=4711 -o json', 'in every view of cards, for a script'],
  ],
  run,
}

const WAIT = '15s'

async function run({ args, flags, settings, terminal, printer }: Call): Promise<number> {
  const { namespace, plans } = await loadViews(settings)
  const chosen = choose(args[0], flags.all === true, plans)
  const first = chosen[0]!.state.entity
  if (typeof flags.entity !== 'string') {
    const keys = first.map((part) => `${part.name}=…`).join(',')
    throw new TilefoldError('USAGE', `cannot forget nobody: expected --entity ${keys}`)
  }
  const given = parseEntity(flags.entity, chosen)
  const asked = chosen.filter((plan) => hasKeys(plan, given))
  if (asked.length === 0) {
    const keys = chosen.map(({ view, state }) => `${view}: ${state.entity.map(({ name }) => name).join(', ')}`)
    throw new TilefoldError('USAGE', `cannot forget ${flags.entity}: expected every key of a view (${keys.join('; ')})`)
  }
  const waitMs = readDuration((flags.wait as string | undefined) ?? WAIT, '--wait')
  const { store, path } = await openStore(settings, { readOnly: false, plans })
  try {
    const reports: ForgetReport[] = []
    // Views of one kind of key are asked at once: a lane that they share is gone through once.
    for (const alike of byKind(asked)) {
      const parts = alike[0]!.state.entity
      const key = encodeKey(
        parts,
        parts.map((part) => given[part.name]),
      )
      reports.push(
        await forgetEntity({
          seat: { store, namespace },
          plans: alike,
          allPlans: plans,
          key,
          clock: terminal.clock,
          core: loadCore(),
          nonce: randomUUID,
          alone: path !== undefined,
          takeSilent: flags.take === true,
          waitMs,
        }),
      )
    }
    return tell(reports, flags.entity, printer)
  } finally {
    await store.close()
  }
}

function choose(name: string | undefined, all: boolean, plans: readonly Plan[]): readonly Plan[] {
  if ((name === undefined) === !all) {
    throw new TilefoldError('USAGE', 'cannot tell in which views to forget: expected the name of one, or --all')
  }
  return name === undefined ? plans : [viewNamed(catalogOf(plans), name).plan]
}

/** Exactly these: a key of some of the parts is another entity. */
function hasKeys(plan: Plan, given: Readonly<Record<string, unknown>>): boolean {
  const names = plan.state.entity.map(({ name }) => name)
  return names.length === Object.keys(given).length && names.every((name) => name in given)
}

function byKind(plans: readonly Plan[]): Plan[][] {
  const kinds = new Map<string, Plan[]>()
  for (const plan of plans) {
    const kind = JSON.stringify(plan.state.entity.map(({ name, type }) => [name, type]))
    kinds.set(kind, [...(kinds.get(kind) ?? []), plan])
  }
  return [...kinds.values()]
}

function tell(reports: readonly ForgetReport[], entity: string, printer: Printer): number {
  const lanes = reports.flatMap((report) => report.lanes)
  const open = lanes.filter(({ outcome }) => outcome === 'waiting' || outcome === 'failed')
  for (const { name, error } of open) {
    if (error) printer.warn(`lane ${name.lane} of ${name.stateHash}: ${error.message}`)
  }
  printer.result({
    data: {
      requests: reports.map(({ entry, lanes: own }) => ({
        number: entry.number,
        at: new Date(entry.atMs).toISOString(),
        views: entry.views,
        key: entry.key,
        lanes: own.map(({ name, outcome, error }) => ({
          state_hash: name.stateHash,
          generation: name.generation,
          lane: name.lane,
          outcome,
          ...(error && { error: { code: error.code, message: error.message } }),
        })),
      })),
      done: open.length === 0,
    },
    table: () => {
      const head = reports.map(
        ({ entry }) =>
          `request ${entry.number}: ${entity} in ${entry.views.join(', ')}, before ${formatTime(entry.atMs)}\n`,
      )
      const columns = [{ title: 'STATE' }, { title: 'GENERATION' }, { title: 'LANE' }, { title: 'OUTCOME' }]
      const rows = lanes.map(({ name, outcome }) => [name.stateHash, `${name.generation}`, name.lane, outcome])
      const body = rows.length > 0 ? renderTable(columns, rows) : 'Nothing is stored of these views yet.\n'
      const end =
        open.length > 0 ? `\n${open.length} lanes have not said that they are done; ask again, or use --take.\n` : ''
      return `${head.join('')}\n${body}${end}`
    },
  })
  return open.length === 0 ? EXIT_OK : EXIT_FAILURE
}
