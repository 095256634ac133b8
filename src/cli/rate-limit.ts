/** `--rate-limit`: how fast a command may write rows. */
import type { RateLimit } from '../ingest/pace.ts'
import { readBytes, settingError } from './settings.ts'

const ABOUT = 'expected rows or bytes a second: 2000rows/s, 20MiB/s'

/** Throws USAGE. */
export function readRateLimit(text: string | undefined): RateLimit | undefined {
  if (text === undefined) return undefined
  const refused = () => settingError('--rate-limit', `got ${JSON.stringify(text)}, ${ABOUT}`)
  const [, amount] = /^(.+)\/s$/.exec(text.replaceAll(' ', '')) ?? []
  if (amount === undefined) throw refused()
  const [, rows] = /^(\d{1,12})rows$/.exec(amount) ?? []
  // Plain numbers are neither.
  if (rows === undefined && !/[A-Za-z]$/.test(amount)) throw refused()
  const perSecond = rows === undefined ? readBytes(amount, '--rate-limit') : Number(rows)
  if (perSecond < 1) throw refused()
  return { unit: rows === undefined ? 'bytes' : 'rows', perSecond }
}
