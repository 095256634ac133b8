import { describe, expect, it } from 'vitest'
import { SentMarks } from '../../src/source/dead-letter-marks.ts'
import { letterOf, letterOfLine } from '../../src/source/dead-letter-reader.ts'
import { seededRandom } from '../support/random.ts'

const SEED = Number(process.env.TILEFOLD_SEED ?? 1)

describe('marks of what was sent', () => {
  it(`are what was marked, in any order, over any number of commits (seed ${SEED})`, () => {
    const random = seededRandom(SEED)
    for (let round = 0; round < 200; round++) {
      const start = random.below(1000)
      const sent = new Set<number>()
      let marks = SentMarks.of(undefined).from(start)
      for (let commit = 0; commit < 5; commit++) {
        const positions = Array.from({ length: random.below(30) }, () => start + random.below(100))
        for (const position of positions) sent.add(position)
        marks = marks.with(positions)
        marks = SentMarks.of({ position: marks.first, metadata: marks.metadata! })
      }
      for (let position = 0; position < start + 120; position++) {
        expect(marks.has(position), `${position} of round ${round}`).toBe(position < start || sent.has(position))
      }
      // The committed offset says as much as it can by itself.
      expect(marks.has(marks.first)).toBe(false)
    }
  })

  it('forget what the log no longer holds', () => {
    const marks = SentMarks.of(undefined).with([2, 3, 7]).from(3)
    expect([marks.first, marks.has(7), marks.has(4)]).toEqual([4, true, false])
  })

  it('say where they no longer fit into a commit', () => {
    const random = seededRandom(SEED)
    const positions = Array.from({ length: 100_000 }, (_, i) => i + 1).filter(() => random.chance(0.5))
    expect(SentMarks.of(undefined).with(positions).metadata).toBeUndefined()
    // Every other one of as many is a pattern, and fits.
    const even = positions.map((_, i) => 2 * i + 1)
    expect(SentMarks.of(undefined).with(even).metadata!.length).toBeLessThan(4_000)
  })

  it.each(['', '{"spend":"0011"}', 'r1.!', 'r1.AAAA'])('refuse the commit of somebody else: %j', (metadata) => {
    expect(() => SentMarks.of({ position: 5, metadata })).toThrow(/the group's commit is not of a redrive/)
  })
})

describe('a letter', () => {
  const message = { key: null, value: Buffer.from('x'), timestamp: '77', offset: '9' }

  it('of Kafka Connect is read, too', () => {
    const headers = {
      '__connect.errors.topic': Buffer.from('orders'),
      '__connect.errors.partition': Buffer.from('4'),
      '__connect.errors.offset': Buffer.from('123'),
      '__connect.errors.connector.name': Buffer.from('sink'),
      '__connect.errors.exception.class.name': Buffer.from('org.apache.kafka.connect.errors.DataException'),
      trace: [Buffer.from('a'), Buffer.from('b')],
    }
    expect(letterOf(1, { ...message, headers })).toEqual({
      home: { partition: 1, position: 9 },
      topic: 'orders',
      partition: 4,
      offset: '123',
      reason: 'org.apache.kafka.connect.errors.DataException',
      text: '',
      record: {
        key: null,
        value: Buffer.from('x'),
        timestamp: '77',
        headers: { trace: [Buffer.from('a'), Buffer.from('b')] },
      },
    })
  })

  it('is nothing else', () => {
    expect(letterOf(0, message)).toBeUndefined()
    expect(letterOf(0, { ...message, headers: { '__connect.errors.topic': 'orders' } })).toBeUndefined()
    for (const line of ['', '{', 'null', '7', '[]', '{"topic":"a","partition":0,"offset":"x","timestamp":"1"}']) {
      expect(letterOfLine(line, 1), line).toBeUndefined()
    }
  })
})
