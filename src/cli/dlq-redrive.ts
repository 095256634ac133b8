/**
 * Dead letters back to a topic: the records as they were, each once, partition by partition.
 *
 *   letters in their order -> those that are chosen -> by destination -> one partition per send, its answer checked -> noted
 *
 * A record goes back to the partition it came from, whatever its key: where producers key a topic, its entity is there.
 */
import { TilefoldError } from '../model/errors.ts'
import { partitionHash } from '../model/key.ts'
import { type LetterBatch, type LetterLog, type ReadLetter, recordIdOf } from '../source/dead-letter-reader.ts'
import { createKafkaProducer, type KafkaProducer, type OutgoingMessage } from '../source/kafka-producer.ts'
import { type Call, EXIT_FAILURE, EXIT_OK } from './command.ts'
import { groupData, groupTable, LetterChoice, LetterCounts } from './dlq-choice.ts'
import { type Prospects, prospectsOf } from './dlq-prospects.ts'
import { kafkaOptionsOf } from './kafka-settings.ts'
import type { Printer } from './printer.ts'
import { Progress } from './progress.ts'
import { readWhole } from './settings.ts'
import { formatCount, indent } from './table.ts'
import { SIGNAL_CODES, type Signal } from './terminal.ts'

/** A call of `send`: below a topic's usual limit of a batch, 1 MB, and few enough to come twice after a crash. */
const CALL_BYTES_MAX = 512 * 1024
const CALL_LETTERS_MAX = 500

/** Chosen letters whose records were not sent by this run, by why. */
interface Left {
  /** Noted by an earlier run. */
  sentBefore: number
  /** Another letter about a record that was sent. */
  repeated: number
  putAside: number
  withoutValue: number
}

export async function redrive({ flags, settings, printer, terminal }: Call, log: LetterLog): Promise<number> {
  const choice = new LetterChoice(flags)
  const limitText = flags.limit as string | undefined
  const limit = limitText === undefined ? Number.POSITIVE_INFINITY : readWhole(limitText, '--limit', 1, 1e9)
  const isDry = flags.dryRun === true
  const to = flags.to as string | undefined
  const producer = isDry ? undefined : createKafkaProducer(kafkaOptionsOf(settings))
  const abort = new AbortController()
  let stoppedBy: Signal | undefined
  terminal.onSignal((signal) => {
    stoppedBy = signal
    abort.abort()
  })
  const progress = new Progress({ label: 'redrive', unit: 'letters', stream: terminal.stderr, clock: terminal.clock })
  const drive = new Redrive({ choice, limit, to, takesPutAside: flags.putAside === true, producer, abort })
  let missing: readonly string[]
  try {
    missing = await log.read(async (batch) => {
      await drive.take(batch)
      progress.update({ done: drive.sent })
    }, abort.signal)
  } finally {
    progress.stop()
    await producer?.close()
  }
  for (const each of missing) printer.warn(each)
  const prospects = await prospectsOf(settings, flags, drive.topics)
  report({ log, drive, isDry, to, missing, stoppedBy }, prospects, printer)
  if (stoppedBy !== undefined) return SIGNAL_CODES[stoppedBy]
  return missing.length === 0 ? EXIT_OK : EXIT_FAILURE
}

interface RedriveOptions {
  readonly choice: LetterChoice
  readonly limit: number
  readonly to: string | undefined
  readonly takesPutAside: boolean
  /** Absent: nothing is sent. */
  readonly producer: KafkaProducer | undefined
  /** Ends the reading when the limit is reached. */
  readonly abort: AbortController
}

class Redrive {
  /** What was sent, or would be. */
  readonly counts = new LetterCounts()
  readonly left: Left = { sentBefore: 0, repeated: 0, putAside: 0, withoutValue: 0 }
  sent = 0
  readonly #options: RedriveOptions
  readonly #records = new Set<string>()
  readonly #partitions = new Map<string, Promise<number>>()
  readonly #topics = new Set<string>()
  #last: Promise<void> = Promise.resolve()

  constructor(options: RedriveOptions) {
    this.#options = options
  }

  /** Topics that records went to, or would go to. */
  get topics(): readonly string[] {
    return [...this.#topics]
  }

  /** Partitions of the dead-letter topic come side by side; their letters are judged and sent one batch at a time. */
  take(batch: LetterBatch): Promise<void> {
    const turn = this.#last.then(() => this.#take(batch))
    this.#last = turn.catch(() => {})
    return turn
  }

  async #take(batch: LetterBatch): Promise<void> {
    const { producer, abort, limit } = this.#options
    if (abort.signal.aborted) return
    const { fresh, repeated } = this.#choose(batch)
    if (producer !== undefined) {
      for (const call of await this.#calls(fresh)) {
        if (abort.signal.aborted) return
        await batch.send(call.letters, () => send(producer, call))
        this.#count(call.letters)
      }
      if (repeated.length > 0) await batch.send(repeated, async () => {})
    } else this.#count(fresh)
    this.left.repeated += repeated.length
    if (this.sent >= limit) abort.abort()
  }

