/**
 * What belongs to a lane, found without an index: SCAN looks at every key of the server. An index of a lane's keys would save that
 * and cost every write: measured with rows of 2 KB, a sorted set takes 3.5 us more per new row (of 9), 0.7 per old one, and 160
 * bytes of memory; and it would be one value of gigabytes, which no server can move to another without stopping.
 */
import type { LaneName, RowRead, StoredRow } from './port.ts'
import type { RedisCalls } from './redis-call.ts'
import type { RedisMaster } from './redis-connection.ts'
import { matchPrefix, type RedisLaneKeys, type RedisNames } from './redis-key.ts'
import { READ_KEYS_MAX, type RedisReads } from './redis-read.ts'
import { describeLane } from './rules.ts'

const SCAN_KEYS = 1_000
/** Pages of each node that are looked through for a sample: some 16 thousand keys, 5 ms of its time. */
const SAMPLE_PAGES = 16

/** In key order; looks at every key of the server before the first row comes. */
export async function* scanRows(calls: RedisCalls, lane: LaneName, keys: RedisLaneKeys): AsyncIterable<StoredRow> {
  const verb = `scan lane ${describeLane(lane)}`
  const found = await scanKeys(calls, verb, keys.rows)
  for (let start = 0; start < found.length; start += READ_KEYS_MAX) {
    const batch = found.slice(start, start + READ_KEYS_MAX)
    const rows = (await calls.send(verb, 'MGET', batch)) as (Buffer | null)[]
    for (const [i, bytes] of rows.entries()) {
      // Expired since.
      if (bytes !== null) yield { key: batch[i]!.subarray(keys.rows.length), bytes }
    }
  }
}

/** Rows among the first keys that each node names; where others have far more keys than these lanes, it may find none. */
export async function sampleRows(
  calls: RedisCalls,
  names: RedisNames,
  reads: RedisReads,
  lanes: readonly LaneName[],
  count: number,
): Promise<StoredRow[]> {
  const lanesByStem = new Map(lanes.map((lane) => [names.of(lane).stem.toString('latin1'), lane]))
  const found: RowRead[] = []
  for await (const page of pages(calls, 'sample rows', commonPrefix([...lanesByStem.keys()]), SAMPLE_PAGES)) {
    for (const key of page) {
      const lane = lanesByStem.get(key.subarray(0, key.indexOf('}') + 1).toString('latin1'))
      const entity = lane && entityOf(key, names.of(lane))
      if (lane && entity) found.push({ lane, key: entity })
    }
    if (found.length >= count) break
  }
  const rows: StoredRow[] = []
  const asked = found.slice(0, count)
  await reads.read(asked, (index, bytes) => {
    // Expired since.
    if (bytes !== undefined) rows.push({ key: asked[index]!.key, bytes: new Uint8Array(bytes) })
  })
  return rows
}

function entityOf(key: Buffer, { rows }: RedisLaneKeys): Buffer | undefined {
  return key.subarray(0, rows.length).equals(rows) ? key.subarray(rows.length) : undefined
}

function commonPrefix([first = '', ...others]: readonly string[]): Buffer {
  let length = first.length
  for (const other of others) {
    while (!other.startsWith(first.slice(0, length))) length--
  }
  return Buffer.from(first.slice(0, length), 'latin1')
}

/** Drops everything of a lane; returns the number of keys. */
export async function deleteLane(calls: RedisCalls, lane: LaneName, keys: RedisLaneKeys): Promise<number> {
  const verb = `delete lane ${describeLane(lane)}`
  const found = await scanKeys(calls, verb, keys.stem)
  // The record last: a lane without one that still has rows would look new.
  const ordered = [...found.filter((key) => !key.equals(keys.record)), keys.record]
  let deleted = 0
  for (let start = 0; start < ordered.length; start += READ_KEYS_MAX) {
    deleted += (await calls.send(verb, 'UNLINK', ordered.slice(start, start + READ_KEYS_MAX))) as number
  }
  return deleted
}

/** Every key with a prefix, in order, each once; a server may name one twice, and two nodes while its slot moves. */
async function scanKeys(calls: RedisCalls, verb: string, prefix: Buffer): Promise<Buffer[]> {
  const found: Buffer[] = []
  for await (const page of pages(calls, verb, prefix)) found.push(...page)
  found.sort(Buffer.compare)
  return found.filter((key, i) => i === 0 || !key.equals(found[i - 1]!))
}

/**
 * Keys with a prefix, as SCAN gives them: in no order, some twice, at times none. Others get a turn between two pages. A Cluster
 * whose masters or slots have changed meanwhile is looked through once more, so that no key is missed; only one that moves
 * from node to node at that very moment may be.
 */
export async function* pages(
  calls: RedisCalls,
  verb: string,
  prefix: Buffer,
  pagesMax = Number.POSITIVE_INFINITY,
): AsyncIterable<Buffer[]> {
  // Asked when the connection stands: before, a Cluster knows no nodes.
  const ask = () => calls.attempt(verb, () => calls.connection.masters())
  for (let masters = await ask(); ; ) {
    for (const { id } of masters) yield* pagesOf(calls, verb, prefix, pagesMax, id, masters)
    const after = await ask()
    if (pagesMax !== Number.POSITIVE_INFINITY || describeMasters(after) === describeMasters(masters)) return
    masters = after
  }
}

/** The pages of one master; those of one that is a master no longer end early. */
async function* pagesOf(
  calls: RedisCalls,
  verb: string,
  prefix: Buffer,
  pagesMax: number,
  id: string,
  masters: readonly RedisMaster[],
): AsyncIterable<Buffer[]> {
  const pattern = matchPrefix(prefix)
  let cursor = '0'
  let master = masters.find((each) => each.id === id)
  for (let page = 0; page < pagesMax; page++) {
    const reply = await calls.attempt(verb, async (attempt) => {
      // It may be gone, or its connection may.
      if (attempt > 0) master = (await calls.connection.masters()).find((each) => each.id === id)
      return master?.send('SCAN', [cursor, 'MATCH', pattern, 'COUNT', `${SCAN_KEYS}`])
    })
    if (reply === undefined) return
    const [next, keys] = reply as [Buffer, Buffer[]]
    yield keys
    cursor = next.toString()
    if (cursor === '0') return
  }
}

function describeMasters(masters: readonly RedisMaster[]): string {
  return masters.map(({ id, slots }) => `${id} ${slots}`).join('\n')
}
