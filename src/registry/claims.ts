/**
 * Who fills which lanes of a history. The lanes' tokens keep two processes from mixing their rows, but they would take the lanes from
 * each other and the first would lose: here the second is told before it takes anything.
 *
 *   ~backfill.<state>.<generation>    { claims: [{ nonce, index, count, beat }] }
 *
 * A claim beats: its number grows every few seconds. Whoever wants lanes of it watches; one that stands still for long enough is of
 * somebody who died, and goes. No clocks are compared. A claim is a courtesy: a process that was judged dead and wakes up is FENCED
 * by the lanes, as ever. It stands where layouts stand, like the erase list.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { TilefoldError } from '../model/errors.ts'
import type { GenerationLayout } from '../model/view-layout.ts'
import type { LayoutSeat } from './layouts.ts'

/** Of `count` processes that share a history, the one that fills the lanes congruent to `index`. */
export interface Share {
  readonly index: number
  readonly count: number
}

export interface ClaimOptions {
  /** Between two beats; 2,000 unless told. */
  readonly beatMs?: number
  /** A claim that stands still for so long is nobody's; 10,000 unless told. */
  readonly silenceMs?: number
  /** Called when there is a claim to be watched. */
  readonly onWait?: (text: string) => void
}

interface Claim extends Share {
  readonly nonce: string
  readonly beat: number
}

const BEAT_MS = 2_000
const SILENCE_MS = 10_000

export class HistoryClaim {
  readonly #seat: LayoutSeat
  readonly #name: string
  readonly #nonce: string
  #timer: NodeJS.Timeout | undefined
  #last: Promise<unknown> = Promise.resolve()

  /** Throws FENCED where a living process has some of the lanes. */
  static async take(
    seat: LayoutSeat,
    { stateHash, generation, history }: GenerationLayout,
    share: Share,
    { beatMs = BEAT_MS, silenceMs = SILENCE_MS, onWait }: ClaimOptions,
  ): Promise<HistoryClaim> {
    const claim = new HistoryClaim(seat, `~backfill.${stateHash}.${generation}`)
    const own: Claim = { ...share, nonce: claim.#nonce, beat: 0 }
    const overlaps = (each: Claim) => each.nonce !== own.nonce && meets(each, share, history.lanes)
    /** Beats as they were first seen, and when. */
    const seen = new Map<string, { readonly beat: number; readonly atMs: number }>()
    for (;;) {
      const { text, claims } = await claim.#read()
      const nowMs = performance.now()
      const rivals = claims.filter(overlaps)
      for (const { nonce, beat, index, count } of rivals) {
        const before = seen.get(nonce)
        if (before !== undefined && before.beat !== beat) {
          throw new TilefoldError(
            'FENCED',
            `cannot take lanes of history ${history.log}: another backfill is filling them, shard ${index}/${count}; got ${share.index}/${share.count}. Wait for it, or stop it first`,
            { index, count },
          )
        }
        if (before !== undefined) continue
        seen.set(nonce, { beat, atMs: nowMs })
        onWait?.(
          `shard ${index}/${count} of this history was begun by a process that may be alive: watching it for ${silenceMs / 1000} s`,
        )
      }
      const isSilent = ({ nonce }: Claim) => nowMs - seen.get(nonce)!.atMs >= silenceMs
      if (rivals.every(isSilent)) {
        const others = claims.filter((each) => !rivals.includes(each))
        if (await claim.#write(text, [...others, own])) break
        continue
      }
      await sleep(Math.min(beatMs, silenceMs) / 4)
    }
    claim.#timer = setInterval(() => claim.#beat(), beatMs)
    claim.#timer.unref()
    return claim
  }

  private constructor(seat: LayoutSeat, name: string) {
    this.#seat = seat
    this.#name = name
    this.#nonce = randomUUID()
  }

  /** The lanes are free for the next one at once. A store that can't be told leaves it to their patience. */
  async release(): Promise<void> {
    clearInterval(this.#timer)
    await this.#last
    await this.#change((claims) => claims.filter((each) => each.nonce !== this.#nonce)).catch(() => {})
  }

  #beat(): void {
    const beaten = (each: Claim) => (each.nonce === this.#nonce ? { ...each, beat: each.beat + 1 } : each)
    // Missed beats are the store's trouble, and the writes of rows will tell.
    this.#last = this.#last.then(() => this.#change((claims) => claims.map(beaten))).catch(() => {})
  }

  async #change(edit: (claims: readonly Claim[]) => readonly Claim[]): Promise<void> {
    for (;;) {
      const { text, claims } = await this.#read()
      const isHeld = claims.some((each) => each.nonce === this.#nonce)
      if (!isHeld || (await this.#write(text, edit(claims)))) return
    }
  }

  async #read(): Promise<{ readonly text: string | undefined; readonly claims: readonly Claim[] }> {
    const text = await this.#seat.store.readLayout(this.#seat.namespace, this.#name)
    return { text, claims: text === undefined ? [] : (JSON.parse(text) as { claims: readonly Claim[] }).claims }
  }

  #write(expected: string | undefined, claims: readonly Claim[]): Promise<boolean> {
    const text = JSON.stringify({ format: 1, generations: [], claims })
    return this.#seat.store.writeLayout(this.#seat.namespace, this.#name, expected, text)
  }
}

/** Is there a lane that both would fill? */
function meets(a: Share, b: Share, lanes: number): boolean {
  for (let lane = a.index; lane < lanes; lane += a.count) if (lane % b.count === b.index) return true
  return false
}
