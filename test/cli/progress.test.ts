import { describe, expect, it } from 'vitest'
import { Progress } from '../../src/cli/progress.ts'

function setUp(stream: { isTTY?: boolean; columns?: number }, plainIntervalMs?: number) {
  const state = { nowMs: 0, text: '' }
  const progress = new Progress({
    label: 'backfill',
    unit: 'events',
    stream: {
      ...stream,
      write: (text) => {
        state.text += text
      },
    },
    clock: () => state.nowMs,
    plainIntervalMs,
  })
  /** Moves the clock on and reports; resolves to what was written. */
  const at = (nowMs: number, done: number, total?: number, note?: string): string => {
    state.nowMs = nowMs
    state.text = ''
    progress.update({ done, total, note })
    return state.text
  }
  return { progress, state, at }
}

/** What a terminal shows after these writes: the last line, without escape sequences. */
function shown(text: string): string {
  return text.split('\r').at(-1)!.replaceAll('\x1b[2K', '')
}

describe('progress on a terminal', () => {
  it('is redrawn in place, ten times a second at most, with share, rate and time left', () => {
    const { at } = setUp({ isTTY: true, columns: 120 })
    expect(at(0, 0, 4000)).toBe(`\r\x1b[2Kbackfill ${'░'.repeat(20)}   0 %  0 of 4,000 events`)
    expect(at(50, 500, 4000)).toBe('')
    expect(shown(at(1000, 1000, 4000))).toBe(
      'backfill █████░░░░░░░░░░░░░░░  25 %  1,000 of 4,000 events  1,000/s  3s left',
    )
    expect(shown(at(2000, 4000, 4000, 'group 3'))).toBe(
      `backfill ${'█'.repeat(20)} 100 %  4,000 of 4,000 events  2,000/s  group 3`,
    )
  })

  it('never fills the line: it would wrap', () => {
    const { at } = setUp({ isTTY: true, columns: 30 })
    expect(shown(at(1000, 1000, 4000, 'a long note behind it'))).toHaveLength(29)
  })

  it('forgets a slow start', () => {
    const { at } = setUp({ isTTY: true, columns: 200 })
    at(0, 0, 1_000_000)
    at(60_000, 10, 1_000_000)
    for (let i = 1; i <= 20; i++) at(60_000 + i * 1000, 10 + i * 5000, 1_000_000)
    expect(shown(at(81_000, 10 + 21 * 5000, 1_000_000))).toContain('5,000/s')
  })

  it('reads no speed from what an earlier run has done', () => {
    const { at } = setUp({ isTTY: true, columns: 200 })
    at(0, 3000, 4000)
    expect(shown(at(1000, 3100, 4000))).toContain('100/s  9s left')
  })

  it('makes way for a line, and comes back', () => {
    const { progress, state, at } = setUp({ isTTY: true, columns: 80 })
    at(0, 5, 10)
    state.text = ''
    progress.log('a warning')
    expect(state.text.startsWith('\r\x1b[2Ka warning\n\r\x1b[2Kbackfill ')).toBe(true)
  })

  it('ends with one line in its place', () => {
    const { progress, state, at } = setUp({ isTTY: true })
    at(0, 0, 4000)
    at(2000, 4000, 4000)
    state.text = ''
    progress.finish()
    expect(state.text).toBe('\r\x1b[2Kbackfill: 4,000 events in 2.0 s, 2,000/s\n')
    expect(at(3000, 4001, 4000)).toBe('')
  })

  it('stops without a word', () => {
    const { progress, state, at } = setUp({ isTTY: true })
    at(0, 1, 10)
    state.text = ''
    progress.stop()
    progress.finish()
    expect(state.text).toBe('\r\x1b[2K')
  })
})

describe('progress in a log', () => {
  it('is a plain line every few seconds', () => {
    const { at } = setUp({}, 1000)
    expect(at(0, 0, 4000)).toBe('')
    expect(at(999, 900, 4000)).toBe('')
    expect(at(1500, 1500, 4000, 'group 1')).toBe('backfill: 37 %, 1,500 of 4,000 events, 1,000/s, 3s left, group 1\n')
    expect(at(2000, 2000, 4000)).toBe('')
  })

  it('tells neither a share nor an end where nobody knows the total', () => {
    const { at } = setUp({}, 1000)
    at(0, 0)
    expect(at(2000, 3000)).toBe('backfill: 3,000 events, 1,500/s\n')
  })
})
