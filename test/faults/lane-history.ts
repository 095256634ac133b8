/**
 * The histories of protocol-model.ts, played by the real `LaneOwner` on the memory store. What stands in for the core is the
 * same bag of event positions; a row is the 16 bytes that the store knows and the two masks.
 *
 * Every call of the store waits at a turnstile, before its work and before its reply; the weather picks who goes on, whose
 * request is delayed past its owner's patience, and whose reply is lost. No clock is involved.
 */
import { LaneOwner } from '../../src/ingest/lane.ts'
import { TilefoldError } from '../../src/model/errors.ts'
import { createMemoryStore, type MemoryStore } from '../../src/store/memory.ts'
import type { LaneName, Store, StoredRow } from '../../src/store/port.ts'
import { appliedOf } from '../../src/store/rules.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { type Bag, combine, drawWeather, type Verdict, type Weather } from './protocol-model.ts'

const LANE: LaneName = { namespace: 'n', stateHash: 's', generation: 1, lane: 'log.0' }
const METHODS = ['takeLane', 'readLane', 'write', 'readOwnRows', 'readCheckpoint'] as const

interface World {
  readonly random: Random
  readonly weather: Weather
  readonly store: MemoryStore
  readonly log: readonly number[]
  /** Requests that nobody waits for any more and that may still arrive. */
  pending: (() => void)[]
  /** How many writes the lane had seen when it was taken, for each taking that a failover has not lost. */
  takings: number[]
  isCalm: boolean
}

/** One process that runs an owner. Its calls wait in the order in which they were made, as on one connection; a step lets one go on. */
class Process {
  readonly turns: (() => void)[] = []
  hasEnded = false
  wakesAt = 0

  async wait(world: World): Promise<void> {
    if (world.isCalm) return
    await new Promise<void>((resolve) => this.turns.push(resolve))
  }

  /** Lets it run until it waits again, or has ended. */
  async step(): Promise<void> {
    this.turns.shift()?.()
    while (this.turns.length === 0 && !this.hasEnded) await undefined
  }
}

/** The store as a process sees it: behind the turnstile. */
function storeOf(world: World, process: Process): Store {
  const { random, weather, store } = world
  const behind: Record<string, unknown> = Object.create(store)
  const unavailable = () => new TilefoldError('STORE_UNAVAILABLE', 'cannot reach the store: so the weather has it')
  for (const method of METHODS) {
    const request = (...given: unknown[]) => {
      if (method === 'takeLane') world.takings.push(store.writesOf(LANE))
      return (store[method] as (...given: unknown[]) => Promise<unknown>).apply(store, given)
    }
    behind[method] = async (...given: unknown[]) => {
      await process.wait(world)
      if (!world.isCalm && random.chance(weather.delayRequest)) {
        // Nobody listens to what a late read finds.
        if (method !== 'readOwnRows') world.pending.push(() => void request(...given).catch(() => {}))
        throw unavailable()
      }
      const reply = await request(...given)
      await process.wait(world)
      if (!world.isCalm && random.chance(weather.loseReply)) throw unavailable()
      return reply
    }
  }
  Object.defineProperty(behind, 'writeBytesMax', { value: store.writeBytesMax })
  return behind as unknown as Store
}

interface Resident {
  bag: Bag
  applied: number
  /** First event of a delta that was begun without reading its row, else Infinity. */
  deltaStart: number
  isDirty: boolean
}

function keyOf(entity: number): Uint8Array {
  return Uint8Array.of(entity)
}

function encode(entity: number, applied: number, bag: Bag): StoredRow {
  const bytes = new Uint8Array(24)
  const view = new DataView(bytes.buffer)
  view.setBigInt64(8, BigInt(applied), true)
  view.setUint32(16, bag.once, true)
  view.setUint32(20, bag.twice, true)
  return { key: keyOf(entity), bytes }
}

function decode(bytes: Uint8Array | undefined): Bag & { applied: number } {
  if (bytes === undefined) return { applied: -1, once: 0, twice: 0 }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  return { applied: appliedOf(bytes), once: view.getUint32(16, true), twice: view.getUint32(20, true) }
}

