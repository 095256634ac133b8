/**
 * Stream, mirror, wipe, rebuild, and the stream goes on: against a real Kafka that has forgotten what the mirror keeps, with a kill in
 * every phase. TILEFOLD_KILLS=50 kills so often in each.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { readMirrorFiles } from '../../src/source/mirror-manifest.ts'
import { whyNoKafka } from '../support/kafka.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { whyNoRedis } from '../support/redis.ts'
import { drawPayments, expectedRows, type Payment } from './payments.ts'
import { type Pipeline, SEED, SESSION_TIMEOUT, type Stream, type Worker } from './pipeline.ts'
import { pipelineScene } from './pipeline-scene.ts'

const KILLS = Number(process.env.TILEFOLD_KILLS ?? 1)
const PARTITIONS = 3
const missing = whyNoKafka()

describe.skipIf(missing !== undefined)(
  'the pipeline, its mirror and a store that is lost',
  {
    timeout: 240_000 + KILLS * 40_000,
  },
  () => {
    const { pipelineOf, redisOf } = pipelineScene()

    /** Kills what `start` starts, again and again at a drawn moment; the last one lives. */
    async function killed(start: () => Worker, random: Random, longestMs: number): Promise<Worker> {
      for (let kill = 0; kill < KILLS; kill++) {
        const { child } = start()
        await sleep(200 + random.below(longestMs))
        child.kill('SIGKILL')
      }
      return start()
    }

    /** Until the mirror has everything of the topic; where each partition ends. */
    async function mirrored(
      { kafka }: Pipeline,
      stream: Stream,
      dir: string,
    ): Promise<{ partition: number; offset: string }[]> {
      for (const untilMs = Date.now() + 60_000; ; await sleep(200)) {
        const ends = await kafka.admin.fetchTopicOffsets(stream.topic)
        const found = await Promise.all(
          ends.map(async ({ partition, high }) => {
            const files = await readMirrorFiles(dir, stream.topic, partition).catch(() => [])
            return (files.at(-1)?.facts.end ?? -1) + 1 === Number(high)
          }),
        )
        if (found.every(Boolean)) return ends.map(({ partition, high }) => ({ partition, offset: high }))
        if (Date.now() > untilMs) throw new Error('the mirror does not come to the end of the topic')
      }
    }

    async function comesBack(
      name: string,
      pipeline: Pipeline,
      wipe: (stream: Stream) => Promise<unknown>,
    ): Promise<void> {
      const random = seededRandom(SEED)
      const stream = await pipeline.stream(name, PARTITIONS)
      const payments = drawPayments(random, 3_000, 100)
      const [before, between, after] = [0, 1_200, 2_000].map((from, i) =>
        payments.slice(from, [1_200, 2_000, 3_000][i]),
      )
      const { kafka } = pipeline
      const dir = join(pipeline.folder, 'mirror')
      const brokers = ['--kafka-brokers', kafka.brokers.join(',')]
      const produced = (part: readonly Payment[] | undefined) => pipeline.produceSlowly(stream, part!, 5, 2_000)

      // Folded and mirrored, both killed on the way.
      const first = produced(before)
      const group = ['--kafka-group', `${stream.namespace}-mirror`]
      const mirror = await killed(
        () =>
          pipeline.spawn(
            stream,
            'mirror',
            ...brokers,
            ...group,
            '--dir',
            dir,
            '--file-age',
            '500ms',
            ...SESSION_TIMEOUT,
          ),
        random,
        2_500,
      )
      const worker = await killed(() => pipeline.start(stream), random, 2_500)
      await Promise.all([first, produced(between)])
      const soFar = [...before!, ...between!]
      await pipeline.settles(stream, await expectedRows(stream.plan, soFar), 'before the loss')
      const ends = await mirrored(pipeline, stream, dir)
      for (const each of [mirror, worker]) {
        each.child.kill('SIGTERM')
        expect(await pipeline.exitOf(each)).toBe(0)
      }

      // Nothing is left but the mirror.
      await wipe(stream)
      await kafka.admin.deleteTopicRecords({ topic: stream.topic, partitions: ends })
      await pipeline.expectSame(stream, new Map())

      const rebuilt = await killed(() => pipeline.spawn(stream, 'rebuild', '--mirror', dir, '-o', 'json'), random, 400)
      expect(await pipeline.exitOf(rebuilt), rebuilt.log()).toBe(0)
      expect(rebuilt.log()).toContain('"finished": true')
      for (const { partition, offset } of ends) {
        expect(rebuilt.log().replaceAll(/\s+/g, '')).toMatch(
          new RegExp(`"partition":${partition},"from":\\d+,"go_on_at":${offset}}`),
        )
      }
      await pipeline.expectSame(stream, await expectedRows(stream.plan, soFar))

      // The stream goes on, and dies once more.
      const rest = produced(after)
      const last = await killed(() => pipeline.start(stream), random, 2_500)
      await rest
      await pipeline.settles(
        stream,
        await expectedRows(stream.plan, payments),
        `seed ${SEED}, ${KILLS} kills in each phase`,
      )
      await pipeline.finish(last)
    }

    it.skipIf(whyNoRedis() !== undefined)('comes back from its mirror into Redis', async () => {
      const redis = await redisOf()
      await comesBack('redis', pipelineOf(redis.url), () => redis.client.flushall())
    })

    it('comes back from its mirror into a directory', async () => {
      const pipeline = pipelineOf()
      await comesBack('directory', pipeline, async () => rmSync(pipeline.directory!, { recursive: true }))
    })
  },
)
