/** A disk of so many bytes: a file system in memory, where this process may mount one. */
import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

let whyNot: string | undefined | null = null

/** Why no disk can be made; undefined where it can. */
export function whyNoDisk(): string | undefined {
  if (whyNot !== null) return whyNot
  try {
    makeDisk(65_536).remove()
    whyNot = undefined
  } catch (error) {
    whyNot = String((error as { stderr?: Buffer }).stderr ?? error)
      .trim()
      .split('\n')[0]!
    console.warn(`SKIPPED: no disk is filled up, none can be mounted here: ${whyNot}`)
  }
  return whyNot
}

export interface SmallDisk {
  readonly folder: string
  /** Takes all the room there is, but for some bytes. */
  fill(leftBytes?: number): void
  /** Gives it back. */
  free(): void
  remove(): void
}

export function makeDisk(bytes: number): SmallDisk {
  const folder = mkdtempSync(path.join(tmpdir(), 'tilefold-disk-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', folder], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  } catch (error) {
    rmSync(folder, { recursive: true })
    throw error
  }
  const ballast = path.join(folder, '.ballast')
  return {
    folder,
    fill(leftBytes = 0) {
      const handle = openSync(ballast, 'w')
      const block = Buffer.alloc(4096)
      let written = 0
      try {
        while (written < bytes - leftBytes) written += writeSync(handle, block)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
      } finally {
        closeSync(handle)
      }
    },
    free: () => rmSync(ballast, { force: true }),
    remove() {
      execFileSync('umount', ['-l', folder])
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
