/**
 * A live stream that is asked while it runs: job, reader, log of answers and mirror over the same topic, all of it as it runs in
 * production but for the broker, in one folder.
 */
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { loadCore } from '../../src/engine/module.ts'
import type { Plan } from '../../src/model/plan.ts'
import { ServedLogWriter } from '../../src/offline/served-log.ts'
import { createFeatureReader, type FeatureReader } from '../../src/serve/reader.ts'
import type { ServedRow } from '../../src/serve/served.ts'
import { createJsonDecoder } from '../../src/source/json-messages.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import type { Store } from '../../src/store/port.ts'
import { StreamJob } from '../../src/stream/job.ts'
import type { Random } from '../support/random.ts'
import { ScriptedConsumer, ScriptedGroup } from './mirror-scene.ts'

export interface LiveOptions {
  readonly plans: readonly Plan[]
  readonly topic: string
  readonly logs: readonly StreamMessage[][]
  readonly random: Random
  readonly store: Store
  readonly namespace: string
  /** The log of answers goes to `served`, the mirror to `mirror` in it. */
  readonly folder: string
  readonly messagesAtOnce: number
  readonly ledgerMs?: number
  /** Asks as of whatever it likes; `nowMs` is the newest record's time. Everything delivered is readable where `isSettled`. */
  ask(reader: FeatureReader, nowMs: number, isSettled: boolean): Promise<void>
}

/** Delivers everything, asking behind each delivery; then what was served, as the reader told it. */
export async function serveLive(options: LiveOptions): Promise<ServedRow[]> {
  const { plans, topic, logs, random, store, namespace, folder, ledgerMs } = options
  let nowMs = 0
  const clock = () => nowMs
  const consumer = new ScriptedConsumer(new ScriptedGroup(topic, logs, random))
  const stored = new Map<number, number>()
  const job = await StreamJob.create({
    plans,
    consumer,
    store,
    namespace,
    decoder: createJsonDecoder,
    maxDeadRatio: 1,
    flushMinMs: 1,
    flushMaxMs: 5,
    clock,
    ...(ledgerMs === undefined ? {} : { ledgerMs }),
    onStored: (_, partition, position) => stored.set(partition, position),
    report: () => {},
  })
  await job.start()
  const group = new Map<number, { readonly log: readonly StreamMessage[]; delivered: number }>()
  for (const [partition, log] of logs.entries()) {
    nowMs = Math.max(nowMs, Number(log[0]!.timestamp))
    await consumer.gain(partition)
    group.set(partition, { log, delivered: 0 })
  }
  const rows: ServedRow[] = []
  const writer = openServedLog(join(folder, 'served'), clock)
  const log = {
    share: 1,
    take(some: readonly ServedRow[]) {
      rows.push(...some)
      writer.take(some)
    },
  }
  const reader = createFeatureReader({ store, namespace, plans, core: loadCore(), clock, log })
  const isStored = () =>
    [...group].every(([partition, { log, delivered }]) => {
      const last = log[delivered - 1]
      return last === undefined || (stored.get(partition) ?? 0) > Number(last.offset)
    })
  for (const open = new Set(group.keys()); open.size > 0; ) {
    const partition = [...open][random.below(open.size)]!
    const own = group.get(partition)!
    const some = own.log.slice(own.delivered, own.delivered + random.between(1, options.messagesAtOnce))
    if (!(await consumer.deliver(partition, some.length))) open.delete(partition)
    own.delivered += some.length
    if (own.delivered === own.log.length) open.delete(partition)
    for (const { timestamp } of some) nowMs = Math.max(nowMs, Number(timestamp))
    const isSettled = random.below(2) === 0
    for (let turn = 0; isSettled && !isStored() && turn < 2_000; turn++) await delay(2)
    // A flush is recorded as of the millisecond behind it.
    nowMs += 5
    await options.ask(reader, nowMs, isSettled && isStored())
  }
  await job.stop()
  await writer.close()
  return rows
}

export function openServedLog(directory: string, clock: () => number): ServedLogWriter {
  return new ServedLogWriter({
    directory,
    share: 1,
    intervalMs: 3_600_000,
    clock,
    metrics: { servedLogged: () => {} },
    onFault: (cause) => {
      throw cause
    },
  })
}
