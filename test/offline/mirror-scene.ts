/** What the mirror's tests share: a log with everything a log may hold, its replay into rows, and a look into a directory. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { count, defineView, float64, last, sum, timestamp, utf8 } from '../../src/define/dsl.ts'
import { loadCore } from '../../src/engine/module.ts'
import { Ingest } from '../../src/ingest/ingest.ts'
import type { ColumnBatch } from '../../src/model/columns.ts'
import type { Plan } from '../../src/model/plan.ts'
import { Mirror, type MirrorOptions } from '../../src/offline/mirror.ts'
import type { MirrorLimits } from '../../src/offline/mirror-run.ts'
import { createJsonDecoder } from '../../src/source/json-messages.ts'
import { createMirrorSource, readMirror } from '../../src/source/mirror.ts'
import { checkMirror } from '../../src/source/mirror-check.ts'
import type { RejectedRecord } from '../../src/source/port.ts'
import { hashOf } from '../../src/source/record-hash.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { Store } from '../../src/store/port.ts'
import { StreamJob, type StreamJobOptions } from '../../src/stream/job.ts'
import { duck } from '../source/support.ts'
import { drawPayments, messageOf, NAMESPACE, START_MS } from '../stream/payments.ts'
import { ScriptedConsumer, ScriptedGroup } from '../stream/scripted-group.ts'
import { type Random, seededRandom } from '../support/random.ts'

export const SMALL: MirrorLimits = {
  rowGroupRows: 40,
  rowGroupBytes: 1 << 20,
  fileRows: 150,
  fileBytes: 1 << 20,
  fileAgeMs: 600_000,
}

export function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'tilefold-mirror-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Payments in log order, among them records that nobody can read, tombstones, events of the future, and holes. */
export function drawLog(random: Random, events: number, firstOffset = 0): StreamMessage[] {
  let offset = firstOffset
  return drawPayments(random, events, 12, 3).map((payment) => {
    offset += random.below(10) === 0 ? 1 + random.below(4) : 1
    const message = messageOf(payment, offset)
    switch (random.below(25)) {
      case 0:
        return { ...message, value: Buffer.from('{"card": 7, "at":') }
      case 1:
        return { ...message, value: null }
      case 2:
        return { ...message, value: Buffer.from([0x7b, 0xff, 0xfe, 0x7d]), key: null }
      case 3:
        return { ...message, value: Buffer.from(`{"card":"card-1","at":${START_MS},"amount":"much"}`) }
      case 4:
        return { ...message, value: Buffer.from(`{"at":${payment.at}}`) }
      case 5:
        return { ...messageOf({ ...payment, at: payment.at + 400 * 86_400_000 }, offset), timestamp: `${payment.at}` }
      default:
        return { ...message, timestamp: String(payment.at + random.below(60_000)) }
    }
  })
}

/** Verdicts depend on the order of the log: late events are dropped, and an amount within an hour counts once. */
export function strictView(name: string): Promise<Plan> {
  return compileView(
    defineView({
      name,
      source: { name: 'payments', columns: { card: utf8(), at: timestamp('ms'), amount: float64(), id: utf8() } },
      entity: 'card',
      time: 'at',
      lateness: { policy: 'drop', allowed: '30s' },
      dedupe: { id: 'id', within: '1h' },
      aggregations: [
        count({ windows: ['1h', '24h'] }),
        sum('amount', { windows: ['1h', '24h'] }),
        last('amount', { windows: ['24h'] }),
      ],
    }),
  )
}

/** With ids, of which some come again. */
export function drawStrictLog(random: Random, events: number, firstOffset: number): StreamMessage[] {
  return drawLog(random, events, firstOffset).map((message) => {
    const text = message.value?.toString() ?? ''
    if (!text.endsWith('}') || !text.startsWith('{"card"')) return message
    return { ...message, value: Buffer.from(`${text.slice(0, -1)},"id":"e${random.below(events)}"}`) }
  })
}

export interface Replay {
  /** Stored rows by entity, in hex. */
  readonly rows: Map<string, string>
  readonly counters: object
  readonly marker: { readonly position: number; readonly hash: string }
  readonly rejected: readonly RejectedRecord[]
}

/** The log through the walk, as the stream takes it. */
export function replayTopic(plan: Plan, log: readonly StreamMessage[], batchSize = 64): Promise<Replay> {
  return replay(plan, async function* (reject) {
    const decoder = createJsonDecoder({ inputs: plan.state.inputs, onReject: reject })
    for (let from = 0; from < log.length; from += batchSize) {
      const messages = log.slice(from, from + batchSize)
      const batch = decoder.decode(messages)
      if (batch.length === 0) continue
      const last = (batch.positions as Float64Array)[batch.length - 1]!
      yield { batch, hash: hashOf(messages.find(({ offset }) => +offset === last)!) }
    }
  })
}

export function replayMirror(plan: Plan, dir: string, topic: string, partition: number, more = {}): Promise<Replay> {
  return replay(plan, (onReject) =>
    readMirror({ dir, topic, partition, inputs: plan.state.inputs, onReject, batchRows: 33, ...more }),
  )
}

