/**
 * How should a row lie in Redis: as one packed value, as a hash with a field per ladder level, or with a field per tile? The
 * answer is in ARCHITECTURE.md; this is the measurement behind it, against a real redis-server started here.
 *
 *   npm run build:ts && node dist/bench/redis-rows.js [--rows 100000] [--rounds 7] [--json FILE]
 *
 * A row is about 2 KB: head and header 256 bytes, then 61 tiles of 29 bytes (24 of 5 min, 30 of 1 h, 7 of 1 d). Each layout
 * has its own server, so that memory and CPU time are its own; hashes are measured with Redis's default encoding and
 * with listpacks allowed for values of this size. Rounds are interleaved over the layouts; figures are medians of rounds.
 *
 * - read: 100 random entities in one round trip (MGET, or 100 pipelined hash reads), p50 and p99
 * - flush: scripts of 50 dirty rows under a token check, as an owner writes them. `head` changes head and level 0 only, what
 *   most rows do that are flushed every second; `all` changes every level, what a compaction does.
 * - memory: used_memory per row
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Redis } from 'ioredis'
import { Random } from './random.ts'
import { formatTable } from './report.ts'

const HEAD_BYTES = 256
const TILE_BYTES = 29
const LEVEL_TILES = [24, 30, 7]
const READ_ENTITIES = 100
const FLUSH_ROWS = 50
const EXPIRE_MS = 86_400_000

const { values: options } = parseArgs({
  options: {
    rows: { type: 'string', default: '100000' },
    rounds: { type: 'string', default: '7' },
    reads: { type: 'string', default: '300' },
    json: { type: 'string' },
  },
})
const ROWS = Number(options.rows)
const ROUNDS = Number(options.rounds)
const READS = Number(options.reads)

/** A row in parts, in order: head, then the tiles of each level. */
interface RowParts {
  readonly head: Buffer
  readonly levels: readonly (readonly Buffer[])[]
}

interface Layout {
  readonly name: string
  /** `CONFIG SET` before anything is written. */
  readonly config: Readonly<Record<string, string>>
  /** The command that stores a whole row. */
  store(key: string, row: RowParts): (string | Buffer)[]
  /** Arguments of the flush script for one row: how many, then the values (hashes: field, value, ...). */
  change(row: RowParts, isAll: boolean): (string | Buffer)[]
  readonly script: string
  /** Reads rows in one round trip; returns their bytes, for the check that all layouts hold the same. */
  read(redis: Redis, keys: readonly string[]): Promise<number>
}

const TOKEN_CHECK = `if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'FENCED' end local at = 2`
const SET_SCRIPT = `${TOKEN_CHECK}
for i = 2, #KEYS do redis.call('SET', KEYS[i], ARGV[at + 1], 'PX', ${EXPIRE_MS}) at = at + 2 end return 'OK'`
const HSET_SCRIPT = `${TOKEN_CHECK}
for i = 2, #KEYS do
  local count = tonumber(ARGV[at])
  redis.call('HSET', KEYS[i], unpack(ARGV, at + 1, at + count))
  redis.call('PEXPIRE', KEYS[i], ${EXPIRE_MS})
  at = at + count + 1
end return 'OK'`

const packed: Layout = {
  name: 'one value',
  config: {},
  store: (key, row) => ['SET', key, packedRow(row)],
  change: (row) => ['1', packedRow(row)],
  script: SET_SCRIPT,
  async read(redis, keys) {
    const values = await redis.mgetBuffer(...keys)
    return values.reduce((bytes, value) => bytes + value!.length, 0)
  },
}

function perLevel(name: string, config: Record<string, string>): Layout {
  const fields = (row: RowParts, levels: number) => [
    'h',
    row.head,
    ...row.levels.slice(0, levels).flatMap((tiles, level) => [`${level}`, Buffer.concat(tiles)]),
  ]
  return {
    name,
    config,
    store: (key, row) => ['HSET', key, ...fields(row, LEVEL_TILES.length)],
    change: (row, isAll) => counted(fields(row, isAll ? LEVEL_TILES.length : 1)),
    script: HSET_SCRIPT,
    async read(redis, keys) {
      const pipeline = redis.pipeline()
      for (const key of keys) pipeline.hmgetBuffer(key, 'h', '0', '1', '2')
      return replyBytes((await pipeline.exec())!)
    },
  }
}

