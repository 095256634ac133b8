/** Backfills into Redis: in worker threads, in several processes as a Job of Kubernetes starts them, beside each other, killed. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { createRedisStore, type RedisStore } from '../../src/store/redis.ts'
import { anyRedis, freshNamespace, until, whyNoRedis } from '../support/redis.ts'
import {
  cli,
  type Ended,
  ended,
  errorOf,
  makeFolder,
  makeOrders,
  ORDERS_YAML,
  root,
  runProcess,
  spawnCli,
  toLines,
  writeIn,
} from './harness.ts'

interface Summary {
  readonly complete: boolean
  readonly finished: boolean
  readonly rows: number
  readonly started_at: number
  readonly shard?: string
  readonly memory_bytes?: number
  readonly peak_rss_bytes: number
  readonly views: readonly {
    readonly consumed: number
    readonly applied: number
    readonly lanes: number
    readonly own_lanes: number
    readonly lanes_done: number
    readonly written_rows: number
  }[]
}

describe.skipIf(whyNoRedis() !== undefined)('a backfill into Redis', { timeout: 120_000 }, () => {
  const folder = makeFolder()
  const definitions = writeIn(folder, 'tilefold.yaml', ORDERS_YAML)
  // Some hundred customers, so that every lane has some.
  const orders = makeOrders(6_000, Date.UTC(2024, 10, 20)).map((order, i) => ({
    ...order,
    customer: `c${(i * 7) % 300}`,
  }))
  const events = makeFolder()
  let redis: Awaited<ReturnType<typeof anyRedis>>
  let store: RedisStore
  /** By lane and key: what one process, in one thread, writes. */
  let whole: Map<string, string>

  beforeAll(async () => {
    for (const [i, name] of ['b.parquet', 'a.parquet'].entries()) {
      const rows = orders.slice((1 - i) * 3_000, (2 - i) * 3_000)
      const columnData = [
        { name: 'at', data: rows.map((row) => BigInt(Date.parse(row.at))), type: 'INT64' as const },
        { name: 'customer', data: rows.map((row) => row.customer), type: 'STRING' as const },
        { name: 'amount', data: rows.map((row) => row.amount), type: 'DOUBLE' as const },
        { name: 'items', data: rows.map((row) => BigInt(row.items)), type: 'INT64' as const },
      ]
      writeIn(events, name, new Uint8Array(parquetWriteBuffer({ columnData, rowGroupSize: 500 })))
    }
    redis = await anyRedis()
    store = createRedisStore({ urls: redis.url })
    const { code, stderr, namespace } = await backfill('--threads', '0')
    expect(code, stderr).toBe(0)
    whole = await rowsOf(namespace)
    expect(whole.size).toBe(300)
  }, 60_000)

  afterAll(async () => {
    await store?.close()
    await redis?.stop()
  })

  const common = (namespace: string) => ['-f', definitions, '--namespace', namespace, '--redis-url', redis.url]

  async function backfill(...args: string[]) {
    const namespace = freshNamespace()
    const lanes = ['--history-lanes', '8']
    return { namespace, ...(await cli(['backfill', events, ...lanes, ...common(namespace), '-o', 'json', ...args])) }
  }

  async function rowsOf(namespace: string): Promise<Map<string, string>> {
    const rows = new Map<string, string>()
    for (const { lane } of await store.listLanes(namespace)) {
      for await (const { key, bytes } of store.scanRows(lane)) {
        rows.set(`${lane.lane} ${Buffer.from(key).toString('latin1')}`, Buffer.from(bytes).toString('base64'))
      }
    }
    return rows
  }

  const summaryOf = ({ stdout, stderr }: { stdout: string; stderr: string }) => {
    expect(stderr).not.toContain('"error"')
    return JSON.parse(stdout) as Summary
  }

  it.each(['1', '3'])('writes the same bytes in %s worker threads', async (threads) => {
    const outcome = await backfill('--threads', threads)
    expect(summaryOf(outcome)).toMatchObject({ complete: true, rows: orders.length, views: [{ written_rows: 300 }] })
    expect(await rowsOf(outcome.namespace)).toEqual(whole)
  })

  it('tells once what it puts aside, however many threads judge it', async () => {
    const namespace = freshNamespace()
    const rows = orders.slice(0, 500).map((order, i) => (i % 100 === 7 ? { ...order, customer: null } : order))
    const file = writeIn(folder, 'nameless.ndjson', toLines(rows))
    const outcome = await cli(['backfill', file, ...common(namespace), '--threads', '3', '-o', 'json'])
    expect(JSON.parse(outcome.stdout)).toMatchObject({
      put_aside: { rejected_key: 5 },
      views: [{ consumed: 500, applied: 495, rejected: 5 }],
    })
  })

  it('and within a budget of memory and at a bounded rate', async () => {
    const outcome = await backfill('--threads', '1', '--memory', '384MiB', '--rate-limit', '100000rows/s')
    const summary = summaryOf(outcome)
    expect(summary.memory_bytes).toBe(384 * 2 ** 20)
    expect(summary.peak_rss_bytes).toBeGreaterThan(0)
    expect(await rowsOf(outcome.namespace)).toEqual(whole)
  })

  it('is what fixtures/kubernetes/backfill-job.yaml does in all its pods', async () => {
    const job = parse(readFileSync(join(root, 'fixtures/kubernetes/backfill-job.yaml'), 'utf8')) as Job
    expect(job).toMatchObject({ apiVersion: 'batch/v1', kind: 'Job', spec: { completionMode: 'Indexed' } })
    const [container] = job.spec.template.spec.containers
    const mounts = new Map(container!.volumeMounts.map(({ name, mountPath }) => [name, mountPath]))
    expect([...mounts.keys()].sort()).toEqual(job.spec.template.spec.volumes.map(({ name }) => name).sort())
    const namespace = freshNamespace()
    const runs: Promise<Ended>[] = []
    for (let index = 0; index < job.spec.completions; index++) {
      const args = container!.args.map((arg) =>
        arg
          .replaceAll('$(JOB_COMPLETION_INDEX)', `${index}`)
          .replace(mounts.get('events')!, events)
          .replace(mounts.get('definitions')!, folder),
      )
      const names = container!.env.map(({ name }) => name)
      expect(names).toEqual(['TILEFOLD_REDIS_URL'])
      const env = { TILEFOLD_REDIS_URL: redis.url, TILEFOLD_NAMESPACE: namespace, TILEFOLD_HISTORY_LANES: '8' }
      runs.push(runProcess(args, folder, env))
    }
    const outcomes = await Promise.all(runs)
    for (const { code, stderr } of outcomes) expect(code, stderr).toBe(0)
    const summaries = outcomes.map(summaryOf)
    expect(summaries.map(({ shard }) => shard)).toEqual(['0/4', '1/4', '2/4', '3/4'])
    for (const { views } of summaries)
      expect(views).toMatchObject([{ consumed: orders.length, applied: orders.length }])
    expect(summaries.reduce((sum, { views }) => sum + views[0]!.written_rows, 0)).toBe(300)
    // The last one sees it; two that end together may both.
    expect(summaries.filter(({ complete }) => complete).length).toBeGreaterThan(0)
    expect(await rowsOf(namespace)).toEqual(whole)
    const ask = ['get', 'orders_by_customer', '--entity', 'customer=c7', '--as-of', orders.at(-1)!.at]
    expect((await cli([...ask, ...common(namespace)])).code).toBe(0)
  })

  it('tells the shard that is not the last one, and the one that comes when all is done', async () => {
    const namespace = freshNamespace()
    const shard = (share: string, ...more: string[]) =>
      cli([
        'backfill',
        events,
        '--shard',
        share,
        '--threads',
        '0',
        '--history-lanes',
        '6',
        ...common(namespace),
        ...more,
      ])
    const first = await shard('1/2')
    expect(first.code, first.stderr).toBe(0)
    expect(`${first.stdout}${first.stderr}`).toContain('becomes visible when the others are: 3 of 6 history lanes')
    const ask = ['get', 'orders_by_customer', '--entity', 'customer=c7', ...common(namespace), '-o', 'json']
    expect(errorOf(await cli(ask)).code).toBe('VIEW_NOT_READY')
    expect(summaryOf(await shard('0/2', '-o', 'json'))).toMatchObject({ complete: true, views: [{ own_lanes: 3 }] })
    expect((await cli(ask)).code).toBe(0)
    expect((await shard('1/2')).stdout).toContain('history is complete')
  })

  it('keeps a second process off the same history, until the first is dead', async () => {
    const namespace = freshNamespace()
    const large = makeOrders(40_000, Date.UTC(2024, 0, 1)).map((order, i) => ({ ...order, customer: `c${i % 16_000}` }))
    const file = writeIn(folder, 'large.ndjson', toLines(large))
    const args = ['backfill', file, ...common(namespace), '--threads', '1', '--history-lanes', '4', '-o', 'json']
    // Far longer than the other one takes to see it alive.
    const first = spawnCli([...args, '--rate-limit', '100rows/s'], folder)
    const end = ended(first)
    const hasClaim = async () => (await store.listViews(namespace)).some((name) => name.startsWith('~backfill.'))
    await until(hasClaim)
    const second = await runProcess(args, folder)
    expect(second.code).toBe(1)
    expect(errorOf(second)).toMatchObject({ code: 'FENCED' })
    expect(errorOf(second).message).toContain('another backfill is filling them, shard 0/1')
    expect(second.stderr).toContain('watching it')
    first.kill('SIGKILL')
    await end
    const third = summaryOf(await runProcess(args, folder))
    expect(third).toMatchObject({ complete: true, views: [{ consumed: large.length, applied: large.length }] })
  })

  it('refuses shards of a directory, and words it cannot use', async () => {
    const bad = async (...args: string[]) => {
      const outcome = await cli(['backfill', events, '-f', definitions, '-o', 'json', ...args])
      expect(outcome.code).toBe(2)
      return errorOf(outcome)
    }
    expect((await bad('--shard', '0/2', '--store', join(folder, 'none'))).message).toContain('no --redis-url')
    for (const share of ['2/2', '1', '-1/2', 'a/b']) {
      expect((await bad('--shard', share, '--redis-url', redis.url)).message).toContain('expected i/n')
    }
    for (const rate of ['fast', '10', '10/s', '0rows/s', '5rows']) {
      expect((await bad('--rate-limit', rate)).message).toContain('2000rows/s, 20MiB/s')
    }
    expect((await bad('--memory', '100MiB')).message).toMatch(/got 100.0 MiB, expected at least \d+.\d MiB/)
  })
})

interface Job {
  readonly spec: {
    readonly completions: number
    readonly template: {
      readonly spec: {
        readonly volumes: readonly { readonly name: string }[]
        readonly containers: readonly {
          readonly args: readonly string[]
          readonly env: readonly { readonly name: string }[]
          readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[]
        }[]
      }
    }
  }
}
