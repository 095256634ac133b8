/** A backfill that is stopped and gone on with another day gives what one run gives. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { count, defineView, float64, sum, timestamp, utf8 } from '../../src/define/dsl.ts'
import { IngestPool } from '../../src/ingest/pool.ts'
import { backfill } from '../../src/offline/backfill.ts'
import { createNdjsonSource } from '../../src/source/ndjson.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import { makeFolder } from './mirror-scene.ts'

const HOUR_MS = 3_600_000
const BASE_MS = Date.UTC(2026, 0, 1)

it('goes by the instant at which its history was begun, whenever it is gone on with', async () => {
  const plan = await compileView(
    defineView({
      name: 'spend',
      source: { name: 'payments', columns: { card: utf8(), at: timestamp('ms'), amount: float64() } },
      entity: 'card',
      time: 'at',
      lateness: { allowed: '60h', policy: 'drop' },
      aggregations: [sum('amount', { windows: ['7d'] })],
    }),
  )
  // One event lies in the future of the first run, and not of the second.
  const hours = [...Array(20).fill(100), 200, ...Array(20).fill(101)] as number[]
  const lines = hours.map((hour, i) => JSON.stringify({ card: `c${i % 3}`, at: BASE_MS + hour * HOUR_MS, amount: 1 }))
  const path = join(makeFolder(), 'payments.ndjson')
  writeFileSync(path, lines.map((line) => `${line}\n`).join(''))

  async function countersOf(...startHours: number[]) {
    const store = createMemoryStore()
    let counters: object | undefined
    for (const [run, hour] of startHours.entries()) {
      const clock = () => BASE_MS + hour * HOUR_MS
      const pool = new IngestPool({ threads: 0, store, clock })
      const abort = new AbortController()
      const source = createNdjsonSource({ log: 'files', paths: [path], inputs: plan.state.inputs, batchRows: 10 })
      const report = await backfill({
        seat: { store, namespace: 'resumed' },
        plans: [plan],
        source,
        pool,
        clock,
        signal: abort.signal,
        onProgress: () => {
          if (run + 1 < startHours.length) abort.abort()
        },
      })
      await pool.close()
      counters = report.views[0]!.counters
    }
    return counters
  }

  const once = await countersOf(150)
  expect(once).toMatchObject({ applied: 40, late: 0, rejectedFuture: 1 })
  expect(await countersOf(150, 150)).toEqual(once)
  expect(await countersOf(150, 250)).toEqual(once)
})

describe('lanes of a history', () => {
  it('are told when it is begun, and refused when they are told otherwise', async () => {
    const view = {
      name: 'spend',
      source: { name: 'p', columns: { card: utf8(), at: timestamp('ms') } },
      entity: 'card',
    }
    const plan = await compileView(defineView({ ...view, time: 'at', aggregations: [count({ windows: ['1h'] })] }))
    const path = join(makeFolder(), 'p.ndjson')
    writeFileSync(path, Array.from({ length: 40 }, (_, i) => `{"card":"c${i}","at":${BASE_MS + i}}\n`).join(''))
    const store = createMemoryStore()
    const seat = { store, namespace: 'lanes' }
    async function run(lanes: { historyLanes?: number; newHistoryLanes?: number }, stopsAtOnce = false) {
      const clock = () => BASE_MS + HOUR_MS
      const pool = new IngestPool({ threads: 0, store, clock })
      const abort = new AbortController()
      const source = createNdjsonSource({ log: 'files', paths: [path], inputs: plan.state.inputs, batchRows: 10 })
      const onProgress = () => stopsAtOnce && abort.abort()
      try {
        return await backfill({ seat, plans: [plan], source, pool, clock, signal: abort.signal, onProgress, ...lanes })
      } finally {
        await pool.close()
      }
    }
    expect(await run({ historyLanes: 6 }, true)).toMatchObject({ finished: false, rows: 10 })
    await expect(run({ historyLanes: 5 })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      details: { view: 'spend', got: 5, expected: 6 },
    })
    expect(await run({ newHistoryLanes: 5 })).toMatchObject({ finished: true, startedAt: 10, rows: 30 })
    const layout = JSON.parse((await store.readLayout('lanes', 'spend'))!) as { generations: object[] }
    expect(layout.generations).toMatchObject([{ history: { lanes: 6 } }])
  })
})
