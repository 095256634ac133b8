/** What is written to the log, by whoever has something to tell. No library shows through. */

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** `auto`: text where somebody watches, JSON where something reads. */
export const LOG_FORMATS = ['auto', 'json', 'text'] as const
export type LogFormat = (typeof LOG_FORMATS)[number]

/** `error` in the fields is told with its code and causes; keys of entities, payloads and secrets are left out by name. */
export type LogFields = Readonly<Record<string, unknown>>

export interface Log {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
  /** The same log, with fields that every line has. */
  with(fields: LogFields): Log
  /** Waits until everything is written. */
  flush(): void
}

function nothing(): void {}

export const NO_LOG: Log = {
  debug: nothing,
  info: nothing,
  warn: nothing,
  error: nothing,
  with: () => NO_LOG,
  flush: nothing,
}
