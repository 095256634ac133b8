/**
 * Waits until what the masters hold now is on their replicas too. WAIT answers for the writes of its own connection alone; a history is
 * written over many, in several processes. So each master is asked how far its log goes, and its replicas how far they have come:
 *
 *   master_repl_offset = M   then again and again   slave0: offset >= M, slave1: offset >= M
 *
 * A master without replicas has nothing to wait for. A replica that isn't connected counts as none: it can't be made master with what it
 * has (a Sentinel and a Cluster choose the one that has most).
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { RedisCalls } from './redis-call.ts'
import type { RedisMaster } from './redis-connection.ts'
import { unavailable } from './redis-error.ts'

/** Replicas tell their offset once a second. */
const SETTLE_MS = 10_000
const POLL_MS = 100

interface Replication {
  readonly offset: number
  readonly replicas: readonly number[]
}

/** Throws STORE_UNAVAILABLE where a replica stays behind. */
export async function settle(calls: RedisCalls, waitMs = SETTLE_MS): Promise<void> {
  const verb = 'see what replicas have'
  const masters = await calls.attempt(verb, () => calls.connection.masters())
  const deadline = performance.now() + waitMs
  await Promise.all(
    masters.map(async (master) => {
      const { offset } = await calls.attempt(verb, () => replicationOf(master))
      for (;;) {
        const { replicas } = await calls.attempt(verb, () => replicationOf(master))
        const behind = replicas.filter((each) => each < offset)
        if (behind.length === 0) return
        if (performance.now() >= deadline) {
          const last = Math.max(...behind.map((each) => offset - each))
          throw unavailable(
            verb,
            calls.connection.where,
            `${behind.length} of ${replicas.length} replicas are behind, by up to ${last} bytes, for ${Math.round(waitMs)} ms`,
          )
        }
        await sleep(POLL_MS)
      }
    }),
  )
}

async function replicationOf(master: RedisMaster): Promise<Replication> {
  return readReplication(`${await master.send('INFO', ['replication'])}`)
}

export function readReplication(info: string): Replication {
  const offset = Number(/^master_repl_offset:(\d+)/m.exec(info)?.[1] ?? 0)
  const online = [...info.matchAll(/^slave\d+:.*\bstate=online\b.*\boffset=(\d+)/gm)]
  return { offset, replicas: online.map(([, each]) => Number(each)) }
}