function perTile(name: string, config: Record<string, string>): Layout {
  const fieldsOf = (row: RowParts) =>
    row.levels.map((tiles, level) => tiles.flatMap((tile, i) => [tileField(level, i), tile]))
  return {
    name,
    config,
    store: (key, row) => ['HSET', key, 'h', row.head, ...fieldsOf(row).flat()],
    // The head and the newest tile; when all changes, one tile of each level is new.
    change: (row, isAll) => {
      const newest = fieldsOf(row).map((fields) => fields.slice(-2))
      return counted(['h', row.head, ...newest.slice(0, isAll ? LEVEL_TILES.length : 1).flat()])
    },
    script: HSET_SCRIPT,
    async read(redis, keys) {
      const pipeline = redis.pipeline()
      for (const key of keys) pipeline.hvalsBuffer(key)
      return replyBytes((await pipeline.exec())!)
    },
  }
}

const LISTPACK = { 'hash-max-listpack-value': '4096', 'hash-max-listpack-entries': '512' }
const LAYOUTS = [
  packed,
  perLevel('field per level', {}),
  perLevel('field per level, listpack', LISTPACK),
  perTile('field per tile', {}),
  perTile('field per tile, listpack', LISTPACK),
]

function packedRow(row: RowParts): Buffer {
  return Buffer.concat([row.head, ...row.levels.flat()])
}

function tileField(level: number, tile: number): Buffer {
  const field = Buffer.alloc(5)
  field[0] = level
  field.writeUInt32LE(3_300_000 + tile, 1)
  return field
}

function counted(values: (string | Buffer)[]): (string | Buffer)[] {
  return [`${values.length}`, ...values]
}

function replyBytes(replies: [Error | null, unknown][]): number {
  let bytes = 0
  for (const [error, values] of replies) {
    if (error) throw error
    for (const value of values as Buffer[]) bytes += value.length
  }
  return bytes
}

class Server {
  private constructor(
    readonly layout: Layout,
    readonly redis: Redis,
    private readonly child: ChildProcess,
    private readonly directory: string,
  ) {}

