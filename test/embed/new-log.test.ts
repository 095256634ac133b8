/** What was flushed shows in the next answer, also when the answer before it was given without the log. */
import { describe, expect, it } from 'vitest'
import { count, defineView, timestamp, utf8 } from '../../src/define/dsl.ts'
import { createEngine } from '../../src/embed/engine.ts'
import { createMemoryStore } from '../../src/store/memory.ts'

const clicks = defineView({
  name: 'clicks',
  source: { name: 'clicks', columns: { at: timestamp('ms'), user: utf8() } },
  entity: 'user',
  time: 'at',
  aggregations: [count({ windows: ['1h'] })],
})

const NOON = Date.UTC(2026, 2, 1, 12)
const question = { view: 'clicks', entities: [{ user: 'ada' }], asOf: NOON }

describe('a log that is opened after the first answer', () => {
  it('is read from its first flush on', async () => {
    const engine = await createEngine({
      views: [clicks],
      store: createMemoryStore(),
      flushIntervalMs: 0,
      clock: () => NOON,
    })
    try {
      expect((await engine.getFeatures(question)).rows[0]!.statuses).toEqual(['unknown_entity'])
      for (const log of ['web', 'app']) {
        await engine.push([{ at: NOON - 1000, user: 'ada' }], { log })
        await engine.flush()
        const { rows } = await engine.getFeatures(question)
        expect(rows[0], `after a flush of log ${log}`).toEqual({ values: [log === 'web' ? 1 : 2], statuses: ['ok'] })
      }
    } finally {
      await engine.close()
    }
  })

  it('is read although a request was under way while it was opened', async () => {
    const engine = await createEngine({
      views: [clicks],
      store: createMemoryStore(),
      flushIntervalMs: 0,
      clock: () => NOON,
    })
    try {
      const [, before] = await Promise.all([
        engine.push([{ at: NOON - 1000, user: 'ada' }], { log: 'web' }),
        engine.getFeatures(question),
      ])
      expect(before.rows[0]!.statuses).toEqual(['unknown_entity'])
      await engine.flush()
      expect((await engine.getFeatures(question)).rows[0]).toEqual({ values: [1], statuses: ['ok'] })
    } finally {
      await engine.close()
    }
  })
})
