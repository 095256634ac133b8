/**
 * Windows, ladder and how long each level is kept: arithmetic on durations, no state.
 *
 *            start = floor(t - W, tail step)                                        t
 *              |  tail step tiles  |      coarser tiles      | finer tiles |  head  |
 *
 * A window's start is floored to its **tail step**, the largest step of the ladder that is at most a twelfth of the window
 * and divides it: it grows by less than one step. A level must hold the tiles that some window's start falls on, and its
 * tiles until the next level's have taken their place.
 */
import type { LevelPlan } from '../model/plan.ts'
import { formatDuration } from '../model/time.ts'
import { LIMITS, type ViewDefinition } from './view.ts'

/** Steps that people choose, to suggest. */
const ROUND_STEPS_MS = [3600, 1800, 900, 600, 300, 120, 60, 30, 15, 10, 5, 2, 1].map((seconds) => seconds * 1000)

/** Tail step of a window, or why there is none. */
export function tailStep(lengthMs: number, tilesMs: readonly number[]): { stepMs: number } | { problem: string } {
  const finest = tilesMs[0]!
  const window = formatDuration(lengthMs)
  if (lengthMs < LIMITS.tailSteps * finest) {
    const step = ROUND_STEPS_MS.find((each) => each * LIMITS.tailSteps <= lengthMs && finest % each === 0)
    const remedy =
      step === undefined ? `a window of ${LIMITS.tailSteps}s or more` : `tiles that start with ${formatDuration(step)}`
    return {
      problem: `got window ${window} over tiles of ${formatDuration(finest)}, expected at least ${LIMITS.tailSteps} tiles in a window: use ${remedy} ("edges: exact" is not in this version)`,
    }
  }
  const steps = tilesMs.filter((step) => step * LIMITS.tailSteps <= lengthMs && lengthMs % step === 0)
  if (steps.length > 0) return { stepMs: steps.at(-1)! }
  const rounded = Math.max(LIMITS.tailSteps, Math.round(lengthMs / finest)) * finest
  return {
    problem: `got window ${window}, expected a multiple of a tile step (${tilesMs.map(formatDuration).join(', ')}) like ${formatDuration(rounded)}`,
  }
}

/**
 * Levels, finest first, with the time each is kept behind the head's frontier:
 *
 *   max of   W + tail step + slack               over the windows whose tail step this is
 *            W + tail step + next step + slack   over the windows, but the longest, whose tail step is this or a finer one
 *            the next step + slack               the parent's tile must be complete before its children go
 *            the longest window + step + slack   for the coarsest
 *
 * rounded up to whole tiles. The second is for the longer windows: in the one sweep over a row they share the tiles of the
 * shorter ones, so where a short window's start cuts a coarse tile, they need the fine tiles on the other side of the cut too.
 * A head of sub-tiles is the first level, kept for the head and one finest tile.
 */
export function buildLadder(
  view: Pick<ViewDefinition, 'tilesMs' | 'slackMs' | 'headMs' | 'headStepMs'>,
  windows: readonly { lengthMs: number; tailStepMs: number }[],
): LevelPlan[] {
  const longest = Math.max(...windows.map((each) => each.lengthMs))
  const levels = view.tilesMs.map((stepMs, i): LevelPlan => {
    const needs = windows.filter((each) => each.tailStepMs === stepMs).map((each) => each.lengthMs + stepMs)
    const parentMs = view.tilesMs[i + 1]
    needs.push(parentMs ?? longest + stepMs)
    if (parentMs !== undefined) {
      const cuts = windows.filter((each) => each.tailStepMs <= stepMs && each.lengthMs < longest)
      needs.push(...cuts.map((each) => each.lengthMs + each.tailStepMs + parentMs))
    }
    return { stepMs, keepMs: ceilTo(Math.max(...needs) + view.slackMs, stepMs) }
  })
  if (view.headStepMs !== undefined) {
    levels.unshift({ stepMs: view.headStepMs, keepMs: ceilTo(view.headMs + view.tilesMs[0]!, view.headStepMs) })
  }
  return levels
}

/** A level that would hold too many tiles, as a problem; undefined when all are within the limit. */
export function checkLadder(levels: readonly LevelPlan[]): string | undefined {
  const wide = levels.find((each) => each.keepMs / each.stepMs > LIMITS.levelTilesMax)
  if (wide === undefined) return undefined
  const tiles = Math.ceil(wide.keepMs / wide.stepMs)
  return `got ${tiles} tiles of ${formatDuration(wide.stepMs)} to keep for ${formatDuration(wide.keepMs)}, expected at most ${LIMITS.levelTilesMax}: add a coarser step that divides the windows`
}

function ceilTo(ms: number, stepMs: number): number {
  return Math.ceil(ms / stepMs) * stepMs
}
