/**
 * Which entities make so much of a log that one lane is too few for them.
 *
 * Counted exactly, event by event, in epochs of a fixed number of accepted events, so that a replay finds the same; an average over
 * epochs keeps a moment's rest from gathering an entity again.
 */

/** Accepted events of one log. */
export const EPOCH_EVENTS = 8192
/** Weight of the newest epoch. */
const NEWEST = 0.5
/** Lanes' worth of events that an entity may have before it is spread: below it, its lane has room beside others. */
const LANES_MIN = 1.5
/** It is gathered when half of what it has would do, for so many epochs. */
const CALM_EPOCHS = 8

interface Candidate {
  /** Share of the log's events, averaged. */
  share: number
  /** Epochs in a row in which half as many lanes would have done, and the most that one of them needed. */
  calm: number
  most: number
}

export class HeavyHitters {
  readonly #lanes: number
  /** An entity below it is nobody's trouble. */
  readonly #countMin: number
  #counts = new Uint32Array(1024)
  #events = 0
  #crossed: number[] = []
  readonly #candidates = new Map<number, Candidate>()

  constructor(lanes: number) {
    this.#lanes = lanes
    this.#countMin = Math.max(1, Math.floor((EPOCH_EVENTS * LANES_MIN) / lanes / 4))
  }

  /** One event of an entity, by its number; true at the end of an epoch. */
  add(entity: number): boolean {
    if (entity >= this.#counts.length) {
      const more = new Uint32Array(entity * 2)
      more.set(this.#counts)
      this.#counts = more
    }
    if (++this.#counts[entity]! === this.#countMin) this.#crossed.push(entity)
    return ++this.#events === EPOCH_EVENTS
  }

  /**
   * Ends the epoch: entities that are to be spread over another number of lanes than `activeOf` says they are, and over how many.
   */
  endEpoch(activeOf: (entity: number) => number): Map<number, number> {
    for (const entity of this.#crossed) {
      const share = this.#counts[entity]! / this.#events
      if (!this.#candidates.has(entity)) this.#candidates.set(entity, { share, calm: 0, most: 1 })
    }
    const changes = new Map<number, number>()
    for (const [entity, candidate] of this.#candidates) {
      const share = this.#counts[entity]! / this.#events
      candidate.share = candidate.share * (1 - NEWEST) + share * NEWEST
      const active = activeOf(entity)
      const wanted = this.#widthFor(candidate.share)
      const isCalm = wanted * 2 <= active
      candidate.most = isCalm && candidate.calm > 0 ? Math.max(candidate.most, wanted) : wanted
      candidate.calm = isCalm ? candidate.calm + 1 : 0
      if (wanted > active) changes.set(entity, wanted)
      if (candidate.calm < CALM_EPOCHS) continue
      changes.set(entity, candidate.most)
      candidate.calm = 0
    }
    for (const [entity, { share }] of this.#candidates) {
      if (activeOf(entity) === 1 && share * EPOCH_EVENTS < this.#countMin / 4) this.#candidates.delete(entity)
    }
    this.#counts.fill(0)
    this.#events = 0
    this.#crossed = []
    return changes
  }

  /** Entity numbers are given anew. */
  clear(): void {
    this.#counts.fill(0)
    this.#events = 0
    this.#crossed = []
    this.#candidates.clear()
  }

  /** A power of two, so that it changes seldom: at most all lanes. */
  #widthFor(share: number): number {
    const lanes = share * this.#lanes
    if (lanes < LANES_MIN) return 1
    return Math.min(this.#lanes, 2 ** Math.ceil(Math.log2(lanes)))
  }
}
