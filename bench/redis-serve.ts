/**
 * Claim: answering 100 entities × 4 windows from Redis costs little more than one MGET of their rows, and a fraction of what a
 * hash with a field per tile costs, whose tiles are merged in JavaScript.
 *
 * A redis-server of its own holds the rows of `serve`'s 10,000 entities, about 61 tiles each, and the same tiles once more as
 * hashes (`level:number` → count, sum, min, max, last; Redis keeps hashes of this size as listpacks). Each arm has a connection of its own
 * and answers the same entities in each turn; latencies are taken request by request. Once more with three aggregates: rows of some 2 KB
 * instead of 3.5, of which MGET is faster, and the merge not by as much.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { loadCore } from '../src/engine/module.ts'
import type { Plan } from '../src/model/plan.ts'
import { historyLane } from '../src/model/view-layout.ts'
import { createFeatureReader, type FeatureReader } from '../src/serve/reader.ts'
import { createRedisStore } from '../src/store/redis.ts'
import { redisLaneKeys, rowKey } from '../src/store/redis-key.ts'
import { mergeTiles, type StoredTile } from './baseline.ts'
import type { Claim, Settings } from './claim.ts'
import { judge, type Row, timesRow } from './contest.ts'
import { type PlanOptions, valuePlan } from './engine-plan.ts'
import { Random } from './random.ts'
import { checkAnswers, ENTITIES_PER_REQUEST, fillStore, LANES, NAMESPACE, quantileOf } from './serve.ts'
import { AS_OF_MS, COVER, createTileWorkload, LEVEL_STEPS_MS, storedTiles, WINDOWS_MS } from './tiles.ts'
import { createKeys, keyStrings } from './workload.ts'

/** One tile's value: count u32, then sum, min, max, last and its time as f64. */
const TILE_BYTES = 44
const LADDER: PlanOptions = { windows: ['1h', '24h', '7d', '27d'], tiles: ['5m', '1h', '1d'] }
/** The fields that a request as of `AS_OF_MS` asks for. */
const FIELDS = COVER.map(({ level, startMs }) => `${level}:${startMs / LEVEL_STEPS_MS[level]!}`)

export const redis: Claim = {
  name: 'redis',
  about: '100 entities × 4 windows from Redis against MGET of their rows, and against a hash field per tile',
  async run(settings) {
    if (spawnSync('redis-server', ['--version']).status !== 0) {
      settings.note('\nredis: skipped, there is no redis-server on the PATH (Debian: apt-get install redis-server)')
      return
    }
    const entityCount = settings.short ? 500 : 10_000
    const server = await startServer()
    const store = createRedisStore({ urls: `redis://127.0.0.1:${server.port}` })
    const bare = new Redis({ port: server.port, host: '127.0.0.1' })
    const fields = new Redis({ port: server.port, host: '127.0.0.1' })
    try {
      const workload = createTileWorkload(entityCount, 1, settings.seed)
      const plan = await valuePlan(LADDER)
      await fillStore(store, plan, workload)
      const keys = keyStrings(createKeys(entityCount))
      const rowKeys = await rowKeysOf(store, plan, keys)
      for (let entity = 0; entity < entityCount; entity++) {
        await storeTiles(fields, keys[entity]!, storedTiles(workload, entity))
      }
      const reader = createFeatureReader({ store, namespace: NAMESPACE, plans: [plan], core: loadCore(), clock })
      await reader.checkReady()
      await checkAnswers(reader, keys, workload)
      await noteBytes(bare, rowKeys, settings)
      const full = { reader, title: '5 aggregates', bare, rowKeys, keys }
      settings.emit(await timeRequests(full, fields, settings))

      const leanPlan = await valuePlan({ ...LADDER, isLean: true })
      await bare.flushall()
      await fillStore(store, leanPlan, workload)
      const leanReader = createFeatureReader({
        store,
        namespace: NAMESPACE,
        plans: [leanPlan],
        core: loadCore(),
        clock,
      })
      await leanReader.checkReady()
      const leanKeys = await rowKeysOf(store, leanPlan, keys)
      await noteBytes(bare, leanKeys, settings)
      const least = { reader: leanReader, title: '3 aggregates', bare, rowKeys: leanKeys, keys }
      settings.emit(await timeRequests(least, undefined, settings))
    } finally {
      await store.close()
      bare.disconnect()
      fields.disconnect()
      await server.stop()
    }
  },
}

function clock(): number {
  return AS_OF_MS
}

/** The name of each entity's row; as text, which ioredis sends faster than bytes. */
async function rowKeysOf(
  store: ReturnType<typeof createRedisStore>,
  plan: Plan,
  keys: readonly string[],
): Promise<string[]> {
  const rowKeys = new Map<string, string>()
  for (let lane = 0; lane < LANES; lane++) {
    const name = { namespace: NAMESPACE, stateHash: plan.stateHash, generation: 1, lane: historyLane(lane) }
    for await (const { key } of store.scanRows(name)) {
      rowKeys.set(Buffer.from(key).toString('latin1'), rowKey(redisLaneKeys(name), key).toString('latin1'))
    }
  }
  return keys.map((key) => rowKeys.get(key)!)
}

async function noteBytes(bare: Redis, rowKeys: readonly string[], settings: Settings): Promise<void> {
  const bytes = (await bare.mgetBuffer(...rowKeys)).reduce((total, row) => total + row!.length, 0)
  settings.note(`\n${rowKeys.length} rows, ${Math.round(bytes / rowKeys.length)} bytes each on average`)
}

