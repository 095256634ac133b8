import { describe, expect, it } from 'vitest'
import { type Contender, type Contest, median, runContest, summarize } from '../../bench/contest.ts'

/** A contender whose rounds take the given times, in ns per op, and write its name into `log`. */
function scripted(name: string, times: readonly number[], log: string[] = [], checksum = 'same'): Contender {
  let round = -1 // the first one does not count
  return {
    name,
    round() {
      log.push(name)
      const ns = round < 0 ? 1 : times[round]! * 10
      round++
      return { ns, ops: round === 0 ? 1 : 10, checksum }
    },
    close() {
      log.push(`${name} closed`)
    },
  }
}

function contestOf(subject: Contender, peers: Contest['peers']): Contest {
  return { claim: 'claim', title: 'title', unit: 'op', subject, peers }
}

describe('runContest', () => {
  it('reports medians and the median of the ratios within a turn', async () => {
    // Turn by turn the peer takes 2, 3 and 4 times as long, though the medians of both stand at 3 to 1.
    const subject = scripted('ours', [1, 10, 100])
    const peer = scripted('theirs', [2, 30, 400])
    const rows = await runContest(contestOf(subject, [{ contender: peer, target: { kind: 'gain', limit: 3 } }]), {
      all: 3,
      slow: 3,
    })
    expect(rows[0]).toMatchObject({ contender: 'ours', ns: 10, nsMin: 1, nsMax: 100, rounds: 3 })
    expect(rows[0]!.ratio).toBeUndefined()
    expect(rows[1]).toMatchObject({ contender: 'theirs', ns: 30, ratio: 3, ratioMin: 2, ratioMax: 4, reached: true })
  })

  it('runs everyone in every turn, in turning order, slow ones in the first turns only', async () => {
    const log: string[] = []
    const times = [1, 1, 1]
    await runContest(
      contestOf(scripted('a', times, log), [
        { contender: scripted('b', times, log) },
        { contender: scripted('c', times, log), slow: true },
      ]),
      { all: 3, slow: 2 },
    )
    const turns = log.filter((entry) => !entry.endsWith('closed')).join('')
    expect(turns).toBe(['abc', 'abc', 'bca', 'ab'].join(''))
    expect(log.slice(-3)).toEqual(['a closed', 'b closed', 'c closed'])
  })

  it('refuses to time contenders that disagree, and closes them', async () => {
    const log: string[] = []
    const contest = contestOf(scripted('a', [1], log), [{ contender: scripted('b', [1], log, 'other') }])
    await expect(runContest(contest, { all: 1, slow: 1 })).rejects.toThrow(/results differ; b got other, expected same/)
    expect(log).toEqual(['a', 'b', 'a closed', 'b closed'])

    let round = 0
    const fickle: Contender = { name: 'c', round: () => ({ ns: 1, ops: 1, checksum: `${round++}` }) }
    await expect(runContest(contestOf(fickle, []), { all: 1, slow: 1 })).rejects.toThrow(/c got 1, expected 0/)

    const excused = contestOf(scripted('a', [1]), [{ contender: scripted('b', [1], [], 'other'), uncompared: true }])
    expect(await runContest(excused, { all: 1, slow: 1 })).toHaveLength(2)
  })
})

describe('summarize', () => {
  it('judges a cost from above and a gain from below', () => {
    const subject = scripted('ours', [])
    const contest = contestOf(subject, [])
    const judge = (kind: 'cost' | 'gain', limit: number) =>
      summarize(contest, { contender: scripted('theirs', []), target: { kind, limit } }, [30], [20])
    expect(judge('cost', 1.5)).toMatchObject({ ratio: 1.5, reached: true })
    expect(judge('cost', 1.4)).toMatchObject({ ratio: 1.5, reached: false })
    expect(judge('gain', 0.6)).toMatchObject({ reached: true })
    expect(judge('gain', 0.7)).toMatchObject({ reached: false })
  })
})

describe('median', () => {
  it('is the middle, or the mean of the two middle ones', () => {
    expect(median([5, 1, 100])).toBe(5)
    expect(median([10, 1, 2, 5])).toBe(3.5)
  })
})
