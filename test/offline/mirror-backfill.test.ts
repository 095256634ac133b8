/** A backfill from the mirror into LMDB gives the bytes of a backfill from the topic's messages into memory. */
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { loadCore } from '../../src/engine/module.ts'
import { RowNormaliser } from '../../src/engine/rows.ts'
import { IngestPool } from '../../src/ingest/pool.ts'
import type { Plan } from '../../src/model/plan.ts'
import { historyLane } from '../../src/model/view-layout.ts'
import { backfill } from '../../src/offline/backfill.ts'
import { createJsonDecoder } from '../../src/source/json-messages.ts'
import { createMirrorSource } from '../../src/source/mirror.ts'
import type { Source } from '../../src/source/port.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { Store } from '../../src/store/port.ts'
import { paymentsView, START_MS } from '../stream/payments.ts'
import { seededRandom } from '../support/random.ts'
import { drawLog, makeFolder, mirrorLogs } from './mirror-scene.ts'

const SEED = Number(process.env.TILEFOLD_SEED ?? 1)

describe('a backfill from a mirror', () => {
  let plan: Plan

  beforeAll(async () => {
    plan = await paymentsView()
  })

  function topicSource(log: readonly StreamMessage[]): Source {
    return {
      log: 'payments.0',
      async *read(fromPosition) {
        const decoder = createJsonDecoder({ inputs: plan.state.inputs, onReject: () => {} })
        const rest = log.filter(({ offset }) => +offset >= fromPosition)
        for (let from = 0; from < rest.length; from += 100) {
          yield { batch: decoder.decode(rest.slice(from, from + 100)), origin: 'topic', rowsDone: from }
        }
      },
      rowsTotal: async () => undefined,
    }
  }

  /** Every row by lane and key, and the counters; `stops`: how often it is interrupted on the way. */
  async function rowsOf(store: Store, source: Source, stops = 0) {
    const seat = { store, namespace: 'mirror' }
    for (;;) {
      const pool = new IngestPool({ threads: 0, store, clock: () => START_MS * 2, onSide: () => {} })
      const abort = new AbortController()
      let batches = 0
      const report = await backfill({
        seat,
        plans: [plan],
        source,
        pool,
        clock: () => START_MS * 2,
        signal: abort.signal,
        onProgress: () => {
          if (stops > 0 && ++batches === 5) abort.abort()
        },
      })
      await pool.close()
      stops--
      if (!report.finished) continue
      const rows: [string, string][] = []
      for (let lane = 0; lane < 4; lane++) {
        const name = { namespace: 'mirror', stateHash: plan.stateHash, generation: 1, lane: historyLane(lane) }
        for await (const { key, bytes } of store.scanRows(name)) {
          rows.push([`${lane} ${Buffer.from(key).toString('hex')}`, Buffer.from(bytes).toString('hex')])
        }
      }
      return { rows: new Map(rows.sort()), counters: report.views[0]!.counters, startedAt: report.startedAt }
    }
  }

  function normalised(rows: ReadonlyMap<string, string>): Map<string, string> {
    const normaliser = new RowNormaliser(loadCore(), plan.state)
    const normalise = (row: string) => normaliser.normalise([Buffer.from(row, 'hex')], START_MS + 86_400_000)
    return new Map([...rows].map(([key, row]) => [key, Buffer.from(normalise(row)).toString('hex')]))
  }

  it.each([0, 2])('gives the bytes of one from the topic, interrupted %i times', async (stops) => {
    const dir = makeFolder()
    const log = drawLog(seededRandom(SEED * 10 + stops), 900, 40)
    await mirrorLogs(dir, [plan], 'payments', [log])
    const source = createMirrorSource({ dir, topic: 'payments', partition: 0, inputs: plan.state.inputs })
    const lmdb = createLmdbStore({ path: join(makeFolder(), 'store') })
    const fromMirror = await rowsOf(lmdb, source, stops)
    await lmdb.close()
    const fromTopic = await rowsOf(createMemoryStore(), topicSource(log))
    // A flush on the way leaves frontiers in rows that no later event touches: normalised, they are the same.
    const same = (rows: ReadonlyMap<string, string>) => (stops === 0 ? rows : normalised(rows))
    expect(same(fromMirror.rows)).toEqual(same(fromTopic.rows))
    expect(fromMirror.rows.size).toBeGreaterThan(5)
    expect(fromMirror.counters).toEqual(fromTopic.counters)
    if (stops > 0) expect(fromMirror.startedAt).toBeGreaterThan(0)
  })
})
