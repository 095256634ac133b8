/**
 * How long a partition stands still after kill -9: a worker with many resident entities is killed where it stands, some
 * seconds of events come in, and another one is started. The group gives the partitions away only when the dead member's
 * session has timed out; what is ours begins with the assignment.
 */
import { freshNamespace } from '../test/support/redis.ts'
import { timesRow } from './contest.ts'
import { StreamProcess } from './stream-child.ts'
import { DAY_MS, EventMaker, PARTITIONS, produceAll } from './stream-events.ts'
import { checkCounted, type Servers, TOPIC_SETTINGS } from './stream-servers.ts'

/** The shortest that the test's broker and a worker's heartbeats stand well. */
const SESSION_TIMEOUT_MS = 6_000

export async function timeRestart(servers: Servers): Promise<void> {
  const { kafka, settings, rounds } = servers
  const entities = settings.short ? 5_000 : 100_000
  const events = entities * 3
  const behind = settings.short ? 2_000 : 20_000
  const maker = new EventMaker(entities, settings.seed)
  const producer = kafka.client.producer()
  await producer.connect()
  const times = { assigned: [] as number[], applied: [] as number[], caughtUp: [] as number[] }
  for (let round = 0; round < Math.min(rounds, 3); round++) {
    const namespace = freshNamespace()
    const topic = await kafka.createTopic(namespace, PARTITIONS, TOPIC_SETTINGS)
    const task = { role: 'worker', topic, namespace, sessionTimeoutMs: SESSION_TIMEOUT_MS } as const
    await produceAll(producer, topic, maker.makeAll(events, DAY_MS, Date.now(), true))
    const first = await StreamProcess.start(servers, { ...task, entityCount: entities })
    await first.storedUpTo(events)
    await first.kill9()
    const nowMs = Date.now()
    await produceAll(
      producer,
      topic,
      Array.from({ length: behind }, () => maker.make(nowMs)),
    )
    const second = await StreamProcess.start(servers, { ...task, entityCount: entities })
    try {
      await second.storedUpTo(events + behind)
      await checkCounted(servers, namespace, maker.keys, events + behind)
      const ends = new Map(first.stored.map(([partition, position]) => [partition, position]))
      const isNew = second.stored.filter(([partition, position]) => position > ends.get(partition)!)
      times.assigned.push((second.assigned[0]! - second.startMs) * 1e6)
      times.applied.push((isNew[0]![2] - second.startMs) * 1e6)
      times.caughtUp.push((second.stored.at(-1)![2] - second.startMs) * 1e6)
    } finally {
      await second.kill9()
    }
  }
  await producer.disconnect()
  const title = `restart: kill -9 with ${entities} resident entities, ${behind} events behind, session timeout ${SESSION_TIMEOUT_MS / 1000} s`
  const contest = { claim: 'stream', title, unit: 'restart' }
  settings.emit([
    timesRow(contest, 'process started to first partition assigned', times.assigned),
    timesRow(contest, 'to first new event readable', times.applied),
    timesRow(contest, 'to caught up', times.caughtUp),
  ])
}
