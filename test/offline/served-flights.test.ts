/**
 * Days of real departures, shuffled within a minute, over two partitions: served live at random instants and logged. Its mirror
 * gives the same answers, bit for bit, as a training set and as parity; one departure moved over the edge of a window does not.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { flightsFile, readWeek, surveyFlights } from '../../fixtures/flights/dataset.ts'
import { planDelivery } from '../../fixtures/flights/delivery.ts'
import { compileView } from '../../src/define/compile.ts'
import { parseDefinitions } from '../../src/define/yaml.ts'
import type { Plan } from '../../src/model/plan.ts'
import type { ServedRow } from '../../src/serve/served.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import { cli, makeFolder } from '../cli/harness.ts'
import { duckRows } from '../source/support.ts'
import { seededRandom } from '../support/random.ts'
import { mirrorLogs } from './mirror-scene.ts'
import { serveLive } from './served-scene.ts'

const SEED = Number(process.env.TILEFOLD_SEED ?? 1)
const HOUR_MS = 3_600_000
const definitions = resolve(import.meta.dirname, '../../fixtures/definitions/valid/flights.yaml')
const folder = makeFolder()
const served = join(folder, 'served')
const mirror = join(folder, 'mirror')
/** The last of them: three days and a half. */
const DEPARTURES = 60_000
const LIMITS = { rowGroupRows: 50_000, rowGroupBytes: 1 << 26, fileRows: 1 << 20, fileBytes: 1 << 28, fileAgeMs: 6e5 }

interface Departure {
  readonly date: number
  readonly delay: number
  readonly origin: string
  readonly destination: string
}

let plans: Plan[]
let logs: StreamMessage[][]
let rows: ServedRow[]

/** As they come in, each in one of two partitions. */
async function departures(random: ReturnType<typeof seededRandom>): Promise<StreamMessage[][]> {
  const week = await readWeek(await surveyFlights(flightsFile(), await Promise.all([flightsPlan()])))
  const delivery = planDelivery(week.timesMs, SEED)
  const partitions: StreamMessage[][] = [[], []]
  for (let i = Math.max(0, delivery.length - DEPARTURES); i < delivery.length; i++) {
    const [event, log] = [delivery.events[i]!, partitions[random.below(2)]!]
    const departure: Departure = {
      date: week.timesMs[event]!,
      delay: Number(week.delays[event]!),
      origin: week.origins[event]!,
      destination: week.destinations[event]!,
    }
    // Deliveries that came twice are records of their own here, as a producer's retry makes them.
    const value = Buffer.from(JSON.stringify(departure))
    log.push({ key: null, value, timestamp: String(delivery.newestMs[i]!), offset: String(log.length) })
  }
  return partitions
}

/** The file's own unit of time. */
function flightsPlan(): Promise<Plan> {
  const yaml = readFileSync(definitions, 'utf8').replace('timestamp[ms]', 'timestamp[us]')
  return compileView(parseDefinitions(Buffer.from(yaml), 'flights.yaml').views[1]!)
}

beforeAll(async () => {
  console.log(`departures as served: TILEFOLD_SEED=${SEED}`)
  const random = seededRandom(SEED)
  plans = await Promise.all(parseDefinitions(readFileSync(definitions), 'flights.yaml').views.map(compileView))
  logs = await departures(random)
  let asked = 0
  rows = await serveLive({
    plans,
    topic: 'flights',
    logs,
    random,
    store: createMemoryStore({ writeBytesMax: 1 << 20 }),
    namespace: 'airports',
    folder,
    messagesAtOnce: 1_500,
    async ask(reader, nowMs) {
      const entities = Array.from({ length: 4 }, () => {
        const log = logs[random.below(2)]!
        const { origin, destination } = departureOf(log[random.below(log.length)]!)
        return { origin, destination }
      })
      const asOfs = entities.map(() => nowMs + random.between(-40_000, 600_000))
      await reader.getFeatures({ features: ['departures', 'routes'], entities, asOfs }, { requestId: `r${asked++}` })
    },
  })
  await mirrorLogs(mirror, plans, 'flights', logs, { limits: LIMITS, atOnce: 2_000 })
}, 120_000)

function departureOf({ value }: StreamMessage): Departure {
  return JSON.parse(value!.toString())
}

const parity = async (view: string, dir: string, ...args: string[]) => {
  const own = ['parity', view, '--served-log', served, '--mirror', dir, '-f', definitions, '-o', 'json']
  const outcome = await cli([...own, ...args])
  return { ...outcome, told: JSON.parse(outcome.stdout || '{}') }
}

