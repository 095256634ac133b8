/**
 * How fast one worker drains a topic into Redis, against a kafkajs handler that only parses, and one that does nothing.
 *
 * Each round has a group and a namespace of its own and reads the topic from the start. The clock runs from the first batch
 * given to the handler until the last event is readable; joining the group does not count. All three are in this process.
 */
import { freshNamespace } from '../test/support/redis.ts'
import { type Contender, judge, type Measure, runContest, timesRow } from './contest.ts'
import { type EventMaker, MESSAGE_BYTES } from './stream-events.ts'
import { checkCounted, quantileOf, type Servers } from './stream-servers.ts'
import { StoredPositions, startWorker } from './stream-worker.ts'

/** As our consumer asks for (source/kafka-consumer.ts). */
const FETCH = { maxBytesPerPartition: 1 << 20, maxBytes: 1 << 24, maxWaitTimeInMs: 250 }

export async function timeDrain(servers: Servers, topic: string, maker: EventMaker, events: number): Promise<void> {
  const { settings, rounds } = servers
  const cpu = { ours: [] as number[], parse: [] as number[], nothing: [] as number[] }
  const title = `${events} messages of ${MESSAGE_BYTES} bytes, one view, into Redis`
  const contest = { claim: 'stream', title: `drain: ${title}`, unit: 'message' }
  settings.emit(
    await runContest(
      {
        ...contest,
        subject: drainer(servers, topic, maker, events, cpu.ours),
        peers: [
          {
            contender: reader(
              'kafkajs eachBatch, JSON.parse(value.toString())',
              servers,
              topic,
              events,
              cpu.parse,
              (value) => JSON.parse(value.toString()),
            ),
            // Our rate is at least 0.7 of its rate.
            target: { kind: 'gain', limit: 0.7 },
          },
          { contender: reader('kafkajs eachBatch, nothing', servers, topic, events, cpu.nothing, () => {}) },
        ],
      },
      { all: rounds, slow: rounds },
    ),
  )

  // The first round of each is the one that doesn't count.
  const [ours, parse, nothing] = [cpu.ours.slice(1), cpu.parse.slice(1), cpu.nothing.slice(1)]
  const share = (part: readonly number[]) =>
    judge(
      part.map((ns, round) => ns / ours[round]!),
      'share',
    )
  const cpuContest = { ...contest, title: `CPU of this process in the same rounds; share of the whole job` }
  settings.emit([
    timesRow(cpuContest, 'tilefold, the whole job', ours),
    { ...timesRow(cpuContest, 'kafkajs eachBatch, nothing', nothing), ...share(nothing) },
    { ...timesRow(cpuContest, 'kafkajs eachBatch, JSON.parse', parse), ...share(parse) },
  ])
  settings.note(clientsWorth(medianOf(ours), medianOf(nothing)))
}

/** @platformatic/kafka 1.35.0, the only other client that installs here: CPU a message over kafkajs', each with `JSON.parse`, one topic. */
const OTHER_CLIENT = 9.5 / 3.3

/** What another client would be worth: the whole job is bound by this process's CPU, so its rate is the inverse of that. */
function clientsWorth(jobNs: number, clientNs: number): string {
  const [own, share] = [jobNs - clientNs, Math.round((100 * clientNs) / jobNs)]
  const bound = (jobNs / own).toFixed(2)
  const other = (jobNs / (own + clientNs * OTHER_CLIENT)).toFixed(2)
  return (
    `\nkafkajs takes ${(clientNs / 1000).toFixed(1)} of ${(jobNs / 1000).toFixed(1)} µs of CPU a message (${share} %): ` +
    `a client that cost nothing would drain at ${bound}x the rate at most, ` +
    `@platformatic/kafka at ${other}x (${OTHER_CLIENT.toFixed(1)} times kafkajs' CPU where it was measured)`
  )
}

function medianOf(values: readonly number[]): number {
  return quantileOf(values, 0.5)
}

class Clock {
  #start: { readonly ns: bigint; readonly cpu: NodeJS.CpuUsage } | undefined

  /** From the first call on. */
  start(): void {
    this.#start ??= { ns: process.hrtime.bigint(), cpu: process.cpuUsage() }
  }

  stop(events: number, cpu: number[]): Measure {
    const { user, system } = process.cpuUsage(this.#start!.cpu)
    cpu.push(((user + system) * 1000) / events)
    return { ns: Number(process.hrtime.bigint() - this.#start!.ns), ops: events, checksum: `${events}` }
  }
}

function drainer(servers: Servers, topic: string, maker: EventMaker, events: number, cpu: number[]): Contender {
  return {
    name: 'tilefold, one worker',
    async round() {
      const namespace = freshNamespace()
      const clock = new Clock()
      const stored = new StoredPositions()
      let folded = 0
      let done = () => {}
      const allFolded = new Promise<void>((resolve) => {
        done = resolve
      })
      const job = await startWorker({ brokers: servers.kafka.brokers, topic, namespace }, servers.store, {
        onBatch: () => clock.start(),
        onFolded: (messages) => {
          folded += messages
          if (folded === events) done()
        },
        onStored: (partition, position) => stored.set(partition, position),
      })
      await allFolded
      // A flush under way may be of less than what was folded.
      while (stored.total < events) await Promise.all(job.runs.map((run) => run.flush()))
      const measure = clock.stop(events, cpu)
      await job.stop()
      await checkCounted(servers, namespace, maker.keys, events)
      return measure
    },
  }
}

function reader(
  name: string,
  { kafka }: Servers,
  topic: string,
  events: number,
  cpu: number[],
  handle: (value: Buffer) => unknown,
): Contender {
  return {
    name,
    async round() {
      const consumer = kafka.client.consumer({ groupId: freshNamespace(), ...FETCH })
      const clock = new Clock()
      let read = 0
      await consumer.connect()
      await consumer.subscribe({ topics: [topic], fromBeginning: true })
      const measure = await new Promise<Measure>((resolve, reject) => {
        consumer
          .run({
            autoCommit: false,
            eachBatch: async ({ batch }) => {
              clock.start()
              for (const { value } of batch.messages) handle(value!)
              read += batch.messages.length
              if (read >= events) resolve(clock.stop(read, cpu))
            },
          })
          .catch(reject)
      })
      await consumer.disconnect()
      return measure
    },
  }
}
