/** Results to stdout, in the form that was asked for; everything said beside them to stderr. */
import { formatYaml } from '../define/yaml.ts'
import { TilefoldError } from '../model/errors.ts'
import { type Style, stylist, type Terminal } from './terminal.ts'

export const FORMATS = ['table', 'json', 'yaml'] as const
export type Format = (typeof FORMATS)[number]

export interface Result {
  /** Plain data, or JSON text. */
  readonly data: unknown
  /** For people. */
  readonly table: () => string
}

export class Printer {
  readonly format: Format
  /** Styles text that goes to stdout. */
  readonly style: (style: Style, text: string) => string
  readonly #terminal: Terminal
  readonly #warnStyle: (style: Style, text: string) => string

  constructor(terminal: Terminal, format: Format) {
    this.format = format
    this.#terminal = terminal
    this.style = stylist(terminal.stdout, terminal.env)
    this.#warnStyle = stylist(terminal.stderr, terminal.env)
  }

  result({ data, table }: Result): void {
    if (this.format === 'table') {
      this.#terminal.stdout.write(ended(table()))
      return
    }
    const json = typeof data === 'string' ? data : JSON.stringify(data, null, 2)
    this.#terminal.stdout.write(ended(this.format === 'json' ? json : formatYaml(json)))
  }

  /** Something to know; only for people. */
  note(text: string): void {
    if (this.format === 'table') this.#terminal.stderr.write(`${text}\n`)
  }

  warn(text: string): void {
    this.#terminal.stderr.write(`${this.#warnStyle('yellow', 'warning')}: ${text}\n`)
  }
}

/** `error CODE: message`, or the same as JSON. Stack traces are for those who ask for them. */
export function printError(cause: unknown, terminal: Terminal, format: Format): void {
  const known = cause instanceof TilefoldError
  const code = known ? cause.code : 'INTERNAL'
  const message = cause instanceof Error ? cause.message : String(cause)
  if (format === 'json') {
    const details = known ? cause.details : {}
    terminal.stderr.write(`${JSON.stringify({ error: { code, message, details } }, exactDigits)}\n`)
  } else {
    const style = stylist(terminal.stderr, terminal.env)
    terminal.stderr.write(`${style('red', `error ${code}`)}: ${message}\n`)
    if (!known) terminal.stderr.write('This is a fault of tilefold; TILEFOLD_DEBUG=1 shows where.\n')
  }
  if (terminal.env.TILEFOLD_DEBUG === '1') {
    for (let each: unknown = cause; each instanceof Error; each = each.cause) terminal.stderr.write(`${each.stack}\n`)
  }
}

function exactDigits(_name: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value
}

function ended(text: string): string {
  return text.endsWith('\n') ? text : `${text}\n`
}
