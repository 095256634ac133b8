import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { open } from 'lmdb'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { closeGuard, createWriteGuard } from '../../src/store/guard.ts'
import { createLmdbStore, holdsLmdbStore, type LmdbStoreOptions } from '../../src/store/lmdb.ts'
import type { LaneName, Store } from '../../src/store/port.ts'
import { appliedOf } from '../../src/store/rules.ts'
import { seal, unseal } from '../../src/store/sealed.ts'
import type { WriterRecord } from '../../src/store/writer.ts'
import { seededRandom } from '../support/random.ts'
import { compileForNode } from './compile.ts'
import { LANE, readOne, rowOf, rowsOf, testStore } from './suite.ts'

const writer = compileForNode('test/store/lmdb-writer.ts')
afterAll(() => writer.remove())

const directories: string[] = []
const stores: Store[] = []
const children: ChildProcess[] = []

function newDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'tilefold-lmdb-'))
  directories.push(directory)
  return join(directory, 'store.with.dots')
}

function openStore(options: LmdbStoreOptions): Store {
  const store = createLmdbStore(options)
  stores.push(store)
  return store
}

/** A process that writes to the store, as lmdb-writer.ts is told; resolves once it has said `text`. */
async function startWriter(text: string, ...args: string[]): Promise<ChildProcess> {
  const child = spawn(process.execPath, [writer.script, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  children.push(child)
  let said = ''
  for await (const chunk of child.stdout!) {
    said += chunk
    if (said.includes(text)) return child
  }
  throw new Error(`the writer ended, having said ${JSON.stringify(said)}, expected ${JSON.stringify(text)}`)
}

async function kill(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
}

afterEach(async () => {
  for (const child of children.splice(0)) if (child.exitCode === null && child.signalCode === null) await kill(child)
  for (const store of stores.splice(0)) await store.close()
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true })
})

/** Changes stored bytes behind the store's back. */
async function damageValue(
  path: string,
  isMeant: (key: Buffer) => boolean,
  damage: 'garble' | 'lose' | ((value: Buffer) => Buffer),
): Promise<void> {
  const options = {
    path,
    noSubdir: false,
    overlappingSync: false,
    encoding: 'binary' as const,
    keyEncoding: 'binary' as const,
  }
  const raw = open<Buffer, Buffer>(options)
  for (const key of [...raw.getKeys()].filter(isMeant)) {
    const value = raw.getBinary(key)!
    if (damage === 'lose') raw.removeSync(key)
    else if (damage === 'garble') raw.putSync(key, Buffer.from(value.map((byte, at) => (at === 9 ? byte ^ 4 : byte))))
    else raw.putSync(key, damage(value))
  }
  await raw.close()
}

testStore('LMDB', async () => {
  const path = newDirectory()
  const store = createLmdbStore({ path })
  let last: Store = store
  return {
    store,
    damageCheckpoint: async (lane, damage) => {
      const newest = (await store.readCheckpoint(lane, Number.MAX_SAFE_INTEGER))!
      const { segmentHash } = await import('../../src/store/rules.ts')
      const hash = Buffer.from(segmentHash(newest.segments[0]!), 'hex')
      await damageValue(path, (key) => key.includes(hash), damage)
    },
    reopen: async () => {
      await store.close()
      last = createLmdbStore({ path })
      return last
    },
    cleanUp: () => last.close(),
  }
})

