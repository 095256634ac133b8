/**
 * A real Redis for tests: a server, or a Cluster of three masters and three replicas, on free loopback ports with a temporary
 * directory. `REDIS_URL` names a server to use instead; nothing there is flushed, so tests name their data by a namespace
 * of their own, and what needs a server of our own to kill is skipped.
 *
 * A server that was started here is killed with the test process, however that ends.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { guard } from './guard.ts'
import { freePort } from './ports.ts'

export interface RedisServer {
  readonly url: string
  readonly port: number
  /** A plain client, for tests that look at the server from outside. */
  readonly client: Redis
  /** Kills the server where it stands. */
  kill9(): Promise<void>
  /** Starts it again, on its port and its directory. */
  restart(extra?: Readonly<Record<string, string>>): Promise<void>
  /** Stops it in its tracks and lets it go on. */
  pause(): void
  resume(): void
  stop(): Promise<void>
}

export interface RedisCluster {
  /** The masters as they were at the start, then the replicas: `nodes[i + 3]` follows `nodes[i]`. */
  readonly nodes: readonly RedisServer[]
  readonly urls: readonly string[]
  stop(): Promise<void>
}

/** Is the server somebody else's? Then it cannot be killed, nor its settings changed. */
export const isForeignRedis = process.env.REDIS_URL !== undefined

/** Why there is no Redis to start, or undefined: then there is one. In CI there must be one. */
export function whyNoRedis(): string | undefined {
  if (hasServer()) return undefined
  if (process.getuid?.() === 0) spawnSync('apt-get', ['install', '-y', '-q', 'redis-server'], { stdio: 'ignore' })
  if (hasServer()) return undefined
  const why = 'redis-server is not on the PATH, and could not be installed with apt-get'
  if (process.env.CI === 'true') throw new Error(`cannot test with Redis: ${why}`)
  process.stderr.write(`\n*** SKIPPED, no Redis to test with: ${why} ***\n\n`)
  return why
}

function hasServer(): boolean {
  return spawnSync('redis-server', ['--version'], { stdio: 'ignore' }).status === 0
}

/** A namespace that no other test and no other run uses. */
export function freshNamespace(): string {
  return `test-${randomBytes(6).toString('hex')}`
}

/** The server that `REDIS_URL` names, or one of our own. */
export async function anyRedis(): Promise<{ readonly url: string; readonly client: Redis; stop(): Promise<void> }> {
  const url = process.env.REDIS_URL
  if (url === undefined) return startRedis()
  const client = clientOf(url)
  return { url, client, stop: async () => client.disconnect() }
}

