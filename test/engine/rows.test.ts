import { describe, expect, it } from 'vitest'
import { ROW_APPLIED_AT, ROW_COMPLETE_SINCE_AT, ROW_LAYOUT_VERSION_AT } from '../../assembly/layout.ts'
import { float64, utf8 } from '../../src/define/dsl.ts'
import { loadCore } from '../../src/engine/module.ts'
import { RowNormaliser } from '../../src/engine/rows.ts'
import type { NaiveEvent } from '../oracle/naive.ts'
import { seededRandom } from '../support/random.ts'
import { ALONE, batchOf, event, FAR_MS, Folder, hexKey, planOfEverything } from './folding.ts'

const plan = await planOfEverything({ value: float64(), text: utf8() }, { retention: '30d' })
const normaliser = new RowNormaliser(loadCore(), plan.state)
const START_MS = Date.UTC(2001, 5, 17, 9)
const HOUR_MS = 3_600_000
const END_MS = START_MS + 25 * HOUR_MS

const random = seededRandom(1)
const EVENTS = Array.from({ length: 60 }, (_, i) =>
  event(START_MS + random.below(24 * HOUR_MS), { value: random.between(-99, 99) / 4, text: `t${i % 5}` }),
)

/** The row as flushed when the head stood at `frontierMs`: the events from there on are raw. */
function rowOf(events: readonly NaiveEvent[], frontierMs = START_MS, shares = ALONE): Uint8Array {
  const folder = new Folder(loadCore(), plan.state, shares)
  const wallMs = frontierMs + plan.state.head.lengthMs
  folder.core.advance(wallMs, FAR_MS)
  return folder
    .fold(batchOf(events, plan.state), wallMs)
    .flush()
    .rows.get(hexKey(plan.state, ['k']))!
}

function hex(row: Uint8Array): string {
  return Buffer.from(row).toString('hex')
}

describe('normalised rows', () => {
  const expected = hex(normaliser.normalise([rowOf(EVENTS)], END_MS))

  it('do not tell at what stage a row was', () => {
    for (let hours = 0; hours <= 25; hours += 5) {
      expect(hex(normaliser.normalise([rowOf(EVENTS, START_MS + hours * HOUR_MS)], END_MS)), `${hours} h`).toBe(
        expected,
      )
    }
  })

  it('do not tell in how many steps a row was brought on', () => {
    let row = rowOf(EVENTS, START_MS)
    for (let hours = 1; hours <= 25; hours++) row = normaliser.normalise([row], START_MS + hours * HOUR_MS)
    expect(hex(row)).toBe(expected)
  })

  it('do not tell in which lanes the events were, nor in which order the rows come', () => {
    for (let lanes = 2; lanes <= 5; lanes++) {
      const rows = Array.from({ length: lanes }, (_, lane) =>
        rowOf(
          EVENTS.filter((_each, i) => i % lanes === lane),
          START_MS + lane * 5 * HOUR_MS,
        ),
      )
      expect(hex(normaliser.normalise(random.shuffled(rows), END_MS)), `${lanes} lanes`).toBe(expected)
    }
  })

  it('do not tell who wrote them when', () => {
    const other = rowOf(EVENTS, START_MS, { ...ALONE, layoutVersion: 77, completeSinceMs: START_MS })
    const row = normaliser.normalise([other], END_MS)
    expect(hex(row)).toBe(expected)
    const view = new DataView(row.buffer, row.byteOffset)
    expect(view.getBigInt64(ROW_APPLIED_AT, true)).toBe(0n)
    expect(view.getBigInt64(ROW_COMPLETE_SINCE_AT, true)).toBe(0n)
    expect(view.getUint32(ROW_LAYOUT_VERSION_AT, true)).toBe(0)
  })

  it('tell every event', () => {
    for (const [i, each] of EVENTS.entries()) {
      // One left out, one twice, one a millisecond later, one with a slightly other value.
      const others = EVENTS.filter((_, j) => j !== i)
      const later = { ...each, time: Number(each.time) + 1 }
      const larger = { ...each, cells: { ...each.cells, value: Number(each.cells.value) + 2 ** -40 } }
      expect(hex(normaliser.normalise([rowOf(others)], END_MS))).not.toBe(expected)
      expect(hex(normaliser.normalise([rowOf([...EVENTS, each])], END_MS))).not.toBe(expected)
      expect(hex(normaliser.normalise([rowOf([...others, larger])], END_MS))).not.toBe(expected)
      // While it is raw; in a tile, only what the partials keep of it shows.
      const early = START_MS - HOUR_MS
      expect(hex(normaliser.normalise([rowOf([...others, later], early)], early))).not.toBe(
        hex(normaliser.normalise([rowOf(EVENTS, early)], early)),
      )
    }
  })

  it('are refused, and leave the normaliser as it was, where rows stand at frontiers that cannot be one', () => {
    // The second row is already further than asked for.
    const rows = [rowOf(EVENTS, START_MS), rowOf(EVENTS, END_MS)]
    expect(() => normaliser.normalise(rows, START_MS + HOUR_MS)).toThrow(
      expect.objectContaining({ code: 'ROW_CORRUPT' }),
    )
    expect(hex(normaliser.normalise([rowOf(EVENTS)], END_MS))).toBe(expected)
  })
})
