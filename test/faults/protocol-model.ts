/**
 * An executable model of the lane protocol (src/ingest/lane.ts), small enough to be read beside it: one lane, a log of some
 * thirty events, a store that may fall back to an earlier prefix of its writes, and owners that crash, sleep, wake up as
 * zombies, lose replies, evict, compact and replay. Each rule of the protocol is a flag; with all of them every history
 * must end right, and without any one of them some history must not.
 *
 * A row is a bag of event positions: two bit masks, `once` (seen) and `twice` (seen again). Owners are generators; at every
 * `yield` anything may happen to anybody.
 */
import { type Random, seededRandom } from '../support/random.ts'

export interface Rules {
  /** A write needs the token equal and the sequence as expected. */
  readonly tokenAndSequence: boolean
  /** Up to flushing_to a row is read before the first fold into it. */
  readonly readBelowFlushingTo: boolean
  /** flushing_to never decreases. */
  readonly maxFlushingTo: boolean
  /** A row's applied position never decreases. */
  readonly maxApplied: boolean
  /** The token is taken before the record is read. */
  readonly tokenFirst: boolean
  /** A row counts as read only where token and sequence were ours in the same step. */
  readonly readUnderToken: boolean
  /** A row beyond our flushing_to, or at or past the first event of its delta, cannot be ours. */
  readonly foreignRow: boolean
  /** Rows that an owner keeps in memory go with it: the next one knows nothing. */
  readonly keptGoWithOwner: boolean
  /** What an owner has not written is known not to be there only in a lane that nobody had written to before. */
  readonly emptyWhenTaken: boolean
}

export const ALL_RULES: Rules = {
  tokenAndSequence: true,
  readBelowFlushingTo: true,
  maxFlushingTo: true,
  maxApplied: true,
  tokenFirst: true,
  readUnderToken: true,
  foreignRow: true,
  keptGoWithOwner: true,
  emptyWhenTaken: true,
}

/** Probabilities and sizes of one history: drawn anew for each seed, so that every mix of faults gets its turn. */
export interface Weather {
  readonly events: number
  readonly entities: number
  readonly owners: number
  readonly steps: number
  readonly crash: number
  readonly failover: number
  readonly failoverDepth: number
  /** Share of failovers that lose exactly one owner's whole reign. */
  readonly failoverToTaking: number
  readonly takeover: number
  readonly pause: number
  readonly pauseSteps: number
  readonly loseReply: number
  readonly delayRequest: number
  readonly flush: number
  readonly checkpoint: number
  readonly chunkRows: number
  readonly evict: number
  readonly compact: number
  readonly blind: number
}

export function drawWeather(random: Random): Weather {
  const some = (most: number) => (random.chance(0.3) ? 0 : random.fraction() * most)
  return {
    events: 8 + random.below(22),
    entities: 1 + random.below(4),
    owners: 1 + random.below(3),
    steps: 60 + random.below(240),
    crash: some(0.06),
    failover: some(0.06),
    failoverDepth: 1 + random.below(12),
    failoverToTaking: random.pick([0, 0, 0.5, 1]),
    takeover: some(0.1),
    pause: some(0.15),
    pauseSteps: 1 + random.below(60),
    loseReply: some(0.15),
    delayRequest: some(0.1),
    flush: 0.05 + random.fraction() * 0.4,
    checkpoint: random.fraction(),
    chunkRows: 1 + random.below(3),
    evict: some(0.3),
    compact: some(0.3),
    blind: random.pick([0.2, 0.8, 1]),
  }
}

/** Weather in which a zombie often becomes the owner again, which a row of its lost successor then shows. */
export const ZOMBIE_WEATHER: Partial<Weather> = {
  owners: 2,
  steps: 400,
  crash: 0,
  takeover: 0.05,
  failover: 0.03,
  failoverToTaking: 1,
  flush: 0.15,
  checkpoint: 0.5,
  evict: 0.5,
  compact: 0.1,
  blind: 1,
}

/** `rows`: an event is lost or doubled. `stuck`: nobody can finish. `invariant`: the store held what it never may. */
export type Verdict = 'right' | 'rows' | 'stuck' | 'invariant'

export interface Bag {
  readonly once: number
  readonly twice: number
}

export function combine(a: Bag, b: Bag): Bag {
  return { once: a.once | b.once, twice: a.twice | b.twice | (a.once & b.once) }
}

interface Row extends Bag {
  readonly applied: number
}

interface State {
  readonly counter: number
  readonly nonce: number
  readonly sequence: number
  readonly marker: number
  readonly flushingTo: number
  readonly checkpoints: readonly number[]
  readonly rows: readonly (Row | undefined)[]
}

interface Change {
  readonly flushingTo?: number
  readonly rows?: readonly (readonly [number, Row])[]
  readonly marker?: number
  readonly checkpoint?: number
}

type Outcome = 'ok' | 'fenced' | 'regressed'

/** One hash slot: every write is a new state, and a failover goes back to an older one. */
class StoreModel {
  history: State[]
  /** Requests whose sender has given up waiting: they may still arrive, unless the server is gone. */
  pending: (() => void)[] = []
  hasBroken = false

