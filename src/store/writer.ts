/**
 * One writing process per directory. Who it is stands in the store itself, so that taking over and checking are one
 * transaction: a dead process cannot block (its pid is gone, or was given to a process that started at another time), and
 * one that was wrongly believed dead finds a higher epoch at its next write and is refused.
 *
 * Processes in another pid namespace (another container on the same volume) cannot be looked up. They count as dead, since
 * a restarted container must not wait for a person; the epoch makes that safe. The threads of one process share its place
 * and leave it one by one.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

export interface WriterRecord {
  readonly epoch: number
  readonly host: string
  readonly pid: number
  readonly startedAt: string
  /** One per open store of that process. */
  readonly holders: readonly string[]
}

/** The record with us in it, or undefined where another living process writes. */
export function joinWriter(stored: WriterRecord | undefined, holder: string): WriterRecord | undefined {
  const self = { host: hostOf(), pid: process.pid, startedAt: startOf(process.pid) ?? '' }
  if (stored !== undefined && isSame(stored, self)) return { ...stored, holders: [...stored.holders, holder] }
  if (stored !== undefined && stored.holders.length > 0 && isAlive(stored, self.host)) return undefined
  return { epoch: (stored?.epoch ?? 0) + 1, ...self, holders: [holder] }
}

export function leaveWriter(stored: WriterRecord, holder: string): WriterRecord {
  return { ...stored, holders: stored.holders.filter((each) => each !== holder) }
}

export function newHolder(): string {
  return randomBytes(6).toString('hex')
}

function isSame(a: WriterRecord, b: { host: string; pid: number; startedAt: string }): boolean {
  return a.host === b.host && a.pid === b.pid && a.startedAt === b.startedAt
}

function isAlive(writer: WriterRecord, host: string): boolean {
  return writer.host === host && startOf(writer.pid) === writer.startedAt
}

/** This boot of this machine, and this view of its processes. */
function hostOf(): string {
  try {
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${readlinkSync('/proc/self/ns/pid')}`
  } catch {
    return hostname()
  }
}

/** When a process started, in whatever form the system tells; undefined where there is no such process. */
function startOf(pid: number): string | undefined {
  try {
    process.kill(pid, 0)
  } catch (error) {
    // EPERM: it lives and belongs to somebody else.
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return undefined
  }
  try {
    // Fields 3 (state) and 22 (start); the second, the program's name, may hold anything up to its last bracket.
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
  } catch {
    return startFromPs(pid)
  }
}

function startFromPs(pid: number): string {
  try {
    return execFileSync('ps', ['-o', 'lstart=', '-p', `${pid}`], { encoding: 'utf8' }).trim()
  } catch {
    return ''
  }
}
