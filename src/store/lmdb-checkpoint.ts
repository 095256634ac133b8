/** Checkpoints in LMDB: manifests and the segments that they name, of each lane. */
import { TilefoldError } from '../model/errors.ts'
import type { Environment } from './lmdb-environment.ts'
import { endOf, type LaneKeys, manifestKey, manifestSequence, segmentKey, segmentOf } from './lmdb-key.ts'
import type { Checkpoint, CheckpointManifest, LaneName } from './port.ts'
import { describeLane, segmentHash } from './rules.ts'
import { seal, unseal } from './sealed.ts'

export class LmdbCheckpoints {
  readonly #db: Environment

  constructor(db: Environment) {
    this.#db = db
  }

  /** The newest whole one at or before `position`. A damaged one is as good as none: the one before it is as right, and takes longer. */
  read(keys: LaneKeys, lane: LaneName, position: number): Checkpoint | undefined {
    const start = manifestKey(keys, position, Number.MAX_SAFE_INTEGER)
    for (const key of [...this.#db.getKeys({ start, end: keys.manifests, reverse: true })]) {
      const manifest = this.#manifestAt(key, lane)
      const segments = manifest?.segments.map((hash) => this.#segment(keys, hash))
      if (segments?.every((segment) => segment !== undefined)) return { position: manifest!.position, segments }
    }
    return undefined
  }

  /**
   * Writes a manifest and drops all but the last two written, with the segments that neither names. Those of the same write
   * stay: the next manifest may be about to name them.
   */
  put(
    keys: LaneKeys,
    lane: LaneName,
    manifest: CheckpointManifest,
    sequence: number,
    fresh: readonly Uint8Array[] = [],
  ): void {
    const missing = manifest.segments.find((hash) => !this.#db.doesExist(segmentKey(keys, hash)))
    if (missing !== undefined) {
      throw new TilefoldError(
        'STORE_FORMAT',
        `cannot write checkpoint of lane ${describeLane(lane)}: it names segment ${missing}, which is not stored`,
      )
    }
    this.#db.put(manifestKey(keys, manifest.position, sequence), seal(manifest))
    const written = [...this.#db.getKeys({ start: keys.manifests, end: endOf(keys.manifests) })]
    written.sort((a, b) => manifestSequence(keys, b) - manifestSequence(keys, a))
    for (const key of written.slice(2)) this.#db.remove(key)

    const named = new Set(fresh.map(segmentHash))
    for (const key of written.slice(0, 2)) {
      for (const hash of this.#manifestAt(key, lane)?.segments ?? []) named.add(hash)
    }
    for (const key of [...this.#db.getKeys({ start: keys.segments, end: endOf(keys.segments) })]) {
      if (!named.has(segmentOf(keys, key))) this.#db.remove(key)
    }
  }

  #manifestAt(key: Buffer, lane: LaneName): CheckpointManifest | undefined {
    try {
      return unseal<CheckpointManifest>(this.#db.getBinary(key)!, `a checkpoint of lane ${describeLane(lane)}`)
    } catch (error) {
      if (error instanceof TilefoldError) return undefined
      throw error
    }
  }

  #segment(keys: LaneKeys, hash: string): Uint8Array | undefined {
    const segment = this.#db.getBinary(segmentKey(keys, hash))
    return segment !== undefined && segmentHash(segment) === hash ? new Uint8Array(segment) : undefined
  }
}
