import { describe, expect, it } from 'vitest'
import { encodeKey, partitionHash } from '../../src/model/key.ts'
import type { Plan } from '../../src/model/plan.ts'
import { lanesOfEntity } from '../../src/model/view-layout.ts'
import { type FeatureQuery, parseRequest, REQUEST_LIMITS } from '../../src/serve/api.ts'
import { catalogOf } from '../../src/serve/catalog.ts'
import { planRead, windowEndMs, windowStartMs } from '../../src/serve/plan.ts'
import { targetOf } from '../../src/serve/target.ts'
import { generationLayout, HOUR, layoutOf, MINUTE, planOf } from './plans.ts'

const spend = planOf()
const refunds = planOf({ view: 'refunds', stateHash: 'b'.repeat(16) })
const routes = planOf({
  view: 'routes',
  stateHash: 'c'.repeat(16),
  entity: [
    { name: 'user', type: 'utf8' },
    { name: 'shop', type: 'int64' },
  ],
})
const lanes = { history: { lanes: 7 }, logs: [{ name: 'clicks', shards: 3, notAfterMs: 0 }] }
const layouts = new Map<Plan, ReturnType<typeof layoutOf>>([
  [spend, layoutOf(spend, lanes)],
  [refunds, layoutOf(refunds, { logs: [{ name: 'shop', shards: 1, notAfterMs: 0 }] })],
  [routes, layoutOf(routes, { history: { lanes: 2 }, generation: 4 })],
])
const catalog = catalogOf([spend, refunds, routes])

function plan(query: Omit<FeatureQuery, 'asOf'>) {
  const request = parseRequest(query, catalog, REQUEST_LIMITS, 0)
  const targets = request.views.map((view) => targetOf('shop', view.plan, layouts.get(view.plan)!))
  return planRead(request, targets)
}

describe('a read plan', () => {
  it('reads every lane that may hold the entity, as the layout says', () => {
    const users = Array.from({ length: 50 }, (_, i) => ({ user: `user ${i}` }))
    const { reads, slots } = plan({ view: 'spend', entities: users })
    expect(slots).toMatchObject([{ firstRead: 0 }])
    const expected = users.flatMap(({ user }) => {
      const key = encodeKey(spend.state.entity, [user])
      return lanesOfEntity(generationLayout(spend, lanes), key).map((lane) => ({
        lane: { namespace: 'shop', stateHash: spend.stateHash, generation: 1, lane },
        key,
      }))
    })
    expect(reads).toEqual(expected)
    // Fifty entities over seven history lanes and three shards: all of them occur.
    expect(new Set(reads.map((read) => read.lane.lane)).size).toBe(7 + 3)
  })

  it('goes slot by slot, entity by entity, lane by lane', () => {
    const { reads, readers, slots } = plan({
      features: ['routes', 'spend'],
      entities: [
        { user: 'ann', shop: 1 },
        { user: 'bob', shop: '2' },
      ],
    })
    expect(slots.map(({ view, firstRead }) => [view.plan.view, firstRead])).toEqual([
      ['spend', 0],
      ['routes', 4],
    ])
    expect(readers).toEqual([0, 0, 1, 1, 0, 1])
    expect(reads.map((read) => `${read.lane.stateHash[0]}${read.lane.generation}`)).toEqual([
      'a1',
      'a1',
      'a1',
      'a1',
      'c4',
      'c4',
    ])
    expect(reads[5].key).toEqual(encodeKey(routes.state.entity, ['bob', 2n]))
  })

  it('reads one partition of a keyed topic, and where the topic has grown also the one before', () => {
    const users = Array.from({ length: 40 }, (_, i) => ({ user: `user ${i}` }))
    const layout = layoutOf(spend, {
      logs: [{ name: 'clicks.0', shards: 1, notAfterMs: 0 }],
      topics: [{ name: 'clicks', partitioner: 'murmur2', partitions: [2, 6] }],
    })
    const request = parseRequest({ view: 'spend', entities: users }, catalog, REQUEST_LIMITS, 0)
    const { reads, readers } = planRead(request, [targetOf('shop', spend, layout)])
    const lanesOf = users.map((_, user) => reads.filter((_, i) => readers[i] === user).map(({ lane }) => lane.lane))
    for (const [user, lanes] of lanesOf.entries()) {
      const hash = partitionHash(encodeKey(spend.state.entity, [users[user]!.user]))
      const [before, now] = [`clicks.${hash % 2}.0`, `clicks.${hash % 6}.0`]
      expect(lanes).toEqual(before === now ? [now] : [before, now])
    }
    expect(new Set(lanesOf.map((lanes) => lanes.length))).toEqual(new Set([1, 2]))
  })

  it('shares the keys of views that have the same join keys', () => {
    const { reads } = plan({ features: ['spend', 'refunds'], entities: [{ user: 'ann' }] })
    expect(reads.map((read) => read.lane.lane.replace(/\d$/, ''))).toEqual(['h', 'clicks.', 'shop.'])
    expect(reads[2].key).toBe(reads[0].key)
  })

  it('is the same for the same request, and leaves its inputs as they are', () => {
    const query: FeatureQuery = Object.freeze({
      view: 'spend',
      entities: Object.freeze([Object.freeze({ user: 'ann' })]),
    })
    const before = JSON.stringify([...layouts.values()])
    expect(plan(query)).toEqual(plan(query))
    expect(JSON.stringify([...layouts.values()])).toBe(before)
  })

  it.each([
    [{}, 'entities[1] has no "user", which view routes is keyed by'],
    [{ user: 'ann' }, 'entities[1] has no "shop"'],
    [{ user: null, shop: 1 }, 'entities[1] has null for "user"'],
    [{ user: ['ann'], shop: 1 }, 'entities[1] has a list for "user"'],
    [{ user: { toString: 'x' }, shop: 1 }, 'entities[1] has an object for "user"'],
    [{ user: '', shop: 1 }, 'in entities[1]'],
    [{ user: '\ud800', shop: 1 }, 'well-formed Unicode'],
    [{ user: 7, shop: 1 }, '"user": got 7'],
    [{ user: 'ann', shop: 1.5 }, '"shop": got 1.5'],
    [{ user: 'ann', shop: 2 ** 53 }, '"shop": got 9007199254740992'],
    [{ user: 'ann', shop: 1n << 63n }, '"shop": got 9223372036854775808'],
    [{ user: 'ann', shop: true }, '"shop": got true'],
    [{ user: 'x'.repeat(10_000), shop: 1 }, 'at most 1024'],
  ])('names the row and the key that is wrong: %#', (row, text) => {
    const entities = [{ user: 'ann', shop: 1 }, row]
    expect(() => plan({ view: 'routes', entities })).toThrow(
      expect.objectContaining({ code: 'REQUEST_INVALID', message: expect.stringContaining(text) }),
    )
  })

  it('does not mistake what every object inherits for a key', () => {
    const odd = planOf({ entity: [{ name: 'constructor', type: 'utf8' }] })
    const request = parseRequest({ view: 'spend', entities: [{}] }, catalogOf([odd]), REQUEST_LIMITS, 0)
    expect(() => planRead(request, [targetOf('shop', odd, layoutOf(odd, lanes))])).toThrow(/entities\[0\]/)
  })
})

