/**
 * The server as a whole: which views and lanes there are, and lanes that go. Without an index every key is looked at, once for
 * any number of lanes; each step is one page of SCAN, so that others get a turn.
 */
import type { DropStep, LaneName, LaneSize, TakenLane } from './port.ts'
import type { RedisCalls } from './redis-call.ts'
import { laneOfKey, lanesPrefix, layoutsPrefix, type RedisNames, viewOfKey } from './redis-key.ts'
import { READ_KEYS_MAX } from './redis-read.ts'
import { pages } from './redis-scan.ts'
import { DROP } from './redis-script.ts'
import { describeLane } from './rules.ts'

export async function listViews(calls: RedisCalls, namespace: string): Promise<string[]> {
  const views = new Set<string>()
  for await (const page of pages(calls, `list the views of ${namespace}`, layoutsPrefix(namespace))) {
    for (const key of page) views.add(viewOfKey(key, namespace))
  }
  return [...views].sort()
}

/** A key that SCAN names twice is counted twice: sizes are for people. */
export async function listLanes(calls: RedisCalls, names: RedisNames, namespace: string): Promise<LaneSize[]> {
  const verb = `list the lanes of ${namespace}`
  const found = new Map<string, { lane: LaneName; rows: number; bytes: number }>()
  for await (const page of pages(calls, verb, lanesPrefix(namespace))) {
    const sizes: Promise<void>[] = []
    for (const key of page) {
      const named = laneOfKey(key)
      if (named === undefined) continue
      const text = describeLane(named.lane)
      const size = found.get(text) ?? { lane: named.lane, rows: 0, bytes: 0 }
      found.set(text, size)
      if (!isRow(key, names.of(size.lane).rows)) continue
      size.rows++
      sizes.push(
        calls.send(verb, 'STRLEN', [key]).then((bytes) => {
          size.bytes += bytes as number
        }),
      )
    }
    await Promise.all(sizes)
  }
  return [...found.values()].sort((a, b) => (describeLane(a.lane) < describeLane(b.lane) ? -1 : 1))
}

export async function* dropLanes(
  calls: RedisCalls,
  names: RedisNames,
  lanes: readonly TakenLane[],
): AsyncIterable<DropStep> {
  const open = new Map(lanes.map((taken) => [describeLane(taken.lane), taken]))
  const namespaces = new Set(lanes.map(({ lane }) => lane.namespace))
  // Checkpoints first: whoever finds half a lane, a crash of ours later, stops without one instead of going on with half of the rows.
  for (const [text, taken] of open) {
    const step = await drop(calls, names, taken, [names.of(taken.lane).catalogue])
    if (step.end === 'taken') open.delete(text)
    if (step.keys > 0 || step.end !== undefined) yield step
  }
  for (const namespace of namespaces) {
    for await (const page of pages(calls, `drop lanes of ${namespace}`, lanesPrefix(namespace))) {
      const byLane = new Map<TakenLane, Buffer[]>()
      for (const key of page) {
        const named = laneOfKey(key)
        const taken = named && open.get(describeLane(named.lane))
        // The record last: a lane without one that still has rows would look new.
        if (taken === undefined || key.equals(names.of(taken.lane).record)) continue
        byLane.set(taken, [...(byLane.get(taken) ?? []), key])
      }
      for (const [taken, keys] of byLane) {
        const step = await drop(calls, names, taken, keys)
        if (step.end === 'taken') open.delete(describeLane(taken.lane))
        yield step
      }
    }
  }
  for (const taken of open.values()) {
    const step = await drop(calls, names, taken, [names.of(taken.lane).record])
    yield step.end === undefined ? { ...step, end: 'gone' } : step
  }
}

async function drop(
  calls: RedisCalls,
  names: RedisNames,
  taken: TakenLane,
  keys: readonly Buffer[],
): Promise<DropStep> {
  const { lane, token } = taken
  let dropped = 0
  for (let start = 0; start < keys.length; start += READ_KEYS_MAX) {
    const some = keys.slice(start, start + READ_KEYS_MAX)
    const reply = (await calls.run(
      `drop lane ${describeLane(lane)}`,
      DROP,
      [names.of(lane).record, ...some],
      [`${token.counter}`, token.nonce],
    )) as number
    if (reply < 0) return { lane, keys: dropped, end: 'taken' }
    dropped += reply
  }
  return { lane, keys: dropped }
}

function isRow(key: Buffer, prefix: Buffer): boolean {
  return key.subarray(0, prefix.length).equals(prefix)
}
