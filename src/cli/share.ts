/** `--shard i/n`: one process's part of work that several share. */
import { settingError } from './settings.ts'

/** `2/8`. Throws USAGE. */
export function readShare(text: string | undefined): { index: number; count: number } | undefined {
  if (text === undefined) return undefined
  const [, index, count] = /^(\d{1,6})\/(\d{1,6})$/.exec(text) ?? []
  if (count !== undefined && Number(index) < Number(count)) return { index: Number(index), count: Number(count) }
  throw settingError('--shard', `got ${JSON.stringify(text)}, expected i/n with i from 0 to n-1`)
}
