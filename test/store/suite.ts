/** What every store promises, as one suite that runs over each of them. */
import { afterEach, describe, expect, it } from 'vitest'
import type { LaneName, LaneRecord, LaneToken, LaneWrite, Store, StoredRow } from '../../src/store/port.ts'
import { appliedOf, segmentHash, withApplied } from '../../src/store/rules.ts'
import { packRows } from '../support/packed.ts'
import { seededRandom } from '../support/random.ts'

export interface StoreUnderTest {
  readonly store: Store
  /** Damages the first segment of the newest checkpoint of a lane. */
  damageCheckpoint(lane: LaneName, damage: 'garble' | 'lose'): Promise<void>
  /** The same stored data, opened anew; undefined where nothing survives a close. */
  reopen(): Promise<Store | undefined>
  cleanUp(): Promise<void>
}

export const LANE: LaneName = { namespace: 'test', stateHash: '0123456789abcdef', generation: 1, lane: 'clicks.0' }

/** A row that has applied `applied`, with `bytes` bytes of a body that tells `fill`. */
export function rowOf(key: string | Uint8Array, applied: number, fill = 0, bytes = 40): StoredRow {
  const body = new Uint8Array(bytes).fill(fill)
  new DataView(body.buffer).setBigInt64(8, BigInt(applied), true)
  return { key: typeof key === 'string' ? new TextEncoder().encode(key) : key, bytes: body }
}

export async function readOne(store: Store, lane: LaneName, key: string | Uint8Array): Promise<Uint8Array | undefined> {
  const entity = typeof key === 'string' ? new TextEncoder().encode(key) : key
  let found: Uint8Array | undefined
  await store.readRows([{ lane, key: entity }], (_, bytes) => {
    found = bytes && new Uint8Array(bytes)
  })
  return found
}

export async function rowsOf(store: Store, lane: LaneName): Promise<StoredRow[]> {
  const rows: StoredRow[] = []
  for await (const row of store.scanRows(lane)) rows.push(row)
  return rows
}

