/** Which letters are meant, by what the flags say; and what they are counted by. */
import type { ReadLetter } from '../source/dead-letter-reader.ts'
import type { Flags, Option } from './command.ts'
import { readWhole } from './settings.ts'
import { formatCount, formatTime, renderTable } from './table.ts'

export const CHOICE_OPTIONS: readonly Option[] = [
  { flags: '--reason <reason>', about: 'only letters with this reason: json, cell, late, ...', isList: true },
  { flags: '--view <name>', about: 'only letters of this view', isList: true },
  { flags: '--of <topic>', about: 'only letters about records of this topic', isList: true },
  { flags: '--partition <n>', about: 'only letters in this partition of the dead-letter topic' },
  { flags: '--from <position>', about: 'only from this offset of the dead-letter topic, or line of the file, on' },
  { flags: '--until <position>', about: 'only before this offset, or line' },
]

export class LetterChoice {
  readonly #reasons: ReadonlySet<string>
  readonly #views: ReadonlySet<string>
  readonly #topics: ReadonlySet<string>
  readonly #partition: number | undefined
  readonly #from: number
  readonly #until: number

  /** Throws USAGE. */
  constructor(flags: Flags) {
    const whole = (name: string) => {
      const text = flags[name] as string | undefined
      return text === undefined ? undefined : readWhole(text, `--${name}`, 0, Number.MAX_SAFE_INTEGER)
    }
    this.#reasons = new Set(flags.reason as readonly string[] | undefined)
    this.#views = new Set(flags.view as readonly string[] | undefined)
    this.#topics = new Set(flags.of as readonly string[] | undefined)
    this.#partition = whole('partition')
    this.#from = whole('from') ?? 0
    this.#until = whole('until') ?? Number.POSITIVE_INFINITY
  }

  has({ home, topic, reason, view }: ReadLetter): boolean {
    if (this.#reasons.size > 0 && !this.#reasons.has(reason)) return false
    if (this.#views.size > 0 && (view === undefined || !this.#views.has(view))) return false
    if (this.#topics.size > 0 && !this.#topics.has(topic)) return false
    if (this.#partition !== undefined && home.partition !== this.#partition) return false
    return home.position >= this.#from && home.position < this.#until
  }
}

export interface LetterGroup {
  readonly reason: string
  readonly view: string | null
  readonly topic: string
  letters: number
  /** Of them, those that were sent again. */
  sent: number
  /** Record times. */
  oldestMs: number
  newestMs: number
}

/** Letters by reason, view and source topic. */
export class LetterCounts {
  readonly #groups = new Map<string, LetterGroup>()

  add({ reason, view, topic, record }: ReadLetter, isSent: boolean): void {
    const key = JSON.stringify([topic, view ?? null, reason])
    const timeMs = Number(record.timestamp)
    let group = this.#groups.get(key)
    if (group === undefined) {
      group = { reason, view: view ?? null, topic, letters: 0, sent: 0, oldestMs: timeMs, newestMs: timeMs }
      this.#groups.set(key, group)
    }
    group.letters++
    if (isSent) group.sent++
    group.oldestMs = Math.min(group.oldestMs, timeMs)
    group.newestMs = Math.max(group.newestMs, timeMs)
  }

  /** Most letters first. */
  get groups(): readonly LetterGroup[] {
    return [...this.#groups.values()].sort((a, b) => b.letters - a.letters || (a.reason < b.reason ? -1 : 1))
  }
}

export function groupData({ reason, view, topic, letters, sent, oldestMs, newestMs }: LetterGroup): object {
  return { reason, view, topic, letters, sent, oldest: formatTime(oldestMs), newest: formatTime(newestMs) }
}

export function groupTable(groups: readonly LetterGroup[], title: (text: string) => string): string {
  return renderTable(
    [
      { title: 'REASON' },
      { title: 'VIEW' },
      { title: 'SOURCE TOPIC' },
      { title: 'LETTERS', align: 'right' },
      { title: 'SENT AGAIN', align: 'right' },
      { title: 'OLDEST' },
      { title: 'NEWEST' },
    ],
    groups.map((group) => [
      group.reason,
      group.view ?? '-',
      group.topic,
      formatCount(group.letters),
      formatCount(group.sent),
      formatTime(group.oldestMs),
      formatTime(group.newestMs),
    ]),
    title,
  )
}
