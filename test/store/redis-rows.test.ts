/** The parser and the queue of the connection for rows; over a real server: redis.test.ts, redis-faults.test.ts. */
import { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { RowChannel } from '../../src/store/redis-rows.ts'

class Wire extends Duplex {
  readonly sent: string[] = []
  onSilence: (() => void) | undefined

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.sent.push(chunk.toString('latin1'))
    done()
  }

  setTimeout(_ms: number, callback: () => void): this {
    this.onSilence = callback
    return this
  }
}

const REPLY = '*5\r\n$3\r\nabc\r\n$-1\r\n$0\r\n\r\n$4\r\n\r\n$1\r\n$12\r\n0123456789ab\r\n'
const ROWS = ['abc', undefined, '', '\r\n$1', '0123456789ab']

function open(): { readonly wire: Wire; readonly channel: RowChannel } {
  const wire = new Wire()
  const channel = new RowChannel(1_000)
  channel.open(wire)
  return { wire, channel }
}

/** Asks for so many rows and keeps what comes. */
function ask(channel: RowChannel, count: number) {
  const rows: (string | undefined)[] = []
  const done = channel.ask(Buffer.from('MGET'), count, (index, bytes) => {
    rows[index] = bytes && Buffer.from(bytes).toString('latin1')
  })
  done.catch(() => {})
  return { rows, done }
}

describe('a connection for rows', () => {
  it('hands on the same rows wherever chunks end', async () => {
    const bytes = Buffer.from(REPLY + REPLY, 'latin1')
    for (let first = 1; first < bytes.length; first++) {
      for (const step of [1, 2, 7, bytes.length]) {
        const { wire, channel } = open()
        const asked = [ask(channel, 5), ask(channel, 5)]
        wire.emit('data', bytes.subarray(0, first))
        for (let at = first; at < bytes.length; at += step) wire.emit('data', bytes.subarray(at, at + step))
        for (const { rows, done } of asked) {
          await done
          expect(rows).toEqual(ROWS)
        }
        channel.drop()
      }
    }
  })

  it('keeps nothing of a chunk: its memory is used again', async () => {
    const { wire, channel } = open()
    const { rows, done } = ask(channel, 5)
    const memory = Buffer.alloc(4)
    for (let at = 0; at < REPLY.length; at += 4) {
      const bytes = memory.write(REPLY.slice(at, at + 4), 'latin1')
      wire.emit('data', memory.subarray(0, bytes))
      memory.fill('x')
    }
    await done
    expect(rows).toEqual(ROWS)
  })

  it('makes way for a row that is longer than any before', async () => {
    const { wire, channel } = open()
    const { rows, done } = ask(channel, 2)
    const long = 'y'.repeat(100_000)
    const reply = Buffer.from(`*2\r\n$${long.length}\r\n${long}\r\n$1\r\nz\r\n`)
    for (let at = 0; at < reply.length; at += 999) wire.emit('data', reply.subarray(at, at + 999))
    await done
    expect(rows).toEqual([long, 'z'])
  })

  it('tells one who asked what the server says, and goes on with the next', async () => {
    const { wire, channel } = open()
    const [refused, answered] = [ask(channel, 5), ask(channel, 5)]
    wire.emit('data', Buffer.from(`-LOADING Redis is loading\r\n${REPLY}`))
    await expect(refused.done).rejects.toThrow('LOADING Redis is loading')
    await answered.done
    expect(answered.rows).toEqual(ROWS)
  })

  it('tells everybody who waits when it ends, and can be opened again in the middle of a reply', async () => {
    const { wire, channel } = open()
    const waiting = [ask(channel, 5), ask(channel, 5)]
    wire.emit('data', Buffer.from(REPLY.slice(0, 14)))
    wire.destroy()
    for (const { done } of waiting) await expect(done).rejects.toThrow('Connection is closed')
    expect(channel.isOpen).toBe(false)
    await expect(ask(channel, 1).done).rejects.toThrow('Connection is closed')
    const next = new Wire()
    channel.open(next)
    const { rows, done } = ask(channel, 5)
    next.emit('data', Buffer.from(REPLY))
    await done
    expect(rows).toEqual(ROWS)
  })

  it.each([
    ['nobody asked for', 0, '*1\r\n$1\r\na\r\n'],
    ['have another number of rows', 5, '*4\r\n'],
    ['are no list', 5, '$1\r\na\r\n'],
    ['have something else in the list', 5, '*5\r\n:1\r\n'],
    ['have an error in the list', 5, '*5\r\n-ERR\r\n'],
  ])('gives up over replies that %s', async (_what, count, reply) => {
    const { wire, channel } = open()
    const asked = count > 0 ? ask(channel, count) : undefined
    wire.emit('data', Buffer.from(reply))
    expect(channel.isOpen).toBe(false)
    expect(wire.destroyed).toBe(true)
    if (asked !== undefined) await expect(asked.done).rejects.toThrow('Connection is closed')
  })

  it('gives up over silence only while somebody waits', async () => {
    const { wire, channel } = open()
    wire.onSilence!()
    expect(wire.destroyed).toBe(false)
    const { done } = ask(channel, 5)
    wire.onSilence!()
    await expect(done).rejects.toThrow('Connection is closed')
  })

  it('sends what is asked in one step of the event loop together', async () => {
    const { wire, channel } = open()
    let corks = 0
    const cork = wire.cork.bind(wire)
    wire.cork = () => {
      corks++
      cork()
    }
    ask(channel, 1)
    ask(channel, 1)
    expect(wire.sent).toEqual([])
    await sleep(0)
    expect(wire.sent).toEqual(['MGET', 'MGET'])
    expect(corks).toBe(1)
    channel.drop()
  })
})