type Batches = AsyncIterable<{ readonly batch: ColumnBatch; readonly hash: string }>

async function replay(plan: Plan, read: (reject: (record: RejectedRecord) => void) => Batches): Promise<Replay> {
  const store = createMemoryStore()
  const { view, state, stateHash } = plan
  const name = { namespace: 'replay', stateHash, generation: 1 }
  const spec = { view, state, ...name, log: 'log', lanes: ['log.0'], shard: 0, shards: 1, notAfterMs: 0 }
  const ingest = await Ingest.open(
    { ...spec, completeSinceMs: 0, layoutVersion: 1, deltaBytesMax: 1 << 30, isHistory: true },
    { store, core: loadCore(), clock: () => START_MS * 2, nonce: 'replay' },
  )
  const rejected: RejectedRecord[] = []
  for await (const { batch, hash } of read((record) => rejected.push(record))) await ingest.push(batch, hash)
  await ingest.flush()
  const rows = new Map<string, string>()
  for await (const { key, bytes } of store.scanRows({ ...name, lane: 'log.0' })) {
    rows.set(Buffer.from(key).toString('hex'), Buffer.from(bytes).toString('hex'))
  }
  return { rows: new Map([...rows].sort()), counters: ingest.counters, marker: ingest.marker, rejected }
}

/** A mirror over a scripted group, and its consumer. */
export function startMirror(group: ScriptedGroup, options: Omit<MirrorOptions, 'consumer'>) {
  const consumer = new ScriptedConsumer(group)
  const mirror = new Mirror({ limits: SMALL, engine: 'test', ...options, consumer })
  return { consumer, mirror }
}

export interface MirrorLogsOptions {
  readonly limits?: MirrorLimits
  /** Messages of a delivery, at most. */
  readonly atOnce?: number
}

/** Mirrors whole logs of a topic into `dir`, in deliveries of drawn sizes; `dir`. */
export async function mirrorLogs(
  dir: string,
  plans: readonly Plan[],
  topic: string,
  logs: readonly (readonly StreamMessage[])[],
  { limits = SMALL, atOnce = 90 }: MirrorLogsOptions = {},
): Promise<string> {
  const random = seededRandom(1)
  const group = new ScriptedGroup(topic, logs as StreamMessage[][], random)
  const clock = () => Number(logs[0]!.at(-1)!.timestamp)
  const { consumer, mirror } = startMirror(group, { dir, plans, clock, limits })
  await mirror.start()
  for (const partition of logs.keys()) {
    await group.assign(partition, consumer)
    while (await consumer.deliver(partition, random.between(1, atOnce))) {}
  }
  await mirror.stop()
  return dir
}

/** Whole logs of payments through a stream job into the tests' namespace; no partition may stop. */
export async function streamLogs(
  store: Store,
  plans: readonly Plan[],
  logs: readonly StreamMessage[][],
  more: Partial<StreamJobOptions> = {},
): Promise<void> {
  const group = new ScriptedGroup('payments', logs, seededRandom(3))
  const consumer = new ScriptedConsumer(group)
  const stops: string[] = []
  const job = await StreamJob.create({
    plans,
    consumer,
    store,
    namespace: NAMESPACE,
    decoder: createJsonDecoder,
    clock: () => START_MS * 2,
    flushMaxMs: 3_600_000,
    report: ({ event, code }) => {
      if (event === 'stopped') stops.push(`${code}`)
    },
    ...more,
  })
  await job.start()
  for (const partition of logs.keys()) {
    await group.assign(partition, consumer)
    while (await consumer.deliver(partition, 60)) {}
  }
  await job.stop()
  expect(stops).toEqual([])
}

/** Everything that the log holds is in exactly one file, as DuckDB sees the directory, and nothing is left in `_tmp`. */
export async function expectWhole(dir: string, topic: string, logs: readonly (readonly StreamMessage[])[]) {
  const [partitions, offsets, times, keys] = await duck(
    `SELECT _partition, _offset, epoch_ms(_record_ts), hex(_key)
     FROM read_parquet('${dir}/events/${topic}/**/*.parquet', hive_partitioning = true) ORDER BY _partition, _offset`,
  )
  const expected = logs.flatMap((log, partition) => log.map((message) => ({ partition, ...message })))
  expect(offsets!.map((offset, i) => `${partitions![i]}:${offset}`)).toEqual(
    expected.map(({ partition, offset }) => `${partition}:${offset}`),
  )
  expect(times!.map(String)).toEqual(expected.map(({ timestamp }) => timestamp))
  expect(keys).toEqual(expected.map(({ key }) => key?.toString('hex').toUpperCase() ?? null))
  for (const [partition, log] of logs.entries()) {
    if (log.length === 0) continue
    const files = await checkMirror(dir, topic, partition)
    expect(files.at(-1)!.entry.facts.end).toBe(Number(log.at(-1)!.offset))
  }
  expect(readdirSync(join(dir, '_tmp'))).toEqual([])
}

export { createMirrorSource, ScriptedConsumer, ScriptedGroup }
