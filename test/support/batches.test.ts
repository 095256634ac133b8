import { describe, expect, it } from 'vitest'
import type { StatePlan } from '../../src/model/plan.ts'
import type { Cell, NaiveEvent } from '../oracle/event.ts'
import { toBatches } from './batches.ts'
import { drawCase } from './cases.ts'
import { readEvents } from './events-of-batch.ts'
import { seededRandom } from './random.ts'

/** The event as a batch can carry it: integers as bigint, what is absent as null. */
function carried(event: NaiveEvent, state: StatePlan): NaiveEvent {
  const whole = <T>(value: T): T | bigint => (typeof value === 'number' ? BigInt(value) : value)
  const cells = state.columns.map(({ name, type }): [string, Cell] => {
    const cell = event.cells[name] ?? null
    return [name, type === 'int64' ? whole(cell) : cell]
  })
  return {
    ...event,
    time: whole(event.time),
    key: state.entity.map((_, i) => whole(event.key[i] ?? null)),
    cells: Object.fromEntries(cells),
    id: state.id ? (event.id ?? null) : null,
    keep: state.registers.filter >= 0 ? event.keep : null,
  }
}

describe('batches of random events', () => {
  it('read back as the events they were made of, whatever the disguise', () => {
    const seen = new Set<string>()
    for (let seed = 1_000; seed < 1_150; seed++) {
      const { plan, events } = drawCase(seed, { count: 40 })
      const batches = toBatches(events, plan.state, seededRandom(seed), { sizes: [1, 7, 3] })
      const back = batches.flatMap((batch) => readEvents(batch, plan.state))
      expect(back, `seed ${seed}`).toEqual(events.map((event) => carried(event, plan.state)))

      for (const { columns, positions } of batches) {
        expect(columns.map(({ name }) => name).sort()).toEqual(plan.state.inputs.map(({ name }) => name).sort())
        seen.add(typeof positions === 'number' ? 'first position' : 'position array')
        for (const { type, unit, bitOffset, offsets, validity, values } of columns) {
          seen.add(type).add(`${unit}`)
          if (bitOffset) seen.add('bit offset')
          if (offsets && offsets[0]! > 0) seen.add('sliced text')
          if (validity) seen.add('validity')
          if (values.byteOffset % 8 > 0) seen.add('odd address')
        }
      }
    }
    // The disguises really come up.
    const types = ['bool', 'int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64']
    const others = ['float32', 'float64', 'decimal128', 'utf8', 'ms', 'us', 'ns', 'undefined']
    const places = ['bit offset', 'sliced text', 'validity', 'odd address', 'first position', 'position array']
    expect([...seen].sort()).toEqual([...types, ...others, ...places].sort())
  })

  it('are split at the sizes given, taken in turn', () => {
    const { plan, events } = drawCase(7, { count: 25 })
    const lengths = toBatches(events, plan.state, seededRandom(7), { sizes: [4, 1, 10] }).map((batch) => batch.length)
    expect(lengths).toEqual([4, 1, 10, 4, 1, 5])
    expect(toBatches([], plan.state, seededRandom(7))).toEqual([])
  })
})
