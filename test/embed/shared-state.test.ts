/** Two views that keep the same state share its rows: one owner writes them, both are answered from them. */
import { describe, expect, it } from 'vitest'
import { count, defineView, timestamp, utf8 } from '../../src/define/dsl.ts'
import { createEngine } from '../../src/embed/engine.ts'
import { createMemoryStore } from '../../src/store/memory.ts'

const source = { name: 'clicks', columns: { at: timestamp('ms'), user: utf8() } } as const
const shared = { source, entity: 'user', time: 'at', tiles: ['5m', '1h'] } as const

const NOON = Date.UTC(2026, 0, 1, 12)

describe('two views of one state', () => {
  it('are fed once and answered both', async () => {
    const views = [
      defineView({ ...shared, name: 'hourly', aggregations: [count({ windows: ['1h', '2h'] })] }),
      defineView({ ...shared, name: 'renamed', aggregations: [count({ windows: ['1h', '2h'], as: 'clicks' })] }),
    ]
    const engine = await createEngine({ views, store: createMemoryStore(), flushIntervalMs: 0, clock: () => NOON })
    try {
      expect(engine.plans[0]!.stateHash).toBe(engine.plans[1]!.stateHash)
      const rows = [0, 1, 2].map((i) => ({ at: NOON - 60_000 * i - 1, user: 'u' }))
      await engine.push(rows, { log: 'clicks', offset: 0 })
      await engine.flush()
      await engine.push([{ at: NOON - 5, user: 'u' }], { log: 'clicks', offset: 3 })
      await engine.flush()
      const answer = await engine.getFeatures({
        features: ['hourly', 'renamed'],
        entities: [{ user: 'u' }],
        asOf: NOON,
      })
      expect(answer.rows[0]!.values).toEqual([4, 4, 4, 4])
      expect([...(await engine.counters('clicks')).keys()]).toEqual(['hourly', 'renamed'])
    } finally {
      await engine.close()
    }
  })
})
