/** `tilefold dlq`: what was put aside, by reason; and back to its topic with it. */
import { TilefoldError } from '../model/errors.ts'
import type { LetterLog, ReadLetter } from '../source/dead-letter-reader.ts'
import { createLetterFile } from '../source/dead-letter-reader-file.ts'
import { createLetterTopic } from '../source/dead-letter-reader-kafka.ts'
import { type Call, type Command, EXIT_FAILURE, EXIT_OK } from './command.ts'
import { CHOICE_OPTIONS, groupData, groupTable, LetterChoice, LetterCounts, type LetterGroup } from './dlq-choice.ts'
import { redrive } from './dlq-redrive.ts'
import { kafkaOptionsOf } from './kafka-settings.ts'
import type { Printer } from './printer.ts'
import { readWhole, type Settings } from './settings.ts'
import { formatCount, formatTime, indent, renderTable } from './table.ts'
import { TOPIC_OPTIONS } from './topics.ts'

export const dlq: Command = {
  name: 'dlq',
  description: `Dead letters are records that no view could read, or that a view put aside, with what was wrong. The actions:

list counts them by reason, view and source topic, and shows the newest. Keys, and messages that may quote events, are shown only with
--reveal.

redrive produces the records again, as they were (bytes, key, headers, record time), to the partition of the topic they came from, or to
another topic with --to. It notes what it has sent, in the consumer group <kafka-group>-redrive or in <file>.redriven: another run
sends what is new. After a crash the last few may come twice (at least once). Records that a view put aside (late, too old, bad key or
time, told by history) are left unless --put-aside is given: every view of the topic meets a record that is sent again, also those that have counted it.`,
  arguments: [{ name: '<action>', about: 'list, or redrive' }],
  options: [
    { flags: '--dead-letter-topic <topic>', about: 'topic that holds the letters' },
    { flags: '--dead-letter-file <file>', about: 'file that holds the letters' },
    ...CHOICE_OPTIONS,
    { flags: '--limit <n>', about: 'list: newest letters that are shown (10); redrive: letters to send at most' },
    { flags: '--reveal', about: "list: keys, and messages that quote events' bytes" },
    { flags: '--to <topic>', about: 'redrive: to this topic instead of where the records came from' },
    {
      flags: '--put-aside',
      about: 'redrive: also what a view put aside: late, too old, bad key or time, or told by history',
    },
    { flags: '--dry-run', about: 'redrive: say what would be sent, and send nothing' },
    ...TOPIC_OPTIONS,
  ],
  examples: [
    ['tilefold dlq list --kafka-brokers localhost:9092 --dead-letter-topic dead', 'how many, and why'],
    ['tilefold dlq redrive --dead-letter-topic dead --reason cell --dry-run', 'after the definition was corrected'],
  ],
  run,
}

async function run(call: Call): Promise<number> {
  const [action] = call.args
  if (action === 'list') return list(call)
  if (action === 'redrive') return redrive(call, openLetters(call.settings, call.flags.dryRun !== true))
  throw new TilefoldError('USAGE', `cannot do ${JSON.stringify(action)} with dead letters: expected list or redrive`)
}

/** The topic, else the file. Throws CONFIG_INVALID where neither is named. */
function openLetters(settings: Settings, isRedrive: boolean): LetterLog {
  const [topic, file] = [settings.get('dead_letter_topic'), settings.get('dead_letter_file')]
  // Given by hand, a file stands above a topic of the environment.
  if (topic !== undefined && !(file?.rank === 'flag' && topic.rank !== 'flag')) {
    const groupId = `${settings.text('kafka_group') ?? 'tilefold'}-redrive`
    return createLetterTopic({ kafka: kafkaOptionsOf(settings), topic: topic.text, groupId, isRedrive })
  }
  if (file !== undefined) return createLetterFile(file.text)
  throw new TilefoldError(
    'CONFIG_INVALID',
    'cannot find dead letters: nothing says where they are; expected --dead-letter-topic or --dead-letter-file',
  )
}

// ---- list ------------------------------------------------------------------------------------------------------------

const SHOWN_DEFAULT = '10'

