/**
 * Claim: a backfill of 50,000,000 rows and a training set of 20,000,000 rows keep to the memory they were told.
 *
 *   parent    writes the Parquet files, starts the job in a process of its own, looks at its memory twenty times a second
 *   child     Parquet -> rows in LMDB, one thread · spine and events in Parquet -> training set in Parquet (memory-process.ts)
 *
 * What is held against the bound is the process's own memory (RssAnon), code, heaps and all. Pages of the store's file that
 * are mapped belong to the page cache, and go when somebody else needs them; the peak with them is printed beside.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Claim, Settings } from './claim.ts'
import { judge, timesRow } from './contest.ts'
import type { MemoryReport, MemoryTask } from './memory-process.ts'
import { type EventFiles, writeEvents } from './parquet-events.ts'

const KEYS = 100_000
const BOUND_BYTES = 2 ** 30
const LOOK_MS = 50

export const memory: Claim = {
  name: 'memory',
  about: 'peak memory of a large backfill and a large training set against what they were told',
  async run(settings) {
    const [history, spineRows, eventRows] = settings.short
      ? [500_000, 200_000, 200_000]
      : [50_000_000, 20_000_000, 20_000_000]
    const backfilled = await writeEvents(history, KEYS)
    await measure({ job: 'backfill', events: backfilled }, settings).finally(() => backfilled.drop())
    const events = await writeEvents(eventRows, KEYS)
    const spine = await writeEvents(spineRows, KEYS, false)
    await measure({ job: 'training', events, spine }, settings).finally(() =>
      Promise.all([events.drop(), spine.drop()]),
    )
  },
}

interface Job {
  readonly job: MemoryTask['job']
  readonly events: EventFiles
  readonly spine?: EventFiles
}

async function measure({ job, events, spine }: Job, settings: Settings): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'tilefold-bench-'))
  const task: MemoryTask = { job, events: events.paths, spine: spine?.paths ?? [], folder, boundBytes: BOUND_BYTES }
  const asked = spine ?? events
  try {
    const { report, ownBytes } = await run(task)
    if (report.rows !== asked.rows) throw new Error(`${job} made ${report.rows} rows, expected ${asked.rows}`)
    const title = `${job} of ${asked.rows.toLocaleString('en-US')} rows, ${KEYS.toLocaleString('en-US')} keys, bound ${megabytes(BOUND_BYTES)}`
    settings.note(
      `\nmemory: ${title}: peak ${megabytes(ownBytes)}, with mapped files ${megabytes(report.peakBytes)}, temporary files ${megabytes(report.spilledBytes)}`,
    )
    const row = timesRow({ claim: 'memory', title, unit: 'row' }, `peak ${megabytes(ownBytes)}`, [
      report.ns / report.rows,
    ])
    settings.emit([{ ...row, ...judge([ownBytes / BOUND_BYTES], 'share', { kind: 'share', limit: 1 }) }])
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function run(task: MemoryTask): Promise<{ report: MemoryReport; ownBytes: number }> {
  const script = fileURLToPath(new URL('./memory-process.js', import.meta.url))
  const child = fork(script, [JSON.stringify(task)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  let report: MemoryReport | undefined
  let ownBytes = 0
  child.on('message', (message: MemoryReport) => {
    report = message
  })
  const look = setInterval(() => {
    ownBytes = Math.max(ownBytes, ownMemory(child.pid!))
  }, LOOK_MS)
  try {
    const [code, signal] = await once(child, 'exit')
    if (report === undefined) throw new Error(`cannot measure ${task.job}: the process ended with ${signal ?? code}`)
  } finally {
    clearInterval(look)
  }
  // Where the system doesn't tell, everything counts.
  return { report, ownBytes: ownBytes || report.peakBytes }
}

/** 0 where it can't be told, or the process is gone. */
function ownMemory(pid: number): number {
  try {
    const found = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))
    return Number(found?.[1] ?? 0) * 1024
  } catch {
    return 0
  }
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`
}
