/**
 * Counts by size, for many observations at once: prom-client's histogram takes them one by one, half a microsecond each,
 * and a flush makes tens of thousands of events readable.
 */

export interface HistogramSeries {
  /** In the order of the histogram's names. */
  readonly labels: readonly string[]
  /** How many were at most as large as each bound, and the rest: not summed up. */
  readonly counts: Float64Array
  sum: number
}

export class Histogram {
  readonly labelNames: readonly string[]
  /** Ascending, each the largest value of its bucket. */
  readonly bounds: readonly number[]
  readonly #series = new Map<string, HistogramSeries>()

  constructor(labelNames: readonly string[], bounds: readonly number[]) {
    this.labelNames = labelNames
    this.bounds = bounds
  }

  /** What is no finite number, or was seen no finite number of times, is passed over. */
  observe(labels: readonly string[], value: number, times = 1): void {
    if (!Number.isFinite(value) || !(times > 0 && times < Number.POSITIVE_INFINITY)) return
    const key = labels.join('\0')
    const series = this.#series.get(key) ?? this.#open(key, labels)
    let bucket = 0
    while (bucket < this.bounds.length && value > this.bounds[bucket]!) bucket++
    series.counts[bucket]! += times
    series.sum += value * times
  }

  series(): Iterable<HistogramSeries> {
    return this.#series.values()
  }

  #open(key: string, labels: readonly string[]): HistogramSeries {
    const series = { labels: [...labels], counts: new Float64Array(this.bounds.length + 1), sum: 0 }
    this.#series.set(key, series)
    return series
  }
}

/** 1, 2.5 and 5 of each power of ten from `first` to `last`. */
export function decimalBounds(first: number, last: number): number[] {
  const bounds: number[] = []
  for (let power = Math.floor(Math.log10(first)); power <= Math.ceil(Math.log10(last)); power++) {
    // By the text: 2.5 * 10 ** -5 is not the number that "0.000025" is.
    for (const digits of ['1', '2.5', '5']) bounds.push(Number(`${digits}e${power}`))
  }
  return bounds.filter((bound) => bound >= first && bound <= last)
}
