/**
 * Keys of the LMDB store, in byte order:
 *
 *   d / namespace / stateHash / generation / lane / kind ...      everything of one lane stands together
 *                                                    c            checkpoint manifest: position + 1, sequence (u64 each)
 *                                                    g            ledger segment: its number (u32)
 *                                                    l            lane record
 *                                                    r            row: the entity key's bytes
 *                                                    s            checkpoint segment: its hash
 *   v / namespace / view                                          layout of a view
 *   w                                                             who may write (writer.ts)
 *
 * Numbers inside keys are big-endian, so that byte order is their order. The parts of a name are free of `/`, and an entity
 * key comes last, so no two names share a key.
 */
import { TilefoldError } from '../model/errors.ts'
import { KEY_BYTES_MAX } from '../model/key.ts'
import type { LaneName } from './port.ts'

/** LMDB ends keys at 1,978 bytes with pages of 4 KiB; an entity key takes up to 1,024 of them. */
const PREFIX_BYTES_MAX = 1978 - KEY_BYTES_MAX

export const WRITER_KEY = Buffer.from('w')

/** A key that is written in two parts, so that a batch of reads builds no key: `prefix`, then the entity key's bytes. */
export class RowKey {
  prefix: Uint8Array = WRITER_KEY
  entity: Uint8Array = WRITER_KEY
}

/** The same with the entity key in a buffer of many: `keys[from .. to)`. */
export class PackedKey {
  prefix: Uint8Array = WRITER_KEY
  keys: Uint8Array = WRITER_KEY
  from = 0
  to = 0
}

/** What LMDB calls to write a key into its buffer; returns the end. */
export function writeKey(key: Uint8Array | RowKey | PackedKey, target: Uint8Array, start: number): number {
  if (key instanceof PackedKey) {
    const { prefix, keys, from, to } = key
    target.set(prefix, start)
    const at = start + prefix.length - from
    for (let i = from; i < to; i++) target[at + i] = keys[i]!
    return at + to
  }
  if (!(key instanceof RowKey)) {
    target.set(key, start)
    return start + key.length
  }
  target.set(key.prefix, start)
  target.set(key.entity, start + key.prefix.length)
  return start + key.prefix.length + key.entity.length
}

/** Prefixes of the kinds of one lane's keys. */
export interface LaneKeys {
  readonly manifests: Buffer
  readonly ledger: Buffer
  readonly record: Buffer
  readonly rows: Buffer
  readonly segments: Buffer
}

export function laneKeys(lane: LaneName): LaneKeys {
  const stem = `${['d', lane.namespace, lane.stateHash, `${lane.generation}`, lane.lane].map(partOf).join('/')}/`
  return {
    manifests: prefixOf(`${stem}c`),
    ledger: prefixOf(`${stem}g`),
    record: prefixOf(`${stem}l`),
    rows: prefixOf(`${stem}r`),
    segments: prefixOf(`${stem}s`),
  }
}

export function layoutKey(namespace: string, view: string): Buffer {
  return prefixOf(['v', namespace, view].map(partOf).join('/'))
}

/** Orders by position, then by the sequence at which the checkpoint was written. */
export function manifestKey(keys: LaneKeys, position: number, sequence: number): Buffer {
  const numbers = Buffer.allocUnsafe(16)
  numbers.writeBigUInt64BE(BigInt(position + 1), 0)
  numbers.writeBigUInt64BE(BigInt(sequence), 8)
  return Buffer.concat([keys.manifests, numbers])
}

/** The sequence in a manifest's key. */
export function manifestSequence(keys: LaneKeys, key: Buffer): number {
  return Number(key.readBigUInt64BE(keys.manifests.length + 8))
}

export function segmentKey(keys: LaneKeys, hash: string): Buffer {
  return Buffer.concat([keys.segments, Buffer.from(hash, 'hex')])
}

/** The hash in a segment's key. */
export function segmentOf(keys: LaneKeys, key: Buffer): string {
  return key.subarray(keys.segments.length).toString('hex')
}

export function ledgerKey(keys: LaneKeys, number: number): Buffer {
  const key = Buffer.alloc(keys.ledger.length + 4)
  key.set(keys.ledger)
  key.writeUInt32BE(number, keys.ledger.length)
  return key
}

/** What the keys of every lane of a namespace begin with. */
export function lanesPrefix(namespace: string): Buffer {
  return prefixOf(`d/${partOf(namespace)}/`)
}

/** What the keys of every layout of a namespace begin with. */
export function layoutsPrefix(namespace: string): Buffer {
  return prefixOf(`v/${partOf(namespace)}/`)
}

/** The lane that a key is of, and which kind of thing: a letter. */
export function laneOfKey(key: Buffer): { readonly lane: LaneName; readonly stem: Buffer; readonly kind: string } {
  let end = 0
  for (let part = 0; part < 5; part++) end = key.indexOf('/', end) + 1
  const [, namespace, stateHash, generation, lane] = key.subarray(0, end).toString().split('/')
  return {
    lane: { namespace: namespace!, stateHash: stateHash!, generation: Number(generation), lane: lane! },
    stem: Buffer.from(key.subarray(0, end)),
    kind: String.fromCharCode(key[end]!),
  }
}

/** The first key behind every key that starts with `prefix`, whose last byte is a letter or `/`. */
export function endOf(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix)
  end[end.length - 1]! += 1
  return end
}

function partOf(part: string): string {
  if (part.length === 0 || /[/\0]/.test(part)) {
    throw new TilefoldError(
      'CONFIG_INVALID',
      `cannot name stored data: got ${JSON.stringify(part)}, expected a non-empty text without "/" and NUL`,
    )
  }
  return part
}

function prefixOf(text: string): Buffer {
  const prefix = Buffer.from(text)
  if (prefix.length > PREFIX_BYTES_MAX) {
    throw new TilefoldError(
      'CONFIG_INVALID',
      `cannot name stored data: ${JSON.stringify(`${text.slice(0, 60)}...`)} is too long; got ${prefix.length} bytes, expected at most ${PREFIX_BYTES_MAX}`,
    )
  }
  return prefix
}
