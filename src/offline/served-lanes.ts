/** The layout that a log of answers speaks of, as far as it is needed to read its logs again: the lanes that it names. */
import type { Plan } from '../model/plan.ts'
import { type GenerationLayout, historyLane } from '../model/view-layout.ts'
import type { ServedVector } from './as-served.ts'

/** `known`: lanes that are there anyway. Mirrored records have times of their own, so nothing else bounds their late clock. */
export function lanesServedFrom(
  plan: Plan,
  vectors: readonly ServedVector[],
  known?: GenerationLayout,
): GenerationLayout {
  const shards = new Map(known?.logs.map((log) => [log.name, log.shards]))
  let historyLanes = known?.history.lanes ?? 0
  for (const lane of new Set(vectors.flatMap(({ applied }) => applied.map((each) => each.lane)))) {
    const [, log, number] = /^(.+)\.(\d+)$/.exec(lane) ?? []
    if (log !== undefined) shards.set(log, Math.max(shards.get(log) ?? 0, Number(number) + 1))
    else while (historyLanes <= Number(lane.slice(historyLane(0).length - 1))) historyLanes++
  }
  const bounds = new Map(known?.logs.map((log) => [log.name, log.notAfterMs]))
  return {
    stateHash: plan.stateHash,
    generation: known?.generation ?? 1,
    state: plan.state,
    history: { ...known?.history, lanes: historyLanes },
    logs: [...shards].map(([name, count]) => ({
      name,
      shards: count,
      notAfterMs: bounds.get(name) ?? Number.MAX_SAFE_INTEGER,
    })),
  }
}