  constructor(private readonly rules: Rules) {
    const rows: (Row | undefined)[] = []
    this.history = [{ counter: 0, nonce: 0, sequence: 0, marker: -1, flushingTo: -1, checkpoints: [-1], rows }]
  }

  get state(): State {
    return this.history.at(-1)!
  }

  take(nonce: number): State {
    this.history.push({ ...this.state, counter: this.state.counter + 1, nonce })
    return this.state
  }

  write(token: { counter: number; nonce: number }, sequence: number, change: Change): Outcome {
    const was = this.state
    if (this.rules.tokenAndSequence) {
      if (was.counter < token.counter) return 'regressed'
      if (was.counter > token.counter || was.nonce !== token.nonce) return 'fenced'
      if (was.sequence === sequence + 1) return 'ok'
      if (was.sequence !== sequence) return 'regressed'
    }
    const rows = was.rows.slice()
    for (const [entity, row] of change.rows ?? []) {
      const applied = this.rules.maxApplied ? Math.max(row.applied, rows[entity]?.applied ?? -1) : row.applied
      rows[entity] = { ...row, applied }
    }
    const to = change.flushingTo ?? was.flushingTo
    this.history.push({
      ...was,
      rows,
      sequence: was.sequence + 1,
      flushingTo: this.rules.maxFlushingTo ? Math.max(was.flushingTo, to) : to,
      marker: Math.max(was.marker, change.marker ?? -1),
      checkpoints: change.checkpoint === undefined ? was.checkpoints : [was.checkpoints.at(-1)!, change.checkpoint],
    })
    const { marker, flushingTo } = this.state
    if (marker > flushingTo || rows.some((row) => row && row.applied > flushingTo)) this.hasBroken = true
    return 'ok'
  }

  failover(lost: number): void {
    this.history.length = Math.max(1, this.history.length - lost)
    this.pending = []
  }

  /** Writes since the lane was last taken, with the taking: a failover that loses as many makes a zombie the owner again. */
  sinceTaking(): number {
    const { nonce } = this.state
    return this.history.length - this.history.findIndex((state) => state.nonce === nonce)
  }
}

/** The owner has to go: fenced, regressed, or without a checkpoint. One for all, since a stack for each would cost most of the time. */
const LOST = new Error('lost')

interface Resident {
  bag: Bag
  /** What the stored row had applied when it was read; -1 for a delta that was begun without reading. */
  readonly applied: number
  /** First event of such a delta, else -1. */
  readonly deltaStart: number
  isDirty: boolean
}

/** What all owners of one history share. `calm`: no faults any more. */
interface World {
  readonly random: Random
  readonly rules: Rules
  readonly weather: Weather
  readonly store: StoreModel
  /** Entity of each event. */
  readonly log: readonly number[]
  isCalm: boolean
  /** What the last flush left in its owner's memory. */
  kept: ReadonlyMap<number, Resident>
}

/** Asks the store: before and after, others may act; a reply may get lost, a request may arrive late or twice. */
function* ask<T>(world: World, request: () => T): Generator<void, T> {
  const { random, weather, store } = world
  for (;;) {
    yield
    if (!world.isCalm && random.chance(weather.delayRequest)) {
      store.pending.push(request)
      continue
    }
    const reply = request()
    if (world.isCalm) return reply
    yield
    if (!random.chance(weather.loseReply)) return reply
  }
}