  #choose(batch: LetterBatch): { fresh: ReadLetter[]; repeated: ReadLetter[] } {
    const { choice, limit, takesPutAside } = this.#options
    const fresh: ReadLetter[] = []
    const repeated: ReadLetter[] = []
    for (const letter of batch.letters) {
      const id = recordIdOf(letter)
      if (batch.isSent(letter)) {
        this.#records.add(id)
        if (choice.has(letter)) this.left.sentBefore++
        continue
      }
      if (!choice.has(letter)) continue
      if (letter.view !== undefined && !takesPutAside) this.left.putAside++
      else if (letter.leftOutBytes !== undefined) this.left.withoutValue++
      else if (this.#records.has(id)) repeated.push(letter)
      else if (this.sent + fresh.length < limit) {
        this.#records.add(id)
        fresh.push(letter)
      }
    }
    return { fresh, repeated }
  }

  #count(letters: readonly ReadLetter[]): void {
    for (const letter of letters) {
      this.counts.add(letter, this.#options.producer !== undefined)
      this.#topics.add(this.#options.to ?? letter.topic)
    }
    this.sent += letters.length
  }

  async #calls(letters: readonly ReadLetter[]): Promise<SendCall[]> {
    const open = new Map<string, SendCall & { bytes: number }>()
    const calls: SendCall[] = []
    for (const letter of letters) {
      const topic = this.#options.to ?? letter.topic
      const partition = await this.#partitionOf(letter, topic)
      const bytes = (letter.record.key?.length ?? 0) + (letter.record.value?.length ?? 0) + 512
      const key = `${topic}/${partition}`
      let call = open.get(key)
      if (call === undefined || call.bytes + bytes > CALL_BYTES_MAX || call.letters.length === CALL_LETTERS_MAX) {
        call = { topic, partition, letters: [], bytes: 0 }
        open.set(key, call)
        calls.push(call)
      }
      call.letters.push(letter)
      call.bytes += bytes
    }
    return calls
  }

  async #partitionOf(letter: ReadLetter, topic: string): Promise<number> {
    const count = await this.#partitionsOf(topic)
    const { partition, record } = letter
    if (topic !== letter.topic) return (record.key === null ? partition : partitionHash(record.key)) % count
    if (partition < count) return partition
    throw new TilefoldError(
      'LOG_CHANGED',
      `cannot send a record back to ${topic}/${partition}: the topic has ${count} partitions now; --to names another topic`,
      { topic, partition, partitions: count },
    )
  }

  #partitionsOf(topic: string): Promise<number> {
    let partitions = this.#partitions.get(topic)
    if (partitions === undefined) {
      partitions = this.#options.producer!.partitions(topic)
      this.#partitions.set(topic, partitions)
    }
    return partitions
  }
}

/** Letters for one partition. */
interface SendCall {
  readonly topic: string
  readonly partition: number
  readonly letters: ReadLetter[]
}

/** As one batch; one by one where the topic takes no batch of that size. */
async function send(producer: KafkaProducer, { topic, partition, letters }: SendCall): Promise<void> {
  const messages = letters.map(({ record }) => record as OutgoingMessage)
  try {
    await producer.send(topic, partition, messages)
  } catch (error) {
    if (messages.length === 1 || !isTooLarge(error)) throw error
    for (const message of messages) await producer.send(topic, partition, [message])
  }
}

function isTooLarge(error: unknown): boolean {
  for (let each = error; each instanceof Error; each = each.cause) {
    if ((each as { readonly type?: string }).type === 'MESSAGE_TOO_LARGE') return true
  }
  return false
}

// ---- what was done ---------------------------------------------------------------------------------------------------

interface Done {
  readonly log: LetterLog
  readonly drive: Redrive
  readonly isDry: boolean
  readonly to: string | undefined
  readonly missing: readonly string[]
  readonly stoppedBy: Signal | undefined
}

function report({ log, drive, isDry, to, missing, stoppedBy }: Done, prospects: Prospects, printer: Printer): void {
  const { counts, left, sent } = drive
  printer.result({
    data: {
      log: log.name,
      dry_run: isDry,
      finished: stoppedBy === undefined,
      sent: isDry ? 0 : sent,
      ...(isDry ? { would_send: sent } : {}),
      to: to ?? null,
      groups: counts.groups.map(groupData),
      left: {
        sent_before: left.sentBefore,
        repeated: left.repeated,
        put_aside: left.putAside,
        without_value: left.withoutValue,
      },
      views: prospects.views,
      missing,
    },
    table: () => {
      const title = (text: string) => printer.style('bold', text)
      const what = `${log.name}: ${formatCount(sent)} records ${isDry ? 'would be sent' : 'sent'} ${to === undefined ? 'back' : `to ${to}`}`
      const lines = [
        ...(left.sentBefore > 0 ? [`${formatCount(left.sentBefore)} letters were sent before`] : []),
        ...(left.repeated > 0 ? [`${formatCount(left.repeated)} letters repeat one about the same record`] : []),
        ...(left.putAside > 0
          ? [`${formatCount(left.putAside)} letters were put aside by a view and left; --put-aside takes them`]
          : []),
        ...(left.withoutValue > 0
          ? [`${formatCount(left.withoutValue)} letters have no value, it was over the topic's limit; see the records`]
          : []),
      ]
      const blocks = [title(what)]
      if (counts.groups.length > 0) blocks.push(indent(groupTable(counts.groups, title)).trimEnd())
      if (lines.length > 0) blocks.push(lines.join('\n'))
      if (sent > 0) blocks.push(prospects.text)
      return blocks.join('\n\n')
    },
  })
  if (stoppedBy !== undefined) printer.note('Stopped: what was sent is noted; call the same again to go on.')
}
