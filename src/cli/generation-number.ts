/** The number of a generation, as an option. */
import { settingError } from './settings.ts'

/** Throws USAGE. */
export function readGeneration(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text)
  throw settingError('--generation', `got ${JSON.stringify(text)}, expected a whole number from 1`)
}
