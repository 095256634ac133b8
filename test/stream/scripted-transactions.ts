/**
 * Transactions into an internal topic in memory, for faults that no broker can be made to show at will: commits that fail, that land
 * unheard, or that are under way while somebody else takes the id.
 */
import { TilefoldError } from '../../src/model/errors.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import type {
  CommittedOffset,
  OpenTransactions,
  RoutedRecord,
  Transactions,
  TransactionsName,
} from '../../src/source/transactions.ts'
import type { Random } from '../support/random.ts'

/** What becomes of the next commit. */
export type Fate = 'lost' | 'unheard' | 'undecided'

interface Holder {
  epoch: number
  committed: CommittedOffset | undefined
  /** Neither there nor gone: the next one who takes the id sees it end. */
  pending: (() => void) | undefined
}

export class ScriptedTopic {
  /** Of each lane, as a read-committed consumer finds them. */
  readonly logs: StreamMessage[][]
  readonly #random: Random
  readonly #holders = new Map<string, Holder>()
  fate: Fate | undefined

  constructor(lanes: number, random: Random) {
    this.logs = Array.from({ length: lanes }, () => [])
    this.#random = random
  }

  readonly open: OpenTransactions = async (name: TransactionsName): Promise<Transactions> => {
    const holder = this.#holders.get(name.transactionalId) ?? { epoch: 0, committed: undefined, pending: undefined }
    this.#holders.set(name.transactionalId, holder)
    const epoch = ++holder.epoch
    // The coordinator finishes what it had decided, or undoes the rest, before it answers.
    if (this.#random.chance(0.5)) holder.pending?.()
    holder.pending = undefined
    let hasFailed = false
    return {
      committed: holder.committed,
      commit: async (records, position, metadata) => {
        if (hasFailed) throw new Error('it has failed')
        if (holder.epoch !== epoch) throw new TilefoldError('FENCED', 'another holder has taken the id')
        const { fate } = this
        this.fate = undefined
        const land = () => {
          for (const record of records) this.#append(record)
          holder.committed = { position, metadata }
        }
        if (fate === undefined || fate === 'unheard') land()
        if (fate === 'undecided') holder.pending = land
        hasFailed = fate !== undefined
        if (fate !== undefined) throw new TilefoldError('LOG_UNAVAILABLE', `the commit is ${fate}`)
      },
      close: async () => {},
    }
  }

  /** The group's offset as somebody has set it. */
  setCommitted(committed: CommittedOffset | undefined): void {
    for (const holder of this.#holders.values()) holder.committed = committed
  }

  #append({ partition, value }: RoutedRecord): void {
    const log = this.logs[partition]!
    // Markers of transactions take offsets, too.
    const offset = log.length === 0 ? 0 : Number(log.at(-1)!.offset) + 1 + this.#random.below(2)
    log.push({ key: null, value, timestamp: '0', offset: String(offset) })
  }
}
