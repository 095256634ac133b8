import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { describe, expect, it } from 'vitest'
import type { ColumnProfile } from '../../src/cli/profile.ts'
import { propose } from '../../src/cli/propose.ts'
import { compileView } from '../../src/define/compile.ts'
import { parseDefinitions } from '../../src/define/yaml.ts'
import { cli, errorOf, makeFolder, runProcess, toLines, writeIn } from './harness.ts'

const folder = makeFolder()
let folders = 0

function newFolder(): string {
  return join(folder, `new-${folders++}`)
}

describe('tilefold init', () => {
  it('writes definitions and events, and the lines it prints work', async () => {
    const here = makeFolder()
    const { code, stdout } = await runProcess(['init', '-o', 'json'], here)
    expect(code).toBe(0)
    const { written, next } = JSON.parse(stdout) as { written: string[]; next: string[] }
    expect(written).toEqual(['tilefold.yaml', 'events.ndjson'])
    const lines = next.filter((line) => !line.endsWith('serve'))
    expect(lines.map((line) => line.split(' ').slice(0, 3).join(' '))).toEqual([
      'npx tilefold validate',
      'npx tilefold backfill',
      'npx tilefold get',
    ])
    for (const line of lines) {
      const outcome = await runProcess([...line.split(' ').slice(2), '-o', 'json'], here)
      expect(outcome.code, `${line}: ${outcome.stderr}`).toBe(0)
      expect(outcome.stderr, line).toBe('')
    }
  })

  it('starts its file with the schema that editors complete by', async () => {
    const dir = newFolder()
    await cli(['init', dir])
    expect(readFileSync(join(dir, 'tilefold.yaml'), 'utf8')).toMatch(
      /^# yaml-language-server: \$schema=https:\S+\/schema\.json\n/,
    )
  })

  it('overwrites nothing, unless it is told to', async () => {
    const dir = newFolder()
    expect((await cli(['init', dir])).code).toBe(0)
    writeIn(dir, 'tilefold.yaml', 'mine')
    const refused = await cli(['init', dir, '-o', 'json'])
    expect(refused.code).toBe(1)
    expect(errorOf(refused)).toMatchObject({ code: 'CONFIG_INVALID', details: { path: join(dir, 'tilefold.yaml') } })
    expect(readFileSync(join(dir, 'tilefold.yaml'), 'utf8')).toBe('mine')
    expect((await cli(['init', dir, '--force'])).code).toBe(0)
    expect(readFileSync(join(dir, 'tilefold.yaml'), 'utf8')).toContain('orders_by_customer')
  })

  it('writes all or nothing', async () => {
    const dir = newFolder()
    await cli(['init', dir])
    const other = newFolder()
    await cli(['init', other])
    const { rmSync } = await import('node:fs')
    rmSync(join(other, 'tilefold.yaml'))
    // Only the events are there: the definitions are not written beside them.
    expect((await cli(['init', other])).code).toBe(1)
    expect(existsSync(join(other, 'tilefold.yaml'))).toBe(false)
  })
})

