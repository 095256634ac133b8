import { describe, expect, it } from 'vitest'
import { createMemoryStore } from '../../src/store/memory.ts'
import { LANE, readOne, rowOf, rowsOf, testStore } from './suite.ts'

testStore('memory', async () => {
  const store = createMemoryStore()
  return {
    store,
    damageCheckpoint: async (lane, damage) => store.damageCheckpoint(lane, damage),
    reopen: async () => undefined,
    cleanUp: () => store.close(),
  }
})

describe('the faults of a memory store', () => {
  const isRefused = { code: 'STORE_UNAVAILABLE' }

  it('refuses one call, which does nothing', async () => {
    const store = createMemoryStore()
    store.inject(2, 'refuse')
    const { token } = await store.takeLane(LANE, 'a')
    await expect(store.write(LANE, token, 0, { flushingTo: 1 })).rejects.toMatchObject(isRefused)
    expect(await store.readLane(LANE)).toMatchObject({ sequence: 0 })
    expect(await store.write(LANE, token, 0, { flushingTo: 1 })).toBe('ok')
  })

  it('loses the reply of one call, which is done', async () => {
    const store = createMemoryStore()
    const { token } = await store.takeLane(LANE, 'a')
    store.inject(store.calls + 1, 'lose_reply')
    await expect(store.write(LANE, token, 0, { flushingTo: 1 })).rejects.toMatchObject(isRefused)
    expect(await store.readLane(LANE)).toMatchObject({ sequence: 1, flushingTo: 1 })
  })

  it.each([
    ['crash_before', 0],
    ['crash_after', 1],
  ] as const)('%s: is down until it is healed', async (fault, writes) => {
    const store = createMemoryStore()
    const { token } = await store.takeLane(LANE, 'a')
    store.inject(2, fault)
    await expect(store.write(LANE, token, 0, { flushingTo: 1 })).rejects.toMatchObject(isRefused)
    await expect(store.readLane(LANE)).rejects.toMatchObject(isRefused)
    await expect(store.readRows([], () => {})).rejects.toMatchObject(isRefused)
    store.heal()
    expect(store.calls).toBe(0)
    expect(await store.readLane(LANE)).toMatchObject({ sequence: writes })
  })

  it('takes the last writes of a lane back, and of that lane alone', async () => {
    const store = createMemoryStore({ history: true })
    const other = { ...LANE, lane: 'clicks.1' }
    const { token } = await store.takeLane(LANE, 'a')
    const { token: otherToken } = await store.takeLane(other, 'a')
    const segment = Uint8Array.of(1)
    await store.write(LANE, token, 0, { rows: [rowOf('k', 1, 1)], flushingTo: 1 })
    const before = [await store.readLane(LANE), await rowsOf(store, LANE)]
    await store.write(LANE, token, 1, { rows: [rowOf('k', 2, 2), rowOf('l', 2, 2)], flushingTo: 2 })
    await store.write(LANE, token, 2, { segments: [segment], checkpoint: { position: -1, segments: [] } })
    await store.takeLane(LANE, 'b')
    await store.write(other, otherToken, 0, { rows: [rowOf('k', 9, 9)], flushingTo: 9 })
    expect(store.writesOf(LANE)).toBe(5)
    store.regress(LANE, 3)
    expect([await store.readLane(LANE), await rowsOf(store, LANE)]).toEqual(before)
    expect(await store.readCheckpoint(LANE, 9)).toBeUndefined()
    expect((await readOne(store, other, 'k'))![20]).toBe(9)
    expect(await store.write(LANE, token, 1, { flushingTo: 2 })).toBe('ok')
  })

  it('spoils bytes that a sink keeps', async () => {
    const store = createMemoryStore()
    const { token } = await store.takeLane(LANE, 'a')
    await store.write(LANE, token, 0, { rows: [rowOf('k', 1, 1)], flushingTo: 1 })
    let kept: Uint8Array | undefined
    await store.readRows([{ lane: LANE, key: new TextEncoder().encode('k') }], (_, bytes) => {
      kept = bytes
    })
    expect(kept).toEqual(new Uint8Array(40).fill(0xdb))
  })
})
