/** What most tests of the command line begin with: the orders' definitions in a folder of their own, and stores beside them. */
import { join } from 'node:path'
import { cli, makeFolder, ORDERS_YAML, type Order, type Outcome, toLines, writeIn } from '../cli/harness.ts'

export interface OrdersFolder {
  /** Gone after the tests of the file. */
  readonly folder: string
  /** Path of the definitions. */
  readonly definitions: string
  /** A directory that is not there yet, another one each time. */
  newStore(): string
  /** Folds orders into a store as history. Throws where that fails. */
  fill(store: string, orders: readonly Order[]): Promise<Outcome>
}

export function ordersFolder(): OrdersFolder {
  const folder = makeFolder()
  const definitions = writeIn(folder, 'tilefold.yaml', ORDERS_YAML)
  let stores = 0
  return {
    folder,
    definitions,
    newStore: () => join(folder, `store-${stores++}`),
    async fill(store, orders) {
      const file = writeIn(folder, 'orders.ndjson', toLines(orders))
      const outcome = await cli(['backfill', file, '-f', definitions, '--store', store, '--threads', '0'])
      if (outcome.code !== 0) throw new Error(outcome.stderr)
      return outcome
    },
  }
}
