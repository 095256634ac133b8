/**
 * The catalogue of a lane's checkpoints: one small sealed value that names the last two manifests written and every segment
 * that is stored. The host works out the next one and the script swaps it only where the expected one still stands, so
 * that the script knows beforehand which keys it will touch.
 */
import { TilefoldError } from '../model/errors.ts'
import type { CheckpointManifest, LaneWrite } from './port.ts'
import { segmentHash } from './rules.ts'
import { seal, unseal } from './sealed.ts'

export interface Catalogue {
  /** In the order written. */
  readonly manifests: readonly CheckpointManifest[]
  readonly segments: readonly string[]
}

/** What a write makes of the catalogue. */
export interface CatalogueChange {
  readonly catalogue: Buffer
  /** Segments of the write, by hash. */
  readonly fresh: ReadonlyMap<string, Uint8Array>
  /** Stored ones that the new manifest names. */
  readonly needed: readonly string[]
  readonly dropped: readonly string[]
}

const NONE: Catalogue = { manifests: [], segments: [] }

/** A damaged catalogue is as good as none. */
export function catalogueOf(sealed: Buffer | null | undefined): Catalogue {
  if (sealed === null || sealed === undefined || sealed.length === 0) return NONE
  try {
    return unseal<Catalogue>(sealed, 'a catalogue')
  } catch {
    return NONE
  }
}

/** Manifests at or before a position: newest position first; of two at one position the later written. */
export function manifestsUpTo({ manifests }: Catalogue, position: number): CheckpointManifest[] {
  const candidates = manifests.filter((manifest) => manifest.position <= position)
  return candidates.reverse().sort((a, b) => b.position - a.position)
}

/**
 * Undefined where the write touches no checkpoint. A new manifest drops all but the last two, with the segments that neither
 * names and that are not of this write. Throws STORE_FORMAT where it names a segment that is not stored.
 */
export function changeCatalogue(stored: Catalogue, change: LaneWrite, lane: string): CatalogueChange | undefined {
  const { segments = [], checkpoint } = change
  if (segments.length === 0 && checkpoint === undefined) return undefined
  const fresh = new Map(segments.map((segment) => [segmentHash(segment), segment]))
  const known = new Set([...stored.segments, ...fresh.keys()])
  const missing = checkpoint?.segments.find((hash) => !known.has(hash))
  if (missing !== undefined) throw missingSegment(missing, lane)

  const manifests = checkpoint === undefined ? stored.manifests : [...stored.manifests, checkpoint].slice(-2)
  const named = new Set(manifests.flatMap((manifest) => manifest.segments))
  const isKept = (hash: string) => checkpoint === undefined || named.has(hash) || fresh.has(hash)
  return {
    catalogue: seal({ manifests, segments: [...known].filter(isKept) }),
    fresh,
    needed: [...new Set(checkpoint?.segments)].filter((hash) => !fresh.has(hash)),
    dropped: stored.segments.filter((hash) => !isKept(hash)),
  }
}

export function missingSegment(hash: string, lane: string): TilefoldError {
  return new TilefoldError(
    'STORE_FORMAT',
    `cannot write checkpoint of lane ${lane}: it names segment ${hash}, which is not stored`,
  )
}
