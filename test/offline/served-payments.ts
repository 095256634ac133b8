/**
 * The view, the stream and the questions that the tests of what was served share: late, duplicate and shuffled payments over two
 * partitions, asked about at random instants while they come.
 */
import { join } from 'node:path'
import { compileView } from '../../src/define/compile.ts'
import { parseDefinitions } from '../../src/define/yaml.ts'
import type { Plan } from '../../src/model/plan.ts'
import type { ServedRow } from '../../src/serve/served.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { drawLog, mirrorLogs } from './mirror-scene.ts'
import { serveLive } from './served-scene.ts'

const HOUR_MS = 3_600_000
export const definition = (windows: string) => `namespace: shop
views:
  - name: spend
    source: { name: payments, columns: { card: utf8, at: 'timestamp[ms]', amount: float64, id: utf8 } }
    entity: card
    time: at
    lateness: { policy: drop, allowed: 30s }
    dedupe: { id: id, within: 1h }
    aggregations:
      - { op: count, windows: ${windows} }
      - { op: sum, column: amount, windows: ${windows} }
      - { op: mean, column: amount, windows: [1h] }
      - { op: max, column: amount, windows: [24h] }
      - { op: last, column: id, windows: [24h] }
`
export interface ServedPayments {
  readonly plan: Plan
  readonly logs: readonly StreamMessage[][]
  /** What was served, as the reader told it; the requests are r0, r1, … */
  readonly rows: readonly ServedRow[]
  /** Served as of the very moment at which all that had come was readable. */
  readonly settled: readonly ServedRow[]
  readonly served: string
  readonly mirror: string
  readonly store: string
}

/** Two partitions that share their cards, with ids that come twice. */
function drawLogs(random: Random): StreamMessage[][] {
  return Array.from({ length: 2 }, () =>
    drawLog(random, 400, random.below(50)).map((message) => {
      const text = message.value?.toString() ?? ''
      if (!text.endsWith('}') || !text.startsWith('{"card"')) return message
      return { ...message, value: Buffer.from(`${text.slice(0, -1)},"id":"e${random.below(1200)}"}`) }
    }),
  )
}

export async function compiled(yaml: string): Promise<Plan> {
  return compileView(parseDefinitions(Buffer.from(yaml), 'tilefold.yaml').views[0]!)
}

/** Everything in `folder`: the store, the log of answers and the mirror. */
export async function servedPayments(folder: string, seed: number): Promise<ServedPayments> {
  const random = seededRandom(seed)
  const [served, mirror, store] = ['served', 'mirror', 'store'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  const plan = await compiled(definition('[1h, 24h]'))
  const logs = drawLogs(random)
  const lmdb = createLmdbStore({ path: store })
  let asked = 0
  let lastMs = 0
  const rows = await serveLive({
    plans: [plan],
    topic: 'payments',
    logs,
    random,
    store: lmdb,
    namespace: 'shop',
    folder,
    messagesAtOnce: 40,
    ledgerMs: 1000 * HOUR_MS,
    async ask(reader, nowMs, isSettled) {
      const entities = Array.from({ length: 1 + random.below(4) }, () => ({ card: `card-${random.below(13)}` }))
      const asOfs = entities.map(() => nowMs + random.between(-60_000, 300_000))
      await reader.getFeatures({ view: 'spend', entities, asOfs }, { requestId: `r${asked++}` })
      // One name for many requests, as a caller may give it.
      await reader.getFeatures({ view: 'spend', entities: [{ card: 'card-1' }] }, { requestId: 'again' })
      // The ledger has one entry in 100 ms.
      if (isSettled && nowMs >= lastMs + 200) {
        const card = `card-${random.below(12)}`
        await reader.getFeatures({ view: 'spend', entities: [{ card }], asOfs: [nowMs] }, { requestId: 'settled' })
      }
      lastMs = nowMs
    },
  })
  await lmdb.close()
  await mirrorLogs(mirror, [plan], 'payments', logs)
  const settled = rows.filter(({ requestId }) => requestId === 'settled')
  return { plan, logs, rows, settled, served, mirror, store }
}
