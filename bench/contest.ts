/**
 * One contest: several ways to the same result, timed in turn.
 *
 * Every contender runs a round in every turn (slow ones in the first few turns only), so all of them share whatever else the
 * machine does; the order turns by one each time. The reported ratio is the median of the ratios within one turn: on a
 * shared machine absolute numbers drift by half, ratios by a few per cent. Checksums must agree before any time counts.
 */
import { Bench } from 'tinybench'

/** A timed run. `checksum` says what came out; equal results have equal checksums. */
export interface Measure {
  /** Nanoseconds in all, of the part that counts. */
  readonly ns: number
  readonly ops: number
  readonly checksum: string
}

export interface Contender {
  readonly name: string
  round(): Measure | Promise<Measure>
  close?(): void | Promise<void>
}

/**
 * - `cost`: our time over the peer's, at most `limit`
 * - `gain`: the peer's time over ours, at least `limit`
 * - `share`: a part of the whole, at most `limit`; the claim computes it
 */
export interface Target {
  readonly kind: RatioKind
  readonly limit: number
}

export type RatioKind = 'cost' | 'gain' | 'share'

export interface Peer {
  readonly contender: Contender
  /** Absent: printed for orientation. */
  readonly target?: Target
  /** Takes part in the first turns only: a round lasts seconds. */
  readonly slow?: boolean
  /** Its result is another one by design. */
  readonly uncompared?: boolean
}

export interface Contest {
  readonly claim: string
  readonly title: string
  /** What an op is: event, key, request. */
  readonly unit: string
  /** Our engine; the ratios are to it. */
  readonly subject: Contender
  readonly peers: readonly Peer[]
}

export interface Row {
  readonly claim: string
  readonly title: string
  readonly unit: string
  readonly contender: string
  /** Median over the rounds, and the fastest and slowest of them. */
  readonly ns: number
  readonly nsMin: number
  readonly nsMax: number
  readonly rounds: number
  /** Median of the ratios within a turn, the way round that `ratioKind` says: the target's, else `cost`. */
  readonly ratio?: number
  readonly ratioKind?: RatioKind
  readonly ratioMin?: number
  readonly ratioMax?: number
  readonly target?: Target
  readonly reached?: boolean
}

export interface Turns {
  readonly all: number
  /** Turns that slow contenders take part in. */
  readonly slow: number
}

/** Runs the contest and closes its contenders. Throws when a round's result is another one than it should be. */
export async function runContest(contest: Contest, turns: Turns): Promise<Row[]> {
  const everyone: Peer[] = [{ contender: contest.subject }, ...contest.peers]
  const times = new Map<Contender, number[]>(everyone.map(({ contender }) => [contender, []]))
  try {
    // The round that doesn't count warms caches, touches memory, lets V8 compile, and settles that results agree.
    const { checksum: wanted } = await contest.subject.round()
    const wantedOf = new Map([[contest.subject, wanted]])
    for (const { contender, uncompared } of contest.peers) {
      const { checksum } = await contender.round()
      wantedOf.set(contender, uncompared ? checksum : wanted)
      if (!uncompared) checkSame(contest, contender, checksum, wanted)
    }
    for (let turn = 0; turn < turns.all; turn++) {
      const inTurn = everyone.filter((peer) => turn < turns.slow || !peer.slow)
      const first = turn % inTurn.length
      for (const { contender } of [...inTurn.slice(first), ...inTurn.slice(0, first)]) {
        const { nsPerOp, checksum } = await timeRound(contender)
        checkSame(contest, contender, checksum, wantedOf.get(contender)!)
        times.get(contender)!.push(nsPerOp)
      }
    }
  } finally {
    for (const { contender } of everyone) await contender.close?.()
  }
  return everyone.map((peer) => summarize(contest, peer, times.get(contest.subject)!, times.get(peer.contender)!))
}

function checkSame(contest: Contest, contender: Contender, checksum: string, wanted: string): void {
  if (checksum === wanted) return
  throw new Error(
    `cannot time ${contest.claim}, ${contest.title}: results differ; ${contender.name} got ${checksum}, expected ${wanted}`,
  )
}

async function timeRound(contender: Contender): Promise<{ nsPerOp: number; checksum: string }> {
  const bench = new Bench({ iterations: 1, time: 0, warmup: false, throws: true })
  let measure: Measure | undefined
  bench.add(
    contender.name,
    async () => {
      measure = await contender.round()
      return { overriddenDuration: measure.ns / 1e6 }
    },
    { async: true },
  )
  await bench.run()
  const result = bench.tasks[0]!.result
  if (!measure || !('latency' in result)) throw new Error(`cannot time ${contender.name}: the round did not complete`)
  return { nsPerOp: (result.latency.p50 * 1e6) / measure.ops, checksum: measure.checksum }
}

/** `peer`'s line; `subject` and `own` are times by turn. */
export function summarize(contest: Contest, peer: Peer, subject: readonly number[], own: readonly number[]): Row {
  const row = timesRow(contest, peer.contender.name, own)
  if (peer.contender === contest.subject) return row
  const kind = peer.target?.kind ?? 'cost'
  const ratios = own.map((ns, turn) => (kind === 'gain' ? ns / subject[turn]! : subject[turn]! / ns))
  return { ...row, ...judge(ratios, kind, peer.target) }
}

export function timesRow(
  { claim, title, unit }: Pick<Contest, 'claim' | 'title' | 'unit'>,
  contender: string,
  times: readonly number[],
): Row {
  const [nsMin, nsMax] = [Math.min(...times), Math.max(...times)]
  return { claim, title, unit, contender, ns: median(times), nsMin, nsMax, rounds: times.length }
}

/** The median of the ratios against the target, if there is one. */
export function judge(ratios: readonly number[], ratioKind: RatioKind, target?: Target): Partial<Row> {
  const ratio = median(ratios)
  const reached = target && (ratioKind === 'gain' ? ratio >= target.limit : ratio <= target.limit)
  return { ratio, ratioKind, ratioMin: Math.min(...ratios), ratioMax: Math.max(...ratios), target, reached }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Times a synchronous piece of work in this process. */
export function timed(ops: number, work: () => void, checksum: () => string): Measure {
  const start = process.hrtime.bigint()
  work()
  const ns = Number(process.hrtime.bigint() - start)
  return { ns, ops, checksum: checksum() }
}
