/** Claim: a topic that is not keyed costs little more by way of the router, and an entity that is most of it does not hold it up. */
import type { Claim } from './claim.ts'
import { timeHotKey } from './route-hot.ts'

export const route: Claim = {
  name: 'route',
  about: 'the router, and hot keys spread over lanes',
  async run(settings) {
    await timeHotKey(settings)
  },
}