export function testStore(name: string, openStore: () => Promise<StoreUnderTest>): void {
  describe(`a ${name} store`, () => {
    const open: StoreUnderTest[] = []
    const start = async (): Promise<StoreUnderTest> => {
      const under = await openStore()
      open.push(under)
      return under
    }
    afterEach(async () => {
      for (const under of open.splice(0)) await under.cleanUp()
    })

    /** A writer that counts sequences, as an owner does. */
    const writer = (store: Store, record: LaneRecord, lane = LANE) => {
      let { sequence } = record
      return async (change: LaneWrite) => expect(await store.write(lane, record.token, sequence++, change)).toBe('ok')
    }

    it('has no record of a lane until it is taken', async () => {
      const { store } = await start()
      expect(await store.readLane(LANE)).toBeUndefined()
      const record = await store.takeLane(LANE, 'a')
      expect(record).toEqual({
        token: { counter: 1, nonce: 'a' },
        sequence: 0,
        marker: -1,
        markerHash: '',
        flushingTo: -1,
        layoutVersion: 0,
      })
      expect(await store.readLane(LANE)).toEqual(record)
    })

    it('raises the counter with every taking and keeps the rest of the record', async () => {
      const { store } = await start()
      const write = writer(store, await store.takeLane(LANE, 'a'))
      await write({ flushingTo: 7, layoutVersion: 3 })
      await write({ marker: { position: 7, hash: 'h' } })
      expect(await store.takeLane(LANE, 'b')).toEqual({
        token: { counter: 2, nonce: 'b' },
        sequence: 2,
        marker: 7,
        markerHash: 'h',
        flushingTo: 7,
        layoutVersion: 3,
      })
    })

    it('answers fenced to an older token and to an equal counter with another nonce', async () => {
      const { store } = await start()
      const first = await store.takeLane(LANE, 'a')
      await store.takeLane(LANE, 'b')
      expect(await store.write(LANE, first.token, 0, { flushingTo: 1 })).toBe('fenced')
      expect(await store.write(LANE, { counter: 2, nonce: 'c' }, 0, { flushingTo: 1 })).toBe('fenced')
      expect((await store.readLane(LANE))!.flushingTo).toBe(-1)
    })

    it('answers regressed to a newer token, to another sequence and for a lane that is gone', async () => {
      const { store } = await start()
      expect(await store.write(LANE, { counter: 1, nonce: 'a' }, 0, { flushingTo: 1 })).toBe('regressed')
      const { token } = await store.takeLane(LANE, 'a')
      expect(await store.write(LANE, { counter: 2, nonce: 'a' }, 0, { flushingTo: 1 })).toBe('regressed')
      expect(await store.write(LANE, token, 1, { flushingTo: 1 })).toBe('regressed')
      expect(await store.write(LANE, token, 0, { flushingTo: 1 })).toBe('ok')
      expect(await store.write(LANE, token, 1, { flushingTo: 2 })).toBe('ok')
      expect(await store.write(LANE, token, 0, { flushingTo: 3 })).toBe('regressed')
      expect(await store.readLane(LANE)).toMatchObject({ sequence: 2, flushingTo: 2 })
    })

    it('answers ok to the retry of a write that landed, and does it once', async () => {
      const { store } = await start()
      const { token } = await store.takeLane(LANE, 'a')
      const change = { rows: [rowOf('k', 5, 1)], flushingTo: 5 }
      expect(await store.write(LANE, token, 0, change)).toBe('ok')
      expect(await store.write(LANE, token, 0, change)).toBe('ok')
      expect(await store.readLane(LANE)).toMatchObject({ sequence: 1, flushingTo: 5 })
    })

    it('never lowers flushing_to, marker and layout version', async () => {
      const { store } = await start()
      const write = writer(store, await store.takeLane(LANE, 'a'))
      await write({ flushingTo: 9, marker: { position: 8, hash: 'eight' }, layoutVersion: 4 })
      await write({ flushingTo: 5, marker: { position: 5, hash: 'five' }, layoutVersion: 2 })
      expect(await store.readLane(LANE)).toMatchObject({
        flushingTo: 9,
        marker: 8,
        markerHash: 'eight',
        layoutVersion: 4,
      })
    })

    it('replaces a row and keeps the higher of the two applied positions', async () => {
      const { store } = await start()
      const write = writer(store, await store.takeLane(LANE, 'a'))
      const far = 2 ** 40 + 3
      await write({ rows: [rowOf('k', far, 1)], flushingTo: far })
      await write({ rows: [rowOf('k', 4, 2, 64)] })
      const row = (await readOne(store, LANE, 'k'))!
      expect(appliedOf(row)).toBe(far)
      expect(row.length).toBe(64)
      expect([row[0], row[7], row[16], row[63]]).toEqual([2, 2, 2, 2])
      await write({ rows: [rowOf('k', far + 1, 3)], flushingTo: far + 1 })
      expect(appliedOf((await readOne(store, LANE, 'k'))!)).toBe(far + 1)
    })

    it('reads rows of several lanes in one go, in any order, the unknown ones as undefined', async () => {
      const { store } = await start()
      const other = { ...LANE, lane: 'h1' }
      await writer(
        store,
        await store.takeLane(LANE, 'a'),
      )({ rows: [rowOf('k', 1, 1), rowOf('l', 1, 2)], flushingTo: 1 })
      await writer(store, await store.takeLane(other, 'a'), other)({ rows: [rowOf('k', 1, 3, 3000)], flushingTo: 1 })
      const seen: [number, number | undefined, number | undefined][] = []
      const keys = ['k', 'k', 'nobody', 'l'].map((key) => new TextEncoder().encode(key))
      const lanes = [LANE, other, other, { ...LANE }]
      const reads = keys.map((key, i) => ({ lane: lanes[i]!, key }))
      await store.readRows(reads, (index, bytes) => seen.push([index, bytes?.[20], bytes?.length]))
      expect(seen.sort(([a], [b]) => a - b)).toEqual([
        [0, 1, 40],
        [1, 3, 3000],
        [2, undefined, undefined],
        [3, 2, 40],
      ])
    })

    it('gives some rows of some lanes, as they are stored, and no more than asked', async () => {
      const { store } = await start()
      const [other, foreign] = [
        { ...LANE, lane: 'h1' },
        { ...LANE, lane: 'h11' },
      ]
      for (const [i, lane] of [LANE, other, foreign].entries()) {
        const rows = Array.from({ length: 20 }, (_, j) => rowOf(`k${j}`, 1, 10 * i + 1))
        await writer(store, await store.takeLane(lane, 'a'), lane)({ rows, flushingTo: 1 })
      }
      const sample = await store.sampleRows([LANE, other], 25)
      // Somebody else's server may hold so much more that none is found.
      if (process.env.REDIS_URL === undefined) expect(sample.length).toBe(25)
      for (const { key, bytes } of sample) {
        const name = new TextDecoder().decode(key)
        expect([rowOf(name, 1, 1).bytes, rowOf(name, 1, 11).bytes]).toContainEqual(new Uint8Array(bytes))
      }
      expect((await store.sampleRows([other], 64)).every(({ bytes }) => bytes[20] === 11)).toBe(true)
      expect(await store.sampleRows([], 64)).toEqual([])
      expect(await store.sampleRows([{ ...LANE, lane: 'nobody' }], 64)).toEqual([])
    })

    it('shows rows to their owner alone', async () => {
      const { store } = await start()
      const record = await store.takeLane(LANE, 'a')
      await writer(store, record)({ rows: [rowOf('k', 1, 1)], flushingTo: 1 })
      const seen: (number | undefined)[] = []
      const keys = ['k', 'nobody'].map((key) => new TextEncoder().encode(key))
      const read = (token: LaneToken, sequence: number) =>
        store.readOwnRows(LANE, token, sequence, keys, (_, bytes) => seen.push(bytes?.[20]))
      expect(await read(record.token, 1)).toBe('ok')
      expect(seen).toEqual([1, undefined])
      expect(await read(record.token, 0)).toBe('regressed')
      expect(await read(record.token, 2)).toBe('regressed')
      expect(await read({ counter: 2, nonce: 'a' }, 1)).toBe('regressed')
      expect(await read({ counter: 1, nonce: 'b' }, 1)).toBe('fenced')
      await store.takeLane(LANE, 'b')
      expect(await read(record.token, 1)).toBe('fenced')
      expect(seen.length).toBe(2)
    })

    it('hands out bytes that can be copied whole', async () => {
      const { store } = await start()
      const row = rowOf('k', 1, 9, 2000)
      await writer(store, await store.takeLane(LANE, 'a'))({ rows: [rowOf('long', 1, 1, 9000), row], flushingTo: 1 })
      const target = new Uint8Array(4000)
      const reads = ['long', 'k'].map((key) => ({ lane: LANE, key: new TextEncoder().encode(key) }))
      await store.readRows(reads, (index, bytes) => index === 1 && target.set(bytes!, 100))
      expect(target.subarray(100, 2100)).toEqual(row.bytes)
      expect(target.subarray(2100).every((byte) => byte === 0)).toBe(true)
    })

    it('keeps lanes, generations, states and namespaces apart, with keys of any bytes', async () => {
      const { store } = await start()
      const lanes = [
        LANE,
        { ...LANE, lane: 'clicks.01' },
        { ...LANE, generation: 11 },
        { ...LANE, stateHash: '0123456789abcde' },
        { ...LANE, namespace: 'tes' },
        { ...LANE, namespace: 'test.t' },
      ]
      const keys = [Uint8Array.of(0), Uint8Array.of(0, 0), Uint8Array.of(47), Uint8Array.of(255, 255)]
      keys.push(new TextEncoder().encode('/l'), new Uint8Array(1024).fill(255), new Uint8Array(1024))
      for (const [i, lane] of lanes.entries()) {
        const rows = keys.map((key, j) => rowOf(key, 1, 1 + i * keys.length + j))
        await writer(store, await store.takeLane(lane, 'a'), lane)({ rows, flushingTo: 1 })
      }
      for (const [i, lane] of lanes.entries()) {
        for (const [j, key] of keys.entries()) {
          expect((await readOne(store, lane, key))![20]).toBe(1 + i * keys.length + j)
        }
        expect((await rowsOf(store, lane)).length).toBe(keys.length)
      }
    })

    it('scans the rows of a lane in key order', async () => {
      const { store } = await start()
      const random = seededRandom(7)
      const rows = new Map<string, StoredRow>()
      for (let i = 0; i < 700; i++) {
        const key = random.bytes(1 + random.below(6))
        rows.set(Buffer.from(key).toString('hex'), rowOf(key, 1, random.below(256)))
      }
      const write = writer(store, await store.takeLane(LANE, 'a'))
      await write({ rows: random.shuffled([...rows.values()]), flushingTo: 1 })
      const expected = [...rows.values()].sort((a, b) => Buffer.compare(a.key, b.key))
      const found = await rowsOf(store, LANE)
      expect(found.map((row) => Buffer.from(row.key).toString('hex'))).toEqual(
        expected.map((row) => Buffer.from(row.key).toString('hex')),
      )
      expect(found.map((row) => row.bytes[20])).toEqual(expected.map((row) => row.bytes[20]))
    })

    it('takes rows side by side in one buffer as it takes them one by one', async () => {
      const { store } = await start()
      const rows = Array.from({ length: 9 }, (_, i) => rowOf(`k${'k'.repeat(i)}`, i % 2 === 0 ? 9 : 4, i, 24 + 8 * i))
      const found: StoredRow[][] = []
      for (const [lane, change] of [
        [LANE, rows.slice(2, 8)],
        [
          { ...LANE, lane: 'h1' },
          { ...packRows(rows), first: 2, end: 8 },
        ],
      ] as const) {
        const write = writer(store, await store.takeLane(lane, 'a'), lane)
        // One is stored further than it is given again, and stays so.
        await write({ rows: [{ ...rows[3]!, bytes: withApplied(rows[3]!.bytes, 9) }], flushingTo: 9 })
        await write({ rows: change })
        found.push(await rowsOf(store, lane))
      }
      const show = (each: readonly StoredRow[]) =>
        each.map(({ key, bytes }) => [Buffer.from(key).toString(), Buffer.from(bytes).toString('hex')])
      expect(found[0]).toHaveLength(6)
      expect(show(found[1]!)).toEqual(show(found[0]!))
    })

    it('refuses a row too short for an applied position, and writes nothing of that write', async () => {
      const { store } = await start()
      const { token } = await store.takeLane(LANE, 'a')
      const rows = [rowOf('k', 1), { key: Uint8Array.of(1), bytes: new Uint8Array(15) }]
      await expect(store.write(LANE, token, 0, { rows, flushingTo: 1 })).rejects.toMatchObject({ code: 'ROW_CORRUPT' })
      expect(await store.readLane(LANE)).toMatchObject({ sequence: 0, flushingTo: -1 })
      expect(await readOne(store, LANE, 'k')).toBeUndefined()
    })

    describe('checkpoints', () => {
      const segment = (fill: number, bytes = 5000) => new Uint8Array(bytes).fill(fill)
      const checkpoint = (position: number, ...segments: Uint8Array[]): LaneWrite => ({
        segments,
        checkpoint: { position, segments: segments.map(segmentHash) },
      })

      it('are found by position: the newest at or before', async () => {
        const { store } = await start()
        const write = writer(store, await store.takeLane(LANE, 'a'))
        expect(await store.readCheckpoint(LANE, 2 ** 50)).toBeUndefined()
        await write(checkpoint(-1))
        expect(await store.readCheckpoint(LANE, -1)).toEqual({ position: -1, segments: [] })
        await write(checkpoint(300, segment(1), segment(2)))
        expect((await store.readCheckpoint(LANE, 299))!.position).toBe(-1)
        expect(await store.readCheckpoint(LANE, 300)).toEqual({ position: 300, segments: [segment(1), segment(2)] })
        expect((await store.readCheckpoint(LANE, 2 ** 50))!.position).toBe(300)
        expect(await store.readCheckpoint({ ...LANE, lane: 'clicks.1' }, 300)).toBeUndefined()
      })

      it('are kept two at a time, by when they were written', async () => {
        const { store } = await start()
        const write = writer(store, await store.takeLane(LANE, 'a'))
        await write(checkpoint(10, segment(1)))
        await write(checkpoint(20, segment(2)))
        await write(checkpoint(15, segment(3)))
        expect((await store.readCheckpoint(LANE, 30))!.position).toBe(20)
        expect((await store.readCheckpoint(LANE, 19))!.position).toBe(15)
        expect(await store.readCheckpoint(LANE, 14)).toBeUndefined()
        await write(checkpoint(15, segment(4)))
        expect(await store.readCheckpoint(LANE, 30)).toEqual({ position: 15, segments: [segment(4)] })
      })

      it('take segments from earlier writes, from earlier checkpoints and again after they were dropped', async () => {
        const { store } = await start()
        const write = writer(store, await store.takeLane(LANE, 'a'))
        // The first write of a lane carries an empty checkpoint beside segments that are named later.
        await write({ segments: [segment(1)], checkpoint: { position: -1, segments: [] } })
        await write({ segments: [segment(2)] })
        await write({ checkpoint: { position: 5, segments: [segmentHash(segment(1)), segmentHash(segment(2))] } })
        expect(await store.readCheckpoint(LANE, 5)).toEqual({ position: 5, segments: [segment(1), segment(2)] })
        await write({ checkpoint: { position: 6, segments: [segmentHash(segment(2))] } })
        await write({ checkpoint: { position: 7, segments: [segmentHash(segment(2))] } })
        expect(await store.readCheckpoint(LANE, 9)).toEqual({ position: 7, segments: [segment(2)] })
        const { token, sequence } = (await store.readLane(LANE))!
        const named = { position: 8, segments: [segmentHash(segment(1))] }
        await expect(store.write(LANE, token, sequence, { checkpoint: named })).rejects.toMatchObject({
          code: 'STORE_FORMAT',
          message: expect.stringContaining(segmentHash(segment(1))),
        })
        await write({ checkpoint: { position: 8, segments: [segmentHash(segment(2))] } })
      })

      it.each(['garble', 'lose'] as const)(
        'with a segment that is damaged (%s) give way to the one before',
        async (damage) => {
          const { store, damageCheckpoint } = await start()
          const write = writer(store, await store.takeLane(LANE, 'a'))
          await write(checkpoint(10, segment(1)))
          await write(checkpoint(20, segment(2), segment(3)))
          await damageCheckpoint(LANE, damage)
          expect(await store.readCheckpoint(LANE, 30)).toEqual({ position: 10, segments: [segment(1)] })
          await write(checkpoint(30, segment(2)))
          expect(await store.readCheckpoint(LANE, 30)).toEqual({ position: 30, segments: [segment(2)] })
        },
      )
    })

    it('swaps a layout only where the expected one stands', async () => {
      const { store } = await start()
      expect(await store.readLayout('test', 'view')).toBeUndefined()
      expect(await store.writeLayout('test', 'view', 'other', 'one')).toBe(false)
      expect(await store.writeLayout('test', 'view', undefined, 'one')).toBe(true)
      expect(await store.writeLayout('test', 'view', undefined, 'two')).toBe(false)
      expect(await store.readLayout('test', 'view')).toBe('one')
      expect(await store.writeLayout('test', 'view', 'one', 'two')).toBe(true)
      expect(await store.readLayout('test', 'view')).toBe('two')
      expect(await store.readLayout('test', 'view2')).toBeUndefined()
      expect(await store.readLayout('test2', 'view')).toBeUndefined()
    })

    it('keeps everything over a close', async () => {
      const under = await start()
      const write = writer(under.store, await under.store.takeLane(LANE, 'a'))
      await write({ rows: [rowOf('k', 3, 1)], flushingTo: 3, layoutVersion: 2 })
      const segments = [new Uint8Array(100_000).fill(4)]
      const manifest = { position: 3, segments: segments.map(segmentHash) }
      await write({ marker: { position: 3, hash: 'h' }, segments, checkpoint: manifest })
      await under.store.writeLayout('test', 'view', undefined, 'layout')
      const record = await under.store.readLane(LANE)
      const again = await under.reopen()
      if (again === undefined) return
      expect(await again.readLane(LANE)).toEqual(record)
      expect(await readOne(again, LANE, 'k')).toEqual(rowOf('k', 3, 1).bytes)
      expect(await again.readCheckpoint(LANE, 3)).toEqual({ position: 3, segments })
      expect(await again.readLayout('test', 'view')).toBe('layout')
      expect(await again.write(LANE, record!.token, record!.sequence, { flushingTo: 4 })).toBe('ok')
    })

    it('does what a plain model does, over random writes', async () => {
      for (let seed = 1; seed <= 15; seed++) {
        const { store } = await start()
        const random = seededRandom(seed)
        const record = await store.takeLane(LANE, 'a')
        const write = writer(store, record)
        const rows = new Map<number, { applied: number; fill: number; bytes: number }>()
        let flushingTo = -1
        for (let i = 0; i < 25; i++) {
          const at = random.below(60)
          flushingTo = Math.max(flushingTo, at)
          const changes = new Set(Array.from({ length: random.below(20) }, () => random.below(40)))
          const given: StoredRow[] = []
          for (const key of changes) {
            const row = { applied: random.below(at + 1), fill: random.below(256), bytes: 16 + random.below(6000) }
            given.push(rowOf(`key${key}`, row.applied, row.fill, row.bytes))
            rows.set(key, { ...row, applied: Math.max(row.applied, rows.get(key)?.applied ?? -1) })
          }
          await write({ rows: given, flushingTo: at })
        }
        for (let key = 0; key < 40; key++) {
          const row = rows.get(key)
          const expected = row && rowOf(`key${key}`, row.applied, row.fill, row.bytes).bytes
          const found = await readOne(store, LANE, `key${key}`)
          const isSame = Buffer.compare(found ?? Buffer.alloc(0), expected ?? Buffer.alloc(0)) === 0
          expect(isSame, `seed ${seed}, key ${key}: got ${found?.length} bytes, expected ${expected?.length}`).toBe(
            true,
          )
        }
        expect(await store.readLane(LANE)).toMatchObject({ sequence: 25, flushingTo })
      }
    })
  })
}
