/** A real set of Sentinels for tests: a master, a replica, and three Sentinels that watch them, on loopback. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from './ports.ts'
import { type Child, clientOf, type RedisServer, startChild, startRedis, until } from './redis.ts'

export interface Sentinel {
  readonly port: number
  readonly child: Child
}

export interface SentinelSet {
  /** The master as it was at the start, then the replica. */
  readonly servers: readonly [RedisServer, RedisServer]
  readonly sentinels: readonly Sentinel[]
  /** The name under which the Sentinels know the server. */
  readonly name: string
  /** `redis+sentinel://` of each. */
  readonly urls: readonly string[]
  /** The master that the server itself says it is; waits until there is one other than `old`. */
  masterAfter(old: RedisServer): Promise<RedisServer>
  stop(): Promise<void>
}

export interface SentinelSettings {
  /** The one user of both servers, with this password; nobody else may in. */
  readonly user?: string
  readonly password?: string
  readonly sentinelPassword?: string
}

const NAME = 'features'

export async function startSentinels(settings: SentinelSettings = {}): Promise<SentinelSet> {
  const { user, password, sentinelPassword } = settings
  const directory = mkdtempSync(join(tmpdir(), 'tilefold-sentinel-'))
  const servers: RedisServer[] = []
  const sentinels: Sentinel[] = []
  const stop = async () => {
    for (const { child } of sentinels) await child.kill()
    for (const server of servers) await server.stop()
    rmSync(directory, { recursive: true, force: true })
  }
  try {
    const access: Record<string, string> =
      user === undefined
        ? {}
        : {
            user: `${user} on >${password} ~* &* +@all`,
            masteruser: user,
            masterauth: password!,
            requirepass: 'nobody',
          }
    for (let i = 0; i < 2; i++) servers.push(await startRedis({ ...access, 'repl-diskless-sync-delay': '0' }))
    const [master, replica] = servers as [RedisServer, RedisServer]
    await replica.client.replicaof('127.0.0.1', `${master.port}`)
    await until(async () => (await replica.client.info('replication')).includes('master_link_status:up'))
    for (let i = 0; i < 3; i++) {
      const port = await freePort()
      const file = join(directory, `sentinel-${i}.conf`)
      const lines = [
        `port ${port}`,
        'bind 127.0.0.1',
        `dir ${directory}`,
        `sentinel monitor ${NAME} 127.0.0.1 ${master.port} 2`,
        `sentinel down-after-milliseconds ${NAME} 600`,
        `sentinel failover-timeout ${NAME} 2500`,
      ]
      if (user !== undefined) lines.push(`sentinel auth-user ${NAME} ${user}`, `sentinel auth-pass ${NAME} ${password}`)
      if (sentinelPassword !== undefined)
        lines.push(`requirepass ${sentinelPassword}`, `sentinel sentinel-pass ${sentinelPassword}`)
      writeFileSync(file, `${lines.join('\n')}\n`)
      sentinels.push({ port, child: await startChild([file, '--sentinel']) })
    }
    for (const { port } of sentinels) await untilInformed(port, sentinelPassword)
    const masterAfter = async (old: RedisServer): Promise<RedisServer> => {
      const other = servers.find((server) => server !== old)!
      await until(async () => (await other.client.info('replication')).includes('role:master'))
      return other
    }
    const urls = sentinels.map(({ port }) => `redis+sentinel://127.0.0.1:${port}/${NAME}`)
    return { servers: [master, replica], sentinels, name: NAME, urls, masterAfter, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Until a Sentinel knows the replica and the two others. */
async function untilInformed(port: number, password: string | undefined): Promise<void> {
  const client = clientOf(`redis://:${password ?? ''}@127.0.0.1:${port}`)
  try {
    await until(async () => {
      const facts = (await client.call('SENTINEL', 'MASTER', NAME).catch(() => [])) as string[]
      const fact = (name: string) => facts[facts.indexOf(name) + 1]
      return fact('num-slaves') === '1' && fact('num-other-sentinels') === '2'
    })
  } finally {
    client.disconnect()
  }
}
