/** What a consumer that reads committed is shown where transactions of several producers lie side by side in one partition. */
import { createRequire } from 'node:module'
import { describe, expect, it } from 'vitest'
import '../../src/source/kafka.ts'
import { eachSeed } from '../fuzz/effort.ts'
import { seededRandom } from '../support/random.ts'

const require = createRequire(import.meta.url)
/** As kafkajs' consumer makes it of what was fetched. */
const Batch = require('kafkajs/src/consumer/batch.js')

const ABORT = Buffer.from([0, 0, 0, 0])
const COMMIT = Buffer.from([0, 0, 0, 1])

interface Drawn {
  readonly records: object[]
  readonly aborted: { producerId: string; firstOffset: string; end: number }[]
  readonly committed: string[]
}

/** Transactions of some producers, side by side; `aborted` in the order of their ends, as brokers have it. */
function draw(seed: number): Drawn {
  const random = seededRandom(seed)
  const records: object[] = []
  const aborted: Drawn['aborted'] = []
  const committed: string[] = []
  const open = new Map<string, string[]>()
  const add = (producerId: string, key: Buffer | null, isControlRecord: boolean, inTransaction: boolean) => {
    const offset = String(records.length)
    records.push({ offset, key, isControlRecord, batchContext: { producerId, inTransaction } })
    return offset
  }
  for (let step = 0; step < 60; step++) {
    const producer = String(random.below(4))
    const own = open.get(producer)
    if (random.chance(0.2)) committed.push(add('-1', random.chance(0.5) ? ABORT : null, false, false))
    else if (own === undefined || random.chance(0.5)) {
      open.set(producer, [...(own ?? []), add(producer, random.chance(0.1) ? ABORT : null, false, true)])
    } else {
      const isAborted = random.chance(0.6)
      if (isAborted) aborted.push({ producerId: producer, firstOffset: own[0]!, end: records.length })
      else committed.push(...own)
      add(producer, isAborted ? ABORT : COMMIT, true, true)
      open.delete(producer)
    }
  }
  // What is still open is behind what a broker shows.
  const firstOpen = Math.min(...[...open.values()].map(([first]) => Number(first)), records.length)
  const isShown = (offset: string) => Number(offset) < firstOpen
  return {
    records: records.slice(0, firstOpen),
    aborted: aborted.filter(({ firstOffset }) => isShown(firstOffset)),
    committed: committed.filter(isShown).sort((a, b) => Number(a) - Number(b)),
  }
}

describe('reading committed', () => {
  it('shows nothing of three transactions that were aborted in another order than they began', () => {
    const of = (producerId: string, inTransaction = true) => ({ producerId, inTransaction })
    const records = ['1', '2', '3'].map((producer, i) => ({
      offset: `${i}`,
      key: null,
      isControlRecord: false,
      batchContext: of(producer),
    }))
    const ends = ['2', '1', '3'].map((producer, i) => ({
      offset: `${3 + i}`,
      key: ABORT,
      isControlRecord: true,
      batchContext: of(producer),
    }))
    const abortedTransactions = [
      { producerId: '2', firstOffset: '1' },
      { producerId: '1', firstOffset: '0' },
      { producerId: '3', firstOffset: '2' },
    ]
    const batch = new Batch('t', '0', {
      partition: 0,
      highWatermark: '6',
      abortedTransactions,
      messages: [...records, ...ends],
    })
    expect(batch.messages).toEqual([])
  })

  it('shows what was committed, all of it and nothing else, from wherever it is read', async () => {
    const seeds = await eachSeed('test/source/kafka-aborted.test.ts', 0, 300, async (seed) => {
      const { records, aborted, committed } = draw(seed)
      const from = seededRandom(seed).below(records.length + 1)
      // A broker names those that had not ended before.
      const abortedTransactions = aborted.filter(({ end }) => end >= from)
      const data = { partition: 0, highWatermark: `${records.length}`, abortedTransactions, messages: records }
      const batch = new Batch('t', String(from), data)
      const shown = batch.messages.map(({ offset }: { offset: string }) => offset)
      expect(shown).toEqual(committed.filter((offset) => Number(offset) >= from))
    })
    expect(seeds).toBeGreaterThan(0)
  })
})
