/**
 * What an answer lacks because rows could not be read. An entity may have rows in several lanes, each a part of its tiles: with one
 * of them missing the others would make a value that looks whole and is short, so then the entity has none.
 */
import type { TilefoldError } from '../model/errors.ts'
import type { ReadPlan } from './plan.ts'
import type { ReadTally } from './read.ts'

/** Of each slot, why entities are unavailable in it; undefined where none is. */
export type Unavailable = readonly (ReadonlyMap<number, TilefoldError> | undefined)[]

export function unavailableOf({ slots, readers }: ReadPlan, { missing }: ReadTally): Unavailable {
  const unavailable = slots.map((): Map<number, TilefoldError> | undefined => undefined)
  for (const [read, cause] of missing) {
    const slot = slots.findLastIndex(({ firstRead }) => firstRead <= read)
    const entities = unavailable[slot] ?? new Map<number, TilefoldError>()
    unavailable[slot] = entities
    const entity = readers[read]!
    if (!entities.has(entity)) entities.set(entity, cause)
  }
  return unavailable
}