describe('init --from', () => {
  const rides = Array.from({ length: 500 }, (_, i) => ({
    ride_id: `r-${i}`,
    started_at: Math.floor(Date.UTC(2024, 2, 1) / 1000) + i * 700,
    driver_id: `d-${i % 20}`,
    city: ['Rome', 'Oslo'][i % 2],
    'price (EUR)': 5 + (i % 9) * 0.25,
    km: 1 + (i % 7),
    paid: i % 3 > 0,
    route: { from: 1 },
  }))

  it('proposes a view for JSON lines that folds them as they are', async () => {
    const file = writeIn(folder, 'rides-2024.ndjson', toLines(rides))
    const dir = newFolder()
    const { code, stdout, stderr } = await cli(['init', dir, '--from', file, '-o', 'json'])
    expect(code, stderr).toBe(0)
    const text = readFileSync(join(dir, 'tilefold.yaml'), 'utf8')
    const { views } = parseDefinitions(text, 'tilefold.yaml')
    expect(views).toMatchObject([
      {
        name: 'rides-2024_by_driver_id',
        source: { name: 'rides-2024' },
        entity: ['driver_id'],
        time: 'started_at',
      },
    ])
    const types = Object.fromEntries(views[0]!.source.columns.map(({ name, type, unit }) => [name, unit ?? type]))
    expect(types).toEqual({
      ride_id: 'utf8',
      started_at: 's',
      driver_id: 'utf8',
      city: 'utf8',
      'price (EUR)': 'float64',
      km: 'int64',
      paid: 'bool',
    })
    expect(text).toContain('# or: city')
    expect(text).toContain('# dedupe: { id: ride_id, within: 1h }')
    expect(text).toContain('# "route" is left out')

    const base = ['-f', join(dir, 'tilefold.yaml'), '--store', join(dir, 'store'), '-o', 'json']
    const folded = await cli(['backfill', file, ...base, '--threads', '0'])
    expect(folded.stderr).toBe('')
    expect(JSON.parse(folded.stdout)).toMatchObject({ views: [{ applied: rides.length }] })
    const line = (JSON.parse(stdout) as { next: string[] }).next.find((each) => each.startsWith('npx tilefold get'))!
    const [, , , view, , entity, , asOf] = line.split(' ')
    const answer = await cli(['get', `${view}:count_7d`, '--entity', entity!, '--as-of', asOf!, ...base])
    // Each driver has 25 rides over four days.
    expect(JSON.parse(answer.stdout)).toMatchObject({ rows: [{ values: [25], statuses: ['ok'] }] })
  })

  it('proposes the same for Parquet', async () => {
    const columnData = [
      { name: 'started_at', data: rides.map((ride) => BigInt(ride.started_at) * 1000n), type: 'INT64' as const },
      { name: 'driver_id', data: rides.map((ride) => ride.driver_id), type: 'STRING' as const },
      { name: 'km', data: rides.map((ride) => ride.km), type: 'DOUBLE' as const },
    ]
    const file = writeIn(folder, 'rides.parquet', new Uint8Array(parquetWriteBuffer({ columnData })))
    const dir = newFolder()
    await cli(['init', dir, '--from', file])
    const { views } = parseDefinitions(readFileSync(join(dir, 'tilefold.yaml'), 'utf8'), 'tilefold.yaml')
    expect(views).toMatchObject([{ name: 'rides_by_driver_id', entity: ['driver_id'], time: 'started_at' }])
    const types = Object.fromEntries(views[0]!.source.columns.map(({ name, type, unit }) => [name, unit ?? type]))
    expect(types).toEqual({ started_at: 'ms', driver_id: 'utf8', km: 'float64' })
    expect(existsSync(join(dir, 'events.ndjson'))).toBe(false)
  })

  it('quotes what YAML and SQL would misread', async () => {
    const odd = rides.map((ride) => ({
      'at: #1': ride.started_at,
      no: ride.driver_id,
      'a "b"': ride.km,
      true: ride.km,
    }))
    const file = writeIn(folder, '2024 odd.ndjson', toLines(odd))
    const dir = newFolder()
    const { code, stderr } = await cli(['init', dir, '--from', file])
    expect(code, stderr).toBe(0)
    const text = readFileSync(join(dir, 'tilefold.yaml'), 'utf8')
    const { views } = parseDefinitions(text, 'tilefold.yaml')
    expect(views).toMatchObject([{ time: 'at: #1', entity: ['no'] }])
    // What is only suggested must be right, too, once the mark before it is taken away.
    const taken = text.replaceAll(/^ {4}# (filter|head|lateness|dedupe): /gm, '    $1: ')
    const plan = await compileView(parseDefinitions(taken, 'tilefold.yaml').views[0]!)
    expect(plan.state.expressions.filter).toBeDefined()
  })

  it('says what it missed', async () => {
    const noTime = writeIn(folder, 'no-time.ndjson', toLines(rides.map(({ started_at: _at, ...ride }) => ride)))
    const outcome = await cli(['init', newFolder(), '--from', noTime, '-o', 'json'])
    expect(errorOf(outcome)).toMatchObject({ code: 'COLUMN_MISSING' })
    expect(errorOf(outcome).message).toContain('no column looks like an event time')
    expect(errorOf(outcome).message).toContain('driver_id utf8')

    const noEntity = writeIn(
      folder,
      'no-entity.ndjson',
      toLines(rides.map(({ ride_id, started_at }) => ({ ride_id, started_at }))),
    )
    expect((await cli(['init', newFolder(), '--from', noEntity])).stderr).toContain('no column looks like an entity')

    const noJson = writeIn(folder, 'no-json.ndjson', 'a,b\n1,2\n')
    expect((await cli(['init', newFolder(), '--from', noJson])).stderr).toContain('error SOURCE_CORRUPT')
    expect((await cli(['init', newFolder(), '--from', join(folder, 'nowhere.parquet')])).stderr).toContain(
      'error SOURCE_NOT_FOUND',
    )
  })
})

describe('a proposal', () => {
  const column = (name: string, type: ColumnProfile['type'], cells: ColumnProfile['cells']): ColumnProfile => ({
    name,
    type,
    text: type,
    cells,
  })
  const rows = Array.from({ length: 100 }, (_, i) => i)

  it.each([
    ['s', 1],
    ['ms', 1000],
    ['us', 1_000_000],
    ['ns', 1_000_000_000],
  ])('reads whole numbers as times in %s where that makes sense', (unit, perSecond) => {
    const times = rows.map((i) => (1_700_000_000 + i) * perSecond)
    const proposal = propose({
      file: 'f.parquet',
      columns: [
        column(
          'key',
          'utf8',
          rows.map((i) => `k${i % 5}`),
        ),
        column('n', 'int64', rows),
        column('t', 'int64', times),
      ],
      skipped: [],
    })
    expect(proposal).toMatchObject({ time: 't', entity: 'key', windows: ['1h', '24h', '7d'] })
    expect(proposal.columns.find((each) => each.name === 't')).toEqual({ name: 't', type: `timestamp[${unit}]` })
    expect(proposal.example.asOfMs).toBe((1_700_000_000 + 99) * 1000 + 1)
  })

  it('prefers a column that says it is the time, keys that come again, and longer windows where there is history', () => {
    const day = 86_400_000
    const proposal = propose({
      file: 'f.parquet',
      columns: [
        column(
          'loaded',
          'int64',
          rows.map(() => 1_700_000_000_000),
        ),
        column(
          'event_time',
          'int64',
          rows.map((i) => 1_690_000_000_000 + i * day),
        ),
        column(
          'event_id',
          'utf8',
          rows.map((i) => `e${i}`),
        ),
        column(
          'country',
          'utf8',
          rows.map((i) => `c${i % 2}`),
        ),
        column(
          'user_id',
          'utf8',
          rows.map((i) => `u${i % 10}`),
        ),
        column('amount', 'float64', rows),
      ],
      skipped: [],
    })
    expect(proposal).toMatchObject({
      time: 'event_time',
      entity: 'user_id',
      otherEntities: ['country'],
      eventId: 'event_id',
      windows: ['1h', '24h', '7d', '30d'],
    })
    expect(proposal.aggregations.map((each) => each.column ?? 'rows')).toEqual([
      'rows',
      'loaded',
      'loaded',
      'loaded',
      'amount',
      'amount',
      'amount',
    ])
  })
})
