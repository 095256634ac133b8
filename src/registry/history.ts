/**
 * A history as a whole: is all of it in, and is it still there? Its lanes are filled by any number of processes, so that nobody knows
 * but the lanes themselves.
 *
 *   who has come to the end of the files
 *        │  every lane's marker read: one is behind ──> others are under way; whoever comes last sees them all
 *        │  the store settles: what was written is on its replicas
 *        │  every lane read again, with its sequence
 *   layout: end, sequences, and readers see the generation
 *
 *   later, now and then: every lane read again; a sequence below the layout's ──> a failover took writes back: history is open again
 */
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { type GenerationLayout, generationOf, historyLane, type ViewLayout } from '../model/view-layout.ts'
import type { LaneRecord } from '../store/port.ts'
import { finishHistory, type LayoutSeat, reopenHistory } from './layouts.ts'

export interface HistoryStanding {
  /** All lanes stand at the end, and readers see the generation, unless it is built beside another. */
  readonly isComplete: boolean
  readonly lanes: number
  /** Lanes that stand at the end. */
  readonly lanesDone: number
}

/** Makes the history visible if all its lanes stand at `position`, where the files end. Throws CONFIG_INVALID, STORE_UNAVAILABLE. */
export async function completeHistory(
  seat: LayoutSeat,
  plan: Plan,
  generation: GenerationLayout,
  position: number,
): Promise<HistoryStanding> {
  const { lanes } = generation.history
  const lanesDone = async () => {
    const records = await readRecords(seat, generation)
    const done = records.filter((record) => (record?.marker ?? -1) === position)
    const beyond = records.findIndex((record) => (record?.marker ?? -1) > position)
    if (beyond >= 0) {
      throw new TilefoldError(
        'CONFIG_INVALID',
        `cannot complete the history of view ${plan.view}: lane ${historyLane(beyond)} holds more rows than these files have; got ${records[beyond]!.marker + 1}, expected ${position + 1}`,
        { view: plan.view, lane: historyLane(beyond) },
      )
    }
    return { records, count: done.length }
  }
  const first = await lanesDone()
  if (first.count < lanes) return { isComplete: false, lanes, lanesDone: first.count }
  await seat.store.settle?.()
  const { records, count } = await lanesDone()
  if (count < lanes) return { isComplete: false, lanes, lanesDone: count }
  await finishHistory(seat, plan, { position, sequences: records.map((record) => record?.sequence ?? 0) })
  return { isComplete: true, lanes, lanesDone: count }
}

/**
 * Is the history that readers see still all there? One that isn't is opened again, and answers are incomplete until a backfill of its
 * files is done. Returns what was lost; undefined where nothing was.
 */
export async function checkHistory(seat: LayoutSeat, plan: Plan): Promise<TilefoldError | undefined> {
  const text = await seat.store.readLayout(seat.namespace, plan.view)
  const layout = text === undefined ? undefined : (JSON.parse(text) as ViewLayout)
  const current = layout?.current
  const generation = current && generationOf(layout, current.stateHash, current.generation)
  if (generation?.stateHash !== plan.stateHash) return undefined
  const { sequences, log } = generation.history
  if (sequences === undefined) return undefined
  const records = await readRecords(seat, generation)
  const lost = records.flatMap((record, i) => ((record?.sequence ?? 0) < (sequences[i] ?? 0) ? [historyLane(i)] : []))
  if (lost.length === 0) return undefined
  await reopenHistory(seat, plan, { generation: generation.generation, sequences })
  return new TilefoldError(
    'REGRESSED',
    `the store has lost a part of the history of view ${plan.view}, in ${lost.length} of ${records.length} lanes: its answers are incomplete until its files are backfilled again (${log})`,
    { view: plan.view, lanes: lost },
  )
}

function readRecords(
  { store, namespace }: LayoutSeat,
  { stateHash, generation, history }: GenerationLayout,
): Promise<(LaneRecord | undefined)[]> {
  const names = Array.from({ length: history.lanes }, (_, i) => historyLane(i))
  return Promise.all(names.map((lane) => store.readLane({ namespace, stateHash, generation, lane })))
}
