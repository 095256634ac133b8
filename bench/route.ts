/** Claim: a topic that is not keyed costs little more by way of the router, and an entity that is most of it does not hold it up. */
import type { Claim } from './claim.ts'
import { timeHotKey } from './route-hot.ts'
import { timeRouter } from './route-stage.ts'

export const route: Claim = {
  name: 'route',
  about: 'a topic that is not keyed, by way of the router; a hot key, spread over lanes',
  async run(settings) {
    await timeRouter(settings)
    await timeHotKey(settings)
  },
}
