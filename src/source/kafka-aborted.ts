/**
 * Read committed, for transactions side by side: what kafkajs 2.2 shows of aborted ones.
 *
 * A broker names aborted transactions in the order in which they ended. kafkajs takes that for the order in which they began, and takes
 * up one of them per record: where several producers had records in one partition and were aborted, some are delivered. It takes
 * any record with the key 00000000 for an end, too. Its filter is a module of its own and is replaced here, so this file is to be
 * loaded before kafkajs (`kafka.ts` does).
 */
import { createRequire } from 'node:module'

/** A record as kafkajs has decoded it. */
interface FetchedRecord {
  readonly offset: string
  readonly key: Buffer | null
  readonly isControlRecord: boolean
  readonly batchContext: { readonly producerId: string; readonly inTransaction: boolean }
}

interface Fetched {
  readonly messages: FetchedRecord[]
  readonly abortedTransactions?: readonly { readonly producerId: string; readonly firstOffset: string }[] | null
}

/** The records of no aborted transaction, and the markers. */
export function withoutAborted({ messages, abortedTransactions }: Fetched): FetchedRecord[] {
  if (!abortedTransactions?.length) return messages
  const begins = abortedTransactions
    .map(({ producerId, firstOffset }) => ({ producer: String(producerId), first: Number(firstOffset) }))
    .sort((a, b) => a.first - b.first)
  const aborted = new Set<string>()
  let next = 0
  return messages.filter(({ offset, key, isControlRecord, batchContext }) => {
    while (next < begins.length && begins[next]!.first <= Number(offset)) aborted.add(begins[next++]!.producer)
    const producer = String(batchContext.producerId)
    if (!isControlRecord) return !(batchContext.inTransaction && aborted.has(producer))
    if (key?.equals(ABORT)) aborted.delete(producer)
    return true
  })
}

/** Version 0, type 0. */
const ABORT = Buffer.alloc(4)

const require = createRequire(import.meta.url)
const path = require.resolve('kafkajs/src/consumer/filterAbortedMessages.js')
require(path)
require.cache[path]!.exports = withoutAborted
