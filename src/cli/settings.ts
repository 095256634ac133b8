/**
 * Settings, each from the first place that has it: flag, environment, configuration file, default.
 *
 *   --store <dir>   TILEFOLD_STORE   tilefold.config.json: { "store": … }   .tilefold
 *
 * The configuration file belongs to a machine, the definitions to everybody: so they are two files.
 */
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { TilefoldError } from '../model/errors.ts'
import { didYouMean } from '../model/nearest.ts'
import { parseDuration } from '../model/time.ts'
import { REDACTED, redactAddress } from '../observe/redact.ts'
import type { Flags } from './command.ts'
import { fileSettingOf, isSettingName, kindOf, SETTING_NAMES, type SettingName } from './setting-kinds.ts'

export type { SettingName } from './setting-kinds.ts'

export interface Setting {
  readonly text: string
  /** Where it was said: `--port`, `TILEFOLD_PORT`, `tilefold.config.json: port`. */
  readonly from: string
  readonly rank: (typeof RANKS)[number]
}

/** PEM each. */
export interface Certificates {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
}

/** First come first served. */
const RANKS = ['flag', 'env', 'config', 'default'] as const

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

  /** The configuration file that was read, or that would have been. */
  get configFile(): string {
    return this.#configFile
  }

  /**
   * The setting as text; undefined where nobody says anything and there is no default. A secret may come from the file that
   * `<name>_file` names: the higher rank wins, in one rank the secret itself. Throws CONFIG_INVALID: that file can't be read.
   */
  get(name: SettingName): Setting | undefined {
    const own = this.#find(name)
    const fileSetting = fileSettingOf(name)
    const file = fileSetting && this.#find(fileSetting)
    if (file === undefined) return own
    if (own !== undefined && RANKS.indexOf(own.rank) <= RANKS.indexOf(file.rank)) return own
    return { ...file, text: readNamed(name, file) }
  }

  text(name: SettingName): string | undefined {
    return this.get(name)?.text
  }

  /** A whole number within bounds, the setting's own unless told. */
  whole(name: SettingName, min?: number, max?: number): number | undefined {
    const setting = this.get(name)
    const [lowest, highest] = kindOf(name).bounds ?? [0, Number.MAX_SAFE_INTEGER]
    return setting && readWhole(setting.text, setting.from, min ?? lowest, max ?? highest)
  }

  /** Of a setting that has a default. */
  durationMs(name: SettingName): number {
    const { text, from } = this.get(name)!
    return readDuration(text, from)
  }

  /** Of a setting that has a default; `512MiB`, or plain bytes. */
  bytes(name: SettingName): number {
    const { text, from } = this.get(name)!
    return readBytes(text, from)
  }

  /** Of a setting that has a default; from 0 to 1. */
  ratio(name: SettingName): number {
    const { text, from } = this.get(name)!
    return readRatio(text, from)
  }

  /** What stands in the file that the setting names. Throws CONFIG_INVALID: it can't be read, or is empty. */
  fileText(name: SettingName): string | undefined {
    const setting = this.get(name)
    return setting && readNamed(name, setting)
  }

  /** Certificates of `redis` or `kafka`; undefined where none is named. */
  certificates(server: 'redis' | 'kafka'): Certificates | undefined {
    const [ca, cert, key] = (['ca', 'cert', 'key'] as const).map((part) => this.fileText(`${server}_tls_${part}`))
    if (ca === undefined && cert === undefined && key === undefined) return undefined
    if ((cert === undefined) !== (key === undefined)) {
      const [there, missing] = cert === undefined ? ['key', 'cert'] : ['cert', 'key']
      const from = this.get(`${server}_tls_${there}` as SettingName)!.from
      throw new TilefoldError('CONFIG_INVALID', `cannot use ${from}: it needs ${server}_tls_${missing} beside it`)
    }
    return { ...(ca && { ca }), ...(cert && { cert, key }) }
  }

  /** Of a setting that has a default; a flag without a value is on. */
  isOn(name: SettingName): boolean {
    const { text, from } = this.get(name)!
    return readSwitch(text, from)
  }

  /** Items between commas; none where nobody says anything. */
  list(name: SettingName): string[] {
    const text = this.text(name) ?? ''
    const items = text.split(',').map((item) => item.trim())
    return items.filter((item) => item !== '')
  }

  choice<Choice extends string>(name: SettingName, choices: readonly Choice[]): Choice {
    const { text, from } = this.get(name)!
    return readChoice(text, from, choices)
  }

  /** The value as anybody may see it: of secrets, only that there is one. */
  shown(name: SettingName): string | undefined {
    const text = this.text(name)
    if (text === undefined) return undefined
    const { secret } = kindOf(name)
    if (secret === undefined) return text
    return secret === 'address' ? redactAddress(text) : REDACTED
  }

  /** What is wrong with the setting's text, if anything is. Throws what reading it throws. */
  check(name: SettingName): void {
    const setting = this.get(name)
    if (setting === undefined) return
    const { text, from } = setting
    const { form, bounds, choices } = kindOf(name)
    if (bounds !== undefined) readWhole(text, from, ...bounds)
    if (choices !== undefined) readChoice(text, from, choices)
    if (form === 'duration') readDuration(text, from)
    if (form === 'bytes') readBytes(text, from)
    if (form === 'ratio') readRatio(text, from)
    if (form === 'switch') readSwitch(text, from)
  }

  #find(name: SettingName): Setting | undefined {
    const { isPath, fallback } = kindOf(name)
    const flag = this.#flags[camelCase(name)]
    const given = flag === true ? 'true' : flag
    if (typeof given === 'string') return { text: given, from: `--${name.replaceAll('_', '-')}`, rank: 'flag' }
    const variable = variableOf(name)
    const value = filled(this.#env[variable])
    if (value !== undefined) return { text: value, from: variable, rank: 'env' }
    const configured = this.#config[name]
    if (configured !== undefined) {
      const text = isPath ? resolve(dirname(this.#configFile), configured) : configured
      return { text, from: `${this.#configFile}: ${name}`, rank: 'config' }
    }
    return fallback === undefined ? undefined : { text: fallback, from: 'default', rank: 'default' }
  }
}

/** TILEFOLD_REDIS_URL */
export function variableOf(name: SettingName): string {
  return `TILEFOLD_${name.toUpperCase()}`
}

function readNamed(name: SettingName, { text: file, from }: Setting): string {
  const thing = name.replaceAll('_', ' ')
  let text: string
  try {
    text = readFileSync(file, 'utf8').trim()
  } catch (error) {
    const { message } = error as Error
    throw new TilefoldError('CONFIG_INVALID', `cannot read the ${thing} that ${from} names: ${message}`, { file })
  }
  if (text !== '') return text
  throw new TilefoldError('CONFIG_INVALID', `cannot use the ${thing} that ${from} names: ${file} is empty`, { file })
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

const BYTES = { '': 1, B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, kB: 1e3, MB: 1e6, GB: 1e9 }

export function readBytes(text: string, from: string): number {
  const [, amount, unit] = /^(\d+(?:\.\d+)?) ?([A-Za-z]*)$/.exec(text) ?? []
  const value = Math.floor(Number(amount) * (BYTES[unit as keyof typeof BYTES] ?? Number.NaN))
  if (Number.isSafeInteger(value)) return value
  throw settingError(from, `got ${JSON.stringify(text)}, expected bytes like 512MiB, 2GiB or 1000000`)
}

export function readRatio(text: string, from: string): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN
  if (value >= 0 && value <= 1) return value
  throw settingError(from, `got ${JSON.stringify(text)}, expected a number from 0 to 1`)
}

export function readSwitch(text: string, from: string): boolean {
  if (text === 'true' || text === '1') return true
  if (text === 'false' || text === '0') return false
  throw settingError(from, `got ${JSON.stringify(text)}, expected true or false`)
}

function readChoice<Choice extends string>(text: string, from: string, choices: readonly Choice[]): Choice {
  if (choices.includes(text as Choice)) return text as Choice
  throw settingError(from, `got ${JSON.stringify(text)}, expected one of ${choices.join(', ')}`)
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
    if (!isSettingName(name)) {
      throw configError(file, `unknown setting ${JSON.stringify(name)}; ${didYouMean(name, SETTING_NAMES).text}`)
    }
    config[name] = configText(file, name, each)
  }
  return config
}

/** Numbers, switches and lists may stand as what they are in JSON. */
function configText(file: string, name: SettingName, value: unknown): string {
  const { form, secret } = kindOf(name)
  if (typeof value === 'string') return value
  if (typeof value === 'number') return String(value)
  if (form === 'switch' && typeof value === 'boolean') return String(value)
  if (form === 'list' && Array.isArray(value) && value.every((each) => typeof each === 'string')) return value.join(',')
  const also = { switch: 'true or false', list: 'a list of texts' }[form as string] ?? 'a number'
  const got = secret === undefined ? JSON.stringify(value) : `a ${typeof value}`
  throw configError(file, `${name} is ${got}, expected text or ${also}`)
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
