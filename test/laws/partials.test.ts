/**
 * The laws of the partial aggregates, for each type of column: however the events of an entity were split, in whatever order
 * and grouping the parts were combined, the same bytes and the same values come out.
 */
import { describe, expect, it } from 'vitest'
import { bool, type ColumnSpec, decimal, float64, int64, utf8 } from '../../src/define/dsl.ts'
import { Merger } from '../../src/engine/merger.ts'
import { CORE_BUILDS, loadCore } from '../../src/engine/module.ts'
import { RowNormaliser } from '../../src/engine/rows.ts'
import type { Plan, ValueType } from '../../src/model/plan.ts'
import { answersFrom, batchOf, event, Folder, hexKey, planOfEverything } from '../engine/folding.ts'
import { eachSeed, patience } from '../fuzz/effort.ts'
import { type NaiveEvent, naiveFeatures } from '../oracle/naive.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { drawCell, shapesOf } from '../support/values.ts'

const FILE = 'test/laws/partials.test.ts'

const SPECS: readonly [ValueType, ColumnSpec][] = [
  ['float64', float64()],
  ['int64', int64()],
  ['decimal', decimal(38, 2)],
  ['bool', bool()],
  ['utf8', utf8()],
]

const START_MS = Date.UTC(2001, 5, 17, 9)
const HOUR_MS = 3_600_000
/** Behind everything: the head lies behind the events too, so rows can be brought to any stage. */
const FRONTIER_MS = START_MS + 5 * HOUR_MS

/** Events of one entity over some tiles of each level, several at one instant. */
function drawEvents(random: Random, type: ValueType, hasMore: boolean): NaiveEvent[] {
  const shape = random.pick(shapesOf(type))
  const instants = Array.from({ length: random.between(1, 20) }, () => START_MS + random.below(4 * HOUR_MS))
  return Array.from({ length: random.between(1, 50) }, () =>
    event(random.pick(instants), {
      value: random.chance(0.15) ? null : drawCell(random, type, shape),
      ...(hasMore && { more: random.chance(0.2) ? null : drawCell(random, 'utf8', 'words') }),
    }),
  )
}

/** One part's row, as if in a store of its own: folded in batches and flushes of any size. */
function rowOf(folder: Folder, plan: Plan, random: Random, events: readonly NaiveEvent[]): Uint8Array {
  folder.rows = new Map()
  for (let at = 0; at < events.length; ) {
    const end = Math.min(events.length, at + random.between(1, 12))
    folder.fold(batchOf(events.slice(at, end), plan.state, random.bits(), folder.core.position + 1))
    if (random.chance(0.3)) folder.flush()
    at = end
  }
  return folder.flush().rows.get(hexKey(plan.state, ['k']))!
}

/** The parts combined two by two, in any order, until one row is left. */
function combine(normaliser: RowNormaliser, random: Random, parts: readonly Uint8Array[]): Uint8Array {
  let left = random.shuffled(parts)
  while (left.length > 1) {
    const [a, b, ...others] = left
    left = random.shuffled([normaliser.normalise([a!, b!], FRONTIER_MS), ...others])
  }
  return normaliser.normalise(left, FRONTIER_MS)
}

describe.each(CORE_BUILDS)('partials of the %s core', (build) => {
  // Alone, an edge keeps the value; beside another column, whole events.
  it.each(SPECS.flatMap(([type, spec]) => [false, true].map((hasMore) => ({ type, spec, hasMore }))))(
    'are commutative and associative over $type, another column: $hasMore',
    async ({ type, spec, hasMore }) => {
      const plan = await planOfEverything(
        { value: spec, ...(hasMore && { more: utf8() }) },
        // So long that everything stays raw in the head, or so short that everything is in tiles.
        { head: hasMore ? '1s' : '10m', retention: '30d' },
      )
      const normaliser = new RowNormaliser(loadCore(build), plan.state)
      const merger = Merger.create(loadCore(build), plan)
      await eachSeed(FILE, 0, build === 'debug' ? 12 : 25, (seed) => {
        const random = seededRandom(seed)
        const events = drawEvents(random, type, hasMore)
        const folder = new Folder(loadCore(build), plan.state)
        const whole = rowOf(folder, plan, random, events)
        const groups = random.shuffled(events).reduce<NaiveEvent[][]>((parts, each) => {
          if (parts.length === 0 || random.chance(0.3)) parts.push([])
          parts[parts.length - 1]!.push(each)
          return parts
        }, [])
        const parts = groups.map((group) => rowOf(folder, plan, random, group))

        // Bytes: together, or split and combined in two orders.
        const expected = Buffer.from(normaliser.normalise([whole], FRONTIER_MS)).toString('hex')
        for (let order = 0; order < 2; order++) {
          const combined = Buffer.from(combine(normaliser, random, parts)).toString('hex')
          expect(combined).toBe(expected)
        }

        // Values: from one row, from all of them, from their union; and the oracle's.
        for (const asOfMs of [FRONTIER_MS, FRONTIER_MS + random.below(20 * HOUR_MS)]) {
          const truth = naiveFeatures(events, plan, ['k'], asOfMs)
          expect(answersFrom(merger, plan, [whole], asOfMs)).toEqual(truth)
          expect(answersFrom(merger, plan, random.shuffled(parts), asOfMs)).toEqual(truth)
          expect(answersFrom(merger, plan, [Buffer.from(expected, 'hex')], asOfMs)).toEqual(truth)
        }
      })
    },
    patience(5_000),
  )
})
