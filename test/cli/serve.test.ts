import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import { duckRows } from '../source/support.ts'
import {
  cli,
  ended,
  errorOf,
  expectedValues,
  makeFolder,
  makeOrders,
  ORDERS_YAML,
  spawnCli,
  toLines,
  writeIn,
} from './harness.ts'

const folder = makeFolder()
writeIn(folder, 'tilefold.yaml', ORDERS_YAML)
const orders = makeOrders(120)
const asOf = '2025-01-01T19:59:00Z'
const TOKEN = 'a-token-of-some-length'

beforeAll(async () => {
  const file = writeIn(folder, 'orders.ndjson', toLines(orders))
  await cli([
    'backfill',
    file,
    '-f',
    join(folder, 'tilefold.yaml'),
    '--store',
    join(folder, '.tilefold'),
    '--threads',
    '0',
  ])
})

/** Starts the server as a process on a free port. */
async function start(args: readonly string[], env?: Readonly<Record<string, string>>) {
  const child = spawnCli(['serve', '--port', '0', '-o', 'json', ...args], folder, env)
  const end = ended(child)
  let text = ''
  child.stdout!.on('data', (more: string) => {
    text += more
  })
  while (!text.includes('\n')) {
    if (child.exitCode !== null) throw new Error(`the server ended: ${(await end).stderr}`)
    await delay(10)
  }
  const { url } = JSON.parse(text) as { url: string }
  return { child, end, url }
}

function ask(url: string, token?: string): Promise<Response> {
  const authorization = token === undefined ? undefined : { authorization: `Bearer ${token}` }
  return fetch(`${url}/v1/features`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...authorization },
    body: JSON.stringify({ view: 'orders_by_customer', entities: [{ customer: 'ada' }], as_of: asOf }),
  })
}

describe('tilefold serve', () => {
  it('logs what it answered, in files that are whole once it has drained', async () => {
    const log = join(folder, 'served')
    const { child, end, url } = await start(['--served-log', log])
    const answer = (await (await ask(url)).json()) as { rows: { values: unknown[] }[] }
    child.kill('SIGTERM')
    expect((await end).code).toBe(0)
    const files = readdirSync(log, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.parquet'))
    expect(files).toHaveLength(1)
    expect(files[0]).toMatch(/^orders_by_customer\/date=\d{4}-\d\d-\d\d\/served-\d{8}T\d{6}Z-[0-9a-f]{6}\.parquet$/)
    const [row] = await duckRows(`SELECT * FROM '${log}/**/*.parquet'`)
    expect(row).toMatchObject({ customer: 'ada', _request_row: 0n })
    const values = Object.entries(row!).filter(([name]) => name.includes('__') && !name.endsWith('__status'))
    expect(values.map(([, value]) => String(value))).toEqual(answer.rows[0]!.values.map(String))
  })

  it('answers until it is told to stop, and ends with 0', async () => {
    const { child, end, url } = await start([])
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
    const answer = (await (await ask(url)).json()) as { rows: { values: unknown[] }[] }
    expect(answer.rows[0]!.values).toEqual(expectedValues(orders, 'ada', asOf))
    child.kill('SIGTERM')
    expect(await end).toMatchObject({ code: 0, signal: null })
    await expect(fetch(`${url}/livez`)).rejects.toThrow()
  })

  it('fails its readiness first, and serves on for as long as it is told to drain', async () => {
    const { child, end, url } = await start(['--drain-delay', '1s'])
    expect((await fetch(`${url}/readyz`)).status).toBe(200)
    child.kill('SIGTERM')
    let ready = 200
    for (let tries = 0; tries < 100 && ready === 200; tries++) {
      await delay(10)
      ready = (await fetch(`${url}/readyz`)).status
    }
    expect(ready).toBe(503)
    expect((await ask(url)).status).toBe(200)
    expect(await end).toMatchObject({ code: 0, signal: null })
  })

  it('ends at once at a second signal', async () => {
    const { child, end, url } = await start(['--drain-delay', '60s'])
    child.kill('SIGINT')
    while ((await fetch(`${url}/readyz`)).status === 200) await delay(10)
    child.kill('SIGINT')
    expect(await end).toMatchObject({ signal: 'SIGINT' })
  })

  it('asks for the token that it was given', async () => {
    const { child, end, url } = await start([], { TILEFOLD_TOKEN: TOKEN })
    expect((await ask(url)).status).toBe(401)
    expect((await ask(url, `${TOKEN}!`)).status).toBe(401)
    expect((await ask(url, TOKEN)).status).toBe(200)
    child.kill('SIGTERM')
    expect((await end).code).toBe(0)
  })

  it('takes the token from the flag before the environment, and from a file', async () => {
    const file = writeIn(folder, 'token', `${TOKEN}\n`)
    const { child, end, url } = await start(['--token-file', file], { TILEFOLD_TOKEN: 'another-token-of-length' })
    expect((await ask(url, TOKEN)).status).toBe(200)
    expect((await ask(url, 'another-token-of-length')).status).toBe(401)
    child.kill('SIGTERM')
    expect((await end).code).toBe(0)
  })

  it('keeps rows where it is told to, and says how old they may be', async () => {
    const metadataOf = async (args: readonly string[], env?: Readonly<Record<string, string>>) => {
      const { child, end, url } = await start(args, env)
      const { metadata } = (await (await ask(url)).json()) as { metadata: { row_max_age_ms?: number } }
      child.kill('SIGTERM')
      expect((await end).code).toBe(0)
      return metadata
    }
    expect(await metadataOf(['--row-cache', '8MiB'], { TILEFOLD_ROW_CACHE_MAX_AGE: '2s' })).toMatchObject({
      row_max_age_ms: 2000,
    })
    expect(await metadataOf([])).not.toHaveProperty('row_max_age_ms')
  })

  it('says what is missing while there is nothing to answer from', async () => {
    const { child, end } = await start(['--namespace', 'empty'])
    await delay(300)
    child.kill('SIGTERM')
    const { code, stderr } = await end
    expect(code).toBe(0)
    expect(stderr).toContain(
      'not ready yet: cannot answer from view orders_by_customer: the store holds nothing of it yet',
    )
  })
})

describe('a server that cannot start', () => {
  it.each([
    [['--host', '0.0.0.0'], 'CONFIG_INVALID', 'got no token', 1],
    [['--token', 'short'], 'CONFIG_INVALID', 'got 5 characters, expected at least 16', 1],
    [['--token-file', '/nowhere/token'], 'CONFIG_INVALID', 'cannot read the token that --token-file names', 1],
    [['--port', '65536'], 'USAGE', 'expected a whole number from 0 to 65535', 2],
    [['--drain-delay', 'soon'], 'USAGE', 'expected a duration', 2],
    [['--row-cache', 'some'], 'USAGE', 'expected bytes', 2],
    [['--store', '/nowhere/store'], 'STORE_UNAVAILABLE', 'there is none in this directory', 1],
  ])('%j', async (args, code, cause, exit) => {
    const base = ['-f', join(folder, 'tilefold.yaml'), '--store', join(folder, '.tilefold')]
    const outcome = await cli(['serve', ...base, ...args, '-o', 'json'])
    expect(errorOf(outcome)).toMatchObject({ code })
    expect(errorOf(outcome).message).toContain(cause)
    expect(outcome.code).toBe(exit)
  })
})
