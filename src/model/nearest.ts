/** "Did you mean": the name closest to a misspelt one. */

/** Longer names are not compared: nobody misspells them by two letters, and the cost is quadratic. */
const NAME_CHARS_MAX = 100
const LISTED_MAX = 10

/** A clause for an error message, and the suggestion where one is close enough. */
export function didYouMean(name: string, known: Iterable<string>): { text: string; name?: string } {
  const names = [...known]
  let best: string | undefined
  let bestDistance = Math.max(1, Math.floor(name.length / 3)) + 1
  if (name.length <= NAME_CHARS_MAX) {
    for (const each of names) {
      const distance = editDistance(name, each, bestDistance)
      if (distance < bestDistance) {
        best = each
        bestDistance = distance
      }
    }
  }
  if (best !== undefined) return { text: `did you mean ${JSON.stringify(best)}?`, name: best }
  const listed = names.slice(0, LISTED_MAX).map((each) => JSON.stringify(each))
  return { text: `known are ${listed.join(', ') || 'none'}${names.length > LISTED_MAX ? ', …' : ''}` }
}

/** Levenshtein's distance, or `limit` as soon as it is sure to be at least that. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit || b.length > NAME_CHARS_MAX) return limit
  let above = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const change = above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      row.push(Math.min(change, above[j]! + 1, row[j - 1]! + 1))
    }
    above = row
  }
  return Math.min(above[b.length]!, limit)
}
