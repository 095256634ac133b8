/** What a command is: plain data for the parser and the help, and one function. */
import type { Printer } from './printer.ts'
import type { Settings } from './settings.ts'
import type { Terminal } from './terminal.ts'

export interface Command {
  readonly name: string
  /** Shown by `--help` above the options. */
  readonly description: string
  /** `<file>`, `[dir]`, `<files...>`. */
  readonly arguments: readonly { readonly name: string; readonly about: string }[]
  readonly options: readonly Option[]
  /** Lines to paste, each with what it does. */
  readonly examples: readonly (readonly [line: string, about: string])[]
  /** Resolves to the exit code; 0 unless told. */
  run(call: Call): Promise<number | undefined>
}

export interface Option {
  /** `--as-of <instant>`; a flag without a value is true when given. */
  readonly flags: string
  readonly about: string
  /** May be given several times. */
  readonly isList?: boolean
}

export interface Call {
  readonly args: readonly string[]
  readonly flags: Flags
  readonly settings: Settings
  readonly terminal: Terminal
  readonly printer: Printer
}

/** Options by their long name in camel case. */
export type Flags = Readonly<Record<string, string | boolean | readonly string[] | undefined>>

/** Exit codes: what a script can tell from them. */
export const EXIT_OK = 0
export const EXIT_FAILURE = 1
export const EXIT_USAGE = 2