describe('departures', () => {
  it('are served alike by the training set of the log, feature by feature', async () => {
    expect(logs.flat().length).toBe(DEPARTURES)
    for (const plan of plans) {
      const own = rows.filter((row) => row.plan === plan)
      expect(own.length).toBeGreaterThan(150)
      const out = join(folder, `${plan.view}.parquet`)
      // The log is the spine: its request ids and numbers, keys and instants, as they stand, and the values that were served.
      const spine = join(folder, `${plan.view}-spine.parquet`)
      await duckRows(
        `COPY (SELECT _request_id, _request_row, ${plan.state.entity.map(({ name }) => name).join(', ')}, event_timestamp
         FROM read_parquet('${served}/${plan.view}/**/*.parquet', hive_partitioning = false)) TO '${spine}' (FORMAT parquet)`,
        'SELECT 1',
      )
      const args = [
        '--as-served',
        '--spine',
        spine,
        '--served-log',
        served,
        '--mirror',
        mirror,
        '--features',
        plan.view,
      ]
      const { code, stderr } = await cli(['training-set', ...args, '--out', out, '-f', definitions, '-o', 'json'])
      expect(stderr).toBe('')
      expect(code).toBe(0)
      const names = plan.features.map(({ name }) => `${plan.view}__${name}`)
      const differ = names.map(
        (name) => `count(*) FILTER (WHERE l."${name}" IS DISTINCT FROM t."${name}") AS "${name}"`,
      )
      const [found] = await duckRows(
        `SELECT count(*) AS compared, count(t.${names[0]}) AS present, ${differ.join(', ')}
         FROM read_parquet('${served}/${plan.view}/**/*.parquet', hive_partitioning = false) l
         JOIN '${out}' t USING (_request_id, _request_row)`,
      )
      const { compared, present, ...differing } = found!
      expect(Number(compared)).toBe(own.length)
      expect(Number(present)).toBeGreaterThan(own.length / 2)
      expect(Object.values(differing).map(Number)).toEqual(names.map(() => 0))
    }
  })

  it('are at parity with the mirror, value by value and status by status', async () => {
    for (const plan of plans) {
      const { code, told, stderr } = await parity(plan.view, mirror)
      expect(stderr).toBe('')
      expect(told).toMatchObject({ mismatched: 0, missing: 0, unverified: 0, other_definition: 0, differences: [] })
      expect(told.compared + told.unanswered).toBe(rows.filter((row) => row.plan === plan).length)
      expect(told.values).toBeGreaterThan(2_000)
      expect(told.equal).toBe(told.compared)
      expect(code).toBe(0)
    }
  })

  it('are no more when one moves over the edge of a window', async () => {
    const [plan] = plans
    const { row, partition, at } = seenDeparture(plan!)
    const log = logs[partition]!
    const moved = { ...departureOf(log[at]!), date: row.asOfMs }
    const other = log.with(at, { ...log[at]!, value: Buffer.from(JSON.stringify(moved)) })
    const dir = await mirrorLogs(join(folder, 'moved'), plans, 'flights', logs.with(partition, other), {
      limits: LIMITS,
      atOnce: 2_000,
    })
    const { code, told } = await parity('departures', dir)
    expect(code).toBe(1)
    expect(told.mismatched).toBeGreaterThan(0)
    expect(told.equal + told.mismatched).toBe(told.compared)

    const shown = await parity('departures', dir, '--request', row.requestId)
    expect(shown.code).toBe(1)
    const difference = shown.told.differences.find((each: { row: number }) => each.row === row.entity)
    expect(difference).toMatchObject({ kind: 'mismatched', request: row.requestId, as_of_ms: row.asOfMs })
    const hour = difference.features.find(({ feature }: { feature: string }) => feature === 'count_1h')
    const value = Number(row.answers.get(0)!.value)
    expect(hour).toEqual({ feature: 'count_1h', served: `${value} (ok)`, expected: `${value - 1} (ok)` })
    // As it is printed, without the program's name.
    const again = await cli([...difference.command.split(' ').slice(1), '-o', 'json'])
    expect(again.code).toBe(1)
    expect(JSON.parse(again.stdout).differences).toEqual([difference])
    expect(readdirSync(folder).filter((name) => name.startsWith('_tmp'))).toEqual([])
  })
})

/** A departure of the last half hour that an answer has counted, far back in its log. */
function seenDeparture(plan: Plan): { row: ServedRow; partition: number; at: number } {
  for (const row of rows.toReversed()) {
    if (row.plan !== plan || !(Number(row.answers.get(0)!.value) > 1)) continue
    for (const { lane, applied } of row.applied) {
      const partition = Number(lane.split('.')[1])
      const at = logs[partition]!.findLastIndex((message, offset) => {
        if (offset > applied) return false
        const { origin, date } = departureOf(message)
        return origin === row.keys[0] && date < row.asOfMs && date >= row.asOfMs - HOUR_MS / 2
      })
      if (at >= 0) return { row, partition, at }
    }
  }
  throw new Error('no answer has counted a departure of the last half hour')
}
