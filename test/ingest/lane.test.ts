import { describe, expect, it } from 'vitest'
import { LaneOwner, type LaneOwnerOptions } from '../../src/ingest/lane.ts'
import { TilefoldError } from '../../src/model/errors.ts'
import { createMemoryStore, type MemoryStore } from '../../src/store/memory.ts'
import { SEGMENT_BYTES_MAX, type Store, type StoredRow } from '../../src/store/port.ts'
import { appliedOf } from '../../src/store/rules.ts'
import { LANE, readOne, rowOf, rowsOf } from '../store/suite.ts'

const text = new TextEncoder()
let nonces = 0

function acquire(store: MemoryStore, options: Partial<LaneOwnerOptions> = {}): Promise<LaneOwner> {
  return LaneOwner.acquire({
    store,
    lane: LANE,
    nonce: `n${nonces++}`,
    layoutVersion: 1,
    retryDelaysMs: [],
    ...options,
  })
}

/** A whole flush: rows, marker, and a checkpoint whose one segment tells its position. */
async function flush(owner: LaneOwner, position: number, rows: StoredRow[], withCheckpoint = true): Promise<void> {
  owner.beginFlush(position)
  await owner.writeRows(rows)
  await owner.endFlush(position, `hash ${position}`, withCheckpoint ? [Uint8Array.of(position)] : undefined)
}

function bound(store: Store, name: keyof Store): unknown {
  const member = store[name]
  return typeof member === 'function' ? member.bind(store) : member
}

describe('taking a lane', () => {
  it('starts an untouched one at the beginning of its log', async () => {
    const owner = await acquire(createMemoryStore())
    expect(owner.checkpoint).toBeUndefined()
    expect(owner.replayUntil).toBe(-1)
    expect(owner.record).toMatchObject({ marker: -1, flushingTo: -1, sequence: 0 })
  })

  it('starts from the newest checkpoint at or before the marker and says up to where rows may be ahead', async () => {
    const store = createMemoryStore()
    const first = await acquire(store)
    await flush(first, 10, [rowOf('k', 10)])
    await flush(first, 20, [rowOf('k', 20)], false)
    first.beginFlush(30)
    await first.writeRows([rowOf('k', 30)])
    const second = await acquire(store)
    expect(second.checkpoint).toEqual({ position: 10, segments: [Uint8Array.of(10)] })
    expect(second.replayUntil).toBe(30)
    expect(second.record).toMatchObject({ marker: 20, markerHash: 'hash 20' })
  })

  it('may begin again after a crash at any call of the first flush', async () => {
    for (let call = 1; ; call++) {
      const store = createMemoryStore({ writeBytesMax: 100 })
      store.inject(call, call % 2 === 0 ? 'crash_before' : 'crash_after')
      const rows = [rowOf('a', 5), rowOf('b', 5), rowOf('c', 5)]
      const hasCrashed = await acquire(store)
        .then((owner) => flush(owner, 5, rows))
        .then(
          () => false,
          () => true,
        )
      store.heal()
      const owner = await acquire(store)
      if (owner.record.marker < 0) expect(owner.checkpoint).toBeUndefined()
      else expect(owner.checkpoint?.position).toBe(5)
      await flush(owner, 5, rows)
      expect((await rowsOf(store, LANE)).length).toBe(3)
      if (!hasCrashed) {
        expect(call).toBeGreaterThan(5)
        break
      }
    }
  })

  it.each(['garble', 'lose'] as const)('stops where the only checkpoint is damaged (%s)', async (damage) => {
    const store = createMemoryStore()
    const owner = await acquire(store)
    await flush(owner, 10, [rowOf('k', 10)])
    await owner.writeCheckpoint(10, [Uint8Array.of(11)])
    store.damageCheckpoint(LANE, damage)
    expect((await acquire(store)).checkpoint).toEqual({ position: 10, segments: [Uint8Array.of(10)] })
    await (await acquire(store)).writeCheckpoint(10, [Uint8Array.of(12)])
    store.damageCheckpoint(LANE, damage)
    await expect(acquire(store)).rejects.toMatchObject({
      code: 'CHECKPOINT_MISSING',
      message: expect.stringContaining('marker 10'),
    })
  })
})

