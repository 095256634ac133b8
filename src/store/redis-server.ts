/**
 * Can a server be trusted with rows, and may we use it? It is asked in INFO, which every user may read where CONFIG is forbidden, and by
 * running each command that the scripts run.
 */
import { TilefoldError } from '../model/errors.ts'
import type { RedisCalls } from './redis-call.ts'
import type { RedisNode } from './redis-connection.ts'
import { troubleOf } from './redis-error.ts'
import { redisProbeKey } from './redis-key.ts'
import { PROBE } from './redis-script.ts'

export interface RedisServerReport {
  readonly version: string
  readonly role: string
  /** Undefined where the server does not tell. */
  readonly evictionPolicy: string | undefined
  readonly persistence: {
    readonly aof: boolean
    /** Snapshots are made: one was, or CONFIG says so. */
    readonly rdb: boolean
    /** What a restart may lose, in words. */
    readonly lossWindow: string
  }
  readonly cluster: boolean
  /** Its clock, by which rows expire; undefined where it does not tell. */
  readonly clockMs: number | undefined
}

/** What CONFIG GET says beyond INFO, where it may be asked. */
export interface RedisSettings {
  readonly appendfsync?: string
  readonly save?: string
}

/**
 * One report, of the first master. Throws STORE_UNSAFE where one may evict rows or does not tell (unless allowed), STORE_UNAVAILABLE
 * where a right is missing.
 */
export async function checkServer(calls: RedisCalls, allowEviction: boolean): Promise<RedisServerReport> {
  await calls.run('use scripts', PROBE, [redisProbeKey()], [])
  const { connection } = calls
  const reports = await calls.attempt('read INFO', async () => Promise.all((await connection.masters()).map(inspect)))
  for (const { evictionPolicy } of reports) {
    if (evictionPolicy === 'noeviction' || allowEviction) continue
    const got = evictionPolicy === undefined ? 'that it does not tell' : `"${evictionPolicy}"`
    throw new TilefoldError(
      'STORE_UNSAFE',
      `cannot trust Redis ${connection.where} with rows: it may drop them when memory is short; got maxmemory-policy ${got}, expected "noeviction"`,
      { evictionPolicy },
    )
  }
  return reports[0]!
}

async function inspect(node: RedisNode): Promise<RedisServerReport> {
  const info = await node.send('INFO', []).catch((error: Error) => {
    if (troubleOf(error) === 'refused') return ''
    throw error
  })
  const [appendfsync, save] = [await settingOf(node, 'appendfsync'), await settingOf(node, 'save')]
  return reportOf(`${info}`, { appendfsync, save })
}

async function settingOf(node: RedisNode, name: string): Promise<string | undefined> {
  try {
    const [, value] = (await node.send('CONFIG', ['GET', name])) as [Buffer, Buffer]
    return value.toString()
  } catch {
    // Managed servers forbid it.
    return undefined
  }
}

export function reportOf(info: string, settings: RedisSettings): RedisServerReport {
  const facts = new Map([...info.matchAll(/^([a-z_0-9]+):(.*?)\r?$/gm)].map(([, name, value]) => [name!, value!]))
  const aof = facts.get('aof_enabled') === '1'
  const savedAt = Number(facts.get('rdb_last_save_time') ?? 0)
  const startedAt = Number(facts.get('server_time_usec') ?? 0) / 1e6 - Number(facts.get('uptime_in_seconds') ?? 0)
  // A server says that it saved when it started; a later save is a real one.
  const rdb = settings.save === undefined ? savedAt > startedAt + 2 : settings.save !== ''
  return {
    version: facts.get('redis_version') ?? 'unknown',
    role: facts.get('role') ?? 'unknown',
    evictionPolicy: facts.get('maxmemory_policy'),
    persistence: { aof, rdb, lossWindow: lossWindowOf(aof, rdb, settings, facts) },
    cluster: facts.get('cluster_enabled') === '1',
    clockMs: facts.has('server_time_usec') ? Number(facts.get('server_time_usec')) / 1000 : undefined,
  }
}

function lossWindowOf(
  aof: boolean,
  rdb: boolean,
  { appendfsync, save }: RedisSettings,
  facts: ReadonlyMap<string, string>,
): string {
  const failover = 'a failover may lose what the replica had not received yet'
  if (aof) {
    const byPolicy: Record<string, string> = {
      always: 'a crash of the machine loses nothing that was answered',
      everysec: 'a crash of the machine loses up to 2 seconds',
      no: 'a crash of the machine loses what its system had not written yet, some 30 seconds',
    }
    return `${byPolicy[appendfsync ?? ''] ?? 'a crash of the machine loses up to 2 seconds unless appendfsync says otherwise (unknown)'}; ${failover}`
  }
  if (rdb) {
    const changes = facts.get('rdb_changes_since_last_save') ?? 'an unknown number of'
    const rule = save === undefined ? '' : ` (save ${save})`
    return `a restart loses everything since the last snapshot${rule}, now ${changes} changes; ${failover}`
  }
  return `a restart loses everything: neither append-only file nor snapshots; ${failover}`
}