interface Listed {
  readonly letter: ReadLetter
  readonly isSent: boolean
}

async function list({ flags, settings, printer }: Call): Promise<number> {
  const choice = new LetterChoice(flags)
  const limit = readWhole((flags.limit as string | undefined) ?? SHOWN_DEFAULT, '--limit', 0, 1_000_000)
  const isRevealed = flags.reveal === true
  const log = openLetters(settings, false)
  const counts = new LetterCounts()
  const newest = new Map<number, Listed[]>()
  let letters = 0
  let foreign = 0
  const missing = await log.read(async (batch) => {
    foreign += batch.foreign
    for (const letter of batch.letters) {
      if (!choice.has(letter)) continue
      letters++
      const isSent = batch.isSent(letter)
      counts.add(letter, isSent)
      const own = newest.get(letter.home.partition) ?? []
      newest.set(letter.home.partition, own)
      own.push({ letter, isSent })
      if (own.length > limit) own.shift()
    }
  })
  for (const each of missing) printer.warn(each)
  if (foreign > 0) printer.warn(`${formatCount(foreign)} records of the ${log.name} are no dead letters`)
  const shown = newestOf(newest, limit)
  const { groups } = counts
  printer.result({
    data: {
      log: log.name,
      letters,
      foreign,
      groups: groups.map(groupData),
      newest: shown.map((each) => letterData(each, isRevealed)),
      missing,
    },
    table: () => listTable(log.name, letters, groups, shown, isRevealed, printer),
  })
  return missing.length === 0 ? EXIT_OK : EXIT_FAILURE
}

/** Over all partitions, by the time of the record: a letter has none of its own that every form keeps. */
function newestOf(byPartition: ReadonlyMap<number, readonly Listed[]>, limit: number): Listed[] {
  const all = [...byPartition.values()].flat()
  const timeOf = ({ letter }: Listed) => Number(letter.record.timestamp)
  return all.sort((a, b) => timeOf(b) - timeOf(a) || b.letter.home.position - a.letter.home.position).slice(0, limit)
}

function letterData({ letter, isSent }: Listed, isRevealed: boolean): object {
  const { home, topic, partition, offset, reason, view = null, text, record, leftOutBytes } = letter
  return {
    at: home,
    topic,
    partition,
    offset,
    time: formatTime(Number(record.timestamp)),
    reason,
    view,
    sent: isSent,
    bytes: record.value?.length ?? leftOutBytes ?? 0,
    ...(leftOutBytes === undefined ? {} : { left_out: true }),
    ...(isRevealed ? { key: keyText(record.key), message: text } : {}),
  }
}

/** Text where the bytes are text. */
function keyText(key: Buffer | null): string | null {
  if (key === null) return null
  const text = key.toString()
  return Buffer.from(text).equals(key) ? text : `base64:${key.toString('base64')}`
}

function listTable(
  name: string,
  letters: number,
  groups: readonly LetterGroup[],
  shown: readonly Listed[],
  isRevealed: boolean,
  printer: Printer,
): string {
  const title = (text: string) => printer.style('bold', text)
  const blocks = [title(`${name}: ${formatCount(letters)} letters`)]
  if (groups.length > 0) blocks.push(indent(groupTable(groups, title)))
  if (shown.length > 0) {
    const columns = [
      { title: 'AT', align: 'right' as const },
      { title: 'RECORD' },
      { title: 'TIME' },
      { title: 'REASON' },
      { title: 'VIEW' },
      { title: 'SENT' },
      ...(isRevealed ? [{ title: 'KEY' }, { title: 'MESSAGE' }] : []),
    ]
    const rows = shown.map(({ letter, isSent }) => [
      `${letter.home.partition}/${letter.home.position}`,
      `${letter.topic}/${letter.partition}/${letter.offset}`,
      formatTime(Number(letter.record.timestamp)),
      letter.reason,
      letter.view ?? '-',
      isSent ? 'yes' : '',
      ...(isRevealed ? [keyText(letter.record.key) ?? '-', letter.text] : []),
    ])
    blocks.push(title('newest'), indent(renderTable(columns, rows)))
  }
  return blocks.join('\n\n')
}
