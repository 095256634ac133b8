/** Reads that are asked for together: each row once, everybody's own answer. The store behind is a function that is looked at. */
import { describe, expect, it } from 'vitest'
import type { ReadOptions, RowRead, RowSink } from '../../src/store/port.ts'
import { ReadTurn } from '../../src/store/read-turn.ts'
import { LANE } from './suite.ts'

const home = { ...LANE, lane: 'h0' }
const other = { ...LANE, lane: 'h1' }

function read(key: string, lane = home): RowRead {
  return { lane, key: Buffer.from(key) }
}

function nameOf({ lane, key }: RowRead): string {
  return `${lane.lane}/${Buffer.from(key)}`
}

/**
 * With a read under way, so that those to come are joined: the first of `calls`, and it stays so until `letGo`.
 * Answers with the read's own name; keys that begin with `no` have no row, with `late` are answered
 * last, with `bad` fail.
 */
function openTurn() {
  const calls: { names: string[]; options: ReadOptions }[] = []
  let letGo = () => {}
  const gate = new Promise<void>((resolve) => {
    letGo = resolve
  })
  const turn = new ReadTurn(async (reads, sink, options) => {
    calls.push({ names: reads.map(nameOf), options })
    const isLate = ({ key }: RowRead) => Buffer.from(key).toString().startsWith('late')
    for (const [i, each] of reads.entries()) if (!isLate(each)) answer(each, i, sink, options)
    if (!reads.some(isLate)) return
    await gate
    for (const [i, each] of reads.entries()) if (isLate(each)) answer(each, i, sink, options)
  })
  void ask(turn, [read('late first')])
  return { turn, calls, letGo: () => letGo() }
}

function answer(each: RowRead, i: number, sink: RowSink, { onMissing }: ReadOptions): void {
  const key = Buffer.from(each.key).toString()
  if (!key.startsWith('bad')) sink(i, key.startsWith('no') ? undefined : Buffer.from(nameOf(each)))
  else if (onMissing === undefined) throw new Error(key)
  else onMissing(i, new Error(key))
}

async function ask(turn: ReadTurn, reads: readonly RowRead[], options?: ReadOptions) {
  const seen: (string | undefined)[] = []
  await turn.read(reads, (index, bytes) => (seen[index] = bytes && Buffer.from(bytes).toString()), options)
  return seen
}

describe('reads of one turn', () => {
  it('are one read of distinct rows, and each reader has its own answer', async () => {
    const { turn, calls } = openTurn()
    const answers = await Promise.all([
      ask(turn, [read('a'), read('b'), read('a', other)]),
      ask(turn, [read('b'), read('none')]),
      ask(turn, [read('a'), read('a')]),
    ])
    expect(calls.slice(1).map(({ names }) => names)).toEqual([['h0/a', 'h0/b', 'h1/a', 'h0/none']])
    expect(answers).toEqual([
      ['h0/a', 'h0/b', 'h1/a'],
      ['h0/b', undefined],
      ['h0/a', 'h0/a'],
    ])
  })

  it('do not wait for those of the next, nor share with those that are under way', async () => {
    const { turn, calls, letGo } = openTurn()
    const first = ask(turn, [read('late')])
    await new Promise(setImmediate)
    const second = ask(turn, [read('late')])
    await new Promise(setImmediate)
    expect(calls).toHaveLength(3)
    letGo()
    expect(await Promise.all([first, second])).toEqual([['h0/late'], ['h0/late']])
  })

  it('end with their own last row', async () => {
    const { turn, letGo } = openTurn()
    const slow = ask(turn, [read('a'), read('late')])
    expect(await ask(turn, [read('a'), read('b')])).toEqual(['h0/a', 'h0/b'])
    letGo()
    expect(await slow).toEqual(['h0/a', 'h0/late'])
  })

  it('go as they are where there is but one reader', async () => {
    const { turn, calls } = openTurn()
    const options = { deadlineMs: 7 }
    expect(await ask(turn, [read('a'), read('a')], options)).toEqual(['h0/a', 'h0/a'])
    expect(calls.slice(1)).toEqual([{ names: ['h0/a', 'h0/a'], options }])
    expect(await ask(turn, [])).toEqual([])
  })

  it('have the longest of their deadlines', async () => {
    const { turn, calls } = openTurn()
    await Promise.all([5, 9, 7].map((deadlineMs) => ask(turn, [read('a')], { deadlineMs })))
    await Promise.all([5, undefined, 7].map((deadlineMs) => ask(turn, [read('a')], { deadlineMs })))
    expect(calls.slice(1).map(({ options }) => options.deadlineMs)).toEqual([9, undefined])
  })
})

describe('a read that is alone', () => {
  it('is sent before anything else happens', async () => {
    const { turn, calls, letGo } = openTurn()
    letGo()
    await new Promise(setImmediate)
    const answer = ask(turn, [read('a')])
    expect(calls).toHaveLength(2)
    const joined = Promise.all([ask(turn, [read('b')]), ask(turn, [read('b')])])
    expect(calls).toHaveLength(2)
    expect([await answer, ...(await joined)]).toEqual([['h0/a'], ['h0/b'], ['h0/b']])
    expect(calls.at(-1)!.names).toEqual(['h0/b'])
  })
})

describe('a row that cannot be read', () => {
  it('is missing to those who want to know, and fails those who do not', async () => {
    const { turn } = openTurn()
    const missing: [number, unknown][] = []
    const onMissing = (index: number, cause: unknown) => missing.push([index, cause])
    const [told, failed, unharmed] = await Promise.allSettled([
      ask(turn, [read('a'), read('bad')], { onMissing }),
      ask(turn, [read('bad'), read('a')]),
      ask(turn, [read('a')]),
    ])
    expect(told).toEqual({ status: 'fulfilled', value: ['h0/a'] })
    expect(missing).toEqual([[1, new Error('bad')]])
    expect(failed).toEqual({ status: 'rejected', reason: new Error('bad') })
    expect(unharmed).toEqual({ status: 'fulfilled', value: ['h0/a'] })
  })

  it('by the fault of one reader is not missing to others', async () => {
    const { turn } = openTurn()
    const fault = new Error('the sink')
    const faulty = turn.read([read('a')], () => {
      throw fault
    })
    const [first, second] = await Promise.allSettled([faulty, ask(turn, [read('a')])])
    expect(first).toEqual({ status: 'rejected', reason: fault })
    expect(second).toEqual({ status: 'fulfilled', value: ['h0/a'] })
  })
})
