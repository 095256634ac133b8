/** `tilefold parity --every`: a comparison as a process of its own, with metrics and a line for each turn. */
import { TilefoldError } from '../model/errors.ts'
import { type Endpoint, startEndpoint } from '../observe/endpoint.ts'
import { createLog } from '../observe/log.ts'
import { LOG_FORMATS, LOG_LEVELS } from '../observe/log-port.ts'
import { createParityMetrics } from '../observe/metrics.ts'
import { type CanaryCounts, runCanary } from '../offline/parity-canary.ts'
import { Access } from '../serve/access.ts'
import { type Call, EXIT_FAILURE, EXIT_OK, type Flags } from './command.ts'
import { readDuration } from './settings.ts'
import { packageVersion } from './version.ts'

/** Throws USAGE. */
export function everyMsOf(flags: Flags): number | undefined {
  const text = flags.every as string | undefined
  if (text === undefined) {
    if (flags.metricsPort === undefined) return undefined
    throw new TilefoldError('USAGE', 'cannot use --metrics-port: it goes with --every only')
  }
  const one = ['key', 'entity', 'request'].find((name) => flags[name] !== undefined)
  if (one === undefined) return Math.max(1, readDuration(text, '--every'))
  throw new TilefoldError('USAGE', `cannot use --${one}: it does not go with --every, which takes share after share`)
}

export interface TurnCounts extends CanaryCounts {
  /** Commands that show a difference each. */
  readonly commands: readonly string[]
}

/** Until a signal comes. Ends with 1 if any turn found a difference. */
export async function runAsCanary(
  { settings, terminal }: Call,
  view: string,
  everyMs: number,
  compare: (turn: number, signal: AbortSignal) => Promise<TurnCounts>,
): Promise<number> {
  const log = createLog({
    level: settings.choice('log_level', LOG_LEVELS),
    format: settings.choice('log_format', LOG_FORMATS),
    stream: terminal.stderr,
  })
  const metrics = createParityMetrics({ version: packageVersion(), clock: terminal.clock })
  const abort = new AbortController()
  terminal.onSignal((signal) => {
    log.info(`stopping on ${signal}`)
    abort.abort()
  })
  let endpoint: Endpoint | undefined
  let commands: readonly string[] = []
  try {
    const port = settings.whole('metrics_port')
    if (port !== undefined) {
      const host = settings.text('host')!
      const access = new Access(host, settings.text('token'))
      endpoint = await startEndpoint({ host, port, exposition: metrics, access, unready: () => undefined })
      log.info(`metrics on ${endpoint.url}/metrics`)
    }
    const { turns, failures, different } = await runCanary({
      view,
      everyMs,
      clock: terminal.clock,
      async compare(turn) {
        const counts = await compare(turn, abort.signal)
        commands = counts.commands
        return counts
      },
      metrics,
      onTurn({ turn, seconds, ...counts }) {
        const found = counts.mismatched + counts.missing + counts.extra
        const said = found === 0 ? 'all the same' : `${found} are not the same`
        const fields = { view, turn, seconds, ...counts }
        log[found === 0 ? 'info' : 'error'](`parity of ${view}: ${counts.compared} compared, ${said}`, fields)
        for (const command of commands) log.warn(`to see it: ${command}`, { view, turn })
      },
      onFailure: (turn, error) => log.error(`parity of ${view} could not be compared`, { view, turn, error }),
      signal: abort.signal,
    })
    log.info('stopped', { view, turns, failures, different })
    return different > 0 ? EXIT_FAILURE : EXIT_OK
  } finally {
    await endpoint?.close()
    log.flush()
  }
}
