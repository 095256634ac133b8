/** A process of the claim `route` that drains a topic each time it is told to, and says what that took. */
import { createRedisStore } from '../src/store/redis.ts'
import { type Running, rowsOf, startLanes, startNaiveRouter, startRouter } from './route-jobs.ts'
import { StoredPositions, startWorker } from './stream-worker.ts'

export interface DrainTask {
  /** The router, one that writes each event, the worker behind the router, or a worker that reads the source itself. */
  readonly role: 'router' | 'naive' | 'lanes' | 'direct'
  readonly brokers: readonly string[]
  readonly redisUrl: string
}

export interface DrainCommand {
  /** The source. */
  readonly topic: string
  readonly namespace: string
  readonly events: number
}

/** From the first batch until everything is committed, or readable. */
export interface DrainReport {
  readonly ns: number
  readonly cpuNs: number
}

if (process.send !== undefined) {
  const task = JSON.parse(process.argv[2]!) as DrainTask
  // Nobody is left to report to.
  process.on('disconnect', () => process.exit())
  process.on('message', async (command: DrainCommand) => process.send!(await drain(task, command)))
}

async function drain({ role, brokers, redisUrl }: DrainTask, command: DrainCommand): Promise<DrainReport> {
  const { events } = command
  const store = createRedisStore({ urls: redisUrl })
  const settings = { brokers, ...command }
  const positions = new StoredPositions()
  let rows = 0
  let start: { readonly ns: bigint; readonly cpu: NodeJS.CpuUsage } | undefined
  let started: Promise<Running> | undefined
  const onBatch = () => {
    start ??= { ns: process.hrtime.bigint(), cpu: process.cpuUsage() }
  }
  const report = await new Promise<DrainReport>((resolve, reject) => {
    const check = (done: number) => {
      if (done < events) return
      const { user, system } = process.cpuUsage(start!.cpu)
      resolve({ ns: Number(process.hrtime.bigint() - start!.ns), cpuNs: (user + system) * 1000 })
    }
    const onStored = (partition: number, position: number) => {
      positions.set(partition, position)
      check(positions.total)
    }
    const onRecords = (records: readonly Buffer[]) => {
      for (const record of records) rows += rowsOf(record)
      check(rows)
    }
    const onlooker = { onBatch, onStored }
    started =
      role === 'router'
        ? startRouter(settings, store, onlooker)
        : role === 'naive'
          ? startNaiveRouter(settings, onlooker)
          : role === 'lanes'
            ? startLanes(settings, store, onRecords, onBatch)
            : startWorker(settings, store, onlooker)
    started.catch(reject)
  })
  await (await started!).stop()
  await store.close()
  return report
}
