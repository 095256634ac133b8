/**
 * Names in Redis:
 *
 *   tf:{namespace/stateHash/generation/lane}c    catalogue of the lane's checkpoints (redis-catalogue.ts)
 *                                           l    lane record: a hash
 *                                           r    row: the entity key's bytes follow
 *                                           s    checkpoint segment: its hash follows
 *   tf:v/namespace/view                          layout of a view
 *
 * What stands in braces is the hash tag: a lane lies in one slot of a Cluster, so it is written in one step and regresses
 * together. Braces inside names are percent-encoded, or they would end the tag early.
 */
import { TilefoldError } from '../model/errors.ts'
import type { LaneName } from './port.ts'

const PREFIX = 'tf:'

export interface RedisLaneKeys {
  readonly catalogue: Buffer
  readonly record: Buffer
  readonly rows: Buffer
  readonly segments: Buffer
  /** What every key of the lane begins with. */
  readonly stem: Buffer
  /** How a request begins a row's key, by the length of the entity key; filled as they are met. */
  readonly heads: Buffer[]
}

export function redisLaneKeys(lane: LaneName): RedisLaneKeys {
  const tag = [lane.namespace, lane.stateHash, `${lane.generation}`, lane.lane].map(partOf).join('/')
  const stem = `${PREFIX}{${tag}}`
  return {
    catalogue: Buffer.from(`${stem}c`),
    record: Buffer.from(`${stem}l`),
    rows: Buffer.from(`${stem}r`),
    heads: [],
    segments: Buffer.from(`${stem}s`),
    stem: Buffer.from(stem),
  }
}

export function redisLayoutKey(namespace: string, view: string): Buffer {
  return Buffer.from(`${PREFIX}v/${partOf(namespace)}/${partOf(view)}`)
}

/** A key that no lane and no view has: what a user may do is tried on it. */
export function redisProbeKey(): Buffer {
  return Buffer.from(`${PREFIX}probe`)
}

export function rowKey(keys: RedisLaneKeys, entity: Uint8Array): Buffer {
  const key = Buffer.allocUnsafe(keys.rows.length + entity.length)
  key.set(keys.rows, 0)
  key.set(entity, keys.rows.length)
  return key
}

export function segmentKey(keys: RedisLaneKeys, hash: string): Buffer {
  return Buffer.concat([keys.segments, Buffer.from(hash)])
}

/** A pattern of `SCAN ... MATCH` for every key that begins so. */
export function matchPrefix(prefix: Buffer): string {
  return `${prefix.toString().replace(/[\\*?[\]^-]/g, '\\$&')}*`
}

function partOf(part: string): string {
  if (part.length === 0 || /[/\0]/.test(part)) {
    throw new TilefoldError(
      'CONFIG_INVALID',
      `cannot name stored data: got ${JSON.stringify(part)}, expected a non-empty text without "/" and NUL`,
    )
  }
  return part.replace(/[{}%]/g, (brace) => `%${brace.charCodeAt(0).toString(16)}`)
}
