/** What a live stream was served from, logged at random instants, comes out of its mirror again bit for bit. */
import { setTimeout as delay } from 'node:timers/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { count, defineView, float64, last, max, mean, sum, timestamp, utf8 } from '../../src/define/dsl.ts'
import { loadCore } from '../../src/engine/module.ts'
import { encodeKey } from '../../src/model/key.ts'
import type { Plan } from '../../src/model/plan.ts'
import type { GenerationLayout, ViewLayout } from '../../src/model/view-layout.ts'
import { type AsServedAnswer, answersAsServed } from '../../src/offline/as-served.ts'
import { createFeatureReader } from '../../src/serve/reader.ts'
import type { ServedRow } from '../../src/serve/served.ts'
import { createJsonDecoder } from '../../src/source/json-messages.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import { StreamJob } from '../../src/stream/job.ts'
import { START_MS } from '../stream/payments.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { drawLog, makeFolder, mirrorLogs, ScriptedConsumer, ScriptedGroup } from './mirror-scene.ts'

const SEED = Number(process.env.TILEFOLD_SEED ?? 1)
const NAMESPACE = 'as-served'
const HOUR_MS = 3_600_000
const clock = () => START_MS * 2

function viewOf(isStrict: boolean): Promise<Plan> {
  return compileView(
    defineView({
      name: 'spend',
      source: { name: 'payments', columns: { card: utf8(), at: timestamp('ms'), amount: float64(), id: utf8() } },
      entity: 'card',
      time: 'at',
      ...(isStrict && { lateness: { policy: 'drop', allowed: '30s' }, dedupe: { id: 'id', within: '1h' } }),
      aggregations: [
        count({ windows: ['1h', '24h'] }),
        sum('amount', { windows: ['1h', '24h'] }),
        mean('amount', { windows: ['1h'] }),
        max('amount', { windows: ['24h'] }),
        last('amount', { windows: ['24h'] }),
      ],
    }),
  )
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

interface Served {
  readonly rows: readonly ServedRow[]
  readonly generation: GenerationLayout
}

/** The logs through a stream job, while somebody asks now and then. */
async function serve(plan: Plan, logs: StreamMessage[][], random: Random): Promise<Served> {
  const store = createMemoryStore()
  const group = new ScriptedGroup('payments', logs, random)
  const consumer = new ScriptedConsumer(group)
  const job = await StreamJob.create({
    plans: [plan],
    consumer,
    store,
    namespace: NAMESPACE,
    decoder: createJsonDecoder,
    maxDeadRatio: 1,
    flushMinMs: 1,
    flushMaxMs: 5,
    clock,
    report: () => {},
  })
  await job.start()
  for (const partition of logs.keys()) await group.assign(partition, consumer)
  const rows: ServedRow[] = []
  const log = { share: 1, take: (some: readonly ServedRow[]) => void rows.push(...some) }
  const reader = createFeatureReader({ store, namespace: NAMESPACE, plans: [plan], core: loadCore(), clock, log })
  const open = new Set(logs.keys())
  let delivered = 0
  while (open.size > 0) {
    const partition = [...open][random.below(open.size)]!
    const some = random.between(1, 40)
    if (!(await consumer.deliver(partition, some))) open.delete(partition)
    delivered += some
    if (random.below(3) > 0) await delay(8)
    const reached = START_MS + Math.floor((delivered / 800) * 8 * HOUR_MS)
    const entities = Array.from({ length: 6 }, () => ({ card: `card-${random.below(13)}` }))
    const asOfs = entities.map(() => reached + random.between(-HOUR_MS, 120_000))
    await reader.getFeatures({ view: plan.view, entities, asOfs })
  }
  await job.stop()
  const { generations } = JSON.parse((await store.readLayout(NAMESPACE, plan.view))!) as ViewLayout
  return { rows, generation: generations[0]! }
}

const mirrored = (plan: Plan, logs: readonly StreamMessage[][]) => mirrorLogs(makeFolder(), [plan], 'payments', logs)

function again(plan: Plan, { rows, generation }: Served, mirror: string | undefined): Promise<AsServedAnswer[]> {
  const vectors = rows.map(({ keys, asOfMs, applied }) => ({
    key: encodeKey(plan.state.entity, keys),
    asOfMs,
    applied,
  }))
  return answersAsServed({ plan, generation, vectors, ...(mirror !== undefined && { mirror }) })
}

/** Indexes of the rows whose values are others than those that were served. */
function different({ rows }: Served, answers: readonly AsServedAnswer[]): number[] {
  return [...rows.keys()].filter((i) =>
    [...rows[i]!.answers].some(([feature, { value, status }]) => {
      // How far back a row could answer depended on when it was flushed last, and nothing else of it did.
      if (status === 'too_old') return false
      return !Object.is(value, answers[i]!.values[feature]) || status !== answers[i]!.statuses[feature]
    }),
  )
}

describe.each([
  ['that takes late events', false],
  ['that drops late events and duplicates', true],
])('answers of a view %s', (_, isStrict) => {
  let plan: Plan
  let logs: StreamMessage[][]
  let served: Served
  let random: Random

  beforeAll(async () => {
    console.log(`as served: TILEFOLD_SEED=${SEED}`)
    random = seededRandom(SEED * 10 + Number(isStrict))
    plan = await viewOf(isStrict)
    logs = drawLogs(random)
    served = await serve(plan, logs, random)
  })

  it('come out of the mirror again, bit for bit', async () => {
    const answers = await again(plan, served, await mirrored(plan, logs))
    expect(answers.flatMap(({ missing }) => missing)).toEqual([])
    expect(different(served, answers)).toEqual([])
    const lanes = served.rows.flatMap(({ applied }) => applied.map(({ lane, applied: at }) => `${lane} ${at}`))
    expect(new Set(lanes).size).toBeGreaterThan(10)
    expect(served.rows.filter(({ applied }) => applied.length === 2).length).toBeGreaterThan(20)
    // What the log lets everybody know by its end is not what was known then.
    const end = served.generation.logs.map(({ name }) => ({
      lane: `${name}.0`,
      applied: Number(logs[+name.split('.')[1]!]!.at(-1)!.offset),
    }))
    const known = await again(
      plan,
      { ...served, rows: served.rows.map((row) => ({ ...row, applied: end })) },
      await mirrored(plan, logs),
    )
    expect(different(served, known).length).toBeGreaterThan(0)
    // However early the instant, the rows of the end can answer it: their frontiers were held back.
    expect(known.flatMap(({ statuses }) => statuses)).not.toContain('too_old')
  })

  it('are others when one event moves across the edge of a window', async () => {
    const hits: number[] = []
    for (let i = 0; i < 2_000 && hits.length < 3; i++) {
      const row = served.rows[random.below(served.rows.length)]!
      const moved = moveOne(logs, row)
      if (moved === undefined) continue
      const answers = await again(plan, { ...served, rows: [row] }, await mirrored(plan, moved))
      expect(different({ ...served, rows: [row] }, answers)).toEqual([0])
      hits.push(i)
    }
    expect(hits).toHaveLength(3)
  })

  it('tell which lanes they lack', async () => {
    const whole = await mirrored(plan, logs)
    const cut = logs.map((log, partition) => (partition === 0 ? log.slice(0, 100) : log))
    const answers = await again(plan, served, await mirrored(plan, cut))
    const reached = Number(cut[0]!.at(-1)!.offset)
    for (const [i, { applied }] of served.rows.entries()) {
      const lacking = applied.filter(({ lane, applied: at }) => lane === 'payments.0.0' && at > reached)
      expect(answers[i]!.missing).toEqual(lacking.map(({ lane }) => lane))
    }
    expect(answers.some(({ missing }) => missing.length > 0)).toBe(true)
    expect(different(served, await again(plan, served, whole))).toEqual([])
    await expect(again(plan, served, undefined)).rejects.toMatchObject({ code: 'SOURCE_NOT_FOUND' })
  })
})

/** The logs with one event, which the answer has counted, moved to the answer's instant: there it is not seen. */
function moveOne(logs: readonly StreamMessage[][], row: ServedRow): StreamMessage[][] | undefined {
  if (row.answers.get(0)!.status !== 'ok') return undefined
  for (const { lane, applied } of row.applied) {
    const partition = +lane.split('.')[1]!
    const log = logs[partition]!
    let clockMs = 0
    const at = log.findIndex(({ offset, value, timestamp: recordMs }) => {
      const event = eventOf(value)
      if (event === undefined) return false
      const isInTime = event.at >= clockMs - 30_000
      clockMs = Math.max(clockMs, Math.min(event.at, Number(recordMs)))
      if (!isInTime || Number(offset) > applied || event.card !== row.keys[0]) return false
      // Only one that has no double, so that none takes its place.
      const isOnly = logs.flat().filter((each) => each.value?.includes(`"${event.id}"`)).length === 1
      return isOnly && event.at < row.asOfMs && event.at >= row.asOfMs - HOUR_MS / 2
    })
    if (at < 0) continue
    const message = { ...log[at]!, value: Buffer.from(JSON.stringify({ ...eventOf(log[at]!.value), at: row.asOfMs })) }
    return logs.map((each, i) => (i === partition ? each.with(at, message) : each))
  }
  return undefined
}

function eventOf(
  value: Buffer | null,
): { readonly card: string; readonly at: number; readonly id: string } | undefined {
  const text = value?.toString() ?? ''
  return text.startsWith('{"card":"') && text.includes('"id":') ? JSON.parse(text) : undefined
}