/** Starts a server of our own; `settings` as in redis.conf. It keeps nothing on disk unless told. */
export async function startRedis(settings: Readonly<Record<string, string>> = {}): Promise<RedisServer> {
  const port = await freePort()
  const directory = mkdtempSync(join(tmpdir(), 'tilefold-redis-'))
  const scheme = settings['tls-port'] === undefined ? 'redis' : 'rediss'
  let child: Child | undefined
  const start = async (extra: Readonly<Record<string, string>> = {}): Promise<void> => {
    const all = {
      port: `${port}`,
      bind: '127.0.0.1',
      save: '',
      appendonly: 'no',
      dir: directory,
      ...settings,
      ...extra,
    }
    child = await startServer(all)
  }
  await start()
  // `masteruser` is whom a replica is to its master: here the same everywhere.
  const [user, password] = [settings.masteruser ?? '', settings.masterauth ?? settings.requirepass ?? '']
  const client = clientOf(`redis://${user}:${password}@127.0.0.1:${port}`)
  await untilLoaded(client)
  return {
    url: `${scheme}://127.0.0.1:${settings['tls-port'] ?? port}`,
    port,
    client,
    kill9: () => child!.kill(),
    restart: start,
    pause: () => void process.kill(child!.pid, 'SIGSTOP'),
    resume: () => void process.kill(child!.pid, 'SIGCONT'),
    async stop() {
      client.disconnect()
      await child!.kill()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

export async function startCluster(): Promise<RedisCluster> {
  const nodes: RedisServer[] = []
  const stop = async () => {
    for (const node of nodes) await node.stop()
  }
  try {
    for (let i = 0; i < 6; i++) {
      const settings = {
        'cluster-enabled': 'yes',
        'cluster-node-timeout': '2500',
        'cluster-port': `${await freePort()}`,
      }
      nodes.push(
        await startRedis({ ...settings, 'repl-diskless-sync-delay': '0', 'cluster-require-full-coverage': 'no' }),
      )
    }
    const ids: string[] = []
    for (const [i, node] of nodes.entries()) {
      await node.client.call('CLUSTER', 'SET-CONFIG-EPOCH', `${i + 1}`)
      const [first, last] = [Math.ceil((16384 * i) / 3), Math.ceil((16384 * (i + 1)) / 3) - 1]
      if (i < 3) await node.client.call('CLUSTER', 'ADDSLOTSRANGE', `${first}`, `${last}`)
      ids.push((await node.client.call('CLUSTER', 'MYID')) as string)
      const bus = (await node.client.call('CONFIG', 'GET', 'cluster-port')) as [string, string]
      if (i > 0) await nodes[0]!.client.call('CLUSTER', 'MEET', '127.0.0.1', `${node.port}`, bus[1])
    }
    for (const [i, node] of nodes.slice(3).entries()) {
      await until(() => succeeds(node.client.call('CLUSTER', 'REPLICATE', ids[i]!)))
    }
    // Each hears of the others one by one, and says that all is well before it knows them.
    const isKnown = async ({ client }: RedisServer) => {
      const info = await client.cluster('INFO')
      return /cluster_state:ok\r.*cluster_slots_ok:16384\r.*cluster_known_nodes:6\r/s.test(info as string)
    }
    for (const node of nodes) await until(() => isKnown(node))
    for (const node of nodes.slice(3)) {
      await until(async () => (await node.client.info('replication')).includes('master_link_status:up'))
    }
    return { nodes, urls: nodes.map(({ url }) => url), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Moves a slot from one master to another key by key, as an operator's resharding does; everybody is told at the end. */
export async function moveSlot(
  { nodes }: RedisCluster,
  slot: number,
  source: RedisServer,
  target: RedisServer,
  pauseMs = 4,
): Promise<number> {
  const idOf = async (node: RedisServer) => (await node.client.cluster('MYID')) as string
  await target.client.cluster('SETSLOT', slot, 'IMPORTING', await idOf(source))
  await source.client.cluster('SETSLOT', slot, 'MIGRATING', await idOf(target))
  for (let moved = 0; ; moved++) {
    const keys = (await source.client.callBuffer('CLUSTER', 'GETKEYSINSLOT', `${slot}`, '1')) as Buffer[]
    if (keys.length === 0) {
      for (const node of [target, source, ...nodes.slice(0, 3)]) {
        await node.client.cluster('SETSLOT', slot, 'NODE', await idOf(target))
      }
      return moved
    }
    await source.client.callBuffer('MIGRATE', '127.0.0.1', `${target.port}`, keys[0]!, '0', '5000')
    await sleep(pauseMs)
  }
}

/** Waits until something is so; fails after half a minute. */
export async function until(isSo: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = performance.now() + 30_000
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`waited in vain for ${isSo}`)
    await sleep(20)
  }
}

export interface Child {
  readonly pid: number
  kill(): Promise<void>
}

function startServer(settings: Readonly<Record<string, string>>): Promise<Child> {
  return startChild(Object.entries(settings).flatMap(([name, value]) => [`--${name}`, ...value.split(' ')]))
}

/** `redis-server` with these arguments; it goes when this process goes. */
export async function startChild(settings: readonly string[]): Promise<Child> {
  const child = spawn('redis-server', settings, { stdio: ['ignore', 'pipe', 'inherit'] })
  const pid = child.pid!
  const ended = once(child, 'exit').then(guard(pid))
  await saysReady(child)
  return {
    pid,
    async kill() {
      child.kill('SIGKILL')
      await ended
    },
  }
}

async function saysReady(child: ChildProcess): Promise<void> {
  let said = ''
  await new Promise<void>((resolve, reject) => {
    child.stdout!.on('data', (chunk) => {
      said = (said + chunk).slice(-4_000)
      // It listens; whether it still loads is for the tests to see.
      if (/Server initialized|Ready to accept connections|Sentinel ID is/.test(said)) resolve()
    })
    child.once('exit', () => reject(new Error(`cannot start redis-server:\n${said}`)))
  })
}

export function clientOf(url: string): Redis {
  const client = new Redis(url, { retryStrategy: () => 30, maxRetriesPerRequest: null, protocol: 2 })
  client.on('error', () => {})
  return client
}

async function untilLoaded(client: Redis): Promise<void> {
  await until(() => succeeds(client.ping()))
}

async function succeeds(work: Promise<unknown>): Promise<boolean> {
  try {
    await work
    return true
  } catch {
    return false
  }
}

/** Certificates for a server on loopback: a CA, a server's, an expired one, and one for another host. */
export function makeCertificates(directory: string): void {
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' })
  openssl(
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-days',
    '2',
    '-keyout',
    'ca.key',
    '-out',
    'ca.crt',
    '-subj',
    '/CN=test CA',
  )
  for (const [name, host] of [
    ['server', 'IP:127.0.0.1'],
    ['other', 'DNS:elsewhere.test'],
  ]) {
    openssl(
      'req',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.csr`,
      '-subj',
      '/CN=test',
      '-addext',
      `subjectAltName=${host}`,
    )
    openssl(
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      '-CA',
      'ca.crt',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-copy_extensions',
      'copyall',
      '-days',
      '2',
      '-out',
      `${name}.crt`,
    )
  }
}
