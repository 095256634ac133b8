/**
 * The file through which the harness hands one workload to contenders in processes of their own (C, plain JavaScript).
 *
 *   0 magic "TFBENCH1" | 8 u32 columns | 12 u32 rows | 16 u32 entities | 20 u32 step ms | 24 f64 start ms | 32 unused
 *   64 per column: u64 offset, u64 bytes; then the columns, each at a multiple of 64
 *
 * Little-endian. What each column holds is agreed between a claim and its yardsticks (see each C file's header).
 */
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { cacheDirectory } from './places.ts'

const MAGIC = 'TFBENCH1'

export interface DatasetHeader {
  readonly rows: number
  readonly entityCount: number
  readonly stepMs: number
  readonly startMs: number
}

export interface Dataset extends DatasetHeader {
  /** Bytes of each column; they start at a multiple of 8 in their buffer. */
  readonly columns: readonly Uint8Array[]
}

/** Files that are there now: an error somewhere else must not leave hundreds of megabytes behind. */
const written = new Set<string>()
process.once('exit', () => written.forEach(removeDataset))

/** Writes a dataset under `dist/bench/` and returns its path; `removeDataset` when done. */
export function writeDataset(name: string, header: DatasetHeader, columns: readonly ArrayBufferView[]): string {
  const path = join(cacheDirectory('data'), `${name}-${process.pid}.bin`)
  mkdirSync(cacheDirectory('data'), { recursive: true })
  const head = new DataView(new ArrayBuffer(alignUp(64 + 16 * columns.length)))
  for (let i = 0; i < 8; i++) head.setUint8(i, MAGIC.charCodeAt(i))
  head.setUint32(8, columns.length, true)
  head.setUint32(12, header.rows, true)
  head.setUint32(16, header.entityCount, true)
  head.setUint32(20, header.stepMs, true)
  head.setFloat64(24, header.startMs, true)
  let offset = head.byteLength
  for (const [i, column] of columns.entries()) {
    head.setBigUint64(64 + 16 * i, BigInt(offset), true)
    head.setBigUint64(72 + 16 * i, BigInt(column.byteLength), true)
    offset = alignUp(offset + column.byteLength)
  }

  written.add(path)
  const file = openSync(path, 'w')
  try {
    writeAll(file, new Uint8Array(head.buffer))
    for (const column of columns) {
      writeAll(file, new Uint8Array(column.buffer, column.byteOffset, column.byteLength))
      writeAll(file, new Uint8Array(alignUp(column.byteLength) - column.byteLength))
    }
  } finally {
    closeSync(file)
  }
  return path
}

export function removeDataset(path: string): void {
  rmSync(path, { force: true })
  written.delete(path)
}

/** Throws when the file is not a dataset. */
export function readDataset(path: string): Dataset {
  const bytes = readFileSync(path)
  if (bytes.length < 64 || bytes.toString('latin1', 0, 8) !== MAGIC) {
    throw new Error(`cannot read dataset ${path}: got another format, expected ${MAGIC}`)
  }
  const columns = Array.from({ length: bytes.readUInt32LE(8) }, (_, i) => {
    const offset = Number(bytes.readBigUInt64LE(64 + 16 * i))
    return new Uint8Array(bytes.buffer, bytes.byteOffset + offset, Number(bytes.readBigUInt64LE(72 + 16 * i)))
  })
  return {
    rows: bytes.readUInt32LE(12),
    entityCount: bytes.readUInt32LE(16),
    stepMs: bytes.readUInt32LE(20),
    startMs: bytes.readDoubleLE(24),
    columns,
  }
}

function alignUp(bytes: number): number {
  return Math.ceil(bytes / 64) * 64
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done, Math.min(bytes.length - done, 1 << 28))
}