describe('a flush', () => {
  it('goes out in chunks, never beyond flushing_to, with the marker last', async () => {
    const store = createMemoryStore({ writeBytesMax: 300 })
    const owner = await acquire(store)
    const rows = Array.from({ length: 10 }, (_, i) => rowOf(`key${i}`, 7, i))
    owner.beginFlush(7)
    const before = store.calls
    await owner.writeRows(rows)
    // 4 + 40 + 64 bytes a row: three of them reach 300.
    expect(store.calls - before).toBe(4)
    expect(await store.readLane(LANE)).toMatchObject({ flushingTo: 7, marker: -1 })
    await owner.endFlush(7, 'h', [])
    expect(await store.readLane(LANE)).toMatchObject({ flushingTo: 7, marker: 7, markerHash: 'h', layoutVersion: 1 })
    expect(await store.readLane(LANE)).toEqual(owner.record)
    expect((await rowsOf(store, LANE)).map((row) => row.bytes[20])).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  })

  it('takes its last rows along with the marker where they fit', async () => {
    const store = createMemoryStore({ writeBytesMax: 300 })
    const owner = await acquire(store)
    await flush(owner, 5, [])
    const writesOf = async (rows: number, position: number): Promise<number> => {
      const before = store.calls
      owner.beginFlush(position)
      const last = Array.from({ length: rows }, (_, i) => rowOf(`key${i}`, position, i))
      await owner.endFlush(position, 'h', [Uint8Array.of(position)], last)
      const writes = store.calls - before
      expect((await rowsOf(store, LANE)).filter((row) => appliedOf(row.bytes) === position)).toHaveLength(rows)
      expect(await store.readLane(LANE)).toMatchObject({ marker: position, flushingTo: position })
      return writes
    }
    // Three rows are more than fits beside the checkpoint.
    expect([await writesOf(1, 7), await writesOf(2, 8), await writesOf(3, 9), await writesOf(5, 10)]).toEqual([
      1, 1, 2, 2,
    ])
  })

  it('reads the next rows on the way, as they are before its writes', async () => {
    const store = createMemoryStore({ writeBytesMax: 100 })
    const owner = await acquire(store)
    await flush(owner, 5, [rowOf('a', 5, 1), rowOf('b', 5, 2)])
    owner.beginFlush(7)
    const seen: (number | undefined)[] = []
    const keys = [text.encode('b'), text.encode('c')]
    await owner.writeRows([rowOf('a', 7, 3), rowOf('d', 7, 3)], { keys, sink: (i, bytes) => (seen[i] = bytes?.[20]) })
    expect(seen).toEqual([2, undefined])
    await owner.endFlush(7, 'h', [], [rowOf('b', 7, 4)])
    expect((await rowsOf(store, LANE)).map((row) => row.bytes[20])).toEqual([3, 4, 3])
  })

  it.each(['behind the writes', 'lost'] as const)('reads them again where the read came %s', async (fate) => {
    const store = createMemoryStore({ writeBytesMax: 100 })
    let reads = 0
    const readLate: Store['readOwnRows'] = async (...call) => {
      if (++reads > 1) return store.readOwnRows(...call)
      await new Promise((wake) => setTimeout(wake, 5))
      if (fate === 'lost') throw new TilefoldError('STORE_UNAVAILABLE', 'cut')
      return store.readOwnRows(...call)
    }
    const late = new Proxy<Store>(store, {
      get: (_, name: keyof Store) => (name === 'readOwnRows' ? readLate : bound(store, name)),
    })
    const owner = await acquire(store, { store: late })
    owner.beginFlush(7)
    const seen: unknown[] = []
    await owner.writeRows([rowOf('a', 7), rowOf('d', 7)], {
      keys: [text.encode('b')],
      sink: (_, bytes) => seen.push(bytes),
    })
    expect({ seen, reads, lost: owner.lost }).toEqual({ seen: [undefined], reads: 2, lost: undefined })
  })

  it('tells of a foreign row that was read on the way', async () => {
    const store = createMemoryStore()
    const owner = await acquire(store)
    await flush(owner, 5, [rowOf('b', 5)])
    owner.beginFlush(7)
    const read = owner.writeRows([rowOf('a', 7)], { keys: [text.encode('b')], sink: () => {}, deltaStarts: [5] })
    await expect(read).rejects.toMatchObject({ code: 'REGRESSED' })
    await expect(owner.endFlush(7, 'h')).rejects.toMatchObject({ code: 'REGRESSED' })
  })

  it('of nothing is one write', async () => {
    const store = createMemoryStore()
    const owner = await acquire(store)
    const before = store.calls
    await flush(owner, 9, [])
    expect(store.calls - before).toBe(1)
    expect(owner.record).toMatchObject({ marker: 9, flushingTo: 9 })
    expect((await acquire(store)).checkpoint).toEqual({ position: 9, segments: [Uint8Array.of(9)] })
  })

  it('of a replaying owner leaves rows, marker and flushing_to of its predecessor where they were', async () => {
    const store = createMemoryStore()
    const first = await acquire(store)
    await flush(first, 10, [rowOf('k', 10, 1)])
    await flush(first, 50, [rowOf('k', 50, 2), rowOf('l', 50, 2)], false)
    const second = await acquire(store)
    // A row that was read at 50 and changed without new events, as a compaction does; and one that says its flush.
    await flush(second, 20, [rowOf('k', 50, 3), rowOf('l', 20, 3)])
    expect(second.record).toMatchObject({ marker: 50, markerHash: 'hash 50', flushingTo: 50 })
    expect((await rowsOf(store, LANE)).map((row) => [appliedOf(row.bytes), row.bytes[20]])).toEqual([
      [50, 3],
      [50, 3],
    ])
    expect((await acquire(store)).checkpoint?.position).toBe(20)
  })

  it('refuses what the rules forbid', async () => {
    const owner = await acquire(createMemoryStore())
    const isBroken = { code: 'CORE_TRAP' }
    await expect(owner.writeRows([rowOf('k', 1)])).rejects.toMatchObject(isBroken)
    await expect(owner.endFlush(1, '')).rejects.toMatchObject(isBroken)
    await expect(owner.writeCheckpoint(0, [])).rejects.toMatchObject(isBroken)
    owner.beginFlush(5)
    expect(() => owner.beginFlush(6)).toThrow(expect.objectContaining(isBroken))
    await expect(owner.writeRows([rowOf('k', 6)])).rejects.toMatchObject(isBroken)
    await expect(owner.endFlush(6, '')).rejects.toMatchObject(isBroken)
    await owner.endFlush(5, '')
    await expect(owner.writeCheckpoint(6, [])).rejects.toMatchObject(isBroken)
    const long = new Uint8Array(SEGMENT_BYTES_MAX + 1)
    await expect(owner.writeCheckpoint(5, [long])).rejects.toMatchObject(isBroken)
    expect(owner.lost).toBeUndefined()
    await owner.writeCheckpoint(5, [long.subarray(1)])
  })

  it('takes a checkpoint of many segments, in writes of the size of the store', async () => {
    const store = createMemoryStore({ writeBytesMax: 1000 })
    const owner = await acquire(store)
    const segments = Array.from({ length: 9 }, (_, i) => new Uint8Array(400).fill(i))
    const before = store.calls
    owner.beginFlush(3)
    await owner.endFlush(3, '', segments)
    expect(store.calls - before).toBe(5)
    expect((await acquire(store)).checkpoint).toEqual({ position: 3, segments })
  })
})

