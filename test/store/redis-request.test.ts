/** The memory that requests are written into is used again, and only that. */
import { describe, expect, it } from 'vitest'
import { reuse, scriptRequest } from '../../src/store/redis-request.ts'
import { TAKE_LANE } from '../../src/store/redis-script.ts'

const KEY = Buffer.from('{lane}record')

function requestOf(bytes: number) {
  return scriptRequest(TAKE_LANE, [KEY], [Buffer.alloc(bytes, 1)])
}

describe('a request that was answered', () => {
  it('gives its memory to the next one of its size', () => {
    const first = requestOf(40_000)
    reuse(first)
    expect(requestOf(40_000).bytes.buffer).toBe(first.bytes.buffer)
  })

  it('keeps it where other buffers lie in it, however large that memory is', () => {
    // As Node shares memory out among small buffers: 8 KiB at a time, or 64, as the version has it.
    const shared = Buffer.from(new ArrayBuffer(65_536)).subarray(0, 100)
    const small = requestOf(10)
    reuse({ ...small, bytes: shared })
    reuse(small)
    const next = requestOf(30_000).bytes.buffer
    expect(next).not.toBe(shared.buffer)
    expect(next).not.toBe(small.bytes.buffer)
  })
})
