/** `tilefold gc`: states that are stored and that no layout names, and their end. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { TilefoldError } from '../model/errors.ts'
import { collectStates, type StoredState, surveyStates } from '../registry/gc.ts'
import { type Call, type Command, EXIT_FAILURE, EXIT_OK } from './command.ts'
import type { Printer } from './printer.ts'
import { Progress } from './progress.ts'
import { readDuration, type Settings } from './settings.ts'
import { openStore } from './stores.ts'
import { formatBytes, formatCount, renderTable } from './table.ts'
import { SIGNAL_CODES, type Signal } from './terminal.ts'
import { loadViews } from './views.ts'

export const gc: Command = {
  name: 'gc',
  description: `Lists every state that is stored in the namespace, by state hash and generation, with rows and bytes: current ones are answered
from, named ones are being built or kept to go back to, retired ones are named by no view's layout. --delete deletes the retired
ones, in small steps beside readers and writers. It refuses what a layout names, and lanes that somebody wrote to within
--quiet. Ctrl-C or a crash leave the rest to the next call. A directory must have no other writer meanwhile.

Nothing is deleted in Kafka. Where a retired state's events came by way of a router, its internal topic
(<namespace>.<view>.<state hash>.<generation>) and the group of that name with .router are left to you.`,
  arguments: [],
  options: [
    { flags: '--delete', about: 'delete the retired states, or those of --state' },
    { flags: '--state <hash/generation>', about: 'only this one; may be given several times', isList: true },
    { flags: '--quiet <duration>', about: 'an owner that writes within so long lives (5s)' },
  ],
  examples: [
    ['tilefold gc --redis-url redis://localhost:6379', 'what is stored, and what of it is of no use'],
    ['tilefold gc --delete --state 5ebc2f64d0bd31c9/1', 'one state for good'],
  ],
  run,
}

async function run({ flags, settings, printer, terminal }: Call): Promise<number> {
  const namespace = await namespaceOf(settings)
  const isDelete = flags.delete === true
  const quiet = flags.quiet as string | undefined
  const quietMs = quiet === undefined ? QUIET_MS : readDuration(quiet, '--quiet')
  const { store, where } = await openStore(settings, { readOnly: !isDelete, plans: [] })
  const progress = new Progress({ label: 'gc', unit: 'keys', stream: terminal.stderr, clock: terminal.clock })
  try {
    const states = await surveyStates(store, namespace)
    const chosen = chooseStates(states, flags.state as readonly string[] | undefined)
    if (!isDelete) {
      printer.result({
        data: { namespace, store: where, states: states.map(stateData) },
        table: () => tableOf(states, printer),
      })
      return EXIT_OK
    }
    if (chosen.length === 0) {
      printer.result({
        data: { namespace, deleted: [], keys: 0, finished: true, taken: [] },
        table: () => 'Nothing is retired.',
      })
      return EXIT_OK
    }
    let stoppedBy: Signal | undefined
    const abort = new AbortController()
    terminal.onSignal((signal) => {
      stoppedBy = signal
      abort.abort()
    })
    const { signal } = abort
    const rows = chosen.reduce((sum, state) => sum + state.rows, 0)
    const collected = await collectStates({
      store,
      namespace,
      states: chosen,
      quietMs,
      sleep: (ms) => delay(ms, undefined, { signal }).catch(() => {}),
      nonce: `gc-${randomUUID()}`,
      signal,
      onProgress: (keys) => progress.update({ done: keys, total: Math.max(rows, keys) }),
    })
    progress.stop()
    for (const lane of collected.taken) printer.warn(`lane ${lane} was taken by somebody else meanwhile; it is left`)
    const { keys, lanes, finished } = collected
    printer.result({
      data: { namespace, deleted: chosen.map(stateData), lanes, keys, finished, taken: collected.taken },
      table: () =>
        `${finished ? 'Deleted' : 'Stopped before the end; of'} ${chosen.length} states: ${formatCount(keys)} keys and ${formatCount(lanes)} lanes are gone.\n${tableOf(chosen, printer)}`,
    })
    if (stoppedBy !== undefined && !finished) {
      printer.note('Call the same again to go on.')
      return SIGNAL_CODES[stoppedBy]
    }
    return collected.taken.length === 0 ? EXIT_OK : EXIT_FAILURE
  } finally {
    progress.stop()
    await store.close()
  }
}

const QUIET_MS = 5_000

/** Of a command that needs no definitions: where the namespace is told, none are read. */
async function namespaceOf(settings: Settings): Promise<string> {
  return settings.text('namespace') ?? (await loadViews(settings)).namespace
}

/** The retired ones, or those that were named, whatever they are: what is in use is refused later. */
function chooseStates(states: readonly StoredState[], names: readonly string[] | undefined): StoredState[] {
  if (names === undefined) return states.filter(({ standing }) => standing === 'retired')
  return names.map((name) => {
    const found = states.find(({ stateHash, generation }) => `${stateHash}/${generation}` === name)
    if (found !== undefined) return found
    throw new TilefoldError(
      'USAGE',
      `cannot use --state: nothing is stored of ${name}; expected one of ${states.map(({ stateHash, generation }) => `${stateHash}/${generation}`).join(', ') || 'none'}`,
    )
  })
}

function stateData({ stateHash, generation, standing, views, lanes, rows, bytes }: StoredState): object {
  return {
    state_hash: stateHash,
    generation,
    standing,
    views,
    lanes: lanes.map(({ lane, ...size }) => ({ lane: lane.lane, ...size })),
    rows,
    bytes,
  }
}

function tableOf(states: readonly StoredState[], printer: Printer): string {
  const right = (title: string) => ({ title, align: 'right' as const })
  return renderTable(
    [
      { title: 'STATE' },
      right('GENERATION'),
      { title: 'STANDING' },
      { title: 'VIEWS' },
      right('LANES'),
      right('ROWS'),
      right('BYTES'),
    ],
    states.map(({ stateHash, generation, standing, views, lanes, rows, bytes }) => [
      stateHash,
      `${generation}`,
      standing,
      views.join(', ') || '-',
      formatCount(lanes.length),
      formatCount(rows),
      formatBytes(bytes),
    ]),
    (text) => printer.style('bold', text),
  )
}
