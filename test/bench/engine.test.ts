import { describe, expect, it } from 'vitest'
import { foldContender, keyedFoldContender } from '../../bench/engine-fold.ts'
import { internContender } from '../../bench/engine-keys.ts'
import { mergeContender } from '../../bench/engine-merge.ts'
import { valueView } from '../../bench/engine-plan.ts'
import { tuneLadder } from '../../bench/ladders.ts'
import { createTileWorkload } from '../../bench/tiles.ts'
import { createKeys, createWorkload, disorder, keyColumn } from '../../bench/workload.ts'
import { foldByHand, internByHand, mergeByHand } from './by-hand.ts'

describe('the engine in the bench', () => {
  const workload = createWorkload({ rows: 60_000, entityCount: 900, skew: 1.1, seed: 9 })

  it('folds numbered events into the tiles of plain JavaScript, round after round', async () => {
    const contender = await foldContender('fold', workload)
    expect((await contender.round()).checksum).toBe(foldByHand(workload))
    const [second, third] = [await contender.round(), await contender.round()]
    expect([second.checksum, third.checksum]).toEqual([foldByHand(workload), foldByHand(workload)])
    expect(third).toMatchObject({ ops: 60_000 })
  })

  it('folds squares, and events out of order', async () => {
    const squares = await foldContender('fold', workload, { squares: true })
    expect((await squares.round()).checksum).toBe(foldByHand(workload, true))
    const shuffled = await foldContender('fold', disorder(workload, 60_000))
    expect((await shuffled.round()).checksum).toBe(foldByHand(workload))
  })

  it('folds columns with keys into the same tiles', async () => {
    const contender = await keyedFoldContender('fold', workload)
    for (let round = 0; round < 3; round++) expect((await contender.round()).checksum).toBe(foldByHand(workload))
  })

  it('interns keys in order of first appearance', async () => {
    const column = keyColumn(createKeys(900), workload.entities)
    const contender = await internContender('intern', column)
    for (let round = 0; round < 2; round++) expect((await contender.round()).checksum).toBe(internByHand(column))
  })

  it('merges 61 tiles into the windows of plain JavaScript', async () => {
    const tiles = createTileWorkload(30, 250, 12)
    const contender = await mergeContender('merge', tiles)
    expect(await contender.round()).toMatchObject({ ops: 250, checksum: mergeByHand(tiles) })
  })
})

describe('tuneLadder', () => {
  const options = { entityCount: 5, rate: 4, skew: 1.1, flushMs: 3_600_000, seed: 1 }

  it('finds coarser levels to save bytes, and says how exact the starts are', async () => {
    const view = valueView(['1h', '24h', '7d'])
    const [three, one] = [await tuneLadder(view, '5m,1h,1d', options), await tuneLadder(view, '5m', options)]
    expect(three.problem).toBeUndefined()
    expect(one.rowBytes).toBeGreaterThan(2 * three.rowBytes)
    expect(three.startsWithin).toEqual(['1h+5m', '1d+1h', '7d+1h'])
    expect(one.startsWithin).toEqual(['1h+5m', '1d+5m', '7d+5m'])
  })

  it('says why a ladder does not go with a view', async () => {
    const tuning = await tuneLadder(valueView(['1h']), '15m', options)
    expect(tuning.problem).toMatch(/got window 1h over tiles of 15m, expected at least 12 tiles/)
  })
})
