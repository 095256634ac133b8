import { describe, expect, it } from 'vitest'
import { ROW_CHECKED_FROM, ROW_CHECKSUM_AT, ROW_HEAD_FRONTIER_AT } from '../../assembly/layout.ts'
import { CORE_BUILDS, loadCore } from '../../src/engine/module.ts'
import { RowNormaliser } from '../../src/engine/rows.ts'
import { batchOf, FAR_MS, Folder, hexKey } from '../engine/folding.ts'
import { eachSeed, patience } from '../fuzz/effort.ts'
import { eventsOf, naiveAccept } from '../oracle/naive.ts'
import { drawCase, keysOf } from '../support/cases.ts'
import { seededRandom } from '../support/random.ts'
import { checksum, naiveRow } from './naive-row.ts'

const FILE = 'test/assembly/row.test.ts'

function show(row: Uint8Array): string {
  return Buffer.from(row).toString('hex').replace(/.{32}/g, '$&\n')
}

describe.each(CORE_BUILDS)('rows of the %s core', (build) => {
  it(
    'are the bytes that the format says, for the events in them',
    async () => {
      let rows = 0
      await eachSeed(FILE, 0, build !== 'debug' ? 60 : 30, (seed) => {
        const random = seededRandom(seed)
        const { plan, events, notAfterMs } = drawCase(random.bits(), { count: 60 })
        const { state } = plan
        const { applied, lateClockMs } = naiveAccept(events, state, { notAfterMs })
        const folder = new Folder(loadCore(build), state, undefined, new Map(), notAfterMs)
        for (let at = 0; at < events.length; at += 16) {
          folder.fold(batchOf(events.slice(at, at + 16), state, seed, at))
          if (random.chance(0.3)) folder.flush(random.between(1, 4))
        }
        folder.flush()
        const normaliser = new RowNormaliser(loadCore(build), state)
        const headMs = Math.max(0, lateClockMs - state.disorderMs - state.head.lengthMs)
        // At the stage where the log left it, and brought on from there.
        for (const frontierMs of [headMs, headMs + random.below(3 * state.ladder[0]!.keepMs)]) {
          for (const key of keysOf(applied, state).slice(0, -1)) {
            const stored = folder.rows.get(hexKey(state, key))!
            const row = normaliser.normalise([stored], frontierMs)
            expect(show(row)).toBe(show(naiveRow(eventsOf(applied, key), state, frontierMs)))
            rows++
          }
        }
      })
      expect(rows).toBeGreaterThan(0)
    },
    patience(8_000),
  )

  it('carry the checksum of all that follows it but the applied position', () => {
    const { plan, events } = drawCase(3, { count: 80, clean: true, orderFree: true })
    const folder = new Folder(loadCore(build), plan.state)
    const { rows } = folder.fold(batchOf(events, plan.state)).flush()
    expect(rows.size).toBeGreaterThan(0)
    for (const row of rows.values()) {
      const stored = new DataView(row.buffer, row.byteOffset).getUint32(ROW_CHECKSUM_AT, true)
      expect(checksum(row.subarray(ROW_CHECKED_FROM))).toBe(stored)
    }
  })

  it('come out the same when normalised twice, and keep their frontier', () => {
    const { plan, events } = drawCase(5, { count: 80, clean: true, orderFree: true })
    const folder = new Folder(loadCore(build), plan.state)
    const normaliser = new RowNormaliser(loadCore(build), plan.state)
    const { rows } = folder.fold(batchOf(events, plan.state), FAR_MS).flush()
    for (const row of rows.values()) {
      const once = normaliser.normalise([row], folder.core.headFrontierMs + 7_200_000)
      expect(show(normaliser.normalise([once], folder.core.headFrontierMs))).toBe(show(once))
      const view = new DataView(once.buffer, once.byteOffset)
      expect(Number(view.getBigInt64(ROW_HEAD_FRONTIER_AT, true))).toBe(folder.core.headFrontierMs + 7_200_000)
    }
  })
})
