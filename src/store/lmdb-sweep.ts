/** The environment as a whole: which views and lanes there are, and lanes that go. */
import type { Environment } from './lmdb-environment.ts'
import { endOf, laneKeys, laneOfKey, lanesPrefix, layoutsPrefix } from './lmdb-key.ts'
import type { DropStep, LaneName, LaneRecord, LaneSize, TakenLane } from './port.ts'
import { describeLane, isOwn } from './rules.ts'

/** What the store lends. */
export interface SweepAccess {
  readonly db: () => Pick<Environment, 'getBinaryFast' | 'getKeys' | 'remove'>
  readonly read: <T>(verb: string, work: () => T) => T
  readonly transact: <T>(verb: string, work: () => T) => T
  readonly record: (lane: LaneName) => LaneRecord | undefined
}

/** Keys looked at between two looks at the event loop; a cursor kept longer would pin old pages. */
const LIST_KEYS = 256
/** Keys dropped in one transaction: some 2 ms of work, and one sync. */
const DROP_KEYS = 512
const ROW_KIND = 'r'.charCodeAt(0)

export class LmdbSweep {
  readonly #access: SweepAccess

  constructor(access: SweepAccess) {
    this.#access = access
  }

  async listViews(namespace: string): Promise<string[]> {
    const { db, read } = this.#access
    const prefix = layoutsPrefix(namespace)
    return read(`list the views of ${namespace}`, () =>
      [...db().getKeys({ start: prefix, end: endOf(prefix) })].map((key) => key.subarray(prefix.length).toString()),
    )
  }

  async listLanes(namespace: string): Promise<LaneSize[]> {
    const { db, read } = this.#access
    const found: { lane: LaneName; rows: number; bytes: number }[] = []
    const verb = `list the lanes of ${namespace}`
    const prefix = lanesPrefix(namespace)
    const end = endOf(prefix)
    let start: Buffer = prefix
    let stem: Buffer | undefined
    for (;;) {
      const keys = read(verb, () => {
        const some = [...db().getKeys({ start, end, limit: LIST_KEYS })]
        for (const key of some) {
          if (stem === undefined || !key.subarray(0, stem.length).equals(stem)) {
            const named = laneOfKey(key)
            stem = named.stem
            found.push({ lane: named.lane, rows: 0, bytes: 0 })
          }
          if (key[stem.length] !== ROW_KIND) continue
          const size = found.at(-1)!
          size.rows++
          size.bytes += db().getBinaryFast(key)?.length ?? 0
        }
        return some
      })
      if (keys.length < LIST_KEYS) return found
      // The least key behind the last one.
      start = Buffer.concat([keys.at(-1)!, Buffer.alloc(1)])
      await turn()
    }
  }

  async *dropLanes(lanes: readonly TakenLane[]): AsyncIterable<DropStep> {
    for (const taken of lanes) {
      for (;;) {
        const step = this.#drop(taken)
        yield step
        if (step.end !== undefined) break
        await turn()
      }
    }
  }

  /**
   * One transaction. Checkpoints come first by their keys: whoever finds half a lane, a crash of ours later, stops without one instead
   * of going on with half of the rows. What is left in the end is the record, which goes alone.
   */
  #drop({ lane, token }: TakenLane): DropStep {
    const { db, transact, record } = this.#access
    return transact(`drop lane ${describeLane(lane)}`, () => {
      if (!isOwn(record(lane), token)) return { lane, keys: 0, end: 'taken' }
      const own = laneKeys(lane).record
      const { stem } = laneOfKey(own)
      const found = [...db().getKeys({ start: stem, end: endOf(stem), limit: DROP_KEYS + 1 })]
      const others = found.filter((key) => !key.equals(own)).slice(0, DROP_KEYS)
      for (const key of others) db().remove(key)
      if (others.length > 0) return { lane, keys: others.length }
      db().remove(own)
      return { lane, keys: 1, end: 'gone' }
    })
  }
}

/** Others of this process get a turn. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
