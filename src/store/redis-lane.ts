/**
 * What a lane's owner does in Redis: take it, read its record and rows, write. Each is one script, judged there. A command that is
 * on its way may still arrive after its caller was told that it failed: what it carries is a copy (redis-request.ts).
 */
import { unpackRows } from '../model/packed-rows.ts'
import type { LaneName, LaneRecord, LaneToken, LaneWrite, LedgerSegment, StoredRow, WriteOutcome } from './port.ts'
import { type RedisCalls, runScript } from './redis-call.ts'
import { type CatalogueChange, catalogueOf, changeCatalogue, missingSegment } from './redis-catalogue.ts'
import type { RedisCheckpoints } from './redis-checkpoint.ts'
import { type RedisNames, rowKey, segmentKey } from './redis-key.ts'
import { READ_KEYS_MAX } from './redis-read.ts'
import { scriptRequest } from './redis-request.ts'
import { READ_OWN_ROWS, RECORD_FIELDS, recordOf, TAKE_LANE, WRITE } from './redis-script.ts'
import { appliedOf, describeLane, judgeRead, judgeWrite } from './rules.ts'

export class RedisLanes {
  readonly #calls: RedisCalls
  readonly #names: RedisNames
  readonly #checkpoints: RedisCheckpoints
  readonly #expiryMs: (lane: LaneName) => number | undefined

  constructor(
    calls: RedisCalls,
    names: RedisNames,
    checkpoints: RedisCheckpoints,
    expiryMs: (lane: LaneName) => number | undefined = () => undefined,
  ) {
    this.#calls = calls
    this.#names = names
    this.#checkpoints = checkpoints
    this.#expiryMs = expiryMs
  }

  async take(lane: LaneName, nonce: string): Promise<LaneRecord> {
    const name = describeLane(lane)
    const reply = await this.#calls.run(`take lane ${name}`, TAKE_LANE, [this.#names.of(lane).record], [nonce])
    return recordIn(reply, name)!
  }

  async read(lane: LaneName): Promise<LaneRecord | undefined> {
    const name = describeLane(lane)
    // The owner's script without rows: one way to read a record.
    const reply = await this.#calls.run(`read lane ${name}`, READ_OWN_ROWS, [this.#names.of(lane).record], [])
    return recordIn(reply, name)
  }

  async write(lane: LaneName, token: LaneToken, sequence: number, change: LaneWrite): Promise<WriteOutcome> {
    const name = describeLane(lane)
    const rows = unpackRows(change.rows ?? [])
    for (;;) {
      const seen = await this.#checkpoints.catalogueFor(lane, change)
      let catalogue: CatalogueChange | undefined
      try {
        catalogue = changeCatalogue(catalogueOf(seen), change, name)
      } catch (error) {
        // What we remember may be older than another owner's write: whoever lost the lane has to hear that instead.
        const verdict = judgeWrite(await this.read(lane), token, sequence)
        if (verdict !== 'write') return verdict === 'landed' ? 'ok' : verdict
        if (seen.equals(await this.#checkpoints.readCatalogue(lane))) throw error
        continue
      }
      const [scriptKeys, values] = this.#writeArguments(lane, token, sequence, change, rows, seen, catalogue)
      const reply = await this.#calls.run(`write lane ${name}`, WRITE, scriptKeys, values)
      const [answer, detail] = reply as [Buffer, Buffer | number | undefined]
      const outcome = answer.toString()
      if (outcome === 'stale') {
        this.#checkpoints.remember(lane, detail as Buffer)
        continue
      }
      if (outcome === 'missing') throw missingSegment(catalogue!.needed[Number(detail) - 1]!, name)
      if (outcome === 'ok' && catalogue !== undefined) this.#checkpoints.remember(lane, catalogue.catalogue)
      return outcome as WriteOutcome
    }
  }

  async readLedger(lane: LaneName): Promise<LedgerSegment[]> {
    const reply = await this.#calls.send(`read the ledger of lane ${describeLane(lane)}`, 'HGETALL', [
      this.#names.of(lane).ledger,
    ])
    const fields = reply as Buffer[]
    const segments = Array.from({ length: fields.length / 2 }, (_, i) => ({
      number: Number(fields[2 * i]!.toString()),
      bytes: fields[2 * i + 1]!,
    }))
    return segments.sort((a, b) => a.number - b.number)
  }