describe('a write whose fate is unknown', () => {
  it.each(['refuse', 'lose_reply'] as const)('is tried again as it was (%s)', async (fault) => {
    const store = createMemoryStore({ history: true })
    const owner = await acquire(store, { retryDelaysMs: [0, 0] })
    store.inject(store.calls + 1, fault)
    store.inject(store.calls + 2, fault)
    await flush(owner, 4, [rowOf('k', 4, 1)])
    // The taking, the rows, the marker: nothing was written twice.
    expect(store.writesOf(LANE)).toBe(3)
    expect(owner.record.sequence).toBe(2)
    await owner.check()
  })

  it('ends the owner when it stays unknown', async () => {
    const store = createMemoryStore()
    const owner = await acquire(store, { retryDelaysMs: [0] })
    store.inject(store.calls + 1, 'crash_before')
    await expect(flush(owner, 4, [rowOf('k', 4, 1)])).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    store.heal()
    expect(owner.lost).toMatchObject({ code: 'STORE_UNAVAILABLE' })
    await expect(owner.endFlush(4, '')).rejects.toBe(owner.lost)
    await expect(owner.check()).rejects.toBe(owner.lost)
    await expect(owner.readRows([], () => {})).rejects.toBe(owner.lost)
    expect(() => owner.beginFlush(5)).toThrow(owner.lost)
  })

  it('never lets two writes share a sequence, however they are called', async () => {
    const store = createMemoryStore({ writeBytesMax: 100 })
    const owner = await acquire(store)
    await flush(owner, 1, [])
    owner.beginFlush(5)
    const calls = [
      owner.writeRows([rowOf('a', 5), rowOf('b', 5)]),
      owner.check(),
      owner.writeRows([rowOf('c', 5), rowOf('d', 5)]),
      owner.writeCheckpoint(1, [Uint8Array.of(1)]),
      owner.endFlush(5, ''),
    ]
    await Promise.all(calls)
    expect((await rowsOf(store, LANE)).length).toBe(4)
    expect(await store.readLane(LANE)).toMatchObject({ sequence: owner.record.sequence, marker: 5 })
  })
})

