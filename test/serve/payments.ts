/** Many payments, drawn and spread over lanes. */
import { floorTo } from '../../src/model/time.ts'
import type { Random } from '../support/random.ts'
import { layoutOf } from './plans.ts'
import { HOUR, historyLanes, lanesOf, liveLanes, NOON, type Payment, type Shop } from './shop.ts'

export const ann = { user: 'ann', shop: 1 }

export const DAY = 24 * HOUR

export function drawPayments(random: Random, count: number): Payment[] {
  const spanMs = 30 * HOUR
  return Array.from(
    { length: count },
    (_, i): Payment => ({
      at: floorTo(NOON - spanMs + (i * spanMs) / count, 1) + random.between(0, 100),
      user: `user ${random.below(12)}`,
      shop: BigInt(random.below(3)),
      amount: random.chance(0.1) ? null : random.between(-1000, 1000) / 7,
      points: random.chance(0.1) ? null : BigInt(random.between(-5, 5)) * 2n ** 58n,
      cents: BigInt(random.between(-99_999, 99_999)),
      note: random.chance(0.3) ? null : `note ${i}`,
    }),
  )
}

/** The payments over four history lanes, three shards of one log and one of another; nothing twice. */
export async function spread(shop: Shop, payments: readonly Payment[]): Promise<void> {
  const logs = [
    { name: 'clicks', shards: 3 },
    { name: 'desk', shards: 1 },
  ]
  const cut = Math.floor(payments.length / 2)
  const live = payments.slice(cut)
  for (const plan of [shop.spend, shop.visits]) {
    await shop.setLayout(plan, layoutOf(plan, lanesOf({ history: 4, logs }), 2))
    await shop.write(plan, historyLanes(plan, 4), payments.slice(0, cut), { layoutVersion: 2 })
    await shop.write(
      plan,
      liveLanes(plan, 'clicks', 3),
      live.filter((_, i) => i % 3 > 0),
      { layoutVersion: 2 },
    )
    await shop.write(
      plan,
      liveLanes(plan, 'desk', 1),
      live.filter((_, i) => i % 3 === 0),
      { layoutVersion: 2 },
    )
  }
}
