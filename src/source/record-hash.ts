/** A record of a log, told from another one that may stand in its place. */
import { createHash } from 'node:crypto'
import type { StreamMessage } from './stream.ts'

/** 16 hex digits over a record as the log holds it. */
export function hashOf({ key, value, timestamp }: StreamMessage): string {
  const hash = createHash('sha256').update(timestamp)
  for (const part of [key, value]) hash.update(part === null ? '-' : `+${part.length}:`).update(part ?? '')
  return hash.digest('hex').slice(0, 16)
}