/** Takes the lane and works until it is lost, or until all of the log is in the rows. */
async function own(world: World, process: Process, nonce: string): Promise<void> {
  const { random, weather, log } = world
  const store = storeOf(world, process)
  const lane = await LaneOwner.acquire({ store, lane: LANE, nonce, layoutVersion: 1, retryDelaysMs: [0, 0, 0, 0] })
  let position = lane.checkpoint?.position ?? -1
  if (lane.checkpoint !== undefined && lane.checkpoint.segments[0]![0] !== position) throw new Error('wrong checkpoint')
  const residents = new Map<number, Resident>()

  const read = async (entities: number[], deltaStarts: number[]): Promise<(Bag & { applied: number })[]> => {
    const rows: (Bag & { applied: number })[] = []
    await lane.readRows(entities.map(keyOf), (_, bytes) => rows.push(decode(bytes)), deltaStarts)
    return rows
  }

  const fold = async (at: number): Promise<void> => {
    const entity = log[at]!
    let resident = residents.get(entity)
    if (resident === undefined) {
      const isBlind = at > lane.record.flushingTo && random.chance(weather.blind)
      const row = isBlind ? decode(undefined) : (await read([entity], [Number.POSITIVE_INFINITY]))[0]!
      resident = { bag: row, applied: row.applied, deltaStart: isBlind ? at : Number.POSITIVE_INFINITY, isDirty: false }
      residents.set(entity, resident)
    }
    if (at <= resident.applied) return
    resident.bag = combine(resident.bag, { once: (1 << at) >>> 0, twice: 0 })
    resident.isDirty = true
  }

  const flush = async (): Promise<void> => {
    lane.beginFlush(position)
    const dirty = [...residents].filter(([, resident]) => resident.isDirty)
    const chunks: (typeof dirty)[] = []
    while (dirty.length > 0) chunks.push(dirty.splice(0, weather.chunkRows))
    const reads = chunks.map((chunk) => {
      const deltas = chunk.filter(([, resident]) => resident.deltaStart < Number.POSITIVE_INFINITY)
      const rows: (Bag & { applied: number })[] = []
      return {
        deltas,
        rows,
        keys: deltas.map(([entity]) => keyOf(entity)),
        deltaStarts: deltas.map(([, resident]) => resident.deltaStart),
        sink: (i: number, bytes: Uint8Array | undefined) => {
          rows[i] = decode(bytes)
        },
      }
    })
    if (reads[0]) await lane.readRows(reads[0].keys, reads[0].sink, reads[0].deltaStarts)
    let last: StoredRow[] = []
    for (const [n, chunk] of chunks.entries()) {
      for (const [i, [, resident]] of reads[n]!.deltas.entries()) {
        resident.bag = combine(reads[n]!.rows[i]!, resident.bag)
        resident.applied = reads[n]!.rows[i]!.applied
        resident.deltaStart = Number.POSITIVE_INFINITY
      }
      last = chunk.map(([entity, resident]) => encode(entity, position, resident.bag))
      for (const [, resident] of chunk) resident.isDirty = false
      // As ingest/flush.ts: the next chunk is read while this one is written, and the last goes with the marker.
      if (n + 1 < chunks.length) await lane.writeRows(last, reads[n + 1])
    }
    const hasCheckpoint = random.chance(weather.checkpoint)
    await lane.endFlush(position, `hash ${position}`, hasCheckpoint ? [Uint8Array.of(position)] : undefined, last)
  }

  for (;;) {
    const isAtEnd = position === log.length - 1
    if (isAtEnd && world.isCalm) return flush()
    if (!isAtEnd) {
      await fold(position + 1)
      position++
    } else if (random.chance(0.2)) await lane.check()
    await process.wait(world)
    for (const [entity, resident] of residents) {
      if (!resident.isDirty && random.chance(weather.evict)) residents.delete(entity)
      else if (resident.deltaStart === Number.POSITIVE_INFINITY && random.chance(weather.compact))
        resident.isDirty = true
    }
    if (random.chance(weather.flush)) await flush()
  }
}

/** Plays the history of a seed; throws where an owner ends with anything but a coded, expected error. */
export async function playLaneHistory(seed: number, change: Partial<Weather> = {}): Promise<Verdict> {
  const random = seededRandom(seed)
  const weather = { ...drawWeather(random), ...change }
  const log = Array.from({ length: weather.events }, () => random.below(weather.entities))
  const store = createMemoryStore({ history: true, writeBytesMax: random.pick([50, 200, 65_536]) })
  const world: World = { random, weather, store, log, pending: [], takings: [], isCalm: false }
  let owners: Process[] = []
  let nonces = 0
  let failure: unknown
  const start = (): Process => {
    const process = new Process()
    own(world, process, `n${++nonces}`)
      .catch((error) => {
        const code = error instanceof TilefoldError ? error.code : ''
        if (!['FENCED', 'REGRESSED', 'STORE_UNAVAILABLE'].includes(code)) failure ??= error
      })
      .finally(() => {
        process.hasEnded = true
      })
    return process
  }

  for (let step = 0; step < weather.steps; step++) {
    if (random.chance(weather.failover)) {
      const writes = store.writesOf(LANE)
      const toTaking = writes - (world.takings.at(-1) ?? writes)
      const lost = random.chance(weather.failoverToTaking) ? toTaking : 1 + random.below(weather.failoverDepth)
      store.regress(LANE, Math.min(lost, writes))
      world.takings = world.takings.filter((taking) => taking < store.writesOf(LANE))
      world.pending = []
    }
    if (random.chance(0.2) && world.pending.length > 0) {
      world.pending.splice(random.below(world.pending.length), 1)[0]!()
    }
    if (owners.length === 0 || (owners.length < weather.owners && random.chance(weather.takeover))) owners.push(start())
    const owner = random.pick(owners)
    if (owner.wakesAt > step && owners.some((each) => each.wakesAt <= step)) continue
    if (random.chance(weather.pause)) owner.wakesAt = step + random.below(weather.pauseSteps)
    else if (random.chance(weather.crash)) owners = owners.filter((each) => each !== owner)
    else {
      await owner.step()
      if (owner.hasEnded) owners = owners.filter((each) => each !== owner)
    }
    const record = await store.readLane(LANE)
    if (record !== undefined && record.marker > record.flushingTo) return 'invariant'
    if (failure !== undefined) throw failure
  }

  for (const request of world.pending) request()
  world.isCalm = true
  const isDone = async () => (await store.readLane(LANE))?.marker === log.length - 1
  for (let attempt = 0; attempt < 5; attempt++) {
    await start().step()
    if (failure !== undefined) throw failure
    if (await isDone()) break
  }
  if (!(await isDone())) return 'stuck'
  const record = (await store.readLane(LANE))!
  const masks: number[] = Array(weather.entities).fill(0)
  for (const [at, entity] of log.entries()) masks[entity] = (masks[entity]! | (1 << at)) >>> 0
  for await (const { key, bytes } of store.scanRows(LANE)) {
    const row = decode(bytes)
    if (row.applied > record.flushingTo) return 'invariant'
    if (row.once !== masks[key[0]!] || row.twice !== 0) return 'rows'
    masks[key[0]!] = 0
  }
  return masks.every((mask) => mask === 0) ? 'right' : 'rows'
}
