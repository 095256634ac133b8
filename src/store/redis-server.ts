/** What a Redis server says about itself in INFO, which every user may read where CONFIG is forbidden. */

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
}

/** What CONFIG GET says beyond INFO, where it may be asked. */
export interface RedisSettings {
  readonly appendfsync?: string
  readonly save?: string
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
