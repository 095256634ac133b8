/** Numbered rows of a spine: put together, counted, and shared out by entity. */
import { NOBODY, type NumberedRows } from '../engine/asof.ts'

/** Rows of several batches behind one another. */
export function joinRows(parts: readonly NumberedRows[]): NumberedRows {
  if (parts.length === 1) return parts[0]!
  const length = parts.reduce((sum, { entities }) => sum + entities.length, 0)
  const [entities, asOfs] = [new Uint32Array(length), new Float64Array(length)]
  let at = 0
  for (const part of parts) {
    entities.set(part.entities, at)
    asOfs.set(part.asOfs, at)
    at += part.entities.length
  }
  return { entities, asOfs }
}

/** Rows that some of the views can't be asked about. */
export function countUnusable(seats: readonly NumberedRows[]): number {
  if (!seats.some(({ entities }) => entities.includes(NOBODY))) return 0
  let count = 0
  const rows = seats[0]?.entities.length ?? 0
  for (let row = 0; row < rows; row++) {
    for (const { entities } of seats) {
      if (entities[row] !== NOBODY) continue
      count++
      break
    }
  }
  return count
}

/** The rows whose entity is ≡ part (mod parts), and their places among all. */
export function rowsOfPart(
  { entities, asOfs }: NumberedRows,
  part: number,
  parts: number,
): NumberedRows & { readonly rows: Uint32Array } {
  const rows = new Uint32Array(entities.length)
  let count = 0
  for (let row = 0; row < entities.length; row++) {
    const entity = entities[row]!
    if (entity !== NOBODY && (parts === 1 || entity % parts === part)) rows[count++] = row
  }
  if (count === entities.length) return { rows, entities, asOfs }
  const taken = rows.slice(0, count)
  const own = new Uint32Array(count)
  const instants = new Float64Array(count)
  for (let i = 0; i < count; i++) {
    own[i] = entities[taken[i]!]!
    instants[i] = asOfs[taken[i]!]!
  }
  return { rows: taken, entities: own, asOfs: instants }
}
