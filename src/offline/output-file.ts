/** A file that is complete or isn't there: written under a temporary name beside its own, synced, and renamed. */
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { TilefoldError } from '../model/errors.ts'

export class OutputFile {
  bytes = 0
  readonly #path: string
  readonly #temp: string
  readonly #handle: FileHandle

  private constructor(path: string, temp: string, handle: FileHandle) {
    this.#path = path
    this.#temp = temp
    this.#handle = handle
  }

  /** For a file that will be called `path`. Throws OUTPUT_FAILED, as all that follows. */
  static async create(path: string): Promise<OutputFile> {
    const temp = join(dirname(path), `_tmp-${process.pid}-${basename(path)}`)
    return new OutputFile(path, temp, await attempt(temp, () => open(temp, 'w')))
  }

  async write(bytes: Uint8Array): Promise<void> {
    await attempt(this.#temp, () => this.#handle.writeFile(bytes))
    this.bytes += bytes.length
  }

  async finish(): Promise<void> {
    const path = this.#path
    await attempt(this.#temp, () => this.#handle.sync())
    await this.#handle.close()
    await attempt(path, () => rename(this.#temp, path))
    const folder = await open(dirname(path))
    await folder.sync().catch(() => {}) // not every file system syncs folders
    await folder.close()
  }

  async discard(): Promise<void> {
    await this.#handle.close().catch(() => {})
    await rm(this.#temp, { force: true })
  }
}

async function attempt<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    throw new TilefoldError('OUTPUT_FAILED', `cannot write ${path}: ${(cause as Error).message}`, { path }, { cause })
  }
}
