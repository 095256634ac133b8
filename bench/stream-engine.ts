/**
 * What our own code costs per event, without kafkajs and the decoding of JSON: messages from memory through a PartitionRun,
 * less the decoder alone on the same messages, in CPU time of this process. Flushes are a line of their own: the same with a
 * flush each second, less the run without; into memory, and into Redis with all that ioredis does.
 */
import { loadCore } from '../src/engine/module.ts'
import { IngestPool } from '../src/ingest/pool.ts'
import type { Plan } from '../src/model/plan.ts'
import { NO_WORKER_METRICS } from '../src/observe/port.ts'
import { openGeneration } from '../src/registry/layouts.ts'
import { createJsonDecoder } from '../src/source/json-messages.ts'
import type { StreamMessage } from '../src/source/stream.ts'
import { createMemoryStore } from '../src/store/memory.ts'
import type { Store } from '../src/store/port.ts'
import { PartitionRun } from '../src/stream/partition.ts'
import { freshNamespace } from '../test/support/redis.ts'
import { judge, type Row, timesRow } from './contest.ts'
import { type EventMaker, PER_SECOND, SOURCE, streamPlan } from './stream-events.ts'
import type { Servers } from './stream-servers.ts'

/** What kafkajs gives in a batch of 1 MiB. */
const BATCH_MESSAGES = 4_500
const FLUSH_MS = 1_000
const BUDGET_NS = 500

export async function timeEngine({ store, settings, rounds }: Servers, maker: EventMaker, events: number) {
  const plan = await streamPlan()
  const messages = messagesOf(maker, events)
  const arms = {
    decode: () => decodeAll(plan, messages),
    fold: () => runAll(plan, createMemoryStore(), messages, false),
    memory: () => runAll(plan, createMemoryStore(), messages, true),
    redis: () => runAll(plan, store, messages, true),
  }
  const names = Object.keys(arms) as (keyof typeof arms)[]
  const cpu = { decode: [] as number[], fold: [] as number[], memory: [] as number[], redis: [] as number[] }
  // The first turn warms up.
  for (let turn = 0; turn <= rounds; turn++) {
    const first = turn % names.length
    for (const name of [...names.slice(first), ...names.slice(0, first)]) {
      const counted = await arms[name]()
      if (turn > 0) cpu[name].push(counted.cpuNs / events)
      if (counted.events !== events) throw new Error(`cannot time ${name}: got ${counted.events}, expected ${events}`)
    }
  }

  const title = `engine: CPU per event, ${events} messages from memory, ${maker.keys.length} Zipf keys; share of 0.5 µs`
  const contest = { claim: 'stream', title, unit: 'event' }
  const less = (all: readonly number[], part: readonly number[]) => all.map((ns, turn) => ns - part[turn]!)
  const fold = less(cpu.fold, cpu.decode)
  const rows: Row[] = [
    {
      ...timesRow(contest, 'tilefold without decoding and flush', fold),
      ...judge(
        fold.map((ns) => ns / BUDGET_NS),
        'share',
        { kind: 'share', limit: 1 },
      ),
    },
    timesRow(contest, 'decoding of JSON', cpu.decode),
    timesRow(contest, 'flush each second into memory', less(cpu.memory, cpu.fold)),
    timesRow(contest, 'flush each second into Redis, with ioredis', less(cpu.redis, cpu.fold)),
  ]
  settings.emit(rows)
}

function messagesOf(maker: EventMaker, events: number): StreamMessage[] {
  return maker.makeAll(events, (events / PER_SECOND) * 1000, Date.now()).map(({ value, timestamp }, i) => ({
    key: null,
    value: Buffer.from(value),
    timestamp,
    offset: `${i}`,
  }))
}

interface Counted {
  readonly cpuNs: number
  readonly events: number
}

async function decodeAll(plan: Plan, messages: readonly StreamMessage[]): Promise<Counted> {
  const decoder = createJsonDecoder({ inputs: plan.state.inputs, onReject: refuse })
  const start = process.cpuUsage()
  let events = 0
  for (let i = 0; i < messages.length; i += BATCH_MESSAGES) {
    events += decoder.decode(messages.slice(i, i + BATCH_MESSAGES)).length
    await breath()
  }
  return { cpuNs: cpuSince(start), events }
}

/** `flushes`: each second and at the end; else never. */
async function runAll(
  plan: Plan,
  store: Store,
  messages: readonly StreamMessage[],
  flushes: boolean,
): Promise<Counted> {
  const seat = { store, namespace: freshNamespace() }
  await openGeneration(seat, plan)
  const pool = new IngestPool({ threads: 0, store, clock: Date.now, core: loadCore() })
  let failure: unknown
  const flushMs = flushes ? FLUSH_MS : 2 ** 31 - 1
  const run = await PartitionRun.open(
    {
      topic: SOURCE,
      partition: 0,
      plans: [plan],
      seatOf: () => seat,
      pool,
      decoder: createJsonDecoder,
      deadLetters: undefined,
      isRouted: false,
      keyed: false,
      maxDeadRatio: 0,
      flushMinMs: flushMs,
      flushMaxMs: flushMs,
      deltaBytesMax: Number.MAX_SAFE_INTEGER,
      clock: Date.now,
      metrics: NO_WORKER_METRICS,
      onFlushed: () => {},
      onFailed: (_, error) => {
        failure = error
      },
    },
    { first: 0, next: messages.length, compacted: false, partitions: 1 },
  )
  const start = process.cpuUsage()
  for (let i = 0; i < messages.length; i += BATCH_MESSAGES) {
    await run.take(messages.slice(i, i + BATCH_MESSAGES), messages.length)
    await breath()
  }
  if (flushes) await run.flush()
  const cpuNs = cpuSince(start)
  const { counters } = run.handles[0]!.status
  await run.close(false)
  await pool.close()
  if (failure !== undefined) throw failure
  return { cpuNs, events: counters.applied }
}

/** Timers and the network get their turn, as they do between the batches of kafkajs. */
function breath(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

function cpuSince(start: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(start)
  return (user + system) * 1000
}

function refuse({ message }: { readonly message: string }): never {
  throw new Error(`cannot time decoding: ${message}`)
}
