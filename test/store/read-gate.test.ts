import { describe, expect, it } from 'vitest'
import { ReadGate } from '../../src/store/read-gate.ts'

/** How many of 100 get in. */
function enter(gate: ReadGate, nowMs: number): number {
  let entered = 0
  for (let i = 0; i < 100; i++) if (gate.enter(nowMs)) entered++
  return entered
}

describe('the gate before a server', () => {
  it('lets in whoever comes while answers come', () => {
    const gate = new ReadGate()
    expect(enter(gate, 0)).toBe(100)
    for (let nowMs = 100; nowMs < 5_000; nowMs += 100) {
      gate.leave(true, nowMs)
      expect(gate.enter(nowMs)).toBe(true)
    }
  })

  it('lets in four at a time once nobody has been answered for half a second', () => {
    const gate = new ReadGate()
    expect(gate.enter(0)).toBe(true)
    expect(enter(gate, 500)).toBe(100)
    expect(enter(gate, 501)).toBe(0)
    for (let i = 0; i < 101; i++) gate.leave(false, 2_000)
    expect(enter(gate, 2_001)).toBe(4)
    // However long it lasts.
    for (let i = 0; i < 4; i++) gate.leave(false, 60_000)
    expect(enter(gate, 60_001)).toBe(4)
  })

  it('is open again with the first answer', () => {
    const gate = new ReadGate()
    expect(enter(gate, 0)).toBe(100)
    expect(enter(gate, 1_000)).toBe(0)
    gate.leave(true, 1_000)
    expect(enter(gate, 1_001)).toBe(100)
    expect(enter(gate, 1_501)).toBe(0)
  })
})
