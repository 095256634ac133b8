/**
 * Settings, each from the first place that has it: flag, environment, configuration file, default.
 *
 *   --store <dir>   TILEFOLD_STORE   tilefold.config.json: { "store": … }   .tilefold
 *
 * The configuration file belongs to a machine, the definitions to everybody: so they are two files.
 */
import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { TilefoldError } from '../model/errors.ts'
import { didYouMean } from '../model/nearest.ts'
import { parseDuration } from '../model/time.ts'
import type { Flags } from './command.ts'

interface SettingKind {
  readonly fallback?: string
  /** Relative to the configuration file, where it comes from there. */
  readonly isPath?: boolean
}

const KINDS = {
  file: { fallback: 'tilefold.yaml', isPath: true },
  store: { fallback: '.tilefold', isPath: true },
  namespace: {},
  output: { fallback: 'table' },
  threads: {},
  history_lanes: {},
  host: { fallback: '127.0.0.1' },
  port: { fallback: '6567' },
  token: {},
  token_file: { isPath: true },
  drain_delay: { fallback: '0s' },
} as const satisfies Record<string, SettingKind>

export type SettingName = keyof typeof KINDS

export interface Setting {
  readonly text: string
  /** Where it was said: `--port`, `TILEFOLD_PORT`, `tilefold.config.json: port`. */
  readonly from: string
  readonly rank: 'flag' | 'env' | 'config' | 'default'
}

const CONFIG_FILE = 'tilefold.config.json'

export class Settings {
  readonly #flags: Flags
  readonly #env: Readonly<Record<string, string | undefined>>
  readonly #config: Readonly<Record<string, string>>
  readonly #configFile: string

  private constructor(
    flags: Flags,
    env: Readonly<Record<string, string | undefined>>,
    configFile: string,
    config: Readonly<Record<string, string>>,
  ) {
    this.#flags = flags
    this.#env = env
    this.#configFile = configFile
    this.#config = config
  }

  /** Reads the configuration file: the one that is named, else `tilefold.config.json` where there is one. Throws CONFIG_INVALID. */
  static async open(flags: Flags, env: Readonly<Record<string, string | undefined>>): Promise<Settings> {
    const named = (flags.config as string | undefined) ?? filled(env.TILEFOLD_CONFIG)
    const file = named ?? CONFIG_FILE
    return new Settings(flags, env, file, await readConfig(file, named !== undefined))
  }

  /** These settings, with some flags given otherwise. */
  with(flags: Flags): Settings {
    return new Settings({ ...this.#flags, ...flags }, this.#env, this.#configFile, this.#config)
  }

  /** The setting as text; undefined where nobody says anything and there is no default. */
  get(name: SettingName): Setting | undefined {
    const kind: SettingKind = KINDS[name]
    const flag = this.#flags[camelCase(name)]
    if (typeof flag === 'string') return { text: flag, from: `--${name.replaceAll('_', '-')}`, rank: 'flag' }
    const variable = `TILEFOLD_${name.toUpperCase()}`
    const value = filled(this.#env[variable])
    if (value !== undefined) return { text: value, from: variable, rank: 'env' }
    const configured = this.#config[name]
    if (configured !== undefined) {
      const text = kind.isPath ? resolve(dirname(this.#configFile), configured) : configured
      return { text, from: `${this.#configFile}: ${name}`, rank: 'config' }
    }
    return kind.fallback === undefined ? undefined : { text: kind.fallback, from: 'default', rank: 'default' }
  }

  text(name: SettingName): string | undefined {
    return this.get(name)?.text
  }

  /** A whole number within bounds. */
  whole(name: SettingName, min: number, max: number): number | undefined {
    const setting = this.get(name)
    return setting && readWhole(setting.text, setting.from, min, max)
  }

  durationMs(name: SettingName): number {
    const { text, from } = this.get(name)!
    return readDuration(text, from)
  }

  choice<Choice extends string>(name: SettingName, choices: readonly Choice[]): Choice {
    const { text, from } = this.get(name)!
    if (choices.includes(text as Choice)) return text as Choice
    throw settingError(from, `got ${JSON.stringify(text)}, expected one of ${choices.join(', ')}`)
  }
}

/** Throws USAGE for a flag, CONFIG_INVALID for anything else. */
export function readWhole(text: string, from: string, min: number, max: number): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
  if (value >= min && value <= max) return value
  throw settingError(from, `got ${JSON.stringify(text)}, expected a whole number from ${min} to ${max}`)
}

export function readDuration(text: string, from: string): number {
  try {
    return parseDuration(text)
  } catch {
    throw settingError(from, `got ${JSON.stringify(text)}, expected a duration like 30s, 5m or 1h30m`)
  }
}

export function settingError(from: string, cause: string): TilefoldError {
  return new TilefoldError(from.startsWith('--') ? 'USAGE' : 'CONFIG_INVALID', `cannot use ${from}: ${cause}`)
}

async function readConfig(file: string, isNamed: boolean): Promise<Record<string, string>> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' && !isNamed) return {}
    throw configError(file, code === 'ENOENT' ? 'no such file' : message)
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw configError(file, `it is not JSON: ${(error as Error).message}`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw configError(file, 'expected an object')
  const config: Record<string, string> = {}
  for (const [name, each] of Object.entries(value)) {
    if (!Object.hasOwn(KINDS, name)) {
      throw configError(file, `unknown setting ${JSON.stringify(name)}; ${didYouMean(name, Object.keys(KINDS)).text}`)
    }
    if (typeof each !== 'string' && typeof each !== 'number') {
      throw configError(file, `${name} is ${JSON.stringify(each)}, expected text or a number`)
    }
    config[name] = String(each)
  }
  return config
}

function configError(file: string, cause: string): TilefoldError {
  return new TilefoldError('CONFIG_INVALID', `cannot use configuration ${file}: ${cause}`, { file })
}

/** An empty variable is as good as none. */
function filled(value: string | undefined): string | undefined {
  return value === '' ? undefined : value
}

function camelCase(name: string): string {
  return name.replaceAll(/_([a-z])/g, (_match, letter: string) => letter.toUpperCase())
}
