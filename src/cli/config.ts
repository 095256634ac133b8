/** `tilefold config`: every setting as the commands would see it, where it comes from, and what is wrong with it. */
import { existsSync } from 'node:fs'
import { TilefoldError } from '../model/errors.ts'
import { didYouMean } from '../model/nearest.ts'
import type { Call, Command } from './command.ts'
import { EXIT_FAILURE, EXIT_OK } from './command.ts'
import { kindOf, SETTING_NAMES, type SettingName } from './setting-kinds.ts'
import { type Settings, variableOf } from './settings.ts'
import { renderTable } from './table.ts'

export const config: Command = {
  name: 'config',
  description: `Shows every setting: its value, and where that comes from (flag, environment, configuration file, default). Secrets and
passwords in addresses are not shown. A setting that cannot be used is a warning, and ends the command with 1.
A variable like TILEFOLD_PORT that names no setting is a warning too.`,
  arguments: [],
  options: [],
  examples: [
    ['tilefold config', 'a table'],
    ['tilefold config -o json', 'for scripts'],
  ],
  run,
}

/** Variables that are no settings: who reads them says what they do. */
const OTHER_VARIABLES = ['TILEFOLD_CONFIG', 'TILEFOLD_CORE', 'TILEFOLD_DEBUG']

interface Line {
  readonly name: SettingName
  /** As anybody may see it; undefined where nobody says anything. */
  readonly value?: string
  readonly from?: string
  readonly rank?: string
  readonly problem?: string
}

async function run({ settings, terminal, printer }: Call): Promise<number> {
  const lines = SETTING_NAMES.map((name) => lineOf(settings, name))
  const file = existsSync(settings.configFile) ? settings.configFile : null
  printer.result({
    data: {
      config_file: file,
      settings: lines.map(({ name, value, from, rank, problem }) => ({
        name,
        value: value ?? null,
        from: from ?? null,
        rank: rank ?? null,
        about: kindOf(name).about,
        problem,
      })),
    },
    table: () => {
      const rows = lines.map(({ name, value, from }) => [name, value ?? '-', from ?? '-', kindOf(name).about])
      const columns = ['SETTING', 'VALUE', 'FROM', 'ABOUT'].map((title) => ({ title }))
      return renderTable(columns, rows, (text) => printer.style('bold', text))
    },
  })
  const problems = lines.filter((line) => line.problem !== undefined)
  for (const { problem } of problems) printer.warn(problem!)
  for (const name of strayVariables(terminal.env)) {
    printer.warn(`${name} is no setting; ${didYouMean(name, SETTING_NAMES.map(variableOf)).text}`)
  }
  return problems.length === 0 ? EXIT_OK : EXIT_FAILURE
}

function lineOf(settings: Settings, name: SettingName): Line {
  try {
    const setting = settings.get(name)
    if (setting === undefined) return { name }
    const line = { name, value: settings.shown(name), from: setting.from, rank: setting.rank }
    return { ...line, problem: problemOf(() => settings.check(name)) }
  } catch (error) {
    return { name, problem: textOf(error) }
  }
}

function problemOf(check: () => void): string | undefined {
  try {
    check()
    return undefined
  } catch (error) {
    return textOf(error)
  }
}

function textOf(error: unknown): string {
  if (error instanceof TilefoldError) return error.message
  throw error
}

/** A misspelt variable does nothing, silently: nothing else would tell. */
function strayVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  const known = new Set([...OTHER_VARIABLES, ...SETTING_NAMES.map(variableOf)])
  return Object.keys(env).filter((name) => name.startsWith('TILEFOLD_') && !known.has(name))
}
