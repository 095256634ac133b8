/** The core's canonical keys and lanes against model/key.ts, and interning against a Map. */
import { describe, expect, it } from 'vitest'
import { VERDICT_APPLIED, VERDICT_REJECTED_KEY } from '../../assembly/layout.ts'
import { compileView } from '../../src/define/compile.ts'
import { bool, count, defineView, int64, timestamp, utf8 } from '../../src/define/dsl.ts'
import { Core } from '../../src/engine/core.ts'
import { CORE_BUILDS, loadCore } from '../../src/engine/module.ts'
import { encodeKey, type KeyPart, laneHash } from '../../src/model/key.ts'
import type { Plan } from '../../src/model/plan.ts'
import { batchOf, FAR_MS, NOT_AFTER_MS } from '../engine/folding.ts'
import { eachSeed, patience } from '../fuzz/effort.ts'
import type { NaiveEvent } from '../oracle/naive.ts'
import { TIME_INPUT } from '../support/batches.ts'
import { type Random, seededRandom } from '../support/random.ts'

const FILE = 'test/assembly/keys.test.ts'
type PartType = 'utf8' | 'int64' | 'bool'
const SPECS = { utf8: utf8(), int64: int64(), bool: bool() }

function planOf(types: readonly PartType[]): Promise<Plan> {
  const names = types.map((_, i) => `part${i}`)
  const columns = Object.fromEntries(types.map((type, i) => [names[i]!, SPECS[type]]))
  return compileView(
    defineView({
      name: 'keys',
      source: { name: 'events', columns: { ...columns, [TIME_INPUT]: timestamp('ms') } },
      entity: names,
      time: TIME_INPUT,
      aggregations: [count({ windows: ['1h'] })],
    }),
  )
}

const TEXTS: readonly string[] = [
  '',
  'a',
  '\0',
  'a\0',
  '\0a',
  ':',
  'a:b',
  'ab',
  'abc',
  'abcd',
  'abcdefg',
  'abcdefgh',
  'abcdefghi',
  'zürich',
  '😀',
  '\u{FFFF}',
  'x'.repeat(1_024),
  'x'.repeat(1_025),
  `${'x'.repeat(1_021)}€`,
  `${'x'.repeat(1_022)}€`,
  'y'.repeat(1_016),
  'y'.repeat(4_097),
  'z'.repeat(10_000),
]

const INTEGERS = [0n, 1n, -1n, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 32n, 255n]

function drawPart(random: Random, type: PartType): KeyPart | null {
  if (random.chance(0.05)) return null
  if (type === 'bool') return random.chance(0.5)
  if (type === 'int64') return random.chance(0.5) ? random.pick(INTEGERS) : BigInt.asIntN(64, random.bits64())
  if (random.chance(0.4)) return random.pick(TEXTS)
  return Array.from({ length: random.between(1, 40) }, () => String.fromCharCode(random.between(0, 0xd7ff))).join('')
}

/** The canonical key, or undefined where there is none. */
function canonical(plan: Plan, key: readonly (KeyPart | null)[]): Uint8Array | undefined {
  try {
    return encodeKey(plan.state.entity, key)
  } catch {
    return undefined
  }
}

const SHARES = { lanes: 1, shard: 0, shards: 1, completeSinceMs: 0, layoutVersion: 0 }

function eventsWith(keys: readonly (readonly (KeyPart | null)[])[]): NaiveEvent[] {
  return keys.map((key) => ({ position: 0, time: 1_000, key, cells: {}, keep: true }))
}

const SHAPES: readonly (readonly PartType[])[] = [
  ['utf8'],
  ['int64'],
  ['bool'],
  ['utf8', 'utf8'],
  ['utf8', 'int64', 'bool'],
  ['bool', 'utf8'],
  ['int64', 'int64'],
]

