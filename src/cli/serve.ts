/** `tilefold serve`: the HTTP server over the store, until it is told to stop. */
import { loadCore } from '../engine/module.ts'
import { createServerMetrics } from '../observe/metrics.ts'
import { type ServedLogOptions, ServedLogWriter } from '../offline/served-log.ts'
import { createFeatureReader, type FeatureReader } from '../serve/reader.ts'
import { type FeatureServer, startServer } from '../serve/server.ts'
import type { Call, Command } from './command.ts'
import { printError } from './printer.ts'
import type { Settings } from './settings.ts'
import { openStore } from './stores.ts'
import { packageVersion } from './version.ts'
import { type LoadedViews, loadViews } from './views.ts'

export const serve: Command = {
  name: 'serve',
  description: `Serves features over HTTP: POST /v1/features, GET /v1/views, /livez, /readyz, /metrics. Any number of servers may read
a store: Redis where the settings name one, else the directory of this machine. SIGTERM and Ctrl-C drain: /readyz fails at once, requests under way are answered, then
the process ends with 0; a second signal ends it there and then. Listens on this machine alone unless told; any other
address needs a token. A token given by flag can be seen in the list of processes: better use a file.`,
  arguments: [],
  options: [
    { flags: '--host <address>', about: 'address to listen on (127.0.0.1)' },
    { flags: '--port <number>', about: 'port to listen on, 0 for a free one (6567)' },
    { flags: '--token <text>', about: 'bearer token that requests must show; TILEFOLD_TOKEN' },
    { flags: '--token-file <file>', about: 'file that holds the token; TILEFOLD_TOKEN_FILE' },
    { flags: '--deadline <duration>', about: 'a request is answered or failed within (2s)' },
    { flags: '--max-in-flight <n>', about: 'requests under way; more are told to come back (256)' },
    { flags: '--row-cache <bytes>', about: 'memory for rows that were read, 0 for none (0)' },
    { flags: '--row-cache-max-age <duration>', about: 'a kept row is used for so long at most (1s)' },
    { flags: '--served-log <dir>', about: 'log answers as Parquet there, with what they were computed from' },
    { flags: '--served-log-share <ratio>', about: 'part of the entities whose answers are logged (1)' },
    { flags: '--served-log-interval <duration>', about: 'a file of that log ends after (1m)' },
    {
      flags: '--drain-delay <duration>',
      about: 'keep serving so long after /readyz fails, for a balancer to notice (0s)',
    },
  ],
  examples: [
    ['tilefold serve', 'on http://127.0.0.1:6567, for this machine alone'],
    [
      'TILEFOLD_TOKEN_FILE=/run/secrets/tilefold tilefold serve --host 0.0.0.0 --drain-delay 5s',
      'for others, behind a balancer',
    ],
  ],
  run,
}

async function run({ settings, terminal, printer }: Call): Promise<undefined> {
  const loaded = await loadViews(settings)
  const host = settings.text('host')!
  const port = settings.whole('port', 0, 65_535)!
  const token = settings.text('token')
  const limits = {
    drainDelayMs: settings.durationMs('drain_delay'),
    deadlineMs: settings.durationMs('deadline'),
    inFlightMax: settings.whole('max_in_flight')!,
  }

  const bytesMax = settings.bytes('row_cache')
  const rowCache = bytesMax === 0 ? undefined : { bytesMax, maxAgeMs: settings.durationMs('row_cache_max_age') }

  const { namespace, plans } = loaded
  const { store, where } = await openStore(settings, { readOnly: true, plans })
  let log: ServedLogWriter | undefined
  try {
    const { clock } = terminal
    const metrics = createServerMetrics({ version: packageVersion(), clock })
    const onFault = (cause: unknown) => printError(cause, terminal, printer.format)
    log = openLog(settings, { clock, metrics, onFault })
    const reader = createFeatureReader({ store, namespace, plans, core: loadCore(), clock, metrics, rowCache, log })
    const server = await startServer({ reader, host, port, token, limits, metrics, onFault })
    const stopped = new Promise<void>((resolve) => terminal.onSignal(() => resolve()))
    printer.result({
      data: JSON.stringify({ url: server.url, views: plans.map((plan) => plan.view) }),
      table: () => greeting(server, loaded, where, token !== undefined),
    })
    await warnUnready(reader, printer.warn.bind(printer))

    await stopped
    printer.note('draining; another signal ends it now')
    await server.close()
  } finally {
    await log?.close()
    await store.close()
  }
  return undefined
}

function openLog(settings: Settings, of: Pick<ServedLogOptions, 'clock' | 'metrics' | 'onFault'>) {
  const directory = settings.text('served_log')
  if (directory === undefined) return undefined
  const share = settings.ratio('served_log_share')
  return new ServedLogWriter({ directory, share, intervalMs: settings.durationMs('served_log_interval'), ...of })
}

function greeting(server: FeatureServer, { plans }: LoadedViews, where: string, hasToken: boolean): string {
  const view = plans[0]!
  const keys = Object.fromEntries(
    view.state.entity.map(({ name, type }) => [name, { utf8: '…', int64: 0, bool: true }[type]]),
  )
  const body = JSON.stringify({ view: view.view, entities: [keys] })
  const names = plans.map((plan) => plan.view).join(', ')
  const authorization = hasToken ? ' -H "authorization: Bearer $TILEFOLD_TOKEN"' : ''
  return `serving ${names} from ${where} on ${server.url}

  curl ${server.url}/v1/features${authorization} -H 'content-type: application/json' -d '${body}'
`
}

/** A server may start before its data are there; then it says what is missing. */
async function warnUnready(reader: FeatureReader, warn: (text: string) => void): Promise<void> {
  try {
    await reader.checkReady()
  } catch (cause) {
    warn(`not ready yet: ${(cause as Error).message}`)
  }
}
