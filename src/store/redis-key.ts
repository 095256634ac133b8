/**
 * Names in Redis:
 *
 *   tf:{namespace/stateHash/generation/lane}c    catalogue of the lane's checkpoints (redis-catalogue.ts)
 *                                           g    flush ledger: a hash, a field for each segment
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
import { describeLane } from './rules.ts'

const PREFIX = 'tf:'

export interface RedisLaneKeys {
  readonly catalogue: Buffer
  readonly ledger: Buffer
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
    ledger: Buffer.from(`${stem}g`),
    record: Buffer.from(`${stem}l`),
    rows: Buffer.from(`${stem}r`),
    heads: [],
    segments: Buffer.from(`${stem}s`),
    stem: Buffer.from(stem),
  }
}

/** The keys of every lane that was ever asked for: made once, found by the very object or by its parts. */
export class RedisNames {
  readonly #byLane = new WeakMap<LaneName, RedisLaneKeys>()
  readonly #byText = new Map<string, RedisLaneKeys>()

  of(lane: LaneName): RedisLaneKeys {
    let keys = this.#byLane.get(lane)
    if (keys !== undefined) return keys
    const text = describeLane(lane)
    keys = this.#byText.get(text) ?? redisLaneKeys(lane)
    this.#byText.set(text, keys)
    this.#byLane.set(lane, keys)
    return keys
  }
}

export function redisLayoutKey(namespace: string, view: string): Buffer {
  return Buffer.from(`${PREFIX}v/${partOf(namespace)}/${partOf(view)}`)
}

/** What the keys of every lane of a namespace begin with. */
export function lanesPrefix(namespace: string): Buffer {
  return Buffer.from(`${PREFIX}{${partOf(namespace)}/`)
}

/** What the keys of every layout of a namespace begin with. */
export function layoutsPrefix(namespace: string): Buffer {
  return Buffer.from(`${PREFIX}v/${partOf(namespace)}/`)
}

/** What a layout's key ends with, as it was before braces were encoded. */
export function viewOfKey(key: Buffer, namespace: string): string {
  return plainPart(key.subarray(layoutsPrefix(namespace).length).toString())
}

/** The lane that a key is of, and how many bytes its stem has; undefined for what is no key of a lane. */
export function laneOfKey(key: Buffer): { readonly lane: LaneName; readonly stemBytes: number } | undefined {
  const end = key.indexOf('}')
  const parts = key
    .subarray(PREFIX.length + 1, end)
    .toString()
    .split('/')
  if (end < 0 || parts.length !== 4) return undefined
  const [namespace, stateHash, generation, lane] = parts.map(plainPart) as [string, string, string, string]
  return { lane: { namespace, stateHash, generation: Number(generation), lane }, stemBytes: end + 1 }
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

function plainPart(part: string): string {
  return part.replace(/%(7b|7d|25)/g, (code) => String.fromCharCode(Number.parseInt(code.slice(1), 16)))
}
