/** What `inspectRow` tells of a stored row: plain data. */

export interface RowDescription {
  readonly formatVersion: number
  readonly bytes: number
  readonly checksum: string
  /** Position of the lane's log up to which the row holds every event of its entity. */
  readonly applied: number
  readonly layoutVersion: number
  /** Events before it are in tiles, later ones raw (or in the head's own tiles). */
  readonly headFrontierMs: number
  readonly completeSinceMs: number
  readonly head: 'raw' | 'step'
  /** Raw events of the head, oldest first. */
  readonly events: readonly EventDescription[]
  /** Finest first, one per step of the ladder. */
  readonly levels: readonly LevelDescription[]
  /** Every byte of the row, once. */
  readonly parts: readonly BytePart[]
}

export interface EventDescription {
  readonly timeMs: number
  readonly op: number
  readonly cells: readonly CellDescription[]
}

export interface CellDescription {
  readonly column: string
  readonly value: number | string | boolean | null
}

export interface LevelDescription {
  readonly stepMs: number
  /** Tiles that end before it are written. */
  readonly compactedMs: number
  /** Tiles that start before it are gone. */
  readonly evictedMs: number
  readonly tiles: readonly TileDescription[]
}

export interface TileDescription {
  readonly startMs: number
  readonly endMs: number
  readonly rows: number
  readonly partials: readonly PartialDescription[]
}

export type PartialDescription =
  | {
      readonly kind: 'numeric'
      readonly column: string
      /** Non-null cells. */
      readonly cells: number
      readonly sum?: string
      readonly squares?: string
      readonly min?: CellDescription['value']
      readonly max?: CellDescription['value']
    }
  | {
      readonly kind: 'first' | 'last'
      readonly column: string
      /** null where no event of the tile has the cell. */
      readonly timeMs: number | null
      readonly value: CellDescription['value']
      /** The whole event, where other cells decide between events of one time. */
      readonly event?: readonly CellDescription[]
    }
  | {
      readonly kind: 'bit_or' | 'bit_and'
      readonly column: string
      /** null where no event of the tile has the cell. */
      readonly value: CellDescription['value']
    }

/** `count` pieces of `bytesEach` bytes; text and padding are one piece. */
export interface BytePart {
  /** `header`, `frontiers`, `head`, or a level's step: `5m`. */
  readonly section: string
  readonly what: string
  readonly count: number
  readonly bytesEach: number
  readonly bytes: number
}
