/**
 * Answers of several generations, each from the lanes that it came from: the log of answers has the layout of each. The first logs
 * did not; their lanes are those that they name, and every lane takes every event.
 */
import type { Plan } from '../model/plan.ts'
import { type GenerationLayout, historyLane } from '../model/view-layout.ts'
import { type AsServedAnswer, type AsServedOptions, answersAsServed, type ServedVector } from './as-served.ts'

export interface LoggedVector extends ServedVector {
  /** The layout of its generation as JSON; without it the lanes are those of `otherwise`, and those that vectors name. */
  readonly layout?: string
}

export interface LoggedOptions extends Omit<AsServedOptions, 'generation' | 'vectors'> {
  readonly vectors: readonly LoggedVector[]
  readonly otherwise?: GenerationLayout
}

/** In the order of the vectors; the logs are read once for each layout. Throws what `answersAsServed` throws. */
export async function answersOfLayouts({ vectors, otherwise, ...options }: LoggedOptions): Promise<AsServedAnswer[]> {
  const byLayout = new Map<string, number[]>()
  for (const [i, { layout = '' }] of vectors.entries()) {
    const own = byLayout.get(layout)
    if (own) own.push(i)
    else byLayout.set(layout, [i])
  }
  const answers = new Array<AsServedAnswer>(vectors.length)
  for (const [layout, own] of byLayout) {
    const some = own.map((i) => vectors[i]!)
    const { plan } = options
    const generation = layout === '' ? lanesNamed(plan, some, otherwise) : { ...JSON.parse(layout), state: plan.state }
    const found = await answersAsServed({
      ...options,
      history: historyOf(options, generation),
      generation,
      vectors: some,
    })
    for (const [at, i] of own.entries()) answers[i] = found[at]!
  }
  return answers
}

/** When the files were folded is what the layout says. */
function historyOf({ history }: Pick<LoggedOptions, 'history'>, { history: own }: GenerationLayout) {
  return history && { ...history, notAfterMs: own.notAfterMs ?? history.notAfterMs }
}

function lanesNamed(plan: Plan, vectors: readonly ServedVector[], known?: GenerationLayout): GenerationLayout {
  const shards = new Map(known?.logs.map((log) => [log.name, log.shards]))
  let historyLanes = known?.history.lanes ?? 0
  for (const lane of new Set(vectors.flatMap(({ applied }) => applied.map((each) => each.lane)))) {
    const [, log, number] = /^(.+)\.(\d+)$/.exec(lane) ?? []
    if (log !== undefined) shards.set(log, Math.max(shards.get(log) ?? 0, Number(number) + 1))
    else historyLanes = Math.max(historyLanes, Number(lane.slice(historyLane(0).length - 1)) + 1)
  }
  const bounds = new Map(known?.logs.map((log) => [log.name, log.notAfterMs]))
  return {
    ...(known ?? { stateHash: plan.stateHash, generation: 1, state: plan.state }),
    history: { ...known?.history, lanes: historyLanes },
    // Mirrored records have times of their own, and need no other bound.
    logs: [...shards].map(([name, count]) => ({
      name,
      shards: count,
      notAfterMs: bounds.get(name) ?? Number.MAX_SAFE_INTEGER,
    })),
  }
}
