/** What an answer was computed from, for who asks with `explain`: nothing of this is worked out otherwise. */
import type { EntityInfo } from '../engine/merger.ts'
import { asOfMsOf, type FeatureRequest } from './api.ts'
import type { MergerLease } from './merge.ts'
import { type ReadPlan, type SlotPlan, windowEndMs, windowStartMs } from './plan.ts'
import type { ReadTally } from './read.ts'
import type { AnswerRow, FeatureAnswer } from './respond.ts'
import type { Timings } from './stopwatch.ts'

export interface AnswerExplanation {
  readonly timings: Timings
  readonly rowsRead: number
  readonly bytesRead: number
  /** Trips to the store that read rows: 1, or 2 when a layout turned out to have changed. */
  readonly trips: number
}

/** One entity in one view. */
export interface RowExplanation {
  readonly view: string
  /** Every lane that holds a row of the entity, and up to which position of its log it is applied there. */
  readonly rows: readonly { readonly lane: string; readonly applied: number; readonly bytes: number }[]
  /** Lanes that were asked and have none. */
  readonly lanesWithout: readonly string[]
  /** Newest head frontier of the rows: events before it have all been waited for. Absent without a row. */
  readonly completeThroughMs?: number
  /** As-of minus complete-through: how far the data end before the answer; negative when they end behind it. */
  readonly freshnessMs?: number
  readonly oldestAsOfMs?: number
  readonly layoutVersion?: number
  readonly windows: readonly WindowExplanation[]
  readonly tilesRead: number
  readonly rawEventsRead: number
}

export interface WindowExplanation {
  readonly window: string
  readonly startMs: number
  /** Exclusive. */
  readonly endMs: number
}

export function explain(
  answer: FeatureAnswer,
  request: FeatureRequest,
  plan: ReadPlan,
  lease: MergerLease,
  tally: ReadTally,
  measured: { timings: Timings; trips: number },
): FeatureAnswer {
  const turns = turnsOf(plan, tally.found ?? [])
  const rows = answer.rows.map((row, entity): AnswerRow => {
    const asOfMs = asOfMsOf(request, entity)
    const explained = plan.slots.map((slot, i) => explainSlot(request, plan, slot, i, lease, entity, asOfMs, turns))
    return { ...row, explain: explained }
  })
  return { ...answer, rows, explain: { ...measured, rowsRead: tally.rows, bytesRead: tally.bytes } }
}

function explainSlot(
  request: FeatureRequest,
  plan: ReadPlan,
  slot: SlotPlan,
  slotIndex: number,
  lease: MergerLease,
  entity: number,
  asOfMs: number,
  turns: ReadonlyMap<number, number>,
): RowExplanation {
  const info = lease.mergers[slotIndex]!.entityInfo(entity)
  const { rows, lanesWithout } = rowsOfEntity(plan, slotIndex, entity, info, turns)
  return {
    view: slot.view.plan.view,
    rows,
    lanesWithout,
    ...(rows.length === 0
      ? {}
      : {
          completeThroughMs: info.oldestAsOfMs,
          freshnessMs: asOfMs - info.oldestAsOfMs,
          oldestAsOfMs: info.oldestAsOfMs,
          layoutVersion: info.layoutVersion,
        }),
    windows: windowsOf(request, slot, slotIndex, asOfMs),
    tilesRead: info.tilesRead,
    rawEventsRead: info.rawEventsRead,
  }
}

/** What the lanes that may hold an entity had of it. */
export function rowsOfEntity(
  plan: ReadPlan,
  slotIndex: number,
  entity: number,
  { rowInfos }: Pick<EntityInfo, 'rowInfos'>,
  turns: ReadonlyMap<number, number>,
): Pick<RowExplanation, 'rows' | 'lanesWithout'> {
  const rows: RowExplanation['rows'][number][] = []
  const lanesWithout: string[] = []
  const end = plan.slots[slotIndex + 1]?.firstRead ?? plan.reads.length
  for (
    let read = firstReadFor(plan, plan.slots[slotIndex]!.firstRead, end, entity);
    plan.readers[read] === entity && read < end;
    read++
  ) {
    const { lane } = plan.reads[read]!.lane
    const turn = turns.get(read)
    if (turn !== undefined) rows.push({ lane, ...rowInfos[turn]! })
    else lanesWithout.push(lane)
  }
  return { rows, lanesWithout }
}

/** The how-manieth row of its entity each read brought: the merger's infos are in the order in which rows came. */
export function turnsOf({ slots, readers }: ReadPlan, found: readonly number[]): Map<number, number> {
  const turns = new Map<number, number>()
  const counts = new Map<string, number>()
  for (const read of found) {
    const reader = `${slots.findLastIndex(({ firstRead }) => firstRead <= read)} ${readers[read]}`
    const turn = counts.get(reader) ?? 0
    turns.set(read, turn)
    counts.set(reader, turn + 1)
  }
  return turns
}

/** Entities come in order within a slot. */
function firstReadFor({ readers }: ReadPlan, from: number, end: number, entity: number): number {
  let [low, high] = [from, end]
  while (low < high) {
    const middle = (low + high) >> 1
    if (readers[middle]! < entity) low = middle + 1
    else high = middle
  }
  return low
}

/** The distinct windows of the features asked, in the order asked. */
function windowsOf(request: FeatureRequest, slot: SlotPlan, slotIndex: number, asOfMs: number): WindowExplanation[] {
  const windows = new Map<string, WindowExplanation>()
  for (const { slot: columnSlot, feature } of request.columns) {
    if (columnSlot !== slotIndex) continue
    const { window } = feature.info
    const startMs = windowStartMs(feature.window, asOfMs)
    windows.set(window, { window, startMs, endMs: windowEndMs(slot.view.plan, asOfMs) })
  }
  return [...windows.values()]
}