async function storeTiles(fields: Redis, key: string, tiles: readonly StoredTile[]): Promise<void> {
  const values = tiles.flatMap((tile, i) => {
    const bytes = Buffer.allocUnsafe(TILE_BYTES)
    bytes.writeUInt32LE(tile.count, 0)
    for (const [j, value] of [tile.sum, tile.min, tile.max, tile.last, tile.lastTime].entries()) {
      bytes.writeDoubleLE(value, 4 + 8 * j)
    }
    return [FIELDS[i]!, bytes]
  })
  await fields.hset(`tiles:${key}`, ...values)
}

/** A request as one writes it over a field per tile: every tile that the longest window may need, merged per window. */
async function askFields(fields: Redis, keys: readonly string[], starts: readonly number[]): Promise<number> {
  const pipeline = fields.pipeline()
  for (const key of keys) pipeline.hmgetBuffer(`tiles:${key}`, ...FIELDS)
  let answered = 0
  for (const [error, values] of (await pipeline.exec())!) {
    if (error) throw error
    const tiles: StoredTile[] = []
    for (const [i, bytes] of (values as (Buffer | null)[]).entries()) {
      if (bytes === null) continue
      const { level, startMs } = COVER[i]!
      tiles.push({
        startMs,
        stepMs: LEVEL_STEPS_MS[level]!,
        count: bytes.readUInt32LE(0),
        sum: bytes.readDoubleLE(4),
        min: bytes.readDoubleLE(12),
        max: bytes.readDoubleLE(20),
        last: bytes.readDoubleLE(28),
        lastTime: bytes.readDoubleLE(36),
      })
    }
    if (mergeTiles(tiles, starts).every(({ count }) => count > 0)) answered++
  }
  return answered
}

/** Who answers, and what it is compared with: one command for the same rows. */
interface Served {
  readonly reader: FeatureReader
  readonly title: string
  readonly bare: Redis
  readonly rowKeys: readonly string[]
  readonly keys: readonly string[]
}

/** `fields`: where the hashes are; without them they take no part. */
async function timeRequests(
  { reader, title: aggregates, bare, rowKeys, keys }: Served,
  fields: Redis | undefined,
  settings: Settings,
): Promise<Row[]> {
  const random = new Random(settings.seed)
  const requests = settings.short ? 30 : 200
  const starts = WINDOWS_MS.map((lengthMs) => AS_OF_MS - lengthMs)
  const arms = {
    ours: async (entities: readonly number[]) => {
      const query = { view: 'bench', entities: entities.map((entity) => ({ key: keys[entity]! })), asOf: AS_OF_MS }
      return (await reader.getFeatures(query)).rows.length
    },
    bare: async (entities: readonly number[]) => {
      const rows = await bare.mgetBuffer(...entities.map((entity) => rowKeys[entity]!))
      return rows.filter((row) => row !== null).length
    },
    fields: async (entities: readonly number[]) =>
      askFields(
        fields!,
        entities.map((entity) => keys[entity]!),
        starts,
      ),
  }
  const names = fields === undefined ? (['ours', 'bare'] as const) : (['ours', 'bare', 'fields'] as const)
  const p50s = { ours: [] as number[], bare: [] as number[], fields: [] as number[] }
  // The first turn warms up.
  for (let turn = 0; turn <= settings.turns.all; turn++) {
    const times = { ours: [] as number[], bare: [] as number[], fields: [] as number[] }
    const time = async (name: keyof typeof arms, entities: readonly number[]): Promise<void> => {
      const start = process.hrtime.bigint()
      const answered = await arms[name](entities)
      times[name].push(Number(process.hrtime.bigint() - start))
      if (answered !== ENTITIES_PER_REQUEST) throw new Error(`cannot time ${name}: it answered ${answered} entities`)
    }
    const asked = Array.from({ length: requests }, () =>
      Array.from({ length: ENTITIES_PER_REQUEST }, () => random.below(keys.length)),
    )
    // In turn, each first as often: what else the machine does meets both alike.
    for (const [request, entities] of asked.entries()) {
      await time(request % 2 === 0 ? 'ours' : 'bare', entities)
      await time(request % 2 === 0 ? 'bare' : 'ours', entities)
    }
    // By themselves: they leave so much garbage that whoever came next would pay for it.
    if (fields !== undefined) for (const entities of asked) await time('fields', entities)
    if (turn > 0) for (const name of names) p50s[name].push(quantileOf(times[name], 0.5))
  }
  const title = `100 of ${keys.length} entities, 4 windows, ${aggregates}, loopback; p50 of ${requests} requests a round`
  const contest = { claim: 'redis', title, unit: 'request' }
  const costs = p50s.ours.map((ns, turn) => ns / p50s.bare[turn]!)
  const rows = [
    timesRow(contest, 'tilefold, Redis', p50s.ours),
    { ...timesRow(contest, 'MGET of the rows', p50s.bare), ...judge(costs, 'cost', { kind: 'cost', limit: 1.4 }) },
  ]
  if (fields === undefined) return rows
  const gains = p50s.ours.map((ns, turn) => p50s.fields[turn]! / ns)
  const asFields = {
    ...timesRow(contest, 'hash, field per tile', p50s.fields),
    ...judge(gains, 'gain', { kind: 'gain', limit: 6 }),
  }
  return [...rows, asFields]
}

async function startServer(): Promise<{ readonly port: number; stop(): Promise<void> }> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as { port: number }
  probe.close()
  await once(probe, 'close')
  const directory = mkdtempSync(join(tmpdir(), 'tilefold-bench-'))
  const settings = ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '', '--dir', directory]
  const child = spawn('redis-server', settings, { stdio: 'ignore' })
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  return {
    port,
    async stop() {
      process.off('exit', kill)
      const exit = once(child, 'exit')
      kill()
      await exit
      rmSync(directory, { recursive: true, force: true })
    },
  }
}