  async readOwnRows(
    lane: LaneName,
    token: LaneToken,
    sequence: number,
    entities: readonly Uint8Array[],
    sink: (index: number, bytes: Uint8Array | undefined) => void,
  ): Promise<WriteOutcome> {
    const keys = this.#names.of(lane)
    const name = describeLane(lane)
    const batches: Buffer[][] = [[]]
    for (const entity of entities) {
      if (batches.at(-1)!.length === READ_KEYS_MAX) batches.push([])
      batches.at(-1)!.push(rowKey(keys, entity))
    }
    // Each batch comes with the record: one step for its rows, and nobody but us moves the record on in between.
    const { connection } = this.#calls
    const requests = batches.map((batch) => scriptRequest(READ_OWN_ROWS, [keys.record, ...batch], []))
    const replies = await this.#calls.attempt(`read rows of lane ${name}`, () =>
      Promise.all(requests.map((request) => runScript(connection, request))),
    )
    for (const [i, reply] of (replies as (Buffer | null)[][]).entries()) {
      const verdict = judgeRead(recordIn(reply.slice(0, RECORD_FIELDS), name), token, sequence)
      if (verdict !== 'ok') return verdict
      for (let j = 0; j < batches[i]!.length; j++) sink(i * READ_KEYS_MAX + j, reply[RECORD_FIELDS + j] ?? undefined)
    }
    return 'ok'
  }

  /** What WRITE takes; the order of the keys is the order in which it names them. */
  #writeArguments(
    lane: LaneName,
    token: LaneToken,
    sequence: number,
    { flushingTo = -1, marker, layoutVersion = 0, erased = 0, ledger }: LaneWrite,
    rows: readonly StoredRow[],
    seen: Buffer,
    catalogue: CatalogueChange | undefined,
  ): [Buffer[], (string | Uint8Array)[]] {
    const keys = this.#names.of(lane)
    const segments = [...(catalogue?.fresh.keys() ?? [])]
    const [needed, dropped] = [catalogue?.needed ?? [], catalogue?.dropped ?? []]
    const expiryMs = this.#expiryMs(lane)
    return [
      [
        keys.record,
        keys.catalogue,
        keys.ledger,
        ...rows.map(({ key }) => rowKey(keys, key)),
        ...[...segments, ...needed, ...dropped].map((hash) => segmentKey(keys, hash)),
      ],
      [
        `${token.counter}`,
        token.nonce,
        `${sequence}`,
        `${flushingTo}`,
        marker === undefined ? '' : `${marker.position}`,
        marker?.hash ?? '',
        `${layoutVersion}`,
        `${lowestApplied(rows)}`,
        expiryMs === undefined ? '' : `${Math.max(1, Math.ceil(expiryMs))}`,
        `${rows.length}`,
        `${segments.length}`,
        `${needed.length}`,
        catalogue === undefined ? '' : seen,
        catalogue?.catalogue ?? '',
        `${erased}`,
        ledger === undefined ? '' : `${ledger.number}`,
        ledger === undefined ? '' : ledger.bytes,
        ...rows.map(({ bytes }) => bytes),
        ...segments.map((hash) => catalogue!.fresh.get(hash)!),
        ...(ledger?.dropped ?? []).map((number) => `${number}`),
      ],
    ]
  }
}

function lowestApplied(rows: readonly StoredRow[]): number {
  let lowest = Number.MAX_SAFE_INTEGER
  for (const { bytes } of rows) lowest = Math.min(lowest, appliedOf(bytes))
  return lowest
}

function recordIn(reply: unknown, name: string): LaneRecord | undefined {
  return recordOf(reply as (Buffer | null)[], `the record of lane ${name}`)
}
