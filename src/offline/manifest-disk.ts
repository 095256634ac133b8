/**
 * The mirror's steps on the disk, each by its name, so that a test can end the process before and behind every one.
 *
 * A step that fails is MIRROR_UNAVAILABLE: what it was to do may or may not be done, and is found out by who comes next.
 */
import { promises as fs } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import path from 'node:path'
import { TilefoldError } from '../model/errors.ts'

/** `before` and `after` each step. */
export type StepHook = (moment: 'before' | 'after', step: DiskStep) => void

export type DiskStep =
  | 'create'
  | 'write'
  | 'sync'
  | 'close'
  | 'sync folder'
  | 'link'
  | 'make folder'
  | 'move'
  | 'remove'

export class Disk {
  readonly root: string
  readonly #hook: StepHook

  constructor(root: string, hook: StepHook = () => {}) {
    this.root = root
    this.#hook = hook
  }

  create(file: string): Promise<FileHandle> {
    const undo = (handle: FileHandle) => handle.close()
    return this.#step('create', file, () => fs.open(this.#at(file), 'wx'), undo)
  }

  write(handle: FileHandle, bytes: Uint8Array, file: string): Promise<void> {
    return this.#step('write', file, async () => {
      for (let done = 0; done < bytes.length; ) done += (await handle.write(bytes, done)).bytesWritten
    })
  }

  async syncAndClose(handle: FileHandle, file: string): Promise<void> {
    try {
      await this.#step('sync', file, () => handle.sync())
      await this.#step('close', file, () => handle.close())
    } catch (error) {
      await handle.close().catch(() => {})
      throw error
    }
  }

  /** Names in a folder are safe only when the folder is. */
  syncFolder(folder: string): Promise<void> {
    return this.#step('sync folder', folder, async () => {
      const handle = await fs.open(this.#at(folder), 'r')
      try {
        await handle.sync()
      } finally {
        await handle.close()
      }
    })
  }

  /** A second name for a file, whole or not at all; false where the name is taken. */
  link(from: string, to: string): Promise<boolean> {
    return this.#step('link', to, async () => {
      try {
        await fs.link(this.#at(from), this.#at(to))
        return true
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
        throw error
      }
    })
  }

  /** With the folders above, each made safe in its own. */
  async makeFolder(folder: string): Promise<void> {
    const first = await this.#step('make folder', folder, () => fs.mkdir(this.#at(folder), { recursive: true }))
    if (first === undefined) return
    for (let made = this.#at(folder); made.length >= first.length; made = path.dirname(made)) {
      await this.syncFolder(path.relative(this.root, path.dirname(made)) || '.')
    }
  }

  /** False where there is nothing to move. */
  move(from: string, to: string): Promise<boolean> {
    return this.#step('move', to, async () => {
      try {
        await fs.rename(this.#at(from), this.#at(to))
        return true
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
        throw error
      }
    })
  }

  remove(file: string): Promise<void> {
    return this.#step('remove', file, () => fs.rm(this.#at(file), { force: true }))
  }

  list(folder: string): Promise<string[]> {
    return fs.readdir(this.#at(folder)).catch((error: Error) => {
      throw unavailable('list', folder, error)
    })
  }

  /** Undefined where it is not there. */
  async bytesOf(file: string): Promise<number | undefined> {
    return fs.stat(this.#at(file)).then(
      (stat) => stat.size,
      () => undefined,
    )
  }

  #at(file: string): string {
    return path.join(this.root, file)
  }

  async #step<T>(
    step: DiskStep,
    file: string,
    run: () => Promise<T>,
    undo: (result: T) => Promise<void> = async () => {},
  ): Promise<T> {
    this.#hook('before', step)
    let result: T
    try {
      result = await run()
    } catch (error) {
      throw unavailable(step, file, error as Error)
    }
    try {
      this.#hook('after', step)
    } catch (error) {
      await undo(result)
      throw error
    }
    return result
  }
}

function unavailable(step: string, file: string, error: Error): TilefoldError {
  return new TilefoldError('MIRROR_UNAVAILABLE', `cannot ${step} ${file}: ${error.message}`, { file }, { cause: error })
}
