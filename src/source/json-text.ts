/**
 * The digits behind an object's numbers. `JSON.parse` rounds every number to a double; this finds what the text said.
 */

const QUOTE = 34
const BACKSLASH = 92
const COMMA = 44
const COLON = 58
const OPEN_BRACE = 123
const CLOSE_BRACE = 125
const OPEN_BRACKET = 91
const CLOSE_BRACKET = 93

/** Text of each number at the top of `json`, by key. `json` must have been parsed as an object; the last of a key wins. */
export function numberTexts(json: string): ReadonlyMap<string, string> {
  const texts = new Map<string, string>()
  let at = json.indexOf('{') + 1
  while (at < json.length) {
    // A key, then its value up to the comma or brace behind it. Whitespace before a key is skipped with the search.
    const quote = json.indexOf('"', at)
    if (quote < 0) break
    const keyEnd = endOfString(json, quote)
    const key = JSON.parse(json.slice(quote, keyEnd)) as string
    let start = keyEnd
    while (json.charCodeAt(start) !== COLON) start++
    const end = endOfValue(json, start + 1)
    const text = json.slice(start + 1, end).trim()
    if (/^[-\d]/.test(text)) texts.set(key, text)
    else texts.delete(key)
    at = end + 1
  }
  return texts
}

/** A shorter run has fifteen digits at most, and then a double's shortest text is the number that was written. */
const EXACT_CHARS = 16

/** Is there a run of that many digits and points? It covers one of every sixteenth character. */
export function hasLongNumber(json: string): boolean {
  for (let probe = EXACT_CHARS - 1; probe < json.length; probe += EXACT_CHARS) {
    if (!isNumeric(json, probe)) continue
    let from = probe
    while (isNumeric(json, from - 1)) from--
    let to = probe
    while (isNumeric(json, to + 1)) to++
    if (to - from + 1 >= EXACT_CHARS) return true
  }
  return false
}

/** A digit, or a point: character codes 46 and 48 to 57. */
function isNumeric(json: string, at: number): boolean {
  const code = json.charCodeAt(at)
  return (code >= 48 && code <= 57) || code === 46
}

/** Behind the closing quote. */
function endOfString(json: string, quote: number): number {
  let at = quote + 1
  for (let code = json.charCodeAt(at); code !== QUOTE; code = json.charCodeAt(at)) at += code === BACKSLASH ? 2 : 1
  return at + 1
}

/** At the comma or the brace that ends a value of the top level. */
function endOfValue(json: string, start: number): number {
  let depth = 0
  for (let at = start; at < json.length; at++) {
    const code = json.charCodeAt(at)
    if (code === QUOTE) at = endOfString(json, at) - 1
    else if (code === OPEN_BRACE || code === OPEN_BRACKET) depth++
    else if (depth === 0 && (code === COMMA || code === CLOSE_BRACE)) return at
    else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) depth--
  }
  return json.length
}