describe('a window', () => {
  const hour = { lengthMs: HOUR, tailStepMs: 5 * MINUTE }

  it('starts at the tail step below as-of minus its length', () => {
    const noon = 12 * HOUR
    expect(windowStartMs(hour, noon)).toBe(11 * HOUR)
    expect(windowStartMs(hour, noon - 1)).toBe(11 * HOUR - 5 * MINUTE)
    expect(windowStartMs(hour, noon + 1)).toBe(11 * HOUR)
    expect(windowStartMs(hour, 0)).toBe(-HOUR)
  })

  it('ends at as-of, or where the head has sub-tiles at the last of them', () => {
    expect(windowEndMs(planOf(), 7 * MINUTE + 1)).toBe(7 * MINUTE + 1)
    const stepped = planOf({ head: { kind: 'step', lengthMs: 5 * MINUTE } })
    expect(windowEndMs(stepped, 7 * MINUTE + 1)).toBe(5 * MINUTE)
  })
})

describe('where a view is read', () => {
  it('is refused while no generation is served', () => {
    const layout = { ...layoutOf(spend, lanes), current: undefined }
    expect(() => targetOf('shop', spend, layout)).toThrow(expect.objectContaining({ code: 'VIEW_NOT_READY' }))
  })

  it('is refused for a definition of other state, naming what differs', () => {
    const other = { ...refunds, state: { ...refunds.state, retentionMs: 1, source: 'refunds' } }
    expect(() => targetOf('shop', { ...other, view: 'spend' }, layoutOf(spend, lanes))).toThrow(
      expect.objectContaining({
        code: 'DEFINITION_CHANGED',
        details: expect.objectContaining({ fields: ['source', 'retentionMs'] }),
      }),
    )
  })

  it('is refused for a layout of another format, or one that points nowhere', () => {
    const future = { ...layoutOf(spend, lanes), format: 2 as 1 }
    expect(() => targetOf('shop', spend, future)).toThrow(expect.objectContaining({ code: 'STORE_FORMAT' }))
    const dangling = { ...layoutOf(spend, lanes), current: { stateHash: spend.stateHash, generation: 9 } }
    expect(() => targetOf('shop', spend, dangling)).toThrow(expect.objectContaining({ code: 'STORE_FORMAT' }))
  })
})
