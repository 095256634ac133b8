/**
 * The log of a process that runs for long: one line an event, JSON `{"ts","level","msg",...}` or text. The only file that
 * knows pino.
 */
import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from 'pino'
import type { Log, LogFields, LogFormat, LogLevel } from './log-port.ts'
import { redactFields, redactText } from './redact.ts'

export interface LogOptions {
  readonly level: LogLevel
  readonly format: LogFormat
  /** Where lines go: a terminal's error stream, say; this process' own unless told. */
  readonly stream?: LogStream
}

export interface LogStream {
  readonly isTTY?: boolean
  write(text: string): unknown
}

export function createLog({ level, format, stream }: LogOptions): Log {
  const isTTY = stream === undefined ? process.stderr.isTTY : stream.isTTY
  const asText = format === 'text' || (format === 'auto' && isTTY === true)
  const { target, flush } = stream === undefined ? ownStream() : { target: stream, flush: () => {} }
  const sink: DestinationStream = asText ? { write: (line) => target.write(textLine(line)) } : lineStream(target)
  const logger = pino(
    {
      level,
      base: null,
      timestamp: () => stdTimeFunctions.isoTime().replace('"time"', '"ts"'),
      formatters: { level: (label) => ({ level: label }) },
    },
    sink,
  )
  return logOf(logger, flush)
}

function logOf(logger: Logger, flush: () => void): Log {
  const at =
    (level: 'debug' | 'info' | 'warn' | 'error') =>
    (message: string, fields?: LogFields): void => {
      // Levels that are off cost nothing more than this.
      if (logger.isLevelEnabled(level)) logger[level](told(fields), redactText(message))
    }
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    with: (fields) => logOf(logger.child(told(fields)), flush),
    flush,
  }
}

/** Names of our own members are taken: a field of that name would come twice in one line. */
const TAKEN = new Set(['ts', 'level', 'msg'])

function told(fields: LogFields | undefined): object {
  const redacted = Object.entries(redactFields(fields ?? {}) as object)
  return Object.fromEntries(redacted.map(([name, value]) => [TAKEN.has(name) ? `${name}_` : name, value]))
}

function lineStream(target: LogStream): DestinationStream {
  return { write: (line) => void target.write(line) }
}

/** Written as the pipe takes it, never in the way of what is logged; what is left at the end of the process is written then. */
function ownStream(): { target: LogStream; flush: () => void } {
  const out = destination({ fd: 2, sync: false, maxLength: BUFFERED_BYTES_MAX })
  // Nobody reads us any more: that is no reason to stop.
  out.on('error', () => {})
  const flush = () => {
    try {
      out.flushSync()
    } catch {
      // Not open yet, or not any longer: nothing is left to write.
    }
  }
  process.once('exit', flush)
  return { target: out, flush }
}

/** A reader that stands still loses lines; the process goes on. */
const BUFFERED_BYTES_MAX = 1 << 20

/** `2026-01-01T00:00:00.000Z info  lane taken  view=orders lane=0`: nothing in a line can steer the terminal. */
function textLine(json: string): string {
  const { ts, level, msg, ...fields } = JSON.parse(json) as { ts: string; level: string; msg: string }
  const parts = Object.entries(fields).map(([name, value]) => ` ${name}=${plain(value)}`)
  const line = `${ts} ${level.padEnd(5)} ${msg}${parts.length > 0 ? ' ' : ''}${parts.join('')}`
  return `${line.replaceAll(/\p{Cc}/gu, (char) =>
    JSON.stringify(char)
      .slice(1, -1)
      .replace(/^\p{Cc}$/u, '?'),
  )}\n`
}

function plain(value: unknown): string {
  return typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value)
}
