/** A sample where the rows of a lane lie together: the first ones of the first lanes that have any. */
import type { LaneName, Store, StoredRow } from './port.ts'

export async function firstRows(
  store: Pick<Store, 'scanRows'>,
  lanes: readonly LaneName[],
  count: number,
): Promise<StoredRow[]> {
  const rows: StoredRow[] = []
  for (const lane of lanes) {
    for await (const row of store.scanRows(lane)) {
      if (rows.length === count) return rows
      rows.push(row)
    }
  }
  return rows
}