  static async start(layout: Layout): Promise<Server> {
    const port = await freePort()
    const directory = mkdtempSync(join(tmpdir(), 'tilefold-redis-'))
    const settings = {
      port: `${port}`,
      bind: '127.0.0.1',
      save: '',
      appendonly: 'no',
      dir: directory,
      ...layout.config,
    }
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value])
    const child = spawn('redis-server', args, { stdio: 'ignore' })
    child.on('error', () => {
      console.error('cannot start redis-server: it is not on the PATH (Debian: apt-get install redis-server)')
      process.exit(1)
    })
    const redis = new Redis({ port, host: '127.0.0.1', retryStrategy: () => 50, maxRetriesPerRequest: 100 })
    redis.on('error', () => {})
    await redis.ping()
    return new Server(layout, redis, child, directory)
  }

  /** The value of one line of INFO. */
  async info(name: string): Promise<number> {
    const text = await this.redis.info('all')
    return Number(new RegExp(`^${name}:([0-9.]+)`, 'm').exec(text)![1])
  }

  async cpuSeconds(): Promise<number> {
    return (await this.info('used_cpu_user')) + (await this.info('used_cpu_sys'))
  }

  async stop(): Promise<void> {
    this.redis.disconnect()
    this.child.kill()
    await once(this.child, 'exit')
    rmSync(this.directory, { recursive: true, force: true })
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

const random = new Random(1)
const keyOf = (index: number) => `{clicks.0}/default/0123456789abcdef/1/r/user${String(index).padStart(8, '0')}`

function randomBytes(count: number): Buffer {
  const bytes = Buffer.allocUnsafe(count)
  for (let i = 0; i < count; i++) bytes[i] = random.uint32()
  return bytes
}

/** A few hundred different rows stand for all: what the server does depends on sizes, not on contents. */
const SAMPLE_ROWS = Array.from(
  { length: 256 },
  (): RowParts => ({
    head: randomBytes(HEAD_BYTES),
    levels: LEVEL_TILES.map((tiles) => Array.from({ length: tiles }, () => randomBytes(TILE_BYTES))),
  }),
)
const rowOf = (index: number): RowParts => SAMPLE_ROWS[index % SAMPLE_ROWS.length]!
const ROW_BYTES = packedRow(rowOf(0)).length

async function load(server: Server): Promise<number> {
  const before = await server.info('used_memory')
  await server.redis.set('{clicks.0}/token', '1')
  for (let start = 0; start < ROWS; start += 1000) {
    const pipeline = server.redis.pipeline()
    for (let i = start; i < Math.min(start + 1000, ROWS); i++) {
      const [command, ...rest] = server.layout.store(keyOf(i), rowOf(i))
      pipeline.call(command as string, ...rest)
    }
    for (const [error] of (await pipeline.exec())!) if (error) throw error
  }
  return ((await server.info('used_memory')) - before) / ROWS
}

async function measureReads(server: Server): Promise<{ p50: number; p99: number; cpuUs: number }> {
  const cpuBefore = await server.cpuSeconds()
  const times: number[] = []
  for (let i = 0; i < READS; i++) {
    const keys = Array.from({ length: READ_ENTITIES }, () => keyOf(random.below(ROWS)))
    const start = performance.now()
    const bytes = await server.layout.read(server.redis, keys)
    times.push((performance.now() - start) * 1000)
    if (bytes !== READ_ENTITIES * ROW_BYTES)
      throw new Error(`${server.layout.name}: read ${bytes} bytes, expected other`)
  }
  times.sort((a, b) => a - b)
  const cpuUs = (((await server.cpuSeconds()) - cpuBefore) * 1e6) / READS
  return { p50: times[READS >> 1]!, p99: times[Math.floor(READS * 0.99)]!, cpuUs }
}

async function measureFlush(
  server: Server,
  isAll: boolean,
): Promise<{ bytes: number; cpuUs: number; scriptUs: number }> {
  const scripts = 100
  const rows = scripts * FLUSH_ROWS
  const sha = (await server.redis.script('LOAD', server.layout.script)) as string
  const bytesBefore = await server.info('total_net_input_bytes')
  const cpuBefore = await server.cpuSeconds()
  const times: number[] = []
  for (let i = 0; i < scripts; i++) {
    const indexes = Array.from({ length: FLUSH_ROWS }, () => random.below(ROWS))
    const keys = ['{clicks.0}/token', ...indexes.map(keyOf)]
    const values = indexes.flatMap((index) => server.layout.change(rowOf(index), isAll))
    const start = performance.now()
    const reply = await server.redis.evalsha(sha, keys.length, ...keys, '1', ...values)
    times.push((performance.now() - start) * 1000)
    if (reply !== 'OK') throw new Error(`${server.layout.name}: flush answered ${reply}`)
  }
  const cpuUs = (((await server.cpuSeconds()) - cpuBefore) * 1e6) / rows
  const bytes = ((await server.info('total_net_input_bytes')) - bytesBefore) / rows
  times.sort((a, b) => a - b)
  return { bytes, cpuUs, scriptUs: times[scripts >> 1]! }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!
}

const servers: Server[] = []
try {
  const figures = new Map<Layout, Record<string, number[]>>()
  for (const layout of LAYOUTS) {
    const server = await Server.start(layout)
    servers.push(server)
    figures.set(layout, { memory: [await load(server)] })
  }
  for (let round = 0; round < ROUNDS; round++) {
    for (const server of servers) {
      const read = await measureReads(server)
      const head = await measureFlush(server, false)
      const all = await measureFlush(server, true)
      const figure = figures.get(server.layout)!
      const add = (name: string, value: number) => {
        figure[name] ??= []
        figure[name].push(value)
      }
      add('readP50', read.p50)
      add('readP99', read.p99)
      add('readCpu', read.cpuUs)
      add('headBytes', head.bytes)
      add('headCpu', head.cpuUs)
      add('headScript', head.scriptUs)
      add('allBytes', all.bytes)
      add('allCpu', all.cpuUs)
    }
  }

  const rows = [...figures].map(([layout, figure]) => {
    const medians = Object.fromEntries(Object.entries(figure).map(([name, values]) => [name, median(values)]))
    return { layout: layout.name, ...medians } as { layout: string } & Record<string, number>
  })
  const version = /redis_version:(\S+)/.exec(await servers[0]!.redis.info('server'))![1]
  console.log(`Redis ${version}, ${ROWS} rows of ${ROW_BYTES} bytes, medians of ${ROUNDS} interleaved rounds\n`)
  const titles = [
    '',
    'read 100, p50 ms',
    'p99 ms',
    'server CPU us',
    'flush head: bytes/row',
    'CPU us/row',
    'script of 50, ms',
    'flush all: bytes/row',
    'CPU us/row',
    'memory, bytes/row',
  ]
  const cells = rows.map((row) => [
    row.layout,
    (row.readP50! / 1000).toFixed(2),
    (row.readP99! / 1000).toFixed(2),
    row.readCpu!.toFixed(0),
    row.headBytes!.toFixed(0),
    row.headCpu!.toFixed(2),
    (row.headScript! / 1000).toFixed(2),
    row.allBytes!.toFixed(0),
    row.allCpu!.toFixed(2),
    row.memory!.toFixed(0),
  ])
  console.log(formatTable([titles, ...cells]))
  const report = { version, rows: ROWS, rowBytes: ROW_BYTES, rounds: ROUNDS, layouts: rows }
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`)
  else console.log(`\n${JSON.stringify(report)}`)
} finally {
  for (const server of servers) await server.stop()
}