describe('an LMDB store', () => {
  it('refuses to write when opened read-only, and reads what is written beside it', async () => {
    const path = newDirectory()
    const first = openStore({ path })
    const { token } = await first.takeLane(LANE, 'a')
    const reader = openStore({ path, readOnly: true })
    await first.write(LANE, token, 0, { rows: [rowOf('k', 1, 1)], flushingTo: 1 })
    expect((await readOne(reader, LANE, 'k'))![20]).toBe(1)
    await first.write(LANE, token, 1, { rows: [rowOf('k', 2, 2)], flushingTo: 2 })
    expect((await readOne(reader, LANE, 'k'))![20]).toBe(2)
    const refusal = { code: 'STORE_UNAVAILABLE', message: expect.stringContaining('read-only') }
    await expect(reader.takeLane(LANE, 'b')).rejects.toMatchObject(refusal)
    await expect(reader.writeLayout('n', 'v', undefined, '')).rejects.toMatchObject(refusal)
  })

  it('says so when a read-only store is not there, and makes nothing', () => {
    const path = newDirectory()
    expect(() => openStore({ path, readOnly: true })).toThrow(
      expect.objectContaining({ code: 'STORE_UNAVAILABLE', message: expect.stringContaining(path) }),
    )
    expect(existsSync(path)).toBe(false)
  })

  it('is not taken to be in a directory that is there for other things', async () => {
    const path = newDirectory()
    mkdirSync(path, { recursive: true })
    writeFileSync(join(path, 'notes.txt'), 'mine')
    expect(holdsLmdbStore(path)).toBe(false)
    await openStore({ path }).close()
    expect(holdsLmdbStore(path)).toBe(true)
  })

  it('says so when the directory cannot be made', () => {
    const path = newDirectory()
    writeFileSync(path, 'a file')
    expect(() => openStore({ path })).toThrow(expect.objectContaining({ code: 'STORE_UNAVAILABLE' }))
    expect(() => openStore({ path: join(path, 'below') })).toThrow(
      expect.objectContaining({ code: 'STORE_UNAVAILABLE' }),
    )
  })

  it('may be opened twice by one process, in either mode and order', async () => {
    const path = newDirectory()
    await openStore({ path }).close()
    const reader = openStore({ path, readOnly: true })
    const first = openStore({ path })
    const second = openStore({ path })
    await first.close()
    const { token } = await second.takeLane(LANE, 'a')
    expect(await second.write(LANE, token, 0, { rows: [rowOf('k', 1, 5)], flushingTo: 1 })).toBe('ok')
    expect((await readOne(reader, LANE, 'k'))![20]).toBe(5)
  })

  it('gives coded errors once it is closed', async () => {
    const store = openStore({ path: newDirectory() })
    await store.close()
    await store.close()
    await expect(store.takeLane(LANE, 'a')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    await expect(readOne(store, LANE, 'k')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
  })

  it('stops when its file is removed or replaced under it', async () => {
    const path = newDirectory()
    const store = openStore({ path })
    const { token } = await store.takeLane(LANE, 'a')
    rmSync(path, { recursive: true })
    const gone = { code: 'STORE_UNAVAILABLE', message: expect.stringContaining('removed') }
    await expect(store.write(LANE, token, 0, { flushingTo: 1 })).rejects.toMatchObject(gone)
    await expect(store.readLane(LANE)).rejects.toMatchObject(gone)
  })

  it.each([
    ['bytes of something else', () => Buffer.alloc(20_000, 0x5a)],
    ['text', () => Buffer.from('not a store')],
    ['zeros', () => Buffer.alloc(8192)],
    ['less than its two first pages', (whole: Buffer) => whole.subarray(0, 5000)],
    ['its first page alone', (whole: Buffer) => whole.subarray(0, 4096)],
    ['a third of it', (whole: Buffer) => whole.subarray(0, Math.floor(whole.length / 3))],
  ])('refuses a data file of %s', async (_, contents) => {
    const path = newDirectory()
    const store = openStore({ path })
    const { token } = await store.takeLane(LANE, 'a')
    for (let i = 0; i < 20; i++) {
      const rows = Array.from({ length: 20 }, (_, j) => rowOf(`key${i * 20 + j}`, i, j, 3000))
      await store.write(LANE, token, i, { rows, flushingTo: i })
    }
    await store.close()
    const file = join(path, 'data.mdb')
    writeFileSync(file, contents(readFileSync(file)))
    expect(() => openStore({ path })).toThrow(
      expect.objectContaining({ code: 'STORE_FORMAT', message: expect.stringContaining(file) }),
    )
  })

  it('opens a file whose last, free pages are missing, and answers for the rest', async () => {
    const path = newDirectory()
    const store = openStore({ path })
    const { token } = await store.takeLane(LANE, 'a')
    await store.write(LANE, token, 0, { rows: [rowOf('k', 1, 1)], flushingTo: 1 })
    await store.close()
    const file = join(path, 'data.mdb')
    // As if a transaction had taken two pages at the end and given them back.
    const whole = readFileSync(file)
    for (const meta of [0, 4096]) whole.writeBigUInt64LE(whole.readBigUInt64LE(meta + 144) + 2n, meta + 144)
    writeFileSync(file, whole)
    const again = openStore({ path })
    expect((await readOne(again, LANE, 'k'))![20]).toBe(1)
    expect(statSync(file).size).toBeGreaterThan(whole.length)
  })

  it.each([
    // One bit, which leaves a record that could be read: nonce `a` turns into `c`.
    ['of another nonce', 'garble'],
    ['of an unknown version', (value: Buffer) => seal({ ...unseal(value, 'record'), v: 2 })],
    ['of nothing', () => Buffer.alloc(0)],
  ] as const)('tells a damaged lane record, %s, from a lane never seen', async (_, damage) => {
    const path = newDirectory()
    const store = openStore({ path })
    await store.takeLane(LANE, 'a')
    const nonceAt = '"nonce":"'
    const flip = (value: Buffer) => {
      const copy = Buffer.from(value)
      copy[copy.indexOf(nonceAt) + nonceAt.length]! ^= 2
      return copy
    }
    await damageValue(path, (key) => key.toString().endsWith('/l'), damage === 'garble' ? flip : damage)
    await expect(store.readLane(LANE)).rejects.toMatchObject({
      code: 'STORE_FORMAT',
      message: expect.stringContaining('test/0123456789abcdef/1/clicks.0'),
    })
    await expect(store.takeLane(LANE, 'b')).rejects.toMatchObject({ code: 'STORE_FORMAT' })
  })

  it.each(['', 'a/b', 'a\0b', 'x'.repeat(1000)])('refuses to name data %j', async (namespace) => {
    const store = openStore({ path: newDirectory() })
    await expect(store.takeLane({ ...LANE, namespace }, 'a')).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
    await expect(store.writeLayout(namespace, 'v', undefined, '')).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
  })

  it('takes rows that lie in memory shared between threads', async () => {
    const store = openStore({ path: newDirectory() })
    const { token } = await store.takeLane(LANE, 'a')
    const row = rowOf('k', 1, 7, 3000)
    const shared = new Uint8Array(new SharedArrayBuffer(3000))
    shared.set(row.bytes)
    await store.write(LANE, token, 0, { rows: [{ key: row.key, bytes: shared }], flushingTo: 1 })
    expect(await readOne(store, LANE, 'k')).toEqual(row.bytes)
  })
})

describe('the one writer of a directory', () => {
  it('is refused while another process writes, which may be read beside', async () => {
    const path = newDirectory()
    const child = await startWriter('ready', path, 'hold')
    expect(() => openStore({ path })).toThrow(
      expect.objectContaining({ code: 'STORE_LOCKED', message: expect.stringContaining(`process ${child.pid}`) }),
    )
    const reader = openStore({ path, readOnly: true })
    expect((await reader.readLane(LANE))!.token.nonce).toBe('child')
  })

  it('is let in once the other one is gone, by kill -9 or by closing', async () => {
    const path = newDirectory()
    await kill(await startWriter('ready', path, 'hold'))
    const store = openStore({ path })
    expect((await store.takeLane(LANE, 'b')).token.counter).toBe(2)
    await store.close()
    const child = await startWriter('ready', path, 'hold')
    await kill(child)
    openStore({ path })
  })

  it('is let in where a process of another start has got the pid of the dead one', async () => {
    const path = newDirectory()
    await kill(await startWriter('ready', path, 'hold'))
    await damageValue(
      path,
      (key) => key.toString() === 'w',
      (sealed) => {
        const record = unseal<WriterRecord>(sealed, 'the writer')
        return seal({ ...record, pid: process.ppid })
      },
    )
    openStore({ path })
  })

  it('is refused at its next write when it was wrongly believed dead', async () => {
    const path = newDirectory()
    const store = openStore({ path })
    const { token } = await store.takeLane(LANE, 'a')
    // What a process of another container on the same volume would do.
    await startWriter('ready', path, 'displace')
    await expect(store.write(LANE, token, 0, { flushingTo: 1 })).rejects.toMatchObject({ code: 'STORE_LOCKED' })
    expect((await store.readLane(LANE))!.token.counter).toBe(2)
  })

  it('may be several threads, each with its own lane', async () => {
    const path = newDirectory()
    const main = openStore({ path })
    const workers = Array.from({ length: 3 }, (_, i) => {
      const argv = [path, 'write', `worker${i}`, '40']
      return new Worker(writer.script, { argv })
    })
    const exits = workers.map((worker) => once(worker, 'exit'))
    const { token } = await main.takeLane(LANE, 'main')
    for (let i = 0; i < 40; i++) {
      expect(await main.write(LANE, token, i, { rows: [rowOf(`k${i}`, i, i)], flushingTo: i })).toBe('ok')
    }
    for (const exit of exits) expect((await exit)[0]).toBe(0)
    for (let i = 0; i < 3; i++) {
      const lane = { ...LANE, lane: `worker${i}` }
      expect(await main.readLane(lane)).toMatchObject({ sequence: 40, flushingTo: 39 })
      expect((await rowsOf(main, lane)).length).toBe(40)
    }
    expect(await main.readLane(LANE)).toMatchObject({ sequence: 40 })
    // A thread that has closed leaves the place to the others; the last one leaves it to anybody.
    await main.close()
    await startWriter('ready', path, 'hold')
  })
})

describe('an LMDB store under faults', () => {
  /** Every row of the lane is of one write, or of the one before: all of it or nothing. */
  const expectWhole = async (store: Store, lane: LaneName) => {
    const record = (await store.readLane(lane))!
    const rows = await rowsOf(store, lane)
    expect(rows.length).toBe(50)
    for (const row of rows) expect(appliedOf(row.bytes)).toBe(record.flushingTo)
    return record.sequence
  }

  it('holds all of a write or nothing of it after kill -9, over and over', async () => {
    const path = newDirectory()
    const seed = Date.now() % 100_000
    const random = seededRandom(seed)
    let before = 0
    for (let round = 0; round < 6; round++) {
      const child = await startWriter('written', path, 'churn')
      // A reader that comes and goes beside the writer.
      const opened = openStore({ path, readOnly: true })
      const lived = (await rowsOf(opened, LANE)).map((row) => appliedOf(row.bytes))
      expect(new Set(lived).size, `got rows of several writes: ${lived}`).toBe(1)
      await opened.close()
      await new Promise((resolve) => setTimeout(resolve, random.below(80)))
      await kill(child)
      const reader = openStore({ path, readOnly: true })
      const sequence = await expectWhole(reader, LANE)
      expect(sequence, `seed ${seed}, round ${round}`).toBeGreaterThan(before)
      before = sequence
      await reader.close()
    }
  })

  it('loses no commit to processes that open and close beside the writer', async () => {
    const path = newDirectory()
    const churning = await startWriter('written', path, 'churn')
    const readers = [1, 2].map(() => startWriter('seen 60', path, 'peek'))
    await Promise.all(readers)
    // The writer checks each of its own commits; it would have ended.
    expect(churning.exitCode).toBeNull()
    await kill(churning)
    await expectWhole(openStore({ path }), LANE)
  })

  it('lets a thread be ended at any moment once its guard is closed', async () => {
    const path = newDirectory()
    const main = openStore({ path })
    const lane = { ...LANE, lane: 'main' }
    const { token } = await main.takeLane(lane, 'main')
    for (let round = 0; round < 8; round++) {
      const guard = createWriteGuard()
      const worker = new Worker(writer.script, { argv: [path, 'churn'], workerData: { guard }, stdout: true })
      const error = once(worker, 'error')
      await once(worker, 'message')
      await new Promise((resolve) => setTimeout(resolve, round))
      closeGuard(guard)
      // Ends by itself at its next write, or is ended before.
      if (round % 2 === 0) await worker.terminate()
      else expect((await error)[0]).toMatchObject({ code: 'ENGINE_CLOSED' })
      expect(await main.write(lane, token, round, { flushingTo: round })).toBe('ok')
      await expectWhole(main, LANE)
    }
  })

  it('lets a process exit whose threads write', () => {
    const path = newDirectory()
    for (let round = 0; round < 3; round++) {
      const child = spawnSync(process.execPath, [writer.script, path, 'exit'], { timeout: 20_000 })
      expect([child.status, child.signal]).toEqual([7, null])
    }
  })

  it('neither opens nor commits while another process does', async () => {
    const path = newDirectory()
    await startWriter('written', path, 'churn')
    const reader = openStore({ path, readOnly: true })
    const options = { path: join(path, 'gate'), noSubdir: false, overlappingSync: false }
    const gate = open<Buffer, Buffer>(options)
    const opener = startWriter('seen 60', path, 'peek')
    const marks = ['started', 'opened'].map((mark) => join(path, mark))
    const sequences: number[] = []
    const opened: boolean[] = []
    gate.transactionSync(() => {
      // The transaction ends with the promise; until then this process holds the gate.
      const held = async () => {
        while (!existsSync(marks[0]!)) await new Promise((resolve) => setTimeout(resolve, 5))
        for (let i = 0; i < 5; i++) {
          sequences.push((await reader.readLane(LANE))!.sequence)
          opened.push(existsSync(marks[1]!))
          await new Promise((resolve) => setTimeout(resolve, 40))
        }
      }
      return held()
    })
    await opener
    await gate.close()
    expect(opened).toEqual([false, false, false, false, false])
    expect(new Set(sequences).size, `got ${sequences}`).toBe(1)
    expect((await reader.readLane(LANE))!.sequence).toBeGreaterThan(sequences[0]!)
  })

  it('applies nothing of a write that the disk has no room for, and goes on once there is room', async () => {
    const path = newDirectory()
    await openStore({ path }).close()
    // A limit on the size of files stands in for a full disk: writes beyond it fail the same way.
    const command = `ulimit -f 4096; exec "$0" "$@"`
    const args = ['-c', command, process.execPath, writer.script, path, 'fill']
    const child = spawnSync('bash', args, { encoding: 'utf8' })
    expect(child.stderr).toBe('')
    const failure = JSON.parse(child.stdout) as { written: number; code: string; message: string }
    expect(failure.code).toBe('STORE_UNAVAILABLE')
    expect(failure.message).toMatch(/cannot write lane test\/.*bytes are free there/)
    const store = openStore({ path })
    const record = (await store.readLane(LANE))!
    expect(record.sequence).toBe(failure.written)
    expect((await rowsOf(store, LANE)).length).toBe(failure.written * 50)
    expect(await store.write(LANE, record.token, record.sequence, { flushingTo: 1000 })).toBe('ok')
  })

  it('answers for what is left of a damaged file without taking the process down', async () => {
    const path = newDirectory()
    const store = openStore({ path })
    const { token } = await store.takeLane(LANE, 'a')
    for (let i = 0; i < 30; i++) {
      const rows = Array.from({ length: 20 }, (_, j) => rowOf(`key${i * 20 + j}`, i, j, 3000))
      await store.write(LANE, token, i, { rows, flushingTo: i })
    }
    await store.close()
    const file = join(path, 'data.mdb')
    const size = statSync(file).size
    for (const keep of [0.95, 0.8, 0.6]) {
      truncateSync(file, Math.floor((size * keep) / 4096) * 4096)
      let answer: unknown
      try {
        const cut = openStore({ path, readOnly: true })
        answer = (await rowsOf(cut, LANE)).length
      } catch (error) {
        answer = (error as { code: unknown }).code
      }
      expect([600, 'STORE_FORMAT', 'STORE_UNAVAILABLE']).toContain(answer)
    }
  })
})
