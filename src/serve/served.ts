/**
 * What was answered, for a log of it: labels come weeks later, and are joined to the very vector that was served. Entities are
 * chosen by their keys, so that all servers choose the same and a chosen one is seen at every request.
 */
import type { EntityInfo } from '../engine/merger.ts'
import { laneHash } from '../model/key.ts'
import type { FeatureStatus, FeatureValue, Plan } from '../model/plan.ts'
import type { GenerationLayout } from '../model/view-layout.ts'
import { asOfMsOf, type FeatureRequest } from './api.ts'
import { rowsOfEntity, turnsOf } from './explain.ts'
import type { MergerLease } from './merge.ts'
import type { ReadPlan } from './plan.ts'
import type { ReadTally } from './read.ts'
import type { AnsweredView, FeatureAnswer } from './respond.ts'

/** One entity in one view, as it was answered. */
export interface ServedRow {
  readonly plan: Plan
  readonly requestId: string
  /** Index into the request's entities. */
  readonly entity: number
  /** The join keys, in the order of the view's. */
  readonly keys: readonly unknown[]
  readonly servedAtMs: number
  readonly asOfMs: number
  readonly version: AnsweredView
  /** The layout of the generation it was answered from: which lanes there were, and which events each of them takes. */
  readonly generation: GenerationLayout
  /** The lanes that held a row, and up to which position of its log each was applied. */
  readonly applied: readonly { readonly lane: string; readonly applied: number }[]
  /** By index of the plan's features; features that were not asked are absent. */
  readonly answers: ReadonlyMap<number, { readonly value: FeatureValue; readonly status: FeatureStatus }>
}

export interface ServedLog {
  /** 0 to 1: the part of the entities that is logged. */
  readonly share: number
  /** Must neither throw nor wait: the answer does not wait for its log. */
  take(rows: readonly ServedRow[]): void
}

/** Rows of the chosen entities. The mergers have run and are still on loan. */
export function servedRows(
  answer: FeatureAnswer,
  request: FeatureRequest,
  plan: ReadPlan,
  lease: MergerLease,
  tally: ReadTally,
  of: { readonly share: number; readonly requestId: string; readonly servedAtMs: number },
): ServedRow[] {
  const turns = turnsOf(plan, tally.found ?? [])
  const rows: ServedRow[] = []
  for (const [slotIndex, slot] of plan.slots.entries()) {
    // Also of a view that has no lane yet: that nothing was known is an answer.
    for (const [entity, key] of slot.keys.entries()) {
      if (!isChosen(key, of.share)) continue
      const info: EntityInfo = lease.mergers[slotIndex]!.entityInfo(entity)
      rows.push({
        plan: slot.view.plan,
        requestId: of.requestId,
        entity,
        keys: slot.view.plan.state.entity.map(({ name }) => request.entities[entity]![name]),
        servedAtMs: of.servedAtMs,
        asOfMs: asOfMsOf(request, entity),
        version: answer.metadata.versions[slotIndex]!,
        generation: slot.target.generation,
        applied: rowsOfEntity(plan, slotIndex, entity, info, turns).rows.map(({ lane, applied }) => ({
          lane,
          applied,
        })),
        answers: answersOf(answer, request, slotIndex, entity),
      })
    }
  }
  return rows
}

/** The hash's upper end decides, its remainder is the lane: each lane is sampled alike. */
export function isChosen(key: Uint8Array, share: number): boolean {
  return laneHash(key) < share * 2 ** 32
}

function answersOf(
  answer: FeatureAnswer,
  request: FeatureRequest,
  slotIndex: number,
  entity: number,
): ServedRow['answers'] {
  const { values, statuses } = answer.rows[entity]!
  const answers = new Map<number, { value: FeatureValue; status: FeatureStatus }>()
  for (const [column, { slot, feature }] of request.columns.entries()) {
    if (slot === slotIndex) answers.set(feature.index, { value: values[column]!, status: statuses[column]! })
  }
  return answers
}