/** One owner, from the taking of the lane until it is lost, or until all of the log is in the rows. */
function* own(world: World, nonce: number): Generator<void, void> {
  const { random, rules, weather, store, log } = world
  // Without the rule, the lane is restored first and taken when it is first written to.
  let taken: State | undefined
  if (rules.tokenFirst) taken = yield* ask(world, () => store.take(nonce))
  const record = taken ?? (yield* ask(world, () => store.state))
  const checkpoints = yield* ask(world, () => store.state.checkpoints)
  const usable = checkpoints.filter((checkpoint) => checkpoint <= record.marker)
  if (usable.length === 0) throw LOST
  let position = Math.max(...usable)
  let { flushingTo } = record
  let { sequence } = record
  // An owner keeps what it read and wrote, and adds to it without a look at the store; that it may is shown by its next write.
  const residents = new Map<number, Resident>()
  if (!rules.keptGoWithOwner)
    for (const [entity, kept] of world.kept) residents.set(entity, { ...kept, isDirty: false })

  const beganEmpty = taken?.sequence === 0 || !rules.emptyWhenTaken
  const written = new Set<number>()

  function* write(change: Change): Generator<void, void> {
    if (taken === undefined) {
      taken = yield* ask(world, () => store.take(nonce))
      sequence = taken.sequence
    }
    const token = taken
    const expected = sequence
    const outcome = yield* ask(world, () => store.write(token, expected, change))
    if (outcome !== 'ok') throw LOST
    sequence = expected + 1
  }

  function* read(entity: number, deltaStart: number): Generator<void, Row> {
    if (beganEmpty && !written.has(entity)) return { once: 0, twice: 0, applied: -1 }
    const state = yield* ask(world, () => store.state)
    const isOurs = state.counter === taken?.counter && state.nonce === taken.nonce && state.sequence === sequence
    if (rules.readUnderToken && taken !== undefined && !isOurs) throw LOST
    const row = state.rows[entity] ?? { once: 0, twice: 0, applied: -1 }
    const limit = deltaStart < 0 ? flushingTo + 1 : Math.min(flushingTo + 1, deltaStart)
    if (rules.foreignRow && row.applied >= limit) throw LOST
    return row
  }

  function* fold(at: number): Generator<void, void> {
    const entity = log[at]!
    let resident = residents.get(entity)
    if (resident === undefined) {
      const isBlind = (at > flushingTo || !rules.readBelowFlushingTo) && random.chance(weather.blind)
      const row = isBlind ? { once: 0, twice: 0, applied: -1 } : yield* read(entity, -1)
      resident = { bag: row, applied: row.applied, deltaStart: isBlind ? at : -1, isDirty: false }
      residents.set(entity, resident)
    }
    if (at <= resident.applied) return
    resident.bag = combine(resident.bag, { once: 1 << at, twice: 0 })
    resident.isDirty = true
  }

  function* flush(): Generator<void, void> {
    yield* write({ flushingTo: position })
    flushingTo = Math.max(flushingTo, position)
    const dirty = [...residents].filter(([, resident]) => resident.isDirty)
    while (dirty.length > 0) {
      const rows: [number, Row][] = []
      for (const [entity, resident] of dirty.splice(0, weather.chunkRows)) {
        let { bag, applied, deltaStart } = resident
        if (deltaStart >= 0) {
          const row = yield* read(entity, deltaStart)
          bag = combine(row, bag)
          applied = row.applied
        }
        residents.set(entity, { bag, applied, deltaStart: -1, isDirty: false })
        written.add(entity)
        rows.push([entity, { once: bag.once, twice: bag.twice, applied: position }])
      }
      yield* write({ rows })
    }
    yield* write({ marker: position, checkpoint: random.chance(weather.checkpoint) ? position : undefined })
    world.kept = new Map([...residents].map(([entity, resident]) => [entity, { ...resident }]))
  }

  for (;;) {
    const isAtEnd = position === log.length - 1
    if (isAtEnd && world.isCalm) {
      yield* flush()
      return
    }
    if (!isAtEnd) {
      yield* fold(position + 1)
      position++
    } else yield
    for (const [entity, resident] of residents) {
      if (!resident.isDirty && random.chance(weather.evict)) residents.delete(entity)
      else if (resident.deltaStart < 0 && random.chance(weather.compact)) resident.isDirty = true
    }
    if (random.chance(weather.flush)) yield* flush()
  }
}

/** Plays the history of a seed and judges how it ends. */
export function playHistory(seed: number, rules: Rules, change: Partial<Weather> = {}): Verdict {
  const random = seededRandom(seed)
  const weather = { ...drawWeather(random), ...change }
  const log = Array.from({ length: weather.events }, () => random.below(weather.entities))
  const world: World = { random, rules, weather, store: new StoreModel(rules), log, isCalm: false, kept: new Map() }
  const { store } = world
  let nonces = 0
  const owners: { run: Generator<void, void>; wakesAt: number }[] = []
  const advance = (run: Generator<void, void>): boolean => {
    try {
      return run.next().done !== true
    } catch (error) {
      if (error === LOST) return false
      throw error
    }
  }

  for (let step = 0; step < weather.steps; step++) {
    if (random.chance(weather.failover)) {
      const isExact = random.chance(weather.failoverToTaking)
      store.failover(isExact ? store.sinceTaking() : 1 + random.below(weather.failoverDepth))
    }
    if (random.chance(0.2) && store.pending.length > 0)
      store.pending.splice(random.below(store.pending.length), 1)[0]!()
    if (owners.length === 0 || (owners.length < weather.owners && random.chance(weather.takeover))) {
      owners.push({ run: own(world, ++nonces), wakesAt: step })
    }
    const owner = random.pick(owners)
    if (owner.wakesAt > step && owners.some((each) => each.wakesAt <= step)) continue
    if (random.chance(weather.pause)) owner.wakesAt = step + random.below(weather.pauseSteps)
    else if (random.chance(weather.crash) || !advance(owner.run)) owners.splice(owners.indexOf(owner), 1)
  }

  // The storm is over: whatever is still under way arrives, everybody else is gone, and one owner finishes.
  for (const request of store.pending) request()
  world.isCalm = true
  for (let attempt = 0; attempt < 5; attempt++) {
    const run = own(world, ++nonces)
    while (advance(run));
    if (store.state.marker === log.length - 1) break
  }
  if (store.state.marker !== log.length - 1) return 'stuck'
  const right = log.reduce(
    (masks, entity, at) => masks.with(entity, masks[entity]! | (1 << at)),
    Array(weather.entities).fill(0),
  )
  const areRight = right.every((mask, entity) => {
    const row = store.state.rows[entity]
    return (row?.once ?? 0) === mask && (row?.twice ?? 0) === 0
  })
  if (!areRight) return 'rows'
  return store.hasBroken ? 'invariant' : 'right'
}
