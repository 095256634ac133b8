/** Positions of a topic in time, as its mirror knows them: the manifest's facts, and one file where they don't suffice. */
import { bitAt } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import type { InputColumn } from '../model/plan.ts'
import type { LogEnds, LogTimes } from './log-times.ts'
import { checkMirror, type FoundFile } from './mirror-check.ts'
import { listMirror } from './mirror-manifest.ts'
import { listRowGroups, readRowGroups } from './parquet.ts'

export function createMirrorTimes(dir: string): LogTimes {
  return new MirrorTimes(dir)
}

const OWN: readonly InputColumn[] = [
  { name: '_offset', type: 'int64', accepts: ['int64'] },
  { name: '_record_ts', type: 'timestamp', unit: 'ms', accepts: ['int64'] },
]

class MirrorTimes implements LogTimes {
  readonly name: string
  readonly #dir: string

  constructor(dir: string) {
    this.name = `the mirror ${dir}`
    this.#dir = dir
  }

  async ends(topic: string): Promise<readonly LogEnds[]> {
    return (await this.#partitions(topic)).map(([partition, files]) => ({
      partition,
      first: files[0]!.entry.facts.start,
      next: files.at(-1)!.entry.facts.end + 1,
    }))
  }

  async firstAt(topic: string, timeMs: number): Promise<ReadonlyMap<number, number>> {
    const found = new Map<number, number>()
    for (const [partition, files] of await this.#partitions(topic)) {
      const file = files.find(({ entry }) => entry.facts.recordTimes[1] >= timeMs)
      found.set(partition, files.at(-1)!.entry.facts.end + 1)
      if (file === undefined) continue
      for await (const [position, recordMs] of recordsOf(file)) {
        if (recordMs < timeMs) continue
        found.set(partition, position)
        break
      }
    }
    return found
  }

  async newestUpTo(topic: string, positions: ReadonlyMap<number, number>): Promise<number | undefined> {
    let newestMs = Number.NEGATIVE_INFINITY
    for (const [partition, files] of await this.#partitions(topic)) {
      const last = positions.get(partition) ?? -1
      for (const file of files) {
        const { start, end, recordTimes } = file.entry.facts
        if (start > last) break
        if (end <= last) newestMs = Math.max(newestMs, recordTimes[1])
        else for await (const [position, ms] of recordsOf(file)) if (position <= last) newestMs = Math.max(newestMs, ms)
      }
    }
    return newestMs === Number.NEGATIVE_INFINITY ? undefined : newestMs
  }

  async close(): Promise<void> {}

  async #partitions(topic: string): Promise<[number, FoundFile[]][]> {
    const own = (await listMirror(this.#dir)).filter((each) => each.topic === topic)
    if (own.length === 0) {
      throw new TilefoldError('SOURCE_NOT_FOUND', `cannot find topic ${JSON.stringify(topic)} in ${this.name}`)
    }
    const found: [number, FoundFile[]][] = []
    for (const { partition } of own) found.push([partition, await checkMirror(this.#dir, topic, partition)])
    return found
  }
}

/** Offset and record time of a file's rows; rows without a time have none to be found by. */
async function* recordsOf({ path }: FoundFile): AsyncGenerator<readonly [number, number]> {
  for await (const { batch } of readRowGroups(await listRowGroups([path]), { inputs: OWN })) {
    const [offsets, times] = batch.columns.map(
      ({ values }) => new BigInt64Array(values.buffer, values.byteOffset, batch.length),
    )
    const { validity, bitOffset = 0 } = batch.columns[1]!
    for (let row = 0; row < batch.length; row++) {
      if (validity === undefined || bitAt(validity, bitOffset + row)) yield [Number(offsets![row]), Number(times![row])]
    }
  }
}
