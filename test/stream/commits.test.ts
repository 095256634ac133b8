/** Commits: the first at once, then the newest once in a while; one that failed is tried again, also where nothing newer comes. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Commits } from '../../src/stream/commits.ts'

describe('commits', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('sends the first at once, and the newest of the others when the while is over', async () => {
    const commits = new Commits(1000)
    const sent: number[] = []
    const say = (position: number) => async () => sent.push(position) > 0
    for (const position of [1, 2, 3]) commits.add('a.0', say(position))
    expect(sent).toEqual([1])
    await vi.advanceTimersByTimeAsync(1000)
    expect(sent).toEqual([1, 3])
    await vi.advanceTimersByTimeAsync(10_000)
    expect(sent).toEqual([1, 3])
  })

  it('tries again what failed, unless something newer came, or the log went', async () => {
    const commits = new Commits(1000)
    const sent: string[] = []
    const failing = (name: string, times: number) => async () => {
      sent.push(name)
      if (times-- <= 0) return true
      if (times % 2 === 0) return false
      throw new Error('the group is in the middle of a rebalance')
    }
    commits.add('quiet', failing('quiet', 2))
    commits.add('busy', failing('old', 2))
    commits.add('gone', failing('gone', 2))
    await vi.advanceTimersByTimeAsync(1)
    commits.add('busy', failing('new', 0))
    commits.drop('gone')
    await vi.advanceTimersByTimeAsync(10_000)
    expect(sent).toEqual(['quiet', 'old', 'gone', 'quiet', 'new', 'quiet'])
  })

  it('waits for one that is under way for longer than the while', async () => {
    const commits = new Commits(1000)
    const sent: number[] = []
    let answer: (isDone: boolean) => void = () => {}
    commits.add('a.0', () => {
      sent.push(1)
      return new Promise((resolve) => {
        answer = resolve
      })
    })
    await vi.advanceTimersByTimeAsync(5_000)
    commits.add('a.0', async () => sent.push(2) > 0)
    expect(sent).toEqual([1])
    answer(false)
    await vi.advanceTimersByTimeAsync(0)
    expect(sent).toEqual([1, 2])
  })
})