describe('an owner that is no longer the owner', () => {
  it('is fenced at its next write and changes nothing', async () => {
    const store = createMemoryStore()
    const zombie = await acquire(store)
    await flush(zombie, 3, [rowOf('k', 3, 1)])
    const owner = await acquire(store)
    await flush(owner, 6, [rowOf('k', 6, 2)])
    zombie.beginFlush(9)
    await expect(zombie.writeRows([rowOf('k', 9, 3)])).rejects.toMatchObject({ code: 'FENCED' })
    expect((await readOne(store, LANE, 'k'))![20]).toBe(2)
    await expect(zombie.endFlush(9, '')).rejects.toMatchObject({ code: 'FENCED' })
  })

  it('finds out when it is idle', async () => {
    const store = createMemoryStore({ history: true })
    const zombie = await acquire(store)
    await zombie.check()
    const owner = await acquire(store)
    await expect(zombie.check()).rejects.toMatchObject({ code: 'FENCED' })
    await owner.check()
    await flush(owner, 3, [])
    store.regress(LANE, 1)
    await expect(owner.check()).rejects.toMatchObject({ code: 'REGRESSED' })
  })

  it('is regressed where the store lost its last write, its taking, or everything', async () => {
    for (const lost of [1, 2, 3]) {
      const store = createMemoryStore({ history: true })
      await acquire(store)
      const owner = await acquire(store)
      await flush(owner, 3, [])
      store.regress(LANE, lost)
      owner.beginFlush(4)
      await expect(owner.writeRows([rowOf('k', 4)])).rejects.toMatchObject({ code: 'REGRESSED' })
      expect(await rowsOf(store, LANE)).toEqual([])
    }
  })

  it('is told from its successor that a failover lost, by the row it left', async () => {
    const store = createMemoryStore()
    const owner = await acquire(store)
    await flush(owner, 10, [rowOf('k', 10), rowOf('l', 4)])
    const keys = [text.encode('k'), text.encode('l'), text.encode('m')]
    const seen: (number | undefined)[] = []
    await owner.readRows(keys, (_, bytes) => seen.push(bytes && appliedOf(bytes)), [11, 5, Number.POSITIVE_INFINITY])
    expect(seen).toEqual([10, 4, undefined])
    await expect(owner.readRows(keys, () => {}, [11, 4, 0])).rejects.toMatchObject({ code: 'REGRESSED' })
    await expect(owner.check()).rejects.toMatchObject({ code: 'REGRESSED' })
  })

  it('sees no row of its successor, which a failover may lose', async () => {
    const store = createMemoryStore({ history: true })
    const first = await acquire(store)
    await flush(first, 10, [rowOf('k', 10)])
    first.beginFlush(20)
    await first.writeRows([rowOf('l', 20)])
    const zombie = await acquire(store)
    const successor = await acquire(store)
    // Both replay from 10 to 20; the successor comes to 15, which is within what the zombie may meet.
    await flush(successor, 15, [rowOf('k', 15)])
    const seen: number[] = []
    const read = zombie.readRows([text.encode('k')], (_, bytes) => seen.push(appliedOf(bytes!)))
    await expect(read).rejects.toMatchObject({ code: 'FENCED' })
    // The successor and its row are lost, and the zombie's token would be good again.
    store.regress(LANE, 3)
    expect(() => zombie.beginFlush(16)).toThrow(expect.objectContaining({ code: 'FENCED' }))
    expect(seen).toEqual([])
  })

  it('is fenced, not without a checkpoint, where its successor has moved them on', async () => {
    const store = createMemoryStore()
    await flush(await acquire(store), 10, [])
    const { readCheckpoint } = store
    // Between the taking and the look at the checkpoints, somebody else takes the lane and writes two newer ones.
    store.readCheckpoint = async (lane, position) => {
      store.readCheckpoint = readCheckpoint
      const successor = await acquire(store)
      await flush(successor, 20, [])
      await flush(successor, 30, [])
      return store.readCheckpoint(lane, position)
    }
    await expect(acquire(store)).rejects.toMatchObject({ code: 'FENCED' })
  })
})
