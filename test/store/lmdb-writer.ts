/**
 * A process, or a thread, beside the test: `lmdb-writer <path> <role> [lane] [writes]`.
 * hold: open for writing, take the lane, stay. churn: rewrite 50 rows per write for ever, checking each commit. peek: open
 * and close for reading, over and over. fill: write until it fails. write: so many writes, then close. displace: take the
 * writer's place by hand. exit: end with a thread that churns.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parentPort, threadId, Worker, workerData } from 'node:worker_threads'
import { open } from 'lmdb'
import type { TilefoldError } from '../../src/model/errors.ts'
import { closeGuard, createWriteGuard, type WriteGuard } from '../../src/store/guard.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import type { StoredRow } from '../../src/store/port.ts'
import { appliedOf } from '../../src/store/rules.ts'
import { seal, unseal } from '../../src/store/sealed.ts'
import type { WriterRecord } from '../../src/store/writer.ts'

const [path = '', role, name = 'clicks.0', writes = '0'] = process.argv.slice(2)
const lane = { namespace: 'test', stateHash: '0123456789abcdef', generation: 1, lane: name }

function rowsAt(position: number, count: number, from = 0, bytes = 1500): StoredRow[] {
  return Array.from({ length: count }, (_, i) => {
    const row = new Uint8Array(bytes).fill(position)
    new DataView(row.buffer).setBigInt64(8, BigInt(position), true)
    return { key: Buffer.from(`key${from + i}`), bytes: row }
  })
}

if (role === 'hold') {
  const store = createLmdbStore({ path })
  await store.takeLane(lane, 'child')
  console.log('ready')
  setInterval(() => {}, 1000)
}

if (role === 'churn') {
  const store = createLmdbStore({ path, guard: (workerData as { guard: WriteGuard } | null)?.guard })
  const { token, sequence } = await store.takeLane(lane, `churn ${process.pid} ${threadId}`)
  for (let i = sequence; ; i++) {
    const outcome = await store.write(lane, token, i, { rows: rowsAt(i, 50), flushingTo: i })
    const stored = (await store.readLane(lane))!
    if (outcome !== 'ok' || stored.sequence !== i + 1)
      throw new Error(`lost write ${i}: ${outcome}, ${stored.sequence}`)
    if (i === sequence + 3) {
      console.log('written')
      parentPort?.postMessage('written')
    }
    if (i % 4 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
}

if (role === 'peek') {
  let last = 0
  writeFileSync(join(path, 'started'), '')
  for (let i = 1; i <= 60; i++) {
    const store = createLmdbStore({ path, readOnly: true })
    if (i === 1) writeFileSync(join(path, 'opened'), '')
    const { sequence, flushingTo } = (await store.readLane(lane))!
    if (sequence < last) throw new Error(`went back from ${last} to ${sequence}`)
    last = sequence
    await store.readRows([{ lane, key: Buffer.from('key7') }], (_, bytes) => {
      if (appliedOf(bytes!) < flushingTo) throw new Error(`row at ${appliedOf(bytes!)}, lane at ${flushingTo}`)
    })
    await store.close()
  }
  console.log('seen 60')
}

if (role === 'fill') {
  const store = createLmdbStore({ path })
  const { token } = await store.takeLane(lane, 'fill')
  let written = 0
  try {
    for (; written < 200; written++) {
      await store.write(lane, token, written, { rows: rowsAt(written, 50, written * 50, 3000), flushingTo: written })
    }
  } catch (error) {
    const { code, message } = error as TilefoldError
    console.log(JSON.stringify({ written, code, message }))
  }
  await store.close()
}

if (role === 'write') {
  const store = createLmdbStore({ path })
  const { token } = await store.takeLane(lane, name)
  for (let i = 0; i < Number(writes); i++) {
    const outcome = await store.write(lane, token, i, { rows: rowsAt(i, 1, i), flushingTo: i })
    if (outcome !== 'ok') throw new Error(outcome)
  }
  await store.close()
}

if (role === 'displace') {
  const raw = open<Buffer, Buffer>({
    path,
    noSubdir: false,
    overlappingSync: false,
    encoding: 'binary',
    keyEncoding: 'binary',
  })
  raw.transactionSync(() => {
    const writer = unseal<WriterRecord>(raw.getBinary(Buffer.from('w'))!, 'the writer')
    void raw.put(Buffer.from('w'), seal({ ...writer, host: 'another', holders: ['x'] }))
  })
  await raw.close()
  const store = createLmdbStore({ path })
  await store.takeLane(lane, 'displacer')
  console.log('ready')
  setInterval(() => {}, 1000)
}

if (role === 'exit') {
  const guard = createWriteGuard()
  process.on('exit', () => closeGuard(guard))
  const worker = new Worker(new URL(import.meta.url), { argv: [path, 'churn'], workerData: { guard } })
  worker.on('message', () => setTimeout(() => process.exit(7), Math.random() * 20))
}
