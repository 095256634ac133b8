/** The queue of what waits to be written: nothing is lost, doubled or turned around where a write fails or is slow. */
import { expect, it } from 'vitest'
import { FlushQueue } from '../../src/source/flush-queue.ts'

it('writes what a failed write left before what came since', async () => {
  const writes: string[][] = []
  const failures = [new Error('full'), undefined]
  const queue = new FlushQueue<string>(async (items) => {
    const failure = failures.shift()
    queue.add(`during ${items.join('+')}`)
    if (failure) throw failure
    writes.push([...items])
  })
  queue.add('a')
  queue.add('b')
  await expect(queue.flush()).rejects.toThrow('full')
  queue.add('c')
  await queue.flush()
  expect(writes).toEqual([['a', 'b', 'during a+b', 'c']])
})

it('writes one batch after the other, and none that is empty', async () => {
  const log: string[] = []
  const queue = new FlushQueue<number>(async (items) => {
    log.push(`from ${items}`)
    await new Promise(setImmediate)
    log.push(`to ${items}`)
  })
  await queue.flush()
  queue.add(1)
  const first = queue.flush()
  queue.add(2)
  const second = queue.flush()
  const third = queue.flush()
  await Promise.all([first, second, third])
  expect(log).toEqual(['from 1,2', 'to 1,2'])
  queue.add(3)
  const fourth = queue.flush()
  await new Promise(setImmediate)
  queue.add(4)
  await Promise.all([fourth, queue.flush()])
  expect(log.slice(2)).toEqual(['from 3', 'to 3', 'from 4', 'to 4'])
})
