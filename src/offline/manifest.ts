/**
 * The owner's side of a mirror's manifest: how each offset comes to be in exactly one file, whatever is killed, paused or
 * started twice.
 *
 *   _tmp/x.parquet   written to its end, synced            nothing of it counts
 *        |
 *   <number>.json    linked under the next free number     THE COMMIT: offsets, sizes, clocks, and where x lies
 *        |
 *   events/…         x moved to its final name             every reader sees it
 *
 * - **A number is taken once.** A hard link to a name that exists fails, on local disks and on NFS. An owner begins with a
 *   claim under the next number, so whoever wrote before finds its own next number taken: FENCED. Two mirrors of one
 *   directory take turns that way, and harm nothing.
 * - **A final name is given after the commit**, never before: there is no file under `events/` that the manifest does not
 *   name, so no reader of the directory counts an event twice, not even for a moment. The price is that the last file may
 *   lie in `_tmp` for an instant, or until somebody starts again; readers of the manifest look there.
 * - **The end in the last file's entry is where the mirror goes on.** Where a file ends is free: by rows, bytes, hour or
 *   the wall clock. What is in it is not, and neither is its name: its offsets, and the hour of its first record.
 * - A start claims, moves the last file if it has not been moved, and removes what else lies in `_tmp` of its partition.
 *   In this order: what it removes belongs to somebody who can no longer commit it.
 */
import path from 'node:path'
import { TilefoldError } from '../model/errors.ts'
import {
  entryName,
  listEntries,
  type MirrorEntry,
  type MirrorFile,
  manifestFolder,
  readEntry,
  TEMP_FOLDER,
} from '../source/mirror-manifest.ts'
import type { Disk } from './manifest-disk.ts'

export interface ManifestName {
  readonly topic: string
  readonly partition: number
  /** Never used before: tells this owner from every other one. */
  readonly nonce: string
}

type Numbered<Entry> = Entry extends MirrorEntry
  ? Omit<Entry, 'format' | 'number' | 'topic' | 'partition' | 'nonce'>
  : never

export class Manifest {
  readonly #disk: Disk
  readonly #name: ManifestName
  #next: number
  #last: MirrorFile | undefined

  /** Claims the partition. Throws MIRROR_UNAVAILABLE, MIRROR_INVALID. */
  static async claim(disk: Disk, name: ManifestName): Promise<Manifest> {
    const { topic, partition } = name
    await disk.makeFolder(TEMP_FOLDER)
    await disk.makeFolder(manifestFolder(topic, partition))
    for (;;) {
      const numbers = await listEntries(disk.root, topic, partition)
      const manifest = new Manifest(disk, name, (numbers.at(-1) ?? 0) + 1)
      if (!(await manifest.#append({ kind: 'claim' }))) continue
      for (const number of numbers.reverse()) {
        const entry = await readEntry(disk.root, topic, partition, number)
        if (entry.kind !== 'file') continue
        manifest.#last = entry
        break
      }
      if (manifest.#last !== undefined) await manifest.#publish(manifest.#last)
      await manifest.#tidy()
      return manifest
    }
  }

  private constructor(disk: Disk, name: ManifestName, next: number) {
    this.#disk = disk
    this.#name = name
    this.#next = next
  }

  /** The last file there is. */
  get last(): MirrorFile | undefined {
    return this.#last
  }

  /** A name below `_tmp` that nobody else writes to. */
  temp(ending: string): string {
    const { topic, partition, nonce } = this.#name
    return path.join(TEMP_FOLDER, `${topic}+${partition}+${nonce}+${this.#next}.${ending}`)
  }

  /** Commits a file that lies under `temp`, whole and synced, and gives it its name. Throws FENCED, MIRROR_UNAVAILABLE. */
  async add(file: Numbered<MirrorFile>): Promise<MirrorFile> {
    const { topic, partition, nonce } = this.#name
    const entry: MirrorFile = { format: 1, number: this.#next, topic, partition, nonce, ...file }
    await this.#disk.syncFolder(TEMP_FOLDER)
    if (!(await this.#append(file))) {
      await this.#disk.remove(file.temp)
      throw new TilefoldError(
        'FENCED',
        `cannot write to the mirror of ${topic}.${partition}: another process has taken it over`,
      )
    }
    this.#last = entry
    await this.#publish(entry)
    return entry
  }

  /** True where the number was free. */
  async #append(entry: Numbered<MirrorEntry>): Promise<boolean> {
    const { topic, partition, nonce } = this.#name
    const folder = manifestFolder(topic, partition)
    const temp = this.temp('json')
    const text = JSON.stringify({ format: 1, number: this.#next, topic, partition, nonce, ...entry })
    await this.#disk.remove(temp)
    const handle = await this.#disk.create(temp)
    try {
      await this.#disk.write(handle, Buffer.from(`${text}\n`), temp)
    } catch (error) {
      await handle.close()
      throw error
    }
    await this.#disk.syncAndClose(handle, temp)
    const isFree = await this.#disk.link(temp, path.join(folder, entryName(this.#next)))
    if (isFree) {
      await this.#disk.syncFolder(folder)
      this.#next++
    }
    await this.#disk.remove(temp)
    return isFree
  }

  /** Moves a committed file to its name, unless that is done. */
  async #publish({ file, temp, bytes }: MirrorFile): Promise<void> {
    const folder = path.dirname(file)
    await this.#disk.makeFolder(folder)
    const isMoved = await this.#disk.move(temp, file)
    await this.#disk.syncFolder(folder)
    if (isMoved) return
    const found = await this.#disk.bytesOf(file)
    if (found === bytes) return
    throw new TilefoldError(
      'MIRROR_INVALID',
      `cannot use the mirror: ${file} is ${found === undefined ? 'gone' : 'not what was written'}; got ${found ?? 0} bytes, expected ${bytes}`,
      { file },
    )
  }

  async #tidy(): Promise<void> {
    const { topic, partition, nonce } = this.#name
    const own = `${topic}+${partition}+`
    for (const name of await this.#disk.list(TEMP_FOLDER)) {
      if (name.startsWith(own) && !name.startsWith(`${own}${nonce}+`)) {
        await this.#disk.remove(path.join(TEMP_FOLDER, name))
      }
    }
  }
}
