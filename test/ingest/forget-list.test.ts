import { describe, expect, it } from 'vitest'
import { forgottenBefore, lastErase, readErases, requestErase } from '../../src/registry/erase.ts'
import { surveyStates } from '../../src/registry/gc.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import { FaultyStore, Killed } from '../laws/faulty-store.ts'

const requestOf = (key: string) => ({ views: ['a'], states: ['b'], key, atMs: 7 })

describe('the erase list', () => {
  it('numbers requests without gaps, over pages, and gives them back in order', async () => {
    const seat = { store: createMemoryStore(), namespace: 'test' }
    expect([await lastErase(seat), await readErases(seat, 0, 0)]).toEqual([0, []])
    for (let i = 1; i <= 600; i++) expect((await requestErase(seat, requestOf(`${i}`))).number).toBe(i)
    expect(await lastErase(seat)).toBe(600)
    const all = await readErases(seat, 0, 600)
    expect(all.map(({ number, key }) => [number, key])).toEqual(all.map((_, i) => [i + 1, `${i + 1}`]))
    expect(all).toHaveLength(600)
    expect((await readErases(seat, 255, 258)).map(({ number }) => number)).toEqual([256, 257, 258])
  })

  it('takes requests from many askers at once', async () => {
    const seat = { store: createMemoryStore(), namespace: 'test' }
    const entries = await Promise.all(Array.from({ length: 40 }, (_, i) => requestErase(seat, requestOf(`${i}`))))
    expect(new Set(entries.map(({ number }) => number)).size).toBe(40)
    expect((await readErases(seat, 0, 40)).map(({ key }) => key).sort()).toEqual(entries.map(({ key }) => key).sort())
  })

  it('outlives an asker that dies between the two writes', async () => {
    const inner = createMemoryStore()
    const store = new FaultyStore(inner)
    const seat = { store, namespace: 'test' }
    await requestErase(seat, requestOf('first'))
    for (let call = 0; call < 6; call++) {
      store.restart()
      store.plan(call, 'before')
      await requestErase(seat, requestOf(`dead ${call}`)).catch((error) => expect(error).toBeInstanceOf(Killed))
    }
    store.restart()
    const { number } = await requestErase(seat, requestOf('last'))
    const all = await readErases(seat, 0, await lastErase(seat))
    expect(all).toHaveLength(number)
    expect([all[0]!.key, all.at(-1)!.key]).toEqual(['first', 'last'])
  })

  it('says before when an entity does not count, by view or by the state that it shares', async () => {
    const seat = { store: createMemoryStore(), namespace: 'test' }
    await requestErase(seat, { ...requestOf('aa'), atMs: 9 })
    await requestErase(seat, { ...requestOf('aa'), atMs: 5 })
    await requestErase(seat, { views: ['c'], states: ['d'], key: 'cc', atMs: 6 })
    expect([...(await forgottenBefore(seat, { view: 'a', stateHash: 'x' }))]).toEqual([['aa', 9]])
    expect([...(await forgottenBefore(seat, { view: 'x', stateHash: 'd' }))]).toEqual([['cc', 6]])
  })

  it('is no state that could be collected', async () => {
    const store = createMemoryStore()
    await requestErase({ store, namespace: 'test' }, requestOf('one'))
    expect(await surveyStates(store, 'test')).toEqual([])
  })
})
