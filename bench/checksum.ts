/**
 * An order-free checksum over records of 32-bit words, by which contenders' results are compared: two 32-bit hashes per
 * record, added up. yardstick/yardstick.h has the same function.
 */
const DOUBLE = new Float64Array(1)
const HALVES = new Uint32Array(DOUBLE.buffer)

export class Checksum {
  private first = 0
  private second = 0
  private records = 0
  private left = 0x2545f491
  private right = 0x8bb84b93

  /** One more word of the record at hand. */
  word(value: number): this {
    this.left = Math.imul(this.left ^ value, 0x9e3779b1)
    this.left ^= this.left >>> 15
    this.right = Math.imul(this.right ^ value, 0x9e3779b1)
    this.right ^= this.right >>> 15
    return this
  }

  /** A float64 as two words, low half first. */
  double(value: number): this {
    DOUBLE[0] = value
    return this.word(HALVES[0]!).word(HALVES[1]!)
  }

  /** Closes the record. */
  end(): void {
    this.first = (this.first + finish(this.left)) >>> 0
    this.second = (this.second + finish(this.right)) >>> 0
    this.left = 0x2545f491
    this.right = 0x8bb84b93
    this.records++
  }

  /** 16 hex digits and the number of records. */
  toString(): string {
    const hex = (word: number) => word.toString(16).padStart(8, '0')
    return `${hex(this.first)}${hex(this.second)}:${this.records}`
  }
}

function finish(hash: number): number {
  const mixed = Math.imul(hash, 0x85ebca6b)
  return mixed ^ (mixed >>> 13)
}

/** What a tile, or a window's answer, holds once it is read; the sum of squares only where a claim asks for it. */
export interface Aggregates {
  readonly count: number
  readonly sum: number
  readonly min: number
  readonly max: number
  readonly last: number
  readonly squares?: number
}

/** `(tile or window number, entity)` is the record's name. */
export function addAggregates(checksum: Checksum, number: number, entity: number, values: Aggregates): void {
  checksum.word(number).word(entity).word(values.count)
  checksum.double(values.sum).double(values.min).double(values.max).double(values.last)
  if (values.squares !== undefined) checksum.double(values.squares)
  checksum.end()
}
