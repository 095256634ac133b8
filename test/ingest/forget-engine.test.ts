/** `engine.forget`: the engine's own lanes, history that nobody owns, and lanes of logs that are not open. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { count, defineView, float64, sum, timestamp, utf8 } from '../../src/define/dsl.ts'
import { createEngine, type Engine } from '../../src/embed/engine.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { Store } from '../../src/store/port.ts'

const folder = mkdtempSync(join(tmpdir(), 'tilefold-forget-engine-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const NOON = Date.UTC(2026, 0, 1, 12)
const source = { name: 'clicks', columns: { at: timestamp('ms'), user: utf8(), value: float64() } } as const
const view = defineView({
  name: 'spend',
  source,
  entity: 'user',
  time: 'at',
  aggregations: [count({ windows: ['1h', '24h'] }), sum('value', { windows: ['24h'] })],
})

interface Clock {
  nowMs: number
}

function open(store: string | Store, clock: Clock, threads = 0): Promise<Engine> {
  return createEngine({ views: [view], store, flushIntervalMs: 0, threads, shards: 2, clock: () => clock.nowMs })
}

async function counts(engine: Engine, asOf: number): Promise<unknown[]> {
  const entities = [{ user: 'ada' }, { user: 'bob' }]
  const answer = await engine.getFeatures({ features: ['spend:count_24h'], entities, asOf })
  return answer.rows.map((row) => row.values[0])
}

const rows = (user: string, times: readonly number[]) => times.map((at) => ({ at, user, value: 1 }))

describe.each([
  ['in memory', () => createMemoryStore(), 0],
  ['on a disk', () => join(folder, 'plain'), 0],
  ['on a disk, in threads', () => join(folder, 'threads'), 2],
] as const)('an engine %s', (_, storeOf, threads) => {
  it('forgets in open logs and goes on', async () => {
    const clock = { nowMs: NOON }
    const engine = await open(storeOf(), clock, threads)
    try {
      await engine.push([...rows('ada', [NOON - 9, NOON - 8]), ...rows('bob', [NOON - 7])], { log: 'a', offset: 0 })
      await engine.flush()
      await engine.push(rows('ada', [NOON - 6]), { log: 'a', offset: 3 })
      await engine.push(rows('ada', [NOON - 5]), { log: 'b', offset: 0 })
      const { entry, lanes } = await engine.forget('spend', { user: 'ada' })
      expect(entry.atMs).toBe(NOON)
      expect(lanes.map(({ outcome }) => outcome)).toEqual(['erased', 'erased'])
      expect(await counts(engine, NOON + 1)).toEqual([0, 1])

      clock.nowMs = NOON + 1_000
      const late = rows('ada', [NOON - 4])
      await engine.push([...late, ...rows('ada', [NOON, NOON + 5])], { log: 'a', offset: 4 })
      await engine.flush()
      expect(await counts(engine, NOON + 2_000)).toEqual([2, 1])
      expect((await engine.counters('a')).get('spend')).toMatchObject({ consumed: 7, applied: 6, filtered: 1 })
    } finally {
      await engine.close()
    }
  })
})

describe('an engine that alone writes to a directory', () => {
  it('erases in logs that are not open, and opens them afterwards', async () => {
    const clock = { nowMs: NOON }
    const path = join(folder, 'closed-logs')
    const first = await open(path, clock)
    for (const log of ['a', 'b']) {
      await first.push([...rows('ada', [NOON - 9]), ...rows('bob', [NOON - 7])], { log, offset: 0 })
    }
    await first.close()

    const second = await open(path, clock)
    try {
      expect(await counts(second, NOON + 1)).toEqual([2, 2])
      // A log that is opened at the same time waits, and is not fenced.
      const [{ lanes }] = await Promise.all([
        second.forget('spend', { user: 'ada' }),
        second.push(rows('bob', [NOON - 1]), { log: 'b', offset: 2 }),
      ])
      expect(lanes.map(({ outcome }) => outcome)).toEqual(['erased', 'erased'])
      await second.flush()
      expect(await counts(second, NOON + 1)).toEqual([0, 3])
    } finally {
      await second.close()
    }
  })

  it('refuses views that it does not know, and keys that are none', async () => {
    const engine = await open(createMemoryStore(), { nowMs: NOON })
    try {
      expect(() => engine.forget('spent', { user: 'ada' })).toThrow(/no such view/)
      expect(() => engine.forget('spend', { user: 7 })).toThrow(/user/)
    } finally {
      await engine.close()
    }
    expect(() => engine.forget('spend', { user: 'ada' })).toThrow(/closed/)
  })
})
