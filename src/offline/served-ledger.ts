/**
 * What a request could have seen at an instant, where no log of answers says so: the flush ledgers of the lanes.
 *
 *   entity -> its lanes -> of each ledger, the last flush that was readable then -> a position of each log
 *
 * A MODEL: every row held at least the events up to that position, and may have held those of the flush that was under way. So
 * it errs by one flush at most, and towards less: no event is in it that could not have been seen. It takes the generation that
 * is served now, whichever was then.
 */
import { positionVisibleAt, readLedger } from '../ingest/ledger.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { type GenerationLayout, generationOf, lanesOfEntity, type ViewLayout } from '../model/view-layout.ts'
import type { LayoutSeat } from '../registry/layouts.ts'
import { refuseRouted } from '../registry/routes.ts'
import { findMirrored } from '../source/mirror-check.ts'
import { listMirror } from '../source/mirror-manifest.ts'
import type { ServedVector } from './as-served.ts'
import { POSITIONS_DIFFER } from './parity-logs.ts'

const LOG_INSTEAD = 'a log of answers has what was served (tilefold serve --served-log)'

type Entries = ReturnType<typeof readLedger>

export interface Visible {
  readonly applied: ServedVector['applied']
  /** Positions that may have been readable beside those, in the lane where they are most. */
  readonly unsure: number
  /** No later flush of some lane is recorded: how much more may have been readable is not known. */
  readonly isOpen: boolean
}

export class VisiblePositions {
  readonly generation: GenerationLayout
  readonly #entries: ReadonlyMap<string, Entries>
  /** When the first record of each log came; none: the mirror has nothing of the log. */
  readonly #begins: ReadonlyMap<string, number>

  private constructor(
    generation: GenerationLayout,
    entries: ReadonlyMap<string, Entries>,
    begins: ReadonlyMap<string, number>,
  ) {
    this.generation = generation
    this.#entries = entries
    this.#begins = begins
  }

  /** Throws LAYOUT_MISSING, DEFINITION_CHANGED, CONFIG_INVALID, MIRROR_INVALID, SOURCE_NOT_FOUND, STORE_UNAVAILABLE. */
  static async open(
    { store, namespace }: LayoutSeat,
    plan: Plan,
    mirror: string,
    topic = plan.state.source,
  ): Promise<VisiblePositions> {
    const text = await store.readLayout(namespace, plan.view)
    const layout = text === undefined ? undefined : (JSON.parse(text) as ViewLayout)
    const current = layout?.current
    const generation = current && generationOf(layout, current.stateHash, current.generation)
    if (generation === undefined) {
      throw new TilefoldError(
        'LAYOUT_MISSING',
        `cannot ask the flush ledger of view ${plan.view}: the store holds nothing of it that is served`,
        { view: plan.view },
      )
    }
    if (generation.stateHash !== plan.stateHash) {
      throw new TilefoldError(
        'DEFINITION_CHANGED',
        `cannot ask the flush ledger of view ${plan.view}: it is of another state; got ${plan.stateHash}, expected ${generation.stateHash}`,
        { view: plan.view },
      )
    }
    refuseRouted(generation, `ask the flush ledger of view ${plan.view}`, `${POSITIONS_DIFFER}; ${LOG_INSTEAD}`)
    const entries = new Map<string, Entries>()
    const begins = new Map<string, number>()
    const name = { namespace, stateHash: generation.stateHash, generation: generation.generation }
    for (const log of generation.logs) {
      for (let shard = 0; shard < log.shards; shard++) {
        const lane = `${log.name}.${shard}`
        entries.set(lane, readLedger(await store.readLedger({ ...name, lane })))
      }
    }
    for (const { topic: mirrored, partition } of await listMirror(mirror)) {
      if (mirrored !== topic) continue
      const [first] = await findMirrored(mirror, topic, partition)
      if (first !== undefined) begins.set(`${topic}.${partition}`, first.entry.facts.recordTimes[0])
    }
    return new VisiblePositions(generation, entries, begins)
  }

  /** Undefined where the ledger of one of the entity's lanes does not reach back so far. */
  at(key: Uint8Array, ms: number): Visible | undefined {
    const applied: { lane: string; applied: number }[] = []
    let [unsure, isOpen] = [0, false]
    for (const lane of lanesOfEntity(this.generation, key)) {
      const entries = this.#entries.get(lane)
      // History was all there before anybody could see its generation.
      if (entries === undefined) {
        applied.push({ lane, applied: Number.MAX_SAFE_INTEGER })
        continue
      }
      const { atLeast, atMost } = positionVisibleAt(entries, ms)
      if (atLeast >= 0) {
        applied.push({ lane, applied: atLeast })
        if (atMost === undefined) isOpen = true
        else unsure = Math.max(unsure, atMost - atLeast)
        continue
      }
      const beginMs = this.#begins.get(lane.slice(0, lane.lastIndexOf('.')))
      const isEmpty = beginMs === undefined ? entries.length === 0 : beginMs > ms
      if (!isEmpty) return undefined
    }
    return { applied, unsure, isOpen }
  }
}
