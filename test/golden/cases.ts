/**
 * What golden rows are made of, once: the stored files decide from then on. A new case is a new entry here and a run with
 * TILEFOLD_GOLDEN=update; an entry that has its files is never made again.
 */
import { bool, type Duration, decimal, float64, int64, utf8 } from '../../src/define/dsl.ts'
import { loadCore } from '../../src/engine/module.ts'
import { RowNormaliser } from '../../src/engine/rows.ts'
import type { Plan } from '../../src/model/plan.ts'
import { ALONE, batchOf, event, FAR_MS, Folder, hexKey, planOfEverything } from '../engine/folding.ts'
import { type NaiveEvent, naiveAccept } from '../oracle/naive.ts'
import { drawCase } from '../support/cases.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { drawCell, type ValueShape } from '../support/values.ts'

export interface GoldenRows {
  readonly plan: Plan
  /** Rows of one entity, one per lane. */
  readonly rows: readonly Uint8Array[]
  readonly asOfMs: readonly number[]
  /** What the rows are brought to before their bytes are compared. */
  readonly frontierMs: number
}

const START_MS = Date.UTC(2001, 5, 17, 9)
const MINUTE_MS = 60_000
const END_MS = START_MS + 200 * MINUTE_MS

export const GOLDEN: Readonly<Record<string, () => Promise<GoldenRows>>> = {
  'doubles-in-tiles-and-head': () => over({ value: float64() }, { value: 'cents' }),
  'doubles-at-the-ends': () => over({ value: float64() }, { value: 'extremes' }),
  'integers-at-the-ends': () => over({ value: int64() }, { value: 'extremes' }),
  'decimals-of-38-digits': () => over({ value: decimal(38, 4) }, { value: 'extremes' }),
  booleans: () => over({ value: bool() }, { value: 'flags' }),
  'first-and-last-of-several-columns': () =>
    over({ text: utf8(), value: float64(), more: utf8() }, { text: 'words', value: 'ints', more: 'words' }),
  'nothing-but-counts': () => over({}, {}),
  'rows-of-three-lanes': () => over({ value: float64(), whole: int64() }, { value: 'cents', whole: 'ints' }, 3),
  'counts-beyond-32-bits': doubled,
  'a-head-of-sub-tiles': () => over({ value: float64(), text: utf8() }, { value: 'cents', text: 'words' }, 1, '10s'),
  'event-ids': withIds,
  'bits-of-integers': () => over({ value: int64(), flags: int64() }, { value: 'extremes', flags: 'digits' }),
}

type Columns = Parameters<typeof planOfEverything>[0]

/** Three hours of events of one entity, every minute or so, the last of them still raw. */
async function over(
  columns: Columns,
  shapes: Record<string, ValueShape>,
  lanes = 1,
  headStep?: Duration,
): Promise<GoldenRows> {
  const plan = await planOfEverything(columns, { windows: ['12m', '1h', '3h'], retention: '1d', headStep })
  const random = seededRandom(20_260_101)
  const events = Array.from({ length: 90 }, (_, i) =>
    event(START_MS + i * 2 * MINUTE_MS + random.below(MINUTE_MS), cellsOf(random, plan, shapes)),
  )
  for (let i = 0; i < 5; i++) events.push(event(END_MS - random.below(30_000), cellsOf(random, plan, shapes)))
  const rows = Array.from({ length: lanes }, (_, lane) => {
    const folder = new Folder(loadCore(), plan.state, { ...ALONE, layoutVersion: 3, completeSinceMs: START_MS })
    folder.fold(
      batchOf(
        events.filter((_each, i) => i % lanes === lane),
        plan.state,
      ),
    )
    return folder.flush().rows.get(hexKey(plan.state, ['k']))!
  })
  const asOfMs = [END_MS, END_MS - 15_000, END_MS + 1, END_MS + 61 * MINUTE_MS, END_MS + 2_880 * MINUTE_MS, START_MS]
  return { plan, rows, asOfMs, frontierMs: END_MS + 90 * MINUTE_MS }
}

function cellsOf(random: Random, plan: Plan, shapes: Record<string, ValueShape>): NaiveEvent['cells'] {
  const cells = plan.state.columns.map(({ name, type }) => [
    name,
    random.chance(0.1) ? null : drawCell(random, type, shapes[name]!),
  ])
  return Object.fromEntries(cells)
}

/** The row of some events, added to itself 33 times. */
async function doubled(): Promise<GoldenRows> {
  const { plan, rows, asOfMs, frontierMs } = await over({ value: float64() }, { value: 'cents' })
  const normaliser = new RowNormaliser(loadCore(), plan.state)
  let row = rows[0]!
  for (let i = 0; i < 33; i++) row = normaliser.normalise([row, row], END_MS + MINUTE_MS)
  return { plan, rows: [row], asOfMs: asOfMs.map((each) => each + MINUTE_MS), frontierMs }
}

/** A drawn view with event ids, and its largest row. */
async function withIds(): Promise<GoldenRows> {
  const { plan, events, notAfterMs } = drawCase(1543, { head: 'raw', count: 120, clean: true })
  const folder = new Folder(loadCore(), plan.state, ALONE, new Map(), notAfterMs)
  folder.fold(batchOf(events, plan.state), FAR_MS).flush()
  const { lateClockMs } = naiveAccept(events, plan.state, { notAfterMs })
  const [row] = [...folder.rows.values()].sort((a, b) => b.length - a.length)
  const frontierMs = lateClockMs + plan.state.head.lengthMs
  return { plan, rows: [row!], asOfMs: [lateClockMs, lateClockMs + 1, lateClockMs + 3_600_000], frontierMs }
}
