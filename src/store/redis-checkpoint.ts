/** Checkpoints in Redis: reads the newest whole one, and remembers each lane's catalogue between its writes. */
import type { Checkpoint, LaneName, LaneWrite } from './port.ts'
import type { RedisCalls } from './redis-call.ts'
import { catalogueOf, manifestsUpTo } from './redis-catalogue.ts'
import { type RedisLaneKeys, type RedisNames, segmentKey } from './redis-key.ts'
import { describeLane, segmentHash } from './rules.ts'

const NOTHING = Buffer.alloc(0)

export class RedisCheckpoints {
  readonly #calls: RedisCalls
  readonly #names: RedisNames
  /** As our last look or write left them; the script compares. */
  readonly #catalogues = new WeakMap<RedisLaneKeys, Buffer>()

  constructor(calls: RedisCalls, names: RedisNames) {
    this.#calls = calls
    this.#names = names
  }

  async read(lane: LaneName, position: number): Promise<Checkpoint | undefined> {
    for (;;) {
      const sealed = await this.readCatalogue(lane)
      for (const manifest of manifestsUpTo(catalogueOf(sealed), position)) {
        const segments = await this.#readSegments(lane, manifest.segments)
        if (segments !== undefined) return { position: manifest.position, segments }
      }
      // Segments that are gone while the owner wrote its next checkpoint are no damage.
      if (sealed.equals(await this.readCatalogue(lane))) return undefined
    }
  }

  /** The catalogue that a write has to expect; empty where it touches none. */
  async catalogueFor(lane: LaneName, change: LaneWrite): Promise<Buffer> {
    if (change.checkpoint === undefined && (change.segments ?? []).length === 0) return NOTHING
    return this.#catalogues.get(this.#names.of(lane)) ?? this.readCatalogue(lane)
  }

  async readCatalogue(lane: LaneName): Promise<Buffer> {
    const keys = this.#names.of(lane)
    const reply = await this.#calls.send(verbOf(lane), 'GET', [keys.catalogue])
    const sealed = (reply as Buffer | null) ?? NOTHING
    this.#catalogues.set(keys, sealed)
    return sealed
  }

  remember(lane: LaneName, sealed: Buffer): void {
    this.#catalogues.set(this.#names.of(lane), sealed)
  }

  forget(lane: LaneName): void {
    this.#catalogues.delete(this.#names.of(lane))
  }

  /** Undefined where one is missing or damaged. One at a time: they may be a megabyte each. */
  async #readSegments(lane: LaneName, hashes: readonly string[]): Promise<Uint8Array[] | undefined> {
    const segments: Uint8Array[] = []
    for (const hash of hashes) {
      const key = segmentKey(this.#names.of(lane), hash)
      const segment = (await this.#calls.send(verbOf(lane), 'GET', [key])) as Buffer | null
      if (segment === null || segmentHash(segment) !== hash) return undefined
      segments.push(new Uint8Array(segment))
    }
    return segments
  }
}

function verbOf(lane: LaneName): string {
  return `read checkpoints of lane ${describeLane(lane)}`
}