describe.each(CORE_BUILDS)('keys of the %s core', (build) => {
  it.each(SHAPES.map((types) => [types.join(', '), types] as const))(
    'are those of the host: %s',
    async (_, types) => {
      const plan = await planOf(types)
      await eachSeed(FILE, 0, 10, (seed) => {
        const random = seededRandom(seed)
        const lanes = random.between(1, 9)
        const shares = { lanes, shard: 0, shards: 1, completeSinceMs: 0, layoutVersion: 0 }
        const core = new Core(loadCore(build), plan.state, shares, NOT_AFTER_MS)
        const keys = Array.from({ length: 80 }, () => types.map((type) => drawPart(random, type)))
        if (types.length === 1 && types[0] === 'utf8') keys.push(...TEXTS.map((text) => [text]))
        core.prepare(batchOf(eventsWith(keys), plan.state, seed)[0]!)

        const wanted = keys.map((key) => canonical(plan, key))
        expect([...core.verdicts(keys.length)]).toEqual(
          wanted.map((key) => (key ? VERDICT_APPLIED : VERDICT_REJECTED_KEY)),
        )
        // Numbers are given in the order of first appearance.
        const distinct = [...new Set(wanted.filter((key) => key !== undefined).map(hex))]
        expect(core.entityCount).toBe(distinct.length)
        for (const [entity, key] of distinct.entries()) {
          expect(hex(core.keyOf(entity))).toBe(key)
          expect(core.laneOf(entity)).toBe(laneHash(Buffer.from(key, 'hex')) % lanes)
        }
        core.fold(FAR_MS, false)
      })
    },
    patience(1_000),
  )

  it('are told apart by any one byte, at every length', async () => {
    const plan = await planOf(['utf8'])
    const core = new Core(loadCore(build), plan.state, SHARES, NOT_AFTER_MS)
    const texts = Array.from({ length: 60 }, (_, i) => 'x'.repeat(i + 1)).flatMap((text) => [
      text,
      ...Array.from(text, (_, at) => `${text.slice(0, at)}y${text.slice(at + 1)}`),
    ])
    core.prepare(batchOf(eventsWith(texts.map((text) => [text])), plan.state, 1)[0]!)
    expect(core.entityCount).toBe(texts.length)
    core.fold(FAR_MS, false)
  })

  it('hash to lanes as the host does, at every length', () => {
    const core = loadCore(build).instantiate()
    const random = seededRandom(1)
    for (let length = 1; length <= 70; length++) {
      const key = random.bytes(length)
      const at = core.reserveInput(length, 0) >>> 0
      new Uint8Array(core.memory.buffer).set(key, at)
      expect(core.hashKey(at, length) >>> 0, `${length} bytes`).toBe(laneHash(key))
    }
  })

  it('go to the shard of their lane, and to one only', async () => {
    const plan = await planOf(['utf8'])
    const events = eventsWith(Array.from({ length: 200 }, (_, i) => [`k${i}`]))
    const shards = [0, 1, 2].map((shard) => {
      const shares = { lanes: 7, shard, shards: 3, completeSinceMs: 0, layoutVersion: 0 }
      const core = new Core(loadCore(build), plan.state, shares, NOT_AFTER_MS)
      core.prepare(batchOf(events, plan.state)[0]!)
      return core
    })
    const met = shards.map((core, shard) => {
      const entities = Array.from({ length: core.entityCount }, (_, entity) => entity)
      for (const entity of entities) {
        const lane = laneHash(core.keyOf(entity)) % 7
        expect([core.laneOf(entity), lane % 3]).toEqual([lane, shard])
      }
      return entities.map((entity) => Buffer.from(core.keyOf(entity)).toString())
    })
    expect(met.flat().sort()).toEqual(Array.from({ length: 200 }, (_, i) => `k${i}`).sort())
  })

  it(
    'are interned once each, however many there are',
    async () => {
      // Past 16k keys the table is looked up in stages; past every power of two it grows.
      const plan = await planOf(['utf8'])
      const core = new Core(
        loadCore(build),
        plan.state,
        { lanes: 1, shard: 0, shards: 1, completeSinceMs: 0, layoutVersion: 0 },
        NOT_AFTER_MS,
      )
      const random = seededRandom(9)
      const numbers = new Map<string, number>()
      let first = 0
      for (let batch = 0; batch < 12; batch++) {
        const keys = Array.from({ length: 4_000 }, () => [`user-${random.below(40_000)}`])
        core.prepare(batchOf(eventsWith(keys), plan.state, batch, first)[0]!)
        first += keys.length
        for (const [key] of keys) if (!numbers.has(key!)) numbers.set(key!, numbers.size)
        core.fold(FAR_MS, false)
      }
      expect(core.entityCount).toBe(numbers.size)
      expect(numbers.size).toBeGreaterThan(16_384)
      for (const [key, number] of numbers) {
        expect(Buffer.from(core.keyOf(number)).toString()).toBe(key)
      }
    },
    patience(5_000),
  )
})

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
