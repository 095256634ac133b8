/** A worker thread of a pool: runs the event walk for the ingests it was given, over its own handle on the store. */
import { parentPort, workerData } from 'node:worker_threads'
import { coreOf } from '../engine/module.ts'
import { unpackBatch } from '../engine/pack.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Store } from '../store/port.ts'
import { Ingest } from './ingest.ts'
import { type Answer, type IngestStatus, postError, type Request } from './messages.ts'
import { Pace } from './pace.ts'
import { statusOf, type WorkerData } from './pool.ts'
import { openThreadStore } from './thread-store.ts'

const port = parentPort!
const data = workerData as WorkerData
const core = coreOf(data.module)
const pace = data.pace && new Pace(data.pace)
/** Opened when it is first needed: what is wrong with it is then an answer with a code. */
let store: Promise<Store> | undefined
const ingests = new Map<number, Ingest>()

port.on('message', async (request: Request) => {
  let answer: Answer
  try {
    answer = { id: request.id, status: await perform(request) }
  } catch (error) {
    answer = { id: request.id, error: postError(error) }
  }
  port.postMessage(answer)
  if (request.op === 'stop') port.close()
})

async function perform(request: Request): Promise<IngestStatus | undefined> {
  if (request.op === 'stop') {
    await (await store?.catch(() => undefined))?.close()
    return undefined
  }
  if (request.op === 'open') {
    const onSide = (side: Extract<Answer, { side: unknown }>['side']) => port.postMessage({ side } satisfies Answer)
    const { spec, nonce } = request
    store ??= openThreadStore(data.address, data.guard)
    const own = { store: await store, core, clock: Date.now, nonce, onSide, ...(pace && { pace }) }
    const ingest = await Ingest.open(spec, own)
    ingests.set(request.handle, ingest)
    return statusOf(ingest)
  }
  const ingest = ingests.get(request.handle)
  if (!ingest) throw new TilefoldError('ENGINE_CLOSED', `cannot ${request.op}: the ingest was dropped`)
  if (request.op === 'push') await ingest.push(unpackBatch(request.batch), request.hash)
  else if (request.op === 'flush') await ingest.flush(request.isLast)
  else if (request.op === 'advance') await ingest.advance(request.ms)
  else if (request.op === 'check') await ingest.check()
  else if (request.op === 'renew') await ingest.renew()
  else ingests.delete(request.handle)
  return statusOf(ingest)
}
